"""A second ledger, written from the book of rules and not from the kernel: slow, serial and plain.

It keeps nothing but the list of holds and the list of entries; every balance, held amount and window is added up
anew from them for every command. Whatever it says, the product must say too, in any batching.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from billing.ledger import kernel
from billing.ledger.commands import AnyCommand, Expire, Mark, Post, Receipt, Reserve, Settle, Void

Told = tuple[Any, ...]  # an outcome as plain figures

CONTRA = {
    "purchase": "issuance",
    "refund": "issuance",
    "grant": "promotion",
    "expiry": "promotion",
    "adjustment": "adjustment",
    "usage": "revenue",
    "late_usage": "revenue",
    "correction": "revenue",
}


@dataclass(frozen=True)
class ModelKey:
    id: UUID
    wallet: UUID
    limit: int | None = None
    period: str | None = None
    revoked: bool = False
    expires_at: datetime | None = None


@dataclass(frozen=True)
class ModelWallet:
    id: UUID
    unlimited: bool = False
    overdraft: int = 0
    active: bool = True
    keys: tuple[ModelKey, ...] = ()


@dataclass
class ModelHold:
    id: UUID
    wallet: UUID
    key: UUID | None
    amount: int
    created_at: datetime
    expires_at: datetime
    provider: str
    state: str = "open"
    actual: int | None = None
    charged: int | None = None
    resolved_at: datetime | None = None
    provider_ref: str = ""
    dispatched_at: datetime | None = None
    told_balance: int | None = None


@dataclass(frozen=True)
class ModelEntry:
    wallet: UUID
    seq: int
    kind: str
    amount: int
    balance_after: int
    hold: UUID | None
    idempotency_key: str | None
    actor: str
    reason: str
    created_at: datetime

    @property
    def contra(self) -> str:
        return CONTRA[self.kind]


@dataclass
class Model:
    wallets: dict[UUID, ModelWallet]
    holds: dict[UUID, ModelHold] = field(default_factory=dict)
    entries: list[ModelEntry] = field(default_factory=list)
    receipts: dict[UUID, Receipt] = field(default_factory=dict)

    def run(self, now: datetime, commands: Iterable[AnyCommand]) -> list[Told]:
        return [self._obey(now, command) for command in commands]

    # --- sums ---------------------------------------------------------------------------------

    def posted(self, wallet: UUID) -> int:
        return sum(entry.amount for entry in self.entries if entry.wallet == wallet)

    def held(self, wallet: UUID) -> int:
        return sum(hold.amount for hold in self.holds.values() if hold.wallet == wallet and hold.state == "open")

    def entries_of(self, wallet: UUID) -> list[ModelEntry]:
        return [entry for entry in self.entries if entry.wallet == wallet]

    def used(self, key: ModelKey, now: datetime) -> int:
        """Spent and held by the holds that were made in the period that `now` lies in."""
        assert key.period is not None
        ours = [
            hold for hold in self.holds.values() if hold.key == key.id and same_period(key.period, hold.created_at, now)
        ]
        return sum((hold.amount if hold.state == "open" else 0) + (hold.charged or 0) for hold in ours)

    # --- commands -----------------------------------------------------------------------------

    def _obey(self, now: datetime, command: AnyCommand) -> Told:
        wallet = self.wallets.get(command.wallet_id)
        if wallet is None:
            return ("refused", "no_wallet", 0, 0)
        if isinstance(command, Reserve):
            return self._reserve(now, wallet, command)
        if isinstance(command, Post):
            return self._post(now, wallet, command)
        hold = self.holds.get(command.hold_id)
        if isinstance(command, Settle):
            return self._settle(now, wallet, hold, command)
        if hold is None or hold.state != "open":
            return ("done", False)
        if isinstance(command, Mark):
            hold.provider, hold.provider_ref = command.provider, command.provider_ref
            hold.dispatched_at = hold.dispatched_at or now
        elif isinstance(command, Void):
            hold.state, hold.resolved_at = "voided", now
            if command.receipt is not None:
                self.receipts[hold.id] = command.receipt
        elif isinstance(command, Expire):
            if now < hold.expires_at:
                return ("done", False)
            hold.state, hold.resolved_at = "expired", now
        return ("done", True)

    def _reserve(self, now: datetime, wallet: ModelWallet, command: Reserve) -> Told:
        if command.hold_id in self.holds:
            return ("held", self.holds[command.hold_id].amount, True)
        if not wallet.active:
            return ("refused", "organization_suspended", 0, 0)
        key = next((key for key in wallet.keys if key.id == command.key_id), None)
        if command.key_id is not None:
            if key is None or key.revoked:
                return ("refused", "revoked_api_key", 0, 0)
            if key.expires_at is not None and now >= key.expires_at:
                return ("refused", "expired_api_key", 0, 0)
        amount, free, refusal = command.amount, 0, None
        if not wallet.unlimited:
            free = self.posted(wallet.id) - self.held(wallet.id)
            amount, refusal = min(amount, free), ("refused", "credits", command.floor, free)
        if key is not None and key.limit is not None:
            left = key.limit - self.used(key, now)
            if refusal is None or left < free:  # the lower one is told
                amount, refusal = min(amount, left), ("refused", "key_limit", command.floor, left)
        if refusal is not None and amount < command.floor:
            return refusal
        until = now + timedelta(seconds=command.life_s)
        made = ModelHold(command.hold_id, wallet.id, command.key_id, amount, now, until, command.provider)
        self.holds[command.hold_id] = made
        return ("held", amount, False)

    def _settle(self, now: datetime, wallet: ModelWallet, hold: ModelHold | None, command: Settle) -> Told:
        if hold is None:
            return ("refused", "unknown_hold", 0, 0)
        if hold.state == "voided":
            return ("refused", "hold_voided", 0, 0)
        late = hold.state == "expired"
        replayed = hold.charged is not None
        if not replayed:
            hold.actual, hold.charged = command.actual, self._payable(wallet, hold, command.actual)
            if not late:
                hold.state, hold.resolved_at = "settled", now
            kind = "late_usage" if late else "usage"
            entry = self._append(now, wallet.id, kind, -hold.charged, hold=hold.id)
            hold.told_balance = entry.balance_after
            self.receipts[hold.id] = command.receipt
        return ("settled", hold.charged, None if wallet.unlimited else hold.told_balance, late, replayed)

    def _payable(self, wallet: ModelWallet, hold: ModelHold, actual: int) -> int:
        if wallet.unlimited:
            return actual
        covered = hold.amount if hold.state == "open" else 0
        return min(actual, covered + max(0, self.posted(wallet.id) - self.held(wallet.id) + wallet.overdraft))

    def _post(self, now: datetime, wallet: ModelWallet, command: Post) -> Told:
        for entry in self.entries_of(wallet.id):
            if entry.idempotency_key == command.idempotency_key:
                return ("posted", entry.seq, entry.balance_after, True)
        above_floor = self.posted(wallet.id) - self.held(wallet.id) + wallet.overdraft
        if command.amount < 0 and not wallet.unlimited and above_floor + command.amount < 0:
            return ("refused", "below_floor", -command.amount, above_floor)
        entry = self._append(
            now,
            wallet.id,
            command.kind,
            command.amount,
            hold=command.hold_id,
            idempotency_key=command.idempotency_key,
            actor=command.actor,
            reason=command.reason,
        )
        return ("posted", entry.seq, entry.balance_after, False)

    def _append(self, now: datetime, wallet: UUID, kind: str, amount: int, **named: Any) -> ModelEntry:
        named = {"hold": None, "idempotency_key": None, "actor": "", "reason": ""} | named
        seq = len(self.entries_of(wallet)) + 1
        entry = ModelEntry(wallet, seq, kind, amount, self.posted(wallet) + amount, created_at=now, **named)
        self.entries.append(entry)
        return entry


def same_period(period: str, one: datetime, other: datetime) -> bool:
    if period == "total":
        return True
    if period == "month":
        return (one.year, one.month) == (other.year, other.month)
    if period == "week":
        return one.isocalendar()[:2] == other.isocalendar()[:2]
    return one.date() == other.date()


def told(outcome: kernel.Outcome) -> Told:
    """The product's outcome in the model's words."""
    match outcome:
        case kernel.Held():
            return ("held", outcome.amount, outcome.replayed)
        case kernel.Settled():
            return ("settled", outcome.charged, outcome.remaining, outcome.late, outcome.replayed)
        case kernel.Posted():
            return ("posted", outcome.seq, outcome.balance_after, outcome.replayed)
        case kernel.Done():
            return ("done", outcome.changed)
        case kernel.Refused():
            return ("refused", outcome.reason, outcome.required, outcome.available)
