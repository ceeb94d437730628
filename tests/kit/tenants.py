"""The cast, everywhere the same: alice owns an organization, bob is a member of it, charlie owns another: an outsider.

All three are a `Tenant`: a person and the organization they act for. What a test needs of one (books, a key, a browser,
a session) is made when it is first asked for, and nothing that changes is cached: every figure is read from the books.
"""

import copy
import os
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from accounts.callers import Principal
from accounts.models import ApiKey, Membership, Organization, User
from accounts.services import add_member, create_user, issue_key
from accounts.sessions import Session, begin
from billing.ledger import journal
from billing.ledger.commands import Expire, Held, Mark, Post, Receipt, Reserve, Settle, Void
from billing.models import Hold, Wallet
from billing.oversight import verifier
from tests.kit import books

CREDITS_MICRO = 1_000_000  # that alice has, unless her test's module says otherwise
OWNER, DEVELOPER = Membership.Role.OWNER, Membership.Role.DEVELOPER


class Tenant:
    """A new organization, and its owner. `member` is somebody else of the same organization."""

    def __init__(
        self,
        credits_micro: int = 0,
        *,
        unlimited: bool = False,
        overdraft_micro: int = 0,
        organization_id: UUID | None = None,
        name: str = "",
        email: str = "",
        password: str | None = None,
    ) -> None:
        made = Organization.objects.create(id=organization_id or uuid4(), name=name or f"Tenant {uuid4()}")
        self.organization_id: UUID = made.pk
        self.role: str = OWNER
        self.email = email or f"owner-{uuid4().hex}@example.org"
        self.password = password
        Wallet.objects.filter(pk=made.pk).update(unlimited=unlimited, overdraft=overdraft_micro)
        if credits_micro:
            journal.execute([self.post(credits_micro, kind="purchase", idempotency_key="opening")])
            assert self.price_id  # now: asynchronous tests cannot wait for the database

    def member(
        self, role: str = DEVELOPER, email: str = "", *, password: str | None = None, user: User | None = None
    ) -> "Tenant":
        """Somebody of the same organization: a new person, or `user`."""
        other = self._copy()
        other.role, other.password = role, password
        other.email = user.email if user else email or f"{role}-{uuid4().hex}@example.org"
        if user is not None:
            other.user = user
            add_member(other.organization, user, role)
        else:
            other.join()
        return other

    def _copy(self) -> "Tenant":
        """Without what is theirs alone."""
        other = copy.copy(self)
        for own in ("user", "client", "api", "issued", "organization"):
            vars(other).pop(own, None)
        return other

    # --- the person ---------------------------------------------------------------------------

    @cached_property
    def organization(self) -> Organization:
        return Organization.objects.get(pk=self.organization_id)

    @cached_property
    def user(self) -> User:
        user = create_user(self.email, self.password)
        add_member(self.organization, user, self.role)
        return user

    def join(self) -> "Tenant":
        """The person is in the database from now on; without it, from when they are first asked for."""
        assert self.user.pk
        return self

    @property
    def membership(self) -> Membership:
        found = Membership.objects.select_related("organization")
        return found.get(user=self.user, organization=self.organization_id)

    @cached_property
    def client(self) -> Client:
        """A browser that is logged in."""
        client = Client()
        client.force_login(self.user)
        return client

    @cached_property
    def api(self) -> APIClient:
        """A client of the API with this member's access token, as authentication understands it."""
        client = APIClient()
        client.force_authenticate(Principal(self.organization_id, None, self.user.pk, self.role, None))
        return client

    def begin_session(self) -> Session:
        """Logged in at the API, without the wait for the password's hash."""
        return begin(self.membership)

    # --- calls over HTTP ----------------------------------------------------------------------

    @cached_property
    def issued(self) -> tuple[UUID | None, str]:
        key, api_key = issue_key(self.organization, "default")
        return key.pk, api_key

    @property
    def key_id(self) -> UUID | None:
        return self.issued[0]

    @property
    def api_key(self) -> str:
        return self.issued[1]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    def with_key(self, **settings: Any) -> "Tenant":
        """The same person, who calls with another key of theirs."""
        key, api_key = issue_key(self.organization, **settings)
        return self.bearing(api_key, key.pk)

    def bearing(self, credentials: str, key_id: UUID | None = None) -> "Tenant":
        """The same person, who calls with this key or access token."""
        other = copy.copy(self)
        other.issued = (key_id, credentials)
        return other

    # --- commands of the ledger ---------------------------------------------------------------

    @cached_property
    def price_id(self) -> int:
        return books.price_id()

    def reserve(self, amount: int, *, hold_id: UUID | None = None, key: UUID | None = None, **given: Any) -> Reserve:
        named = {"floor": amount, "life_s": 600.0, "price_id": self.price_id, "user_id": None} | given
        return Reserve(
            wallet_id=self.organization_id,
            hold_id=hold_id or books.make_hold_id(),
            key_id=key,
            model=books.MODEL,
            provider="sandbox",
            amount=amount,
            **named,
        )

    def settle(self, hold_id: UUID, actual: int, *, key: UUID | None = None, **of_receipt: Any) -> Settle:
        receipt = books.make_receipt(**({"price_id": self.price_id} | of_receipt))
        return Settle(wallet_id=self.organization_id, hold_id=hold_id, key_id=key, actual=actual, receipt=receipt)

    def void(self, hold_id: UUID, *, key: UUID | None = None, receipt: Receipt | None = None) -> Void:
        return Void(wallet_id=self.organization_id, hold_id=hold_id, key_id=key, receipt=receipt)

    def expire(self, hold_id: UUID, *, key: UUID | None = None) -> Expire:
        return Expire(wallet_id=self.organization_id, hold_id=hold_id, key_id=key)

    def mark(self, hold_id: UUID, reference: str = "ref-1") -> Mark:
        return Mark(wallet_id=self.organization_id, hold_id=hold_id, provider="openrouter", provider_ref=reference)

    def post(self, amount: int, **given: Any) -> Post:
        named = {"kind": "adjustment", "actor": "alice", "reason": "a test", "idempotency_key": str(uuid4())} | given
        return Post(wallet_id=self.organization_id, amount=amount, **named)

    # --- the books ----------------------------------------------------------------------------

    def hold(self, amount: int, **given: Any) -> UUID:
        """A committed hold of exactly this amount."""
        command = self.reserve(amount, **given)
        assert books.do(command) == Held(amount)
        return command.hold_id

    def key(self, **given: Any) -> UUID:
        """A key of the organization's that nobody knows."""
        return ApiKey.objects.create(organization_id=self.organization_id, digest=os.urandom(32), **given).pk

    def set_status(self, status: str) -> None:
        """Of the wallet."""
        Wallet.objects.filter(pk=self.organization_id).update(status=status)

    @property
    def wallet(self) -> tuple[int, int, int]:
        """(posted, held, seq)"""
        return books.one_row("wallet", self.organization_id)

    def entries(self) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT seq, kind, amount, balance_after FROM billing_entry WHERE wallet_id = %s ORDER BY seq",
                [self.organization_id],
            )
            return cursor.fetchall()


def make_tenant(credits_micro: int = CREDITS_MICRO, **options: Any) -> Tenant:
    """One that may call. Its key is there already: asynchronous tests cannot wait for the database."""
    tenant = Tenant(credits_micro, **options)
    assert tenant.api_key
    return tenant


def wait_closed(tenant: Tenant, timeout_s: float = 10) -> None:
    """A call ends a moment after its client has the answer, or has left: wait for its hold to be resolved."""
    deadline = time.monotonic() + timeout_s
    while Hold.objects.filter(wallet_id=tenant.organization_id, state="open").exists():
        assert time.monotonic() < deadline, "a hold stayed open"
        time.sleep(0.02)


# --- the cast -----------------------------------------------------------------------------------


class Cast(NamedTuple):
    alice: Tenant
    bob: Tenant
    charlie: Tenant


def make_cast(domain: str = "example.org") -> Cast:
    """Without credits. Tests that commit for real give a domain nobody else has: what they make stays."""
    alice = Tenant(name="Alice & Co", email=f"alice@{domain}")
    charlie = Tenant(name="Charlie's", email=f"charlie@{domain}")
    return Cast(alice.join(), alice.member(DEVELOPER, f"bob@{domain}"), charlie.join())


@pytest.fixture
def domain(request: pytest.FixtureRequest) -> str:
    """Of the cast's e-mail addresses; of their own where a test commits for real."""
    return f"{os.urandom(6).hex()}.example.org" if "live_db" in request.fixturenames else "example.org"


@pytest.fixture
def credits_micro() -> int:
    """That alice begins with; a module's own says how rich she is there."""
    return CREDITS_MICRO


@pytest.fixture
def password() -> str | None:
    """Of everybody in the cast. None: nobody logs in by hand, and nobody waits for a hash."""
    return None


@pytest.fixture
def clock() -> Any:
    """PostgreSQL's own; a module that holds it still says so by a fixture of this name."""
    return None


@pytest.fixture
def alice(
    request: pytest.FixtureRequest, domain: str, credits_micro: int, password: str | None, clock: Any
) -> Iterator[Tenant]:
    """The owner of an organization, born on the test's clock.

    Where a test commits for real (`live_db`, and all that stands on it) she may call at once, and afterwards her
    holds are closed and all books are right; elsewhere the test's transaction takes her along.
    """
    is_committed = "live_db" in request.fixturenames
    request.getfixturevalue("live_db" if is_committed else "db")
    tenant = Tenant(credits_micro, name="Alice & Co", email=f"alice@{domain}", password=password)
    if password:
        tenant.join()
    if not is_committed:
        yield tenant
        return
    assert tenant.api_key
    yield tenant
    wait_closed(tenant)
    assert verifier.violations() == []


@pytest.fixture
def bob(alice: Tenant, domain: str, password: str | None) -> Tenant:
    """A developer of alice's organization."""
    return alice.join().member(DEVELOPER, f"bob@{domain}", password=password)


@pytest.fixture
def charlie(alice: Tenant, domain: str, password: str | None) -> Tenant:
    """An outsider: the owner of another organization, which has nothing."""
    return Tenant(name="Charlie's", email=f"charlie@{domain}", password=password).join()


@pytest.fixture
def cast(alice: Tenant, bob: Tenant, charlie: Tenant) -> Cast:
    return Cast(alice, bob, charlie)
