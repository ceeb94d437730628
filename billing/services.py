"""Opening accounts and posting credits, for commands and the admin."""

import uuid
from typing import NamedTuple
from uuid import UUID

from django.db import transaction

from accounts import services as accounts
from accounts.models import ApiKey, Organization
from billing import ledger
from billing.kernel import Posted
from billing.models import Wallet

AMOUNT_MAX_MICRO = 2**63 - 1
REASON_CHARACTERS_MAX = 500


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
    """An organization with its owner, wallet, first credits and first key, all or nothing."""
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
    organization_id: UUID, amount_micro: int, *, actor: str, reason: str, idempotency_key: str | None = None
) -> Posted:
    """Give credits. The same idempotency key again returns the first entry and posts nothing."""
    check_amount("a grant", amount_micro, at_least=1)
    return ledger.post(
        organization_id,
        "grant",
        amount_micro,
        actor=actor,
        reason=accounts.checked_text("reason", reason, REASON_CHARACTERS_MAX),
        idempotency_key=idempotency_key or f"grant:{uuid.uuid4()}",
    )


def check_amount(what: str, amount_micro: int, *, at_least: int) -> None:
    if not at_least <= amount_micro <= AMOUNT_MAX_MICRO:
        raise ValueError(f"{what} must be between {at_least} and {AMOUNT_MAX_MICRO} micro-credits, not {amount_micro}")
