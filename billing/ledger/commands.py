"""What the ledger is told, and what it answers: commands and outcomes, as plain structs.

Amounts (`amount`, `floor`, `actual`, `charged`, `remaining` …) are whole micro-credits. Commands also travel as JSON,
through the spool, which knows them by the names of their classes and fields: a renamed one is not read from a file
that an older version has left behind; a new field needs a default.
"""

from decimal import Decimal
from uuid import UUID

import msgspec

from billing.pricing import money

FIRST_ENDPOINT = "/v1/chat/completions"  # of calls that were made before holds said it


class Attempt(msgspec.Struct, frozen=True):
    """One route that a call asked, as its receipt tells it: `outcome` is "ok" or why there was no answer."""

    provider: str
    outcome: str
    milliseconds: int


class FailedAttempt(msgspec.Struct, frozen=True):
    """A provider that had begun to answer when the call turned to the next one: it may bill us."""

    provider: str
    provider_ref: str  # the provider's own id of the answer
    look_up_after_s: int | None = None  # None: this provider cannot be asked about a single call


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway knows of a call when it ends; becomes its usage row. Holds nothing of what was said in it."""

    model: str
    provider: str
    price_id: int
    provider_ref: str = ""
    usage: money.Usage = money.Usage()
    cost_pico: int = 0  # picodollars (1e-12 USD)
    reported_cost_usd: Decimal | None = None
    streamed: bool = False
    cancelled: bool = False
    estimated: bool = False
    finish_reason: str = ""
    error_code: str = ""
    attempts: tuple[Attempt, ...] = ()
    failed: tuple[FailedAttempt, ...] = ()
    first_token_ms: int | None = None
    latency_ms: int | None = None
    reconciliation: str = "none"
    reconcile_after_s: int | None = None  # when the provider is asked for its bill; None: it is not
    billed_cost_usd: Decimal | None = None  # what the provider's bill says, where it settles the call


# --- commands -------------------------------------------------------------------------------


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Each changes one wallet, which is locked for it; `wallet_id` is the organization's id."""

    wallet_id: UUID


class Reserve(Command, frozen=True, kw_only=True, tag=True):
    """Hold `amount`; where the wallet or the key's limit has less, all there is, but at least `floor`."""

    hold_id: UUID
    key_id: UUID | None
    user_id: int | None
    model: str
    price_id: int
    provider: str
    amount: int
    floor: int
    life_s: float  # until the hold expires, should nobody resolve it
    rate_id: int | None = None  # the CreditRate the call begins with; None: none was kept
    endpoint: str = FIRST_ENDPOINT  # the path that was called

    def release(self) -> "Void":
        """Gives the hold back if there is one: safe also when nobody knows whether it was committed."""
        return Void(wallet_id=self.wallet_id, hold_id=self.hold_id, key_id=self.key_id)


class Mark(Command, frozen=True, kw_only=True, tag=True):
    """The provider has begun to answer: what the sweeper needs should this process die."""

    hold_id: UUID
    provider: str
    provider_ref: str
    failed: tuple[FailedAttempt, ...] = ()  # attempts before the one that is marked


class Settle(Command, frozen=True, kw_only=True, tag=True):
    """Charge what a call cost, `actual`, and free its hold. Never refused for want of credits: what neither the hold
    nor the wallet with its overdraft covers is left uncharged."""

    hold_id: UUID
    key_id: UUID | None
    actual: int
    receipt: Receipt


class Void(Command, frozen=True, kw_only=True, tag=True):
    """Free an open hold and charge nothing. With a receipt the call is shown as one that failed."""

    hold_id: UUID
    key_id: UUID | None
    receipt: Receipt | None = None


class Expire(Command, frozen=True, kw_only=True, tag=True):
    """Free an open hold whose time is up. The call may still be settled, late."""

    hold_id: UUID
    key_id: UUID | None


class Post(Command, frozen=True, kw_only=True, tag=True):
    """An entry that is not a call's own. `kind` is grant, purchase, adjustment, correction, refund or expiry; `amount`
    is above 0 for credits that come in, below 0 for credits that are taken. The same key again posts nothing."""

    kind: str
    amount: int
    actor: str
    reason: str
    idempotency_key: str
    hold_id: UUID | None = None


AnyCommand = Reserve | Mark | Settle | Void | Expire | Post


# --- outcomes -------------------------------------------------------------------------------


class Held(msgspec.Struct, frozen=True):
    """A hold was made, of `amount`; `replayed`: by an earlier attempt of the same command."""

    amount: int
    replayed: bool = False


class Settled(msgspec.Struct, frozen=True):
    """`remaining` is the balance after the call's own entry, None for an unlimited wallet."""

    charged: int
    remaining: int | None
    late: bool = False  # after the hold had expired
    replayed: bool = False


class Posted(msgspec.Struct, frozen=True):
    """`seq` is the entry's number in its wallet."""

    seq: int
    balance_after: int
    replayed: bool = False


class Done(msgspec.Struct, frozen=True):
    """A mark, void or expiry; `changed` is False when there was nothing left to do."""

    changed: bool


class Refused(msgspec.Struct, frozen=True):
    """Nothing changed. `reason`: credits, key_limit, organization_suspended, revoked_api_key,
    expired_api_key, no_wallet, unknown_hold, hold_voided, below_floor."""

    reason: str
    required: int = 0
    available: int = 0


Outcome = Held | Settled | Posted | Done | Refused
