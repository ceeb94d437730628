"""Extra charges: what a provider billed beyond what a call was charged. An operator takes it, or gives it up.

Both are idempotent and safe side by side: the row is locked, and decided once. Deciding it again the same way returns
what was decided; the other way is refused.
"""

from decimal import Decimal
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from billing.credits.accounts import REASON_CHARACTERS_MAX
from billing.ledger import journal, rates
from billing.ledger.models import Hold, Wallet
from billing.pricing import money
from billing.reconciliation import losses
from billing.reconciliation.models import ExtraCharge, Loss
from billing.usage.models import Usage
from common import checks
from common.invariants import EntryKey, Invariant

ACTOR_CHARACTERS_MAX = 200

CORRECTION = EntryKey("recon")  # of a call, and the version of its correction
INVARIANT = Invariant(
    "an extra charge took what its entry says",
    f"""x.id::text,
       format('%%s, took %%s, entry %%s', x.state, x.taken_micro, e.amount)
FROM billing_extracharge x LEFT JOIN LATERAL (
    SELECT amount, kind FROM billing_entry
    WHERE wallet_id = x.wallet_id AND idempotency_key = {CORRECTION.sql("x.hold_id", "x.version")}
    OFFSET 0) e ON true
WHERE coalesce(e.amount, 0) <> -x.taken_micro OR e.kind <> 'correction'""",  # noqa: S608 - of constants
)


class ExtraChargeDecided(ValueError):
    """Somebody has decided otherwise."""


def queue_extra(hold: Hold, amount_micro: int, billed_cost_usd: Decimal, *, version: int = 1) -> ExtraCharge:
    """Let an operator decide about a call's extra charge; the same call and version again is the same row."""
    row, _ = ExtraCharge.objects.get_or_create(
        hold=hold,
        version=version,
        defaults={
            "wallet_id": hold.wallet_id,
            "amount_micro": amount_micro,
            "call_charged_micro": hold.charged or 0,
            "billed_cost_usd": billed_cost_usd,
        },
    )
    return row


@transaction.atomic
def charge_extra(id: int, *, actor: str, reason: str) -> ExtraCharge:
    """Take its micro-credits from the wallet, as far as that allows; what it does not is the operator's loss.

    Returns the decided row, `taken_micro` and all. Raises ExtraChargeDecided if it was waived, ValueError if there is
    no such row, and Invalid for an empty `actor` or `reason`, or one that is too long.
    """
    row = _undecided(id, ExtraCharge.State.CHARGED)
    if row.state == ExtraCharge.State.WAITING:
        _decide(row, ExtraCharge.State.CHARGED, actor, reason, taken_micro=_payable(row))
        if row.taken_micro:
            journal.post(
                row.wallet_id,
                "correction",
                -row.taken_micro,
                actor=row.decided_by,
                reason=row.reason,
                idempotency_key=correction_key(row.hold_id, row.version),
                hold_id=row.hold_id,
            )
        _note_loss(row, Loss.Reason.EXTRA_CHARGE_UNPAYABLE)
    return row


@transaction.atomic
def waive_extra(id: int, *, actor: str, reason: str) -> ExtraCharge:
    """Take nothing: all of it is the operator's loss. Raises as `charge_extra` does, ExtraChargeDecided if it was
    charged."""
    row = _undecided(id, ExtraCharge.State.WAIVED)
    if row.state == ExtraCharge.State.WAITING:
        _decide(row, ExtraCharge.State.WAIVED, actor, reason, taken_micro=0)
        _note_loss(row, Loss.Reason.EXTRA_CHARGE_WAIVED)
    return row


def correction_key(hold_id: UUID, version: int = 1) -> str:
    """The idempotency key of a call's correction, whichever way it goes."""
    return CORRECTION.of(hold_id, version)


def _undecided(id: int, wanted: ExtraCharge.State) -> ExtraCharge:
    """The row, locked; decided already only if as wanted."""
    row = ExtraCharge.objects.select_for_update(no_key=True).filter(pk=id).first()
    if row is None:
        raise ValueError(f"there is no extra charge {id}")
    if row.state not in (ExtraCharge.State.WAITING, wanted):
        raise ExtraChargeDecided(f"extra charge {id} was {row.state} by {row.decided_by}")
    return row


def _payable(row: ExtraCharge) -> int:
    """What the wallet can pay, under its lock: the posting that follows sees the same figures."""
    return Wallet.objects.select_for_update(no_key=True).get(pk=row.wallet_id).payable(row.amount_micro)


def _decide(row: ExtraCharge, state: ExtraCharge.State, actor: str, reason: str, *, taken_micro: int) -> None:
    row.state, row.taken_micro, row.decided_at = state, taken_micro, timezone.now()
    row.decided_by = checks.checked_text("actor", actor, ACTOR_CHARACTERS_MAX)
    row.reason = checks.checked_text("reason", reason, REASON_CHARACTERS_MAX)
    row.save()
    taken = Usage.Reconciliation.CORRECTED if taken_micro else Usage.Reconciliation.WAIVED
    Usage.objects.filter(pk=row.hold_id, reconciliation=Usage.Reconciliation.QUEUED).update(reconciliation=taken)


def _note_loss(row: ExtraCharge, reason: Loss.Reason) -> None:
    unpaid_micro = row.amount_micro - row.taken_micro
    if unpaid_micro:
        cost_usd = money.usd(rates.struct(row.hold).affordable_pico(unpaid_micro))
        losses.note(row.hold_id, reason, cost_usd)
