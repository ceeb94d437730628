"""Credit that expires: spent first, the soonest to expire before the others; what is left goes at its time, once, and
never what a running call holds."""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.credits import accounts, lots
from billing.credits.lots import Movement, spend
from billing.ledger.commands import Refused, Settled
from billing.models import Entry, Lot
from billing.oversight import verifier
from billing.tasks import expire_credits
from tests.kit.books import at_once, do
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Tenant

TODAY = datetime.now(UTC).replace(microsecond=0)
SOON, LATER = TODAY + timedelta(days=1), TODAY + timedelta(days=30)


@pytest.fixture
def clock(db: None) -> Iterator[DatabaseClock]:
    yield DatabaseClock(TODAY)
    assert verifier.violations() == []


def grant(tenant: Tenant, amount: int, expires_at: datetime | None, reason: str = "welcome", **more: str) -> None:
    accounts.grant(tenant.organization_id, amount, actor="alice", reason=reason, expires_at=expires_at, **more)


def spend_on_a_call(tenant: Tenant, amount: int) -> None:
    do(tenant.settle(tenant.hold(amount), amount))


def left(tenant: Tenant) -> list[int]:
    return [lot.left for lot in lots.open_lots(tenant.organization_id)]


# --- The rule, pure ---------------------------------------------------------------------------------


class Purse:
    """The same rule as a child would do it: coins in a row, taken one by one."""

    def __init__(self, lefts: Sequence[int], permanent: int) -> None:
        self.coins: list[int | None] = [place for place, count in enumerate(lefts) for _ in range(count)]
        self.coins += [None] * max(0, permanent)
        self.debt = max(0, -permanent)

    def take(self, count: int) -> None:
        for _ in range(count):
            if self.coins:
                self.coins.pop(0)
            else:
                self.debt += 1

    def pay_back(self, count: int) -> None:
        for _ in range(count):
            if None in self.coins:
                self.coins.remove(None)
            else:
                self.take(1)

    def put(self, count: int) -> None:
        for _ in range(count):
            if self.debt:
                self.debt -= 1
            else:
                self.coins.append(None)

    def open_lot(self, place: int, count: int) -> None:
        """A lot that ends sooner than those behind it goes before them."""
        paid = min(self.debt, count)
        self.debt -= paid
        at = next((at for at, coin in enumerate(self.coins) if coin is None or coin > place), len(self.coins))
        self.coins[at:at] = [place] * (count - paid)

    def expire(self, place: int) -> None:
        self.coins = [coin for coin in self.coins if coin != place]

    def lefts(self, places: int) -> list[int]:
        return [self.coins.count(place) for place in range(places)]

    @property
    def permanent(self) -> int:
        return self.coins.count(None) - self.debt


steps = st.lists(st.tuples(st.sampled_from(["take", "put", "pay_back"]), st.integers(0, 30)), max_size=12)


@given(lefts=st.lists(st.integers(0, 30), max_size=4), permanent=st.integers(0, 30), program=steps)
@settings(deadline=None)
def test_spending_is_what_coins_in_a_row_would_do(
    lefts: list[int], permanent: int, program: list[tuple[str, int]]
) -> None:
    purse, movements = Purse(lefts, permanent), [Movement()]
    for verb, count in program:
        getattr(purse, verb)(count)
        last = movements[-1]
        if verb == "pay_back":
            movements[-1:] = [last._replace(refunded=count), Movement()]
        else:
            movements[-1] = last._replace(taken=last.taken + count * (verb == "take"))
            movements[-1] = movements[-1]._replace(given=last.given + count * (verb == "put"))
    # Within a stretch what comes in is counted before what goes out, the coins came one after the other: only a debt
    # can tell the two apart, and then no lot has anything left.
    assert spend(lefts, permanent, movements) == (purse.lefts(len(lefts)), purse.permanent)


# --- In the books -----------------------------------------------------------------------------------


def test_promotional_credit_is_spent_first_and_the_soonest_to_expire_before_the_others(clock: DatabaseClock) -> None:
    alice = Tenant(1_000)
    grant(alice, 200, LATER, "spring")
    grant(alice, 100, SOON, "welcome")
    spend_on_a_call(alice, 150)
    [spring] = lots.open_lots(alice.organization_id)
    assert (spring.left, spring.amount, spring.expires_at, spring.reason) == (150, 200, LATER, "spring")
    spend_on_a_call(alice, 400)
    assert lots.open_lots(alice.organization_id) == []
    assert alice.wallet[0] == 750


def test_what_is_left_is_taken_at_its_time_and_not_before(clock: DatabaseClock) -> None:
    alice = Tenant(1_000)
    grant(alice, 100, SOON)
    spend_on_a_call(alice, 30)
    clock.set(SOON - timedelta(microseconds=1))
    assert lots.expire() == 0
    assert left(alice) == [70]
    clock.set(SOON)
    assert lots.expire() == 1
    assert alice.entries()[-1] == (4, "expiry", -70, 1_000)
    assert left(alice) == []
    expire_credits()
    assert alice.wallet == (1_000, 0, 4)
    lot = Lot.objects.get()
    assert (lot.left, lot.expired, lot.expiries, lot.closed_at is not None) == (0, 70, 1, True)


def test_what_a_running_call_holds_expires_when_the_call_has_left_it(clock: DatabaseClock) -> None:
    alice = Tenant(0)
    grant(alice, 100, SOON)
    hold = alice.hold(60)
    clock.set(SOON)
    assert lots.expire_in(alice.organization_id) == 40
    assert (alice.wallet, left(alice)) == ((60, 60, 2), [60])
    assert lots.expire_in(alice.organization_id) == 0
    do(alice.settle(hold, 25))
    assert lots.expire_in(alice.organization_id) == 35
    assert alice.wallet == (0, 0, 4)
    keys = (
        Entry.objects.filter(kind="expiry", wallet_id=alice.organization_id)
        .order_by("seq")
        .values_list("idempotency_key", "reason")
    )
    lot = Lot.objects.get()
    assert [key for key, _ in keys] == [f"expiry:{lot.pk}:0", f"expiry:{lot.pk}:1"]
    assert keys[0][1] == f"expired {SOON:%Y-%m-%d %H:%M} UTC: welcome"


def test_a_call_may_still_use_up_what_it_held(clock: DatabaseClock) -> None:
    alice = Tenant(0)
    grant(alice, 100, SOON)
    hold = alice.hold(100)
    clock.set(SOON)
    assert lots.expire() == 0
    do(alice.settle(hold, 100))
    assert lots.expire() == 0
    assert alice.entries()[-1] == (2, "usage", -100, 0)
    assert left(alice) == []


def test_the_overdraft_is_no_credit_to_take(clock: DatabaseClock) -> None:
    alice = Tenant(0, overdraft_micro=500)
    grant(alice, 100, SOON)
    hold = alice.hold(100)
    do(alice.settle(hold, 130))
    clock.set(SOON)
    assert lots.expire() == 0
    assert alice.wallet[0] == -30


def test_a_grant_into_a_debt_pays_the_debt_first(clock: DatabaseClock) -> None:
    alice = Tenant(0, unlimited=True)
    spend_on_a_call(alice, 70)
    grant(alice, 100, SOON)
    assert left(alice) == [30]
    spend_on_a_call(alice, 50)
    grant(alice, 15, LATER)
    assert left(alice) == []
    clock.set(LATER)
    assert lots.expire() == 0
    assert alice.wallet[0] == -5


def test_money_paid_back_comes_out_of_bought_credit_first(clock: DatabaseClock) -> None:
    alice = Tenant(50)
    grant(alice, 100, SOON)
    do(alice.post(-30, kind="refund"))
    assert left(alice) == [100]
    do(alice.post(-40, kind="refund"))
    assert left(alice) == [80]


def test_what_a_correction_gives_back_does_not_expire(clock: DatabaseClock) -> None:
    alice = Tenant(0)
    grant(alice, 100, SOON)
    spend_on_a_call(alice, 60)
    do(alice.post(20, kind="correction"))
    clock.set(SOON)
    assert lots.expire_in(alice.organization_id) == 40
    assert alice.wallet[0] == 20


def test_the_same_grant_again_opens_no_second_lot(clock: DatabaseClock) -> None:
    alice = Tenant(0)
    for _ in range(2):
        grant(alice, 100, SOON, idempotency_key="spring-1")
    assert (alice.wallet[0], left(alice)) == (100, [100])


def test_random_lives_equal_coins_in_a_row(clock: DatabaseClock) -> None:
    """Through the real ledger, with lots granted, counted and expired at any moment."""
    chance = random.Random(20)
    for _ in range(6):
        alice, purse, made = Tenant(0, unlimited=True), Purse([], 0), 0
        ends = [TODAY + timedelta(days=chance.randint(1, 9), seconds=place) for place in range(12)]
        order = sorted(ends)

        def usage(count: int, alice: Tenant = alice, purse: Purse = purse) -> None:
            spend_on_a_call(alice, count)
            purse.take(count)

        def purchase(count: int, alice: Tenant = alice, purse: Purse = purse) -> None:
            do(alice.post(count, kind="purchase"))
            purse.put(count)

        def refund(count: int, alice: Tenant = alice, purse: Purse = purse) -> None:
            do(alice.post(-count, kind="refund"))
            purse.pay_back(count)

        verbs: list[Callable[[int], None]] = [usage, usage, purchase, refund]
        for step in range(40):
            if step % 4 == 0 and made < len(ends):
                amount = chance.randint(1, 40)
                grant(alice, amount, ends[made], str(order.index(ends[made])))
                purse.open_lot(order.index(ends[made]), amount)
                made += 1
            elif step % 7 == 0:
                clock.set(clock.now + timedelta(hours=chance.randint(1, 30)))
                lots.expire_in(alice.organization_id)
                for place, end in enumerate(order):
                    if end <= clock.now:
                        purse.expire(place)
            else:
                chance.choice(verbs)(chance.randint(0, 25))
            expected = [(str(place), count) for place, count in enumerate(purse.lefts(12)) if count]
            assert [(lot.reason, lot.left) for lot in lots.open_lots(alice.organization_id)] == expected
        assert alice.wallet[0] == len(purse.coins) - purse.debt
        clock.set(TODAY)


def test_the_number_of_queries_depends_on_neither_lots_nor_entries(clock: DatabaseClock) -> None:
    def queries(lots_count: int, calls: int) -> tuple[int, int]:
        alice = Tenant(1_000)
        for place in range(lots_count):
            grant(alice, 100, SOON + timedelta(seconds=place))
        for _ in range(calls):
            spend_on_a_call(alice, 1)
        clock.set(LATER)
        with CaptureQueriesContext(connection) as look:
            lots.open_lots(alice.organization_id)
        with CaptureQueriesContext(connection) as expiry:
            assert lots.expire_in(alice.organization_id) == lots_count * 100 - calls
        clock.set(TODAY)
        return len(look), len(expiry)

    assert queries(1, 1) == queries(5, 20)


def test_a_look_up_reads_no_entry_that_was_counted(clock: DatabaseClock) -> None:
    alice = Tenant(1_000)
    grant(alice, 100, SOON)
    spend_on_a_call(alice, 10)
    assert lots.expire() == 0
    lot = Lot.objects.get()
    assert (lot.left, lot.counted_seq, alice.wallet[2]) == (90, 3, 3)
    with CaptureQueriesContext(connection) as look:
        assert left(alice) == [90]
    assert len(look) == 1


def test_the_database_lets_no_lot_grow_or_vanish(clock: DatabaseClock) -> None:
    alice = Tenant(0)
    grant(alice, 100, SOON)
    for change in ({"left": 101}, {"expires_at": LATER}, {"amount": 200}, {"left": 0}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Lot.objects.update(**change)
    with pytest.raises(IntegrityError), transaction.atomic():
        Lot.objects.all().delete()


def test_three_expiries_at_once_take_it_once(live_db: None) -> None:
    alice = Tenant(50)
    grant(alice, 100, datetime.now(UTC) + timedelta(seconds=0.2))
    while lots.open_lots(alice.organization_id)[0].expires_at > datetime.now(UTC):
        pass
    took = at_once([lambda: lots.expire_in(alice.organization_id)] * 3)
    assert sorted(took) == [0, 0, 100]
    assert [entry[1:] for entry in alice.entries()] == [
        ("purchase", 50, 50),
        ("grant", 100, 150),
        ("expiry", -100, 50),
    ]
    assert verifier.violations() == []


def test_expiry_beside_spending_keeps_the_books(live_db: None) -> None:
    alice = Tenant(0)
    grant(alice, 1_000, datetime.now(UTC) + timedelta(seconds=0.2))

    def calls() -> int:
        return sum(_spend_if_possible(alice.organization_id, alice) for _ in range(20))

    def expiry() -> int:
        return sum(lots.expire_in(alice.organization_id) for _ in range(20))

    spent_a, spent_b, expired = at_once([calls, calls, expiry])
    while lots.open_lots(alice.organization_id):
        expired += lots.expire_in(alice.organization_id)
    assert spent_a + spent_b + expired == 1_000
    assert alice.wallet[:2] == (0, 0)
    assert verifier.violations() == []


def _spend_if_possible(_: UUID, tenant: Tenant) -> int:
    reserve = tenant.reserve(30, floor=1)
    outcome = do(reserve)
    if isinstance(outcome, Refused):
        return 0
    settled = do(tenant.settle(reserve.hold_id, 17))
    assert isinstance(settled, Settled)
    return settled.charged
