"""Stories of the books with every figure written out; each ends with books that verify."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import IntegrityError, connection
from msgspec.structs import replace

from accounts.models import ApiKey, Organization
from billing.credits import accounts
from billing.ledger import journal
from billing.ledger.commands import AnyCommand, Done, Held, Posted, Refused, Settled
from billing.ledger.journal import LedgerRefused
from billing.ledger.kernel import Books, Key, Wallet, decide
from billing.models import Meter, Usage
from billing.oversight import verifier
from billing.pricing.money import Usage as Tokens
from tests.kit.books import do, hold_row, make_hold_id, make_receipt
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Tenant

NOON = datetime(2026, 11, 18, 12, 0, tzinfo=UTC)  # a Wednesday
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def books_verify(db: None) -> Iterator[None]:
    yield
    assert verifier.violations() == []


@pytest.fixture
def clock() -> DatabaseClock:
    return DatabaseClock(NOON)


# --- A call's life ----------------------------------------------------------------------------


def test_a_call_that_costs_less_than_its_hold() -> None:
    alice = Tenant(1_000_000)
    assert alice.wallet == (1_000_000, 0, 1)
    hold = alice.hold(30_000)
    assert alice.wallet == (1_000_000, 30_000, 1)
    assert do(alice.settle(hold, 2_400)) == Settled(2_400, 997_600)
    assert alice.wallet == (997_600, 0, 2)
    assert alice.entries() == [(1, "purchase", 1_000_000, 1_000_000), (2, "usage", -2_400, 997_600)]
    assert hold_row(hold) == ("settled", 30_000, 2_400, 2_400)


def test_a_call_that_costs_exactly_its_hold() -> None:
    alice = Tenant(100)
    assert do(alice.settle(alice.hold(100), 100)) == Settled(100, 0)
    assert alice.wallet == (0, 0, 2)


def test_a_call_that_costs_more_than_its_hold_takes_what_is_free() -> None:
    alice = Tenant(100)
    hold = alice.hold(40)
    assert do(alice.settle(hold, 70)) == Settled(70, 30)
    assert hold_row(hold) == ("settled", 40, 70, 70)


def test_what_neither_hold_nor_wallet_cover_is_the_operators_loss() -> None:
    alice = Tenant(100)
    other = alice.hold(50)
    hold = alice.hold(40)
    assert do(alice.settle(hold, 70)) == Settled(50, 50)  # 40 held and the last 10 free; 50 belong to another call
    assert hold_row(hold) == ("settled", 40, 70, 50)
    assert alice.wallet == (50, 50, 2)
    assert do(alice.settle(other, 50)) == Settled(50, 0)


def test_the_overdraft_absorbs_what_a_running_call_costs_too_much() -> None:
    alice = Tenant(100, overdraft_micro=30)
    hold = alice.hold(100)
    assert do(alice.settle(hold, 150)) == Settled(130, -30)
    assert hold_row(hold) == ("settled", 100, 150, 130)
    assert alice.wallet == (-30, 0, 2)


def test_the_overdraft_is_not_for_new_calls() -> None:
    alice = Tenant(100, overdraft_micro=30)
    assert do(alice.reserve(101)) == Refused("credits", required=101, available=100)
    do(alice.settle(alice.hold(100), 110))
    assert do(alice.reserve(1)) == Refused("credits", required=1, available=-10)
    assert do(alice.post(10, kind="purchase")) == Posted(3, 0)
    assert do(alice.reserve(0)) == Held(0)


def test_a_call_that_costs_nothing_is_settled_and_has_its_entry() -> None:
    alice = Tenant(100)
    assert do(alice.settle(alice.hold(40), 0)) == Settled(0, 100)
    assert alice.entries()[-1] == (2, "usage", 0, 100)


def test_a_call_that_failed_without_output_is_free() -> None:
    alice = Tenant(100)
    hold = alice.hold(40)
    assert do(alice.void(hold, receipt=make_receipt(error_code="provider_unavailable"))) == Done(changed=True)
    assert alice.wallet == (100, 0, 1)
    assert hold_row(hold) == ("voided", 40, None, None)
    usage = Usage.objects.get(pk=hold)
    assert (usage.charged, usage.error_code) == (0, "provider_unavailable")


def test_an_unlimited_wallet_pays_everything_and_is_told_no_balance() -> None:
    rich = Tenant(unlimited=True)
    hold = rich.hold(1_000)
    assert rich.wallet == (0, 1_000, 0)
    assert do(rich.settle(hold, 5_000)) == Settled(5_000, None)
    assert rich.entries() == [(1, "usage", -5_000, -5_000)]


def test_a_call_of_nobodys_wallet() -> None:
    alice = Tenant()
    alice.organization_id = make_hold_id()
    assert do(alice.reserve(1)) == Refused("no_wallet")


# --- Twice, late, after the end ---------------------------------------------------------------


def test_the_same_reservation_again_holds_nothing_more() -> None:
    alice = Tenant(100)
    hold = alice.hold(60)
    assert do(alice.reserve(60, hold_id=hold)) == Held(60, replayed=True)
    assert do(alice.reserve(90, hold_id=hold)) == Held(60, replayed=True)
    assert alice.wallet == (100, 60, 1)


def test_the_same_reservation_twice_in_one_batch() -> None:
    alice = Tenant(100)
    command = alice.reserve(60)
    assert journal.execute([command, command]) == [Held(60), Held(60, replayed=True)]
    assert alice.wallet == (100, 60, 1)


def test_a_settlement_again_tells_the_first_charge() -> None:
    alice = Tenant(100)
    hold = alice.hold(60)
    assert do(alice.settle(hold, 50)) == Settled(50, 50)
    do(alice.post(25, kind="purchase"))
    assert do(alice.settle(hold, 20)) == Settled(50, 50, replayed=True)
    assert alice.wallet == (75, 0, 3)


def test_a_call_reserved_marked_and_settled_in_one_batch() -> None:
    alice = Tenant(100)
    reserve = alice.reserve(60)
    commands: list[AnyCommand] = [reserve, alice.mark(reserve.hold_id, "gen-7"), alice.settle(reserve.hold_id, 50)]
    assert journal.execute([*commands, alice.settle(reserve.hold_id, 50), alice.void(reserve.hold_id)]) == [
        Held(60),
        Done(changed=True),
        Settled(50, 50),
        Settled(50, 50, replayed=True),
        Done(changed=False),
    ]
    assert alice.wallet == (50, 0, 2)


def test_a_call_that_ends_after_its_hold_expired_pays_late(clock: DatabaseClock) -> None:
    alice = Tenant(100)
    hold = alice.hold(60, life_s=60)
    clock.set(NOON + timedelta(seconds=59))
    assert do(alice.expire(hold)) == Done(changed=False)
    clock.set(NOON + timedelta(seconds=60))
    assert do(alice.expire(hold)) == Done(changed=True)
    assert alice.wallet == (100, 0, 1)
    assert do(alice.settle(hold, 70)) == Settled(70, 30, late=True)
    assert alice.entries()[-1] == (2, "late_usage", -70, 30)
    assert hold_row(hold) == ("expired", 60, 70, 70)
    assert do(alice.settle(hold, 70)) == Settled(70, 30, late=True, replayed=True)


def test_late_usage_goes_down_to_the_floor_and_the_rest_is_the_operators_loss(clock: DatabaseClock) -> None:
    alice = Tenant(100, overdraft_micro=5)
    late = alice.hold(60, life_s=60)
    clock.set(NOON + timedelta(minutes=2))
    do(alice.expire(late))
    running = alice.hold(80)
    assert do(alice.settle(late, 60)) == Settled(25, 75, late=True)  # 100 − 80 held + 5 of overdraft
    assert hold_row(late) == ("expired", 60, 60, 25)
    assert alice.wallet == (75, 80, 2)
    assert do(alice.settle(running, 80)) == Settled(80, -5)


def test_nothing_brings_a_voided_call_back() -> None:
    alice = Tenant(100)
    hold = alice.hold(60)
    do(alice.void(hold))
    assert do(alice.settle(hold, 60)) == Refused("hold_voided")
    assert do(alice.expire(hold)) == Done(changed=False)
    assert do(alice.mark(hold)) == Done(changed=False)
    assert do(alice.void(hold)) == Done(changed=False)
    assert alice.wallet == (100, 0, 1)


def test_a_call_nobody_reserved() -> None:
    alice = Tenant(100)
    assert do(alice.settle(make_hold_id(), 60)) == Refused("unknown_hold")
    assert do(alice.void(make_hold_id())) == Done(changed=False)


def test_a_call_of_another_wallet_is_unknown_here() -> None:
    alice, charlie = Tenant(100), Tenant(100)
    hold = alice.hold(60)
    assert do(charlie.settle(hold, 60)) == Refused("unknown_hold")
    assert do(charlie.void(hold)) == Done(changed=False)
    assert do(charlie.expire(hold)) == Done(changed=False)
    assert do(charlie.mark(hold)) == Done(changed=False)
    with pytest.raises(IntegrityError, match="billing_hold_pkey"):
        do(charlie.reserve(60, hold_id=hold))
    assert (alice.wallet, charlie.wallet) == ((100, 60, 1), (100, 0, 1))


def test_the_first_answer_of_the_provider_is_noted_once(clock: DatabaseClock) -> None:
    alice = Tenant(100)
    hold = alice.hold(60)
    do(alice.mark(hold, ""))
    clock.set(NOON + timedelta(seconds=5))
    do(alice.mark(hold, "gen-7"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT provider, provider_ref, dispatched_at FROM billing_hold WHERE id = %s", [hold])
        assert cursor.fetchone() == ("openrouter", "gen-7", NOON)


# --- A hold takes what there is ---------------------------------------------------------------


def test_an_elastic_hold_takes_what_is_left_but_not_less_than_its_floor() -> None:
    alice = Tenant(100)
    assert do(alice.reserve(500, floor=20)) == Held(100)
    bob = Tenant(19)
    assert do(bob.reserve(500, floor=20)) == Refused("credits", required=20, available=19)
    assert (alice.wallet, bob.wallet) == ((100, 100, 1), (19, 0, 1))


def test_an_elastic_hold_is_bounded_by_wallet_and_limit_together() -> None:
    alice = Tenant(100)
    narrow = alice.key(limit_micro=70, limit_period="total")
    wide = alice.key(limit_micro=1_000, limit_period="total")
    assert do(alice.reserve(500, floor=20, key=narrow)) == Held(70)
    assert do(alice.reserve(500, floor=20, key=wide)) == Held(30)
    assert do(alice.reserve(500, floor=1, key=wide)) == Refused("credits", required=1, available=0)


def test_the_lower_of_wallet_and_limit_is_named() -> None:
    alice = Tenant(10)
    low = alice.key(limit_micro=5, limit_period="day")
    same = alice.key(limit_micro=10, limit_period="day")
    high = alice.key(limit_micro=15, limit_period="day")
    assert do(alice.reserve(20, key=low)) == Refused("key_limit", required=20, available=5)
    assert do(alice.reserve(20, key=same)) == Refused("credits", required=20, available=10)
    assert do(alice.reserve(20, key=high)) == Refused("credits", required=20, available=10)


def test_an_unlimited_wallet_still_keeps_its_keys_limit() -> None:
    rich = Tenant(unlimited=True)
    key = rich.key(limit_micro=50, limit_period="day")
    assert do(rich.reserve(51, key=key)) == Refused("key_limit", required=51, available=50)
    assert do(rich.reserve(51)) == Held(51)


# --- Limits of a key --------------------------------------------------------------------------


def spend(tenant: Tenant, key: UUID, amount: int) -> None:
    hold = tenant.hold(amount, key=key)
    assert isinstance(do(tenant.settle(hold, amount, key=key)), Settled)


@pytest.mark.parametrize(
    ("period", "last_moment", "first_moment"),
    [
        ("day", datetime(2026, 11, 18, 23, 59, 59, 999_999, UTC), datetime(2026, 11, 19, tzinfo=UTC)),
        # Sunday to Monday; the ISO week that a year ends in goes on into January.
        ("week", datetime(2026, 11, 22, 23, 59, 59, 999_999, UTC), datetime(2026, 11, 23, tzinfo=UTC)),
        ("month", datetime(2026, 11, 30, 23, 59, 59, 999_999, UTC), datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_limit_starts_over_at_utc_midnight(
    clock: DatabaseClock, period: str, last_moment: datetime, first_moment: datetime
) -> None:
    alice = Tenant(10_000)
    key = alice.key(limit_micro=100, limit_period=period)
    spend(alice, key, 60)
    clock.set(last_moment)
    spend(alice, key, 30)
    assert do(alice.reserve(11, key=key)) == Refused("key_limit", required=11, available=10)
    clock.set(first_moment)
    assert do(alice.reserve(101, key=key)) == Refused("key_limit", required=101, available=100)
    spend(alice, key, 100)
    assert do(alice.reserve(1, key=key)) == Refused("key_limit", required=1, available=0)


def test_a_week_goes_on_over_new_year(clock: DatabaseClock) -> None:
    alice = Tenant(10_000)
    key = alice.key(limit_micro=100, limit_period="week")
    clock.set(datetime(2026, 12, 31, 23, 59, tzinfo=UTC))  # a Thursday, week 53
    spend(alice, key, 100)
    clock.set(datetime(2027, 1, 3, 23, 59, tzinfo=UTC))  # the Sunday after
    assert do(alice.reserve(1, key=key)) == Refused("key_limit", required=1, available=0)
    clock.set(datetime(2027, 1, 4, tzinfo=UTC))
    assert do(alice.reserve(100, key=key)) == Held(100)


def test_a_total_limit_never_starts_over(clock: DatabaseClock) -> None:
    alice = Tenant(10_000)
    key = alice.key(limit_micro=100, limit_period="total")
    spend(alice, key, 100)
    clock.set(NOON + 1_000 * DAY)
    assert do(alice.reserve(1, key=key)) == Refused("key_limit", required=1, available=0)


def test_a_hold_counts_for_its_limit_until_it_is_settled_for_less() -> None:
    alice = Tenant(10_000)
    key = alice.key(limit_micro=100, limit_period="day")
    hold = alice.hold(80, key=key)
    assert do(alice.reserve(21, key=key)) == Refused("key_limit", required=21, available=20)
    do(alice.settle(hold, 30, key=key))
    assert do(alice.reserve(70, key=key)) == Held(70)


def test_what_is_settled_after_midnight_belongs_to_the_day_it_was_reserved_in(clock: DatabaseClock) -> None:
    alice = Tenant(10_000)
    key = alice.key(limit_micro=100, limit_period="day")
    yesterdays = alice.hold(90, key=key)
    clock.set(NOON + DAY)
    todays = alice.hold(50, key=key)
    assert do(alice.settle(yesterdays, 90, key=key)) == Settled(90, 9_910)
    assert do(alice.reserve(51, key=key)) == Refused("key_limit", required=51, available=50)
    do(alice.settle(todays, 50, key=key))
    meter = Meter.objects.get(pk=key)
    assert (meter.day_spent, meter.week_spent, meter.month_spent, meter.total_spent) == (50, 140, 140, 140)


def test_a_settlement_that_forgets_its_key_is_refused_loudly() -> None:
    alice = Tenant(100)
    hold = alice.hold(60, key=alice.key())
    for command in (alice.settle(hold, 50), alice.void(hold)):
        with pytest.raises(KeyError):
            do(command)
    assert alice.wallet == (100, 60, 1)


def test_a_call_may_cost_more_than_the_limit_left_and_the_limit_says_so_afterwards() -> None:
    alice = Tenant(10_000)
    key = alice.key(limit_micro=100, limit_period="day")
    hold = alice.hold(100, key=key)
    assert do(alice.settle(hold, 130, key=key)) == Settled(130, 9_870)
    assert do(alice.reserve(0, key=key)) == Refused("key_limit", required=0, available=-30)


def test_a_raised_limit_holds_for_the_next_call() -> None:
    alice = Tenant(10_000)
    key = alice.key(limit_micro=100, limit_period="day")
    spend(alice, key, 100)
    ApiKey.objects.filter(pk=key).update(limit_micro=150, limit_period="month")
    assert do(alice.reserve(51, key=key)) == Refused("key_limit", required=51, available=50)
    ApiKey.objects.filter(pk=key).update(limit_micro=None, limit_period=None)
    assert do(alice.reserve(5_000, key=key)) == Held(5_000)


def test_two_keys_of_one_wallet_do_not_share_their_limits() -> None:
    alice = Tenant(10_000)
    one, other = [alice.key(limit_micro=100, limit_period="day") for _ in range(2)]
    spend(alice, one, 100)
    assert do(alice.reserve(100, key=other)) == Held(100)


def test_a_clock_that_steps_back_over_midnight_opens_no_second_limit() -> None:
    """Of the kernel alone: a database's clock that is put right by hand."""
    wallet, key = Wallet(make_hold_id(), 1_000, 0, False, 0, 1, True), Key(make_hold_id(), False, None, 100, "day")
    command = Tenant().reserve(100, key=key.id)
    books = Books(now=NOON + DAY, wallets={wallet.id: wallet}, keys={key.id: key})
    tomorrow = replace(command, wallet_id=wallet.id, hold_id=make_hold_id())
    assert decide(books, tomorrow) == Held(100)
    books.now = NOON
    again = replace(command, wallet_id=wallet.id, hold_id=make_hold_id())
    assert decide(books, again) == Refused("key_limit", required=100, available=0)
    assert decide(books, replace(again, amount=0, floor=0)) == Held(0)
    assert books.holds[again.hold_id].created_at == datetime(2026, 11, 19, tzinfo=UTC)


# --- Who may ------------------------------------------------------------------------------------


def test_a_frozen_wallet_takes_no_call_but_ends_those_that_run() -> None:
    alice = Tenant(100)
    running = alice.hold(40)
    for status in ("frozen", "closed"):
        alice.set_status(status)
        assert do(alice.reserve(1)) == Refused("organization_suspended")
    assert do(alice.settle(running, 40)) == Settled(40, 60)
    assert do(alice.post(5, kind="purchase")) == Posted(3, 65)
    alice.set_status("active")
    assert do(alice.reserve(65)) == Held(65)


def test_a_suspended_organization_takes_no_call() -> None:
    alice = Tenant(100)
    Organization.objects.filter(pk=alice.organization_id).update(status="suspended")
    assert do(alice.reserve(1)) == Refused("organization_suspended")
    assert alice.wallet == (100, 0, 1)


def test_a_revoked_key_is_refused_where_the_hold_is_made(clock: DatabaseClock) -> None:
    alice = Tenant(100)
    key = alice.key()
    running = alice.hold(40, key=key)
    ApiKey.objects.filter(pk=key).update(revoked_at=NOON)
    assert do(alice.reserve(1, key=key)) == Refused("revoked_api_key")
    assert do(alice.settle(running, 40, key=key)) == Settled(40, 60)
    assert do(alice.reserve(1, key=make_hold_id())) == Refused("revoked_api_key")


def test_a_key_expires_at_its_moment(clock: DatabaseClock) -> None:
    alice = Tenant(100)
    key = alice.key(expires_at=NOON + DAY)
    clock.set(NOON + DAY - timedelta(microseconds=1))
    assert do(alice.reserve(1, key=key)) == Held(1)
    clock.set(NOON + DAY)
    assert do(alice.reserve(1, key=key)) == Refused("expired_api_key")


# --- Entries that are not a call's -------------------------------------------------------------


def test_a_grant_twice_with_one_key_is_one_grant() -> None:
    alice = Tenant()
    given = {"actor": "carol", "reason": "welcome", "idempotency_key": "welcome-1"}
    assert accounts.grant(alice.organization_id, 500, **given) == Posted(1, 500)
    assert accounts.grant(alice.organization_id, 500, **given) == Posted(1, 500, replayed=True)
    assert accounts.grant(alice.organization_id, 900, **given) == Posted(1, 500, replayed=True)
    assert alice.entries() == [(1, "grant", 500, 500)]


def test_the_same_key_for_two_organizations_is_two_grants() -> None:
    alice, charlie = Tenant(), Tenant()
    for tenant in (alice, charlie):
        posted = accounts.grant(tenant.organization_id, 5, actor="carol", reason="welcome", idempotency_key="welcome-1")
        assert posted == Posted(1, 5)


def test_a_grant_without_a_key_is_a_new_one_every_time() -> None:
    alice = Tenant()
    assert [accounts.grant(alice.organization_id, 5, actor="carol", reason="gift").seq for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("amount", [0, -1])
def test_a_grant_gives(amount: int) -> None:
    alice = Tenant()
    with pytest.raises(ValueError, match="a grant must be between 1 and"):
        accounts.grant(alice.organization_id, amount, actor="carol", reason="gift")
    assert alice.wallet == (0, 0, 0)


def test_an_adjustment_stays_above_what_is_held() -> None:
    alice = Tenant(100)
    alice.hold(40)
    assert do(alice.post(-61)) == Refused("below_floor", required=61, available=60)
    with pytest.raises(LedgerRefused, match="the balance allows 60 micro-credits, 61 are asked for"):
        journal.post(
            alice.organization_id, "adjustment", -61, actor="carol", reason="mistake", idempotency_key="form-1"
        )
    assert do(alice.post(-60)) == Posted(2, 40)
    assert alice.entries() == [(1, "purchase", 100, 100), (2, "adjustment", -60, 40)]


def test_an_adjustment_may_use_the_overdraft_and_an_unlimited_wallet_anything() -> None:
    alice, rich = Tenant(100, overdraft_micro=20), Tenant(unlimited=True)
    assert do(alice.post(-120)) == Posted(2, -20)
    assert do(alice.post(-1)) == Refused("below_floor", required=1, available=0)
    assert do(rich.post(-10_000)) == Posted(1, -10_000)


def test_a_refused_adjustment_leaves_its_key_free() -> None:
    alice = Tenant(100)
    assert do(alice.post(-101, idempotency_key="form-1")) == Refused("below_floor", required=101, available=100)
    assert do(alice.post(-100, idempotency_key="form-1")) == Posted(2, 0)


def test_a_correction_names_the_call_it_corrects() -> None:
    alice = Tenant(100)
    hold = alice.hold(60)
    do(alice.settle(hold, 50, estimated=True))
    given = {"actor": "reconciliation", "reason": "the provider billed 45", "idempotency_key": f"recon:{hold}:1"}
    assert journal.post(alice.organization_id, "correction", 5, hold_id=hold, **given) == Posted(3, 55)
    assert journal.post(alice.organization_id, "correction", 5, hold_id=hold, **given) == Posted(3, 55, replayed=True)
    assert hold_row(hold) == ("settled", 60, 50, 50)


def test_an_organization_without_a_wallet_is_named() -> None:
    with pytest.raises(LedgerRefused, match="this organization has no wallet"):
        journal.post(make_hold_id(), "grant", 5, actor="carol", reason="gift", idempotency_key="g")


def test_one_bad_posting_undoes_its_whole_batch() -> None:
    alice = Tenant(100)
    with pytest.raises(Exception, match="entry_names_actor_and_reason"):
        journal.execute([alice.post(5), alice.post(5, actor="")])
    assert alice.wallet == (100, 0, 1)


# --- What is kept of a call ---------------------------------------------------------------------


def test_the_usage_row_of_a_call_says_what_was_consumed() -> None:
    alice = Tenant(10_000)
    key = alice.key()
    hold = alice.hold(5_000, key=key)
    tokens = Tokens(
        prompt_tokens=1_000,
        completion_tokens=200,
        cached_tokens=10,
        cache_write_5m_tokens=20,
        cache_write_1h_tokens=30,
        reasoning_tokens=40,
        audio_input_tokens=50,
        audio_output_tokens=60,
        units={"images": 7, "web_searches": 8},
    )
    attempts = ({"provider": "a", "outcome": "timeout", "milliseconds": 30},)
    receipt = {
        "usage": tokens,
        "cost_pico": 1_400_000_000,
        "provider_ref": "gen-7",
        "streamed": True,
        "cancelled": True,
        "estimated": True,
        "finish_reason": "stop",
        "attempts": attempts,
        "first_token_ms": 12,
        "latency_ms": 345,
        "reconciliation": "pending",
        "reconcile_after_s": 90,
    }
    do(alice.settle(hold, 4_000, key=key, **receipt))
    usage = Usage.objects.get(pk=hold)
    assert {name: getattr(usage, name) for name in Tokens.__struct_fields__} == {
        name: getattr(tokens, name) for name in Tokens.__struct_fields__
    }
    assert (usage.wallet_id, usage.key_id, usage.user_id, usage.price_id) == (
        alice.organization_id,
        key,
        None,
        alice.price_id,
    )
    assert (usage.charged, usage.cost_pico, usage.provider_ref) == (4_000, 1_400_000_000, "gen-7")
    assert (usage.streamed, usage.cancelled, usage.estimated, usage.finish_reason) == (True, True, True, "stop")
    assert (usage.first_token_ms, usage.latency_ms, usage.attempts) == (12, 345, list(attempts))
    assert usage.reconciliation == "pending"
    assert usage.reconcile_at == usage.recorded_at + timedelta(seconds=90)
