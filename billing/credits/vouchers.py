"""Vouchers: codes that become credits, each once.

    7KQ2-M9XD-4TRB-0WZE-HC3N-V8PY

20 random characters of Crockford's alphabet (100 bits), and 4 of checksum, which keeps no secret: a typo is refused
without asking for it. Only a keyed hash is stored; codes are told once, when their batch is made.
"""

import secrets
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts import keys, throttle
from billing.credits import accounts, lots
from billing.credits.models import Voucher, VoucherBatch
from billing.ledger.commands import Posted
from common.checks import checked_expiry, checked_positive, checked_text
from common.invariants import EntryKey, Invariant

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no I, L, O, U
TYPED_FOR = str.maketrans("OIL", "011", "- ")  # people read them so
RANDOM_CHARACTERS = 20
CHECKSUM_CHARACTERS = 4
GROUP_CHARACTERS = 4
COUNT_MAX = 100_000
CREDIT_DAYS_MAX = 36_500
FAILURES_PER_USER_MAX = 10  # in the throttle's window
FAILURES_PER_ORGANIZATION_MAX = 30

GRANT = EntryKey("voucher")  # of a voucher
INVARIANT = Invariant(
    "a redeemed voucher is one grant",
    f"""v.id::text,
       format('entry %%s of %%s; is %%s of %%s', v.entry_seq, t.amount_micro, e.seq, e.amount)
FROM billing_voucher v JOIN billing_voucherbatch t ON t.id = v.batch_id LEFT JOIN LATERAL (
    SELECT seq, kind, amount FROM billing_entry
    WHERE wallet_id = v.organization_id AND idempotency_key = {GRANT.sql("v.id")} OFFSET 0) e ON true
WHERE v.redeemed_at IS NOT NULL
  AND (e.seq, e.kind, e.amount) IS DISTINCT FROM (v.entry_seq, 'grant', t.amount_micro)""",  # noqa: S608 - of constants
)


class Refused(ValueError):
    """The code gave nothing, and nothing has changed; the message may be shown."""


class Unknown(Refused):
    pass


class AlreadyRedeemed(Refused):
    pass


class Expired(Refused):
    pass


class Cancelled(Refused):
    pass


class OncePerOrganization(Refused):
    pass


class TooManyFailures(Refused):
    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"Too many codes that were not good: try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class Redeemed(msgspec.Struct, frozen=True):
    amount_micro: int
    expires_at: datetime | None
    balance_after: int
    batch: str


# --- Codes ------------------------------------------------------------------------------------------


def mint() -> str:
    body = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    code = body + checksum(body)
    return "-".join(code[at : at + GROUP_CHARACTERS] for at in range(0, len(code), GROUP_CHARACTERS))


def checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    return "".join(ALPHABET[number >> 5 * place & 31] for place in range(CHECKSUM_CHARACTERS))


def canonical(typed: str) -> str | None:
    """What the code is whatever case and spaces it was typed with; None if it cannot be one."""
    code = typed.strip().upper().translate(TYPED_FOR)
    body, check = code[:RANDOM_CHARACTERS], code[RANDOM_CHARACTERS:]
    return code if body.isascii() and checksum(body) == check else None


def digest(code: str) -> bytes:
    """Of a canonical code."""
    return keys.digest(f"voucher {code}", settings.KEY_PEPPER)


# --- Batches ----------------------------------------------------------------------------------------


def create_batch(
    name: str,
    count: int,
    amount_micro: int,
    *,
    redeem_until: datetime | None = None,
    credit_days: int | None = None,
    once_per_organization: bool = False,
    created_by: str,
) -> tuple[VoucherBatch, list[str]]:
    """The batch and its codes, which nobody can read ever again."""
    accounts.check_amount("a voucher", amount_micro, at_least=1)
    checked_positive("count", count, COUNT_MAX)
    batch = VoucherBatch(
        name=checked_text("name", name, 200),
        count=count,
        amount_micro=amount_micro,
        redeem_until=checked_expiry(redeem_until),
        credit_days=checked_positive("credit_days", credit_days, CREDIT_DAYS_MAX),
        once_per_organization=once_per_organization,
        created_by=created_by,
    )
    codes = [mint() for _ in range(count)]
    with transaction.atomic():
        batch.save(force_insert=True)
        Voucher.objects.bulk_create([_voucher(batch, code) for code in codes], batch_size=1_000)
    return batch, codes


def _voucher(batch: VoucherBatch, code: str) -> Voucher:
    plain = code.replace("-", "")
    return Voucher(
        batch=batch, digest=digest(plain), tail=plain[-4:], once_per_organization=batch.once_per_organization
    )


def cancel_batch(batch_id: int) -> int:
    """Codes that were not redeemed yet are worth nothing from now on; returns how many. Cancelling again changes
    nothing."""
    if not VoucherBatch.objects.filter(pk=batch_id).exists():
        raise ValueError(f"batch: there is none with the id {batch_id}")
    VoucherBatch.objects.filter(pk=batch_id, cancelled_at=None).update(cancelled_at=Now())
    return Voucher.objects.filter(batch_id=batch_id, redeemed_at=None).count()


# --- Redeeming --------------------------------------------------------------------------------------


def redeem(organization_id: UUID, code: str, user_id: int) -> Redeemed:
    """The voucher's credits for this organization, or a Refused. Whether the user may is `services.may_pay`'s question.

    Called outside a transaction, or a refusal would take its count of failures back.
    """
    limits = _limits(organization_id, user_id)
    wait_s = throttle.count(limits)
    if wait_s:
        raise TooManyFailures(wait_s)
    typed = canonical(code)
    if typed is None:
        raise Unknown("There is no such voucher; look for a typo.")
    with transaction.atomic():
        redeemed = _redeem(organization_id, typed, user_id)
    throttle.uncount(limits)
    return redeemed


def _redeem(organization_id: UUID, code: str, user_id: int) -> Redeemed:
    """Under the wallet's lock and the voucher's: of any number at once one finds it unused."""
    lots.lock_wallet(organization_id)
    voucher = (
        Voucher.objects.select_for_update(of=("self",)).select_related("batch").filter(digest=digest(code)).first()
    )
    now = datetime.now(UTC)
    voucher = _good(voucher, organization_id, now)
    batch = voucher.batch
    expires_at = None if batch.credit_days is None else now + timedelta(days=batch.credit_days)
    posted = _grant(organization_id, voucher, user_id, expires_at)
    Voucher.objects.filter(pk=voucher.pk, redeemed_at=None).update(
        redeemed_at=now, organization_id=organization_id, redeemed_by_id=user_id, entry_seq=posted.seq
    )
    return Redeemed(batch.amount_micro, expires_at, posted.balance_after, batch.name)


def _good(voucher: Voucher | None, organization_id: UUID, now: datetime) -> Voucher:
    if voucher is None:
        raise Unknown("There is no such voucher; look for a typo.")
    if voucher.redeemed_at is not None:
        raise AlreadyRedeemed("This voucher was redeemed already.")
    if voucher.batch.cancelled_at is not None:
        raise Cancelled("This voucher was cancelled.")
    if voucher.batch.redeem_until is not None and voucher.batch.redeem_until <= now:
        raise Expired(f"This voucher could be redeemed until {voucher.batch.redeem_until:%Y-%m-%d %H:%M} UTC.")
    if voucher.once_per_organization and voucher.batch.vouchers.filter(organization_id=organization_id).exists():
        raise OncePerOrganization("Your organization has redeemed a voucher of this kind; one is all it may.")
    return voucher


def _grant(organization_id: UUID, voucher: Voucher, user_id: int, expires_at: datetime | None) -> Posted:
    return accounts.grant(
        organization_id,
        voucher.batch.amount_micro,
        actor=f"user {user_id}",
        reason=f"voucher …{voucher.tail} of {voucher.batch.name}",
        idempotency_key=GRANT.of(voucher.pk),
        expires_at=expires_at,
    )


def _limits(organization_id: UUID, user_id: int) -> Mapping[bytes, int]:
    return {
        keys.digest(f"voucher user {user_id}", settings.KEY_PEPPER): FAILURES_PER_USER_MAX,
        keys.digest(f"voucher organization {organization_id}", settings.KEY_PEPPER): FAILURES_PER_ORGANIZATION_MAX,
    }
