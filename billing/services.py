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
    if credits_micro < 0 or overdraft_micro < 0:
        raise ValueError("credits and overdraft must not be negative")
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
    if amount_micro <= 0:
        raise ValueError("a grant must be above 0 micro-credits")
    return ledger.post(
        organization_id,
        "grant",
        amount_micro,
        actor=actor,
        reason=reason,
        idempotency_key=idempotency_key or f"grant:{uuid.uuid4()}",
    )
