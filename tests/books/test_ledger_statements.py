"""What a batch costs the database does not depend on how much is in it."""

from collections.abc import Callable, Sequence
from uuid import UUID

import pytest
from django.db import DataError, connection, transaction
from django.test.utils import CaptureQueriesContext

from billing.ledger import journal
from billing.ledger.batch import Batch
from billing.ledger.commands import AnyCommand, Held, Refused, Reserve, Settled
from tests.kit.books import hold_row, make_hold_id, make_receipt
from tests.kit.tenants import Tenant

AMOUNT = 10
SIZES = [(1, 1), (10, 1), (10, 10), (500, 1), (500, 50)]  # commands, wallets


class Callers:
    """N calls' worth of room: wallets with credits for all of them, a key each."""

    def __init__(self, commands: int, wallets: int) -> None:
        tenants = [Tenant(commands * AMOUNT * 10) for _ in range(wallets)]
        keys = [tenant.key(limit_micro=10**9, limit_period="day") for tenant in tenants]
        self.callers = [(tenants[n % wallets], keys[n % wallets]) for n in range(commands)]

    def reserve(self) -> list[Reserve]:
        return [tenant.reserve(AMOUNT, key=key, life_s=-1) for tenant, key in self.callers]

    def held(self) -> list[tuple[Tenant, UUID, UUID]]:
        commands = self.reserve()
        assert journal.execute(commands) == [Held(AMOUNT)] * len(commands)
        return [(tenant, key, command.hold_id) for (tenant, key), command in zip(self.callers, commands, strict=True)]

    def settle(self) -> list[AnyCommand]:
        return [tenant.settle(hold, 3, key=key) for tenant, key, hold in self.held()]

    def void(self) -> list[AnyCommand]:
        return [tenant.void(hold, key=key) for tenant, key, hold in self.held()]

    def void_with_receipt(self) -> list[AnyCommand]:
        return [
            tenant.void(hold, key=key, receipt=make_receipt(price_id=tenant.price_id))
            for tenant, key, hold in self.held()
        ]

    def expire(self) -> list[AnyCommand]:
        return [tenant.expire(hold, key=key) for tenant, key, hold in self.held()]

    def mark(self) -> list[AnyCommand]:
        return [tenant.mark(hold) for tenant, _, hold in self.held()]

    def post(self) -> list[AnyCommand]:
        return [tenant.post(1) for tenant, _ in self.callers]

    def nothing(self) -> list[AnyCommand]:
        return [tenant.void(make_hold_id(), key=key) for tenant, key in self.callers]

    def everything(self) -> list[AnyCommand]:
        kinds: list[Callable[[], Sequence[AnyCommand]]] = [
            self.reserve,
            self.settle,
            self.void,
            self.void_with_receipt,
            self.expire,
            self.mark,
            self.post,
        ]
        return [command for kind in kinds for command in kind()]


# Wallets, keys, holds are always read, idempotency keys when something is posted; then wallets, meters, new holds,
# changed holds, entries and usage are written, each only when there is something to write.
EXPECTED = {
    "reserve": 3 + 3,
    "settle": 3 + 5,
    "void": 3 + 3,
    "void_with_receipt": 3 + 4,
    "expire": 3 + 3,
    "mark": 3 + 1,
    "post": 4 + 2,
    "nothing": 3,
    "everything": 4 + 6,
}


@pytest.mark.django_db
@pytest.mark.parametrize("kind", EXPECTED)
def test_a_batch_takes_the_same_statements_whatever_its_size(kind: str) -> None:
    assert {size: statements_of(getattr(Callers(*size), kind)()) for size in SIZES} == dict.fromkeys(
        SIZES, EXPECTED[kind]
    )


def test_no_batch_takes_more_than_ten() -> None:
    assert max(EXPECTED.values()) == EXPECTED["everything"] == 10


def statements_of(commands: list[AnyCommand]) -> int:
    with CaptureQueriesContext(connection) as captured:
        outcomes = journal.execute(commands)
    assert len(outcomes) == len(commands)
    assert not any(isinstance(outcome, Refused) for outcome in outcomes)
    # The transaction itself: a savepoint here, BEGIN and COMMIT outside of tests.
    return sum("SAVEPOINT" not in query["sql"] for query in captured)


# --- Somebody who does not keep to the locks --------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    "meddle",
    [
        "UPDATE billing_wallet SET seq = seq + 1 WHERE organization_id = %s",
        "UPDATE billing_wallet SET posted = posted + 1, seq = seq + 1 WHERE organization_id = %s",
    ],
)
def test_a_wallet_that_changed_since_it_was_read_is_not_written(meddle: str) -> None:
    alice = Tenant(1_000)
    hold = alice.hold(100)
    batch = Batch([alice.settle(hold, 60)])
    results = []
    with connection.cursor() as cursor:
        for statement in batch.reads():
            cursor.execute(*statement)
            results.append(cursor.fetchall())
        assert batch.decide(results) == [Settled(60, 940)]
        cursor.execute(meddle, [alice.organization_id])
        wallets, *_ = batch.writes()
        with pytest.raises(DataError, match="division by zero"), transaction.atomic():
            cursor.execute(*wallets)
    assert hold_row(hold)[0] == "open"
