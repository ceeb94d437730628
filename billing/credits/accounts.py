"""Opening accounts and posting credits, for commands and the admin."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import services as accounts
from accounts import sign_ups
from accounts.models import ApiKey, Membership, Organization, User
from billing.credits import lots
from billing.ledger import journal
from billing.ledger.commands import Posted
from billing.ledger.models import Wallet
from common import checks
from common.numbers import BIGINT_MAX

AMOUNT_MAX_MICRO = BIGINT_MAX
REASON_CHARACTERS_MAX = 500
PAYING_ROLES = frozenset({Membership.Role.OWNER, Membership.Role.ADMIN, Membership.Role.BILLING})


class Account(NamedTuple):
    organization: Organization
    owner_email: str
    password: str | None  # only when it was generated
    key: ApiKey
    api_key: str  # shown once


@transaction.atomic
def open_account(
    name: str,
    owner_email: str,
    *,
    password: str | None = None,
    credits_micro: int = 0,
    unlimited: bool = False,
    overdraft_micro: int = 0,
    actor: str,
) -> Account:
    """An organization with its owner, wallet, first micro-credits and first key, all or nothing. Raises ValueError for
    amounts that cannot be, and Invalid naming the field."""
    check_amount("credits", credits_micro, at_least=0)
    check_amount("overdraft", overdraft_micro, at_least=0)
    created = accounts.create_organization(name, owner_email, password)
    wallets = Wallet.objects.filter(organization=created.organization)
    wallets.update(unlimited=unlimited, overdraft=overdraft_micro)
    if credits_micro:
        grant(created.organization.pk, credits_micro, actor=actor, reason="opening credits", idempotency_key="opening")
    key, api_key = accounts.issue_key(created.organization, "default")
    return Account(created.organization, created.owner.email, created.password, key, api_key)


def grant(
    organization_id: UUID,
    amount_micro: int,
    *,
    actor: str,
    reason: str,
    idempotency_key: str | None = None,
    expires_at: datetime | None = None,
) -> Posted:
    """Give micro-credits, at least 1, until `expires_at` if it is given. The same idempotency key again returns the
    first entry and posts nothing.

    Raises ValueError for an amount that cannot be, Invalid (`reason`, `expires_at`) for what the books do not keep, and
    LedgerRefused for an organization without a wallet.
    """
    check_amount("a grant", amount_micro, at_least=1)
    reason = checks.checked_text("reason", reason, REASON_CHARACTERS_MAX)
    idempotency_key = idempotency_key or f"grant:{uuid.uuid4()}"
    until = checks.checked_expiry(expires_at)
    if until is not None:
        return lots.grant(organization_id, amount_micro, until, actor, reason, idempotency_key)
    return journal.post(
        organization_id, "grant", amount_micro, actor=actor, reason=reason, idempotency_key=idempotency_key
    )


def sign_up_credit_end() -> datetime | None:
    """When credit that is given now to who signs up ends; None: never."""
    days = settings.SIGNUP_CREDIT_DAYS
    return datetime.now(UTC) + timedelta(days=days) if days else None


def may_pay(role: str) -> bool:
    """Who buys credits, redeems vouchers and sets the auto top-up."""
    return role in PAYING_ROLES


@transaction.atomic
def welcome(user: User) -> Membership | None:
    """What somebody gets who has signed up and comes in for the first time: an organization of their own, with the
    operator's sign-up credit, or membership where they were invited. Once; None for everybody else."""
    arrival = sign_ups.complete(user)
    if arrival is None:
        return None
    if arrival.is_founder and settings.SIGNUP_CREDIT_MICRO:
        # At most once for an organization, whatever becomes of its owner's address.
        organization_id = arrival.membership.organization_id
        grant(
            organization_id,
            settings.SIGNUP_CREDIT_MICRO,
            actor="sign-up",
            reason="sign-up credit",
            idempotency_key="signup",
            expires_at=sign_up_credit_end(),
        )
    return arrival.membership


def check_amount(what: str, amount_micro: int, *, at_least: int) -> None:
    """Raises ValueError, naming `what`, for micro-credits below `at_least` or beyond a bigint."""
    if not at_least <= amount_micro <= AMOUNT_MAX_MICRO:
        raise ValueError(f"{what} must be between {at_least} and {AMOUNT_MAX_MICRO} micro-credits, not {amount_micro}")
