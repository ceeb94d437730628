"""The ledger's decisions: one pure function from the books and a command to the changed books.

No I/O and no clock: `Books` holds the rows a batch has locked and read, `decide` applies one
command to them, and billing/ledger/batch.py writes back what changed. A batch decides its commands
in arrival order, each seeing what those before it have changed. Amounts are whole micro-credits.
"""

from datetime import datetime, timedelta
from operator import itemgetter
from typing import Literal
from uuid import UUID

import msgspec

from billing.ledger.commands import (
    FIRST_ENDPOINT,
    AnyCommand,
    Done,
    Expire,
    FailedAttempt,
    Held,
    Mark,
    Outcome,
    Post,
    Posted,
    Receipt,
    Refused,
    Reserve,
    Settle,
    Settled,
    Void,
)

State = Literal["open", "settled", "voided", "expired"]
Period = Literal["day", "week", "month", "total"]
WINDOWS: tuple[Literal["day", "week", "month"], ...] = ("day", "week", "month")

# The account on the other side of an entry, by the entry's kind.
CONTRA = {
    "purchase": "issuance",
    "grant": "promotion",
    "adjustment": "adjustment",
    "usage": "revenue",
    "late_usage": "revenue",
    "correction": "revenue",
    "refund": "issuance",
    "expiry": "promotion",
}


# --- the books: rows as the kernel sees them ------------------------------------------------


class Wallet(msgspec.Struct):
    id: UUID  # its organization's
    posted: int  # the sum of its entries
    held: int  # the sum of its open holds
    unlimited: bool
    overdraft: int
    seq: int  # of its last entry
    active: bool  # neither the wallet nor its organization is suspended

    @property
    def available(self) -> int:
        """What a new hold may take. The overdraft is not for new calls: it only absorbs what a
        running call costs beyond its hold."""
        return self.posted - self.held


class Key(msgspec.Struct, frozen=True):
    """The authority a hold is checked against, read again in the batch that commits the hold."""

    id: UUID
    revoked: bool
    expires_at: datetime | None
    limit_micro: int | None
    limit_period: Period | None


class Meter(msgspec.Struct):
    """What a key has spent and holds in the current UTC day, ISO week and month, and in all: for its budget."""

    key_id: UUID
    wallet_id: UUID
    day_start: datetime
    week_start: datetime
    month_start: datetime
    day_spent: int = 0
    day_held: int = 0
    week_spent: int = 0
    week_held: int = 0
    month_spent: int = 0
    month_held: int = 0
    total_spent: int = 0
    total_held: int = 0


class Hold(msgspec.Struct):
    """A call: what it may cost at most (`amount`), and what came of it."""

    id: UUID
    wallet_id: UUID
    key_id: UUID | None
    user_id: int | None
    model: str
    price_id: int
    amount: int
    state: State
    created_at: datetime
    expires_at: datetime
    actual: int | None = None  # what it cost; None: not settled
    charged: int | None = None  # what of that was taken; less where the wallet had no more
    resolved_at: datetime | None = None
    provider: str = ""
    provider_ref: str = ""
    dispatched_at: datetime | None = None
    rate_id: int | None = None
    endpoint: str = FIRST_ENDPOINT
    balance_after: int | None = None  # a column of its usage entry, read with the hold
    failed: tuple[FailedAttempt, ...] = ()  # rows of their own, written with the hold


class Entry(msgspec.Struct, frozen=True):
    """One line of a wallet; never changed."""

    wallet_id: UUID
    seq: int
    kind: str
    contra: str
    amount: int
    balance_after: int
    hold_id: UUID | None
    idempotency_key: str | None
    actor: str
    reason: str
    created_at: datetime


class Books(msgspec.Struct):
    """The rows of one batch, and what its commands have changed so far."""

    now: datetime
    wallets: dict[UUID, Wallet] = {}
    keys: dict[UUID, Key] = {}
    meters: dict[UUID, Meter] = {}
    holds: dict[UUID, Hold] = {}
    entries: dict[tuple[UUID, str], Entry] = {}  # by wallet and idempotency key

    changed_wallets: set[UUID] = set()
    changed_meters: set[UUID] = set()
    new_holds: set[UUID] = set()
    changed_holds: set[UUID] = set()
    new_entries: list[Entry] = []
    new_receipts: list[tuple[Hold, Receipt]] = []


def decide(books: Books, command: AnyCommand) -> Outcome:
    """Apply one command to the books. The only function that changes an amount."""
    wallet = books.wallets.get(command.wallet_id)
    if wallet is None:
        return Refused("no_wallet")
    match command:
        case Reserve():
            return _reserve(books, wallet, command)
        case Settle():
            return _settle(books, wallet, command)
        case Void():
            return _void(books, wallet, command)
        case Mark():
            return _mark(books, command)
        case Expire():
            return _expire(books, wallet, command)
        case Post():
            return _post(books, wallet, command)


# --- a call's life --------------------------------------------------------------------------


def _reserve(books: Books, wallet: Wallet, command: Reserve) -> Outcome:
    if known := _hold(books, command):
        return Held(known.amount, replayed=True)
    if refusal := _no_authority(books, wallet, command):
        return refusal
    meter = _running_meter(books, command)
    # The lowest ceiling is the one to tell: what fits under it fits under all.
    source, available = min(_ceilings(books, wallet, meter, command), key=itemgetter(1), default=("", command.amount))
    if available < command.floor:
        return Refused(source, required=command.floor, available=available)
    amount = min(command.amount, available)
    _open(books, wallet, meter, command, amount)
    return Held(amount)


def _no_authority(books: Books, wallet: Wallet, command: Reserve) -> Refused | None:
    if not wallet.active:
        return Refused("organization_suspended")
    if command.key_id is None:
        return None
    key = books.keys.get(command.key_id)
    if key is None or key.revoked:
        return Refused("revoked_api_key")
    if key.expires_at is not None and key.expires_at <= books.now:
        return Refused("expired_api_key")
    return None


def _ceilings(
    books: Books, wallet: Wallet, meter: Meter | None, command: Reserve
) -> list[tuple[Literal["credits", "key_limit"], int]]:
    """What bounds a hold, and by how much: a wallet that is not unlimited, the window of a key that has a limit."""
    bounds: list[tuple[Literal["credits", "key_limit"], int]] = []
    if not wallet.unlimited:
        bounds.append(("credits", wallet.available))
    key = books.keys.get(command.key_id) if command.key_id else None
    if meter is not None and key is not None and key.limit_micro is not None and key.limit_period is not None:
        bounds.append(("key_limit", key.limit_micro - used(meter, key.limit_period)))
    return bounds


def used(meter: Meter, period: Period) -> int:
    """What a key has spent and holds in the window of this period."""
    return int(getattr(meter, f"{period}_spent") + getattr(meter, f"{period}_held"))


def _open(books: Books, wallet: Wallet, meter: Meter | None, command: Reserve, amount: int) -> None:
    # A clock that steps back over midnight must not put the hold before the window that counts it.
    created_at = max(books.now, meter.day_start) if meter else books.now
    books.holds[command.hold_id] = Hold(
        id=command.hold_id,
        wallet_id=wallet.id,
        key_id=command.key_id,
        user_id=command.user_id,
        model=command.model,
        price_id=command.price_id,
        provider=command.provider,
        amount=amount,
        state="open",
        created_at=created_at,
        expires_at=created_at + timedelta(seconds=command.life_s),
        rate_id=command.rate_id,
        endpoint=command.endpoint,
    )
    books.new_holds.add(command.hold_id)
    wallet.held += amount
    books.changed_wallets.add(wallet.id)
    if meter:
        _count(meter, created_at, held=amount)
        books.changed_meters.add(meter.key_id)


def _settle(books: Books, wallet: Wallet, command: Settle) -> Outcome:
    hold = _hold(books, command)
    if hold is None:
        return Refused("unknown_hold")
    if hold.state == "voided":
        return Refused("hold_voided")
    if hold.charged is not None:
        return Settled(hold.charged, _remaining(wallet, hold), late=hold.state == "expired", replayed=True)
    late = hold.state == "expired"
    covered = 0 if late else hold.amount
    charged = command.actual
    if not wallet.unlimited:
        spare = max(0, wallet.posted - wallet.held + wallet.overdraft)
        charged = min(charged, covered + spare)
    hold.actual, hold.charged, hold.failed = command.actual, charged, command.receipt.failed
    if not late:
        _resolve(books, wallet, hold, "settled")
    else:
        books.changed_holds.add(hold.id)
    entry = _append(books, wallet, "late_usage" if late else "usage", -charged, hold_id=hold.id)
    hold.balance_after = entry.balance_after
    if meter := _meter(books, hold):
        _count(meter, hold.created_at, spent=charged)
        books.changed_meters.add(meter.key_id)
    books.new_receipts.append((hold, command.receipt))
    return Settled(charged, _remaining(wallet, hold), late=late)


def _hold(books: Books, command: Reserve | Settle | Void | Mark | Expire) -> Hold | None:
    """The command's call. A call of another wallet is unknown: the command has locked its own wallet only."""
    hold = books.holds.get(command.hold_id)
    return hold if hold is not None and hold.wallet_id == command.wallet_id else None


def _remaining(wallet: Wallet, hold: Hold) -> int | None:
    return None if wallet.unlimited else hold.balance_after


def _void(books: Books, wallet: Wallet, command: Void) -> Outcome:
    hold = _hold(books, command)
    if hold is None or hold.state != "open":
        return Done(changed=False)
    _resolve(books, wallet, hold, "voided")
    if command.receipt is not None:
        hold.failed = command.receipt.failed
        books.new_receipts.append((hold, command.receipt))
    return Done(changed=True)


def _expire(books: Books, wallet: Wallet, command: Expire) -> Outcome:
    hold = _hold(books, command)
    if hold is None or hold.state != "open" or hold.expires_at > books.now:
        return Done(changed=False)
    _resolve(books, wallet, hold, "expired")
    return Done(changed=True)


def _mark(books: Books, command: Mark) -> Outcome:
    hold = _hold(books, command)
    if hold is None or hold.state != "open":
        return Done(changed=False)
    hold.provider, hold.provider_ref = command.provider, command.provider_ref
    hold.dispatched_at = hold.dispatched_at or books.now
    hold.failed = command.failed
    books.changed_holds.add(hold.id)
    return Done(changed=True)


def _resolve(books: Books, wallet: Wallet, hold: Hold, state: State) -> None:
    """Free the held amount; every way a hold ends comes through here, once."""
    hold.state, hold.resolved_at = state, books.now
    books.changed_holds.add(hold.id)
    wallet.held -= hold.amount
    books.changed_wallets.add(wallet.id)
    if meter := _meter(books, hold):
        _count(meter, hold.created_at, held=-hold.amount)
        books.changed_meters.add(meter.key_id)


# --- entries --------------------------------------------------------------------------------


def _post(books: Books, wallet: Wallet, command: Post) -> Outcome:
    if known := books.entries.get((wallet.id, command.idempotency_key)):
        return Posted(known.seq, known.balance_after, replayed=True)
    floor = wallet.held - wallet.overdraft
    if command.amount < 0 and not wallet.unlimited and wallet.posted + command.amount < floor:
        return Refused("below_floor", required=-command.amount, available=wallet.posted - floor)
    entry = _append(
        books,
        wallet,
        command.kind,
        command.amount,
        hold_id=command.hold_id,
        idempotency_key=command.idempotency_key,
        actor=command.actor,
        reason=command.reason,
    )
    return Posted(entry.seq, entry.balance_after)


def _append(
    books: Books,
    wallet: Wallet,
    kind: str,
    amount: int,
    *,
    hold_id: UUID | None = None,
    idempotency_key: str | None = None,
    actor: str = "",
    reason: str = "",
) -> Entry:
    wallet.posted += amount
    wallet.seq += 1
    books.changed_wallets.add(wallet.id)
    entry = Entry(
        wallet_id=wallet.id,
        seq=wallet.seq,
        kind=kind,
        contra=CONTRA[kind],
        amount=amount,
        balance_after=wallet.posted,
        hold_id=hold_id,
        idempotency_key=idempotency_key,
        actor=actor,
        reason=reason,
        created_at=books.now,
    )
    books.new_entries.append(entry)
    if idempotency_key is not None:
        books.entries[wallet.id, idempotency_key] = entry
    return entry


# --- meters ---------------------------------------------------------------------------------


def window_starts(now: datetime) -> dict[str, datetime]:
    """When the UTC day, ISO week and month that `now` lies in began."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}


def _running_meter(books: Books, command: Reserve) -> Meter | None:
    """The key's meter with every window that has ended started over."""
    if command.key_id is None:
        return None
    starts = window_starts(books.now)
    meter = books.meters.get(command.key_id)
    if meter is None:
        meter = Meter(command.key_id, command.wallet_id, starts["day"], starts["week"], starts["month"])
        books.meters[command.key_id] = meter
    for window in WINDOWS:
        if getattr(meter, f"{window}_start") < starts[window]:
            setattr(meter, f"{window}_start", starts[window])
            setattr(meter, f"{window}_spent", 0)
            setattr(meter, f"{window}_held", 0)
    return meter


def _meter(books: Books, hold: Hold) -> Meter | None:
    """The meter a hold is counted in. A KeyError here is a command that does not name the key of its hold, so that the
    meter was not read."""
    return None if hold.key_id is None else books.meters[hold.key_id]


def _count(meter: Meter, created_at: datetime, *, held: int = 0, spent: int = 0) -> None:
    """Add to the windows that a hold made at `created_at` belongs to."""
    meter.total_held += held
    meter.total_spent += spent
    if created_at >= meter.month_start:
        meter.month_held += held
        meter.month_spent += spent
    if created_at >= meter.week_start:
        meter.week_held += held
        meter.week_spent += spent
    if created_at >= meter.day_start:
        meter.day_held += held
        meter.day_spent += spent
