"""createtenant, grantcredits, verifyledger and sweepholds: what operators and scripts read."""

import json
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from accounts import keys
from accounts.models import ApiKey, Membership, Organization, User
from billing.credits import lots
from billing.models import Wallet
from billing.oversight import verifier
from billing.reconciliation import abandoned_holds
from tests.kit import CHECKOUT
from tests.kit.tenants import Tenant

TOO_MUCH = 2**63
MOST = "9223372036854775807 micro-credits"
MANAGE = CHECKOUT / "manage.py"


def answer(*arguments: object) -> dict[str, Any]:
    """The one JSON object on standard output."""
    out, err = StringIO(), StringIO()
    call_command(*map(str, arguments), "--json", stdout=out, stderr=err)
    assert err.getvalue() == ""
    assert out.getvalue().count("\n") == 1
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def complaint(*arguments: object) -> str:
    out = StringIO()
    with pytest.raises(CommandError) as refusal:
        call_command(*map(str, arguments), "--json", stdout=out)
    assert out.getvalue() == ""
    return str(refusal.value)


# --- createtenant -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_createtenant_makes_organization_owner_wallet_credits_and_key() -> None:
    made = answer("createtenant", "Acme", "--owner", "Alice@Example.org", "--credits", 1_000_000)
    assert list(made) == ["organization", "owner", "key_id", "api_key", "password"]
    organization = Organization.objects.get(pk=made["organization"])
    assert (organization.name, organization.status) == ("Acme", "active")
    owner = Membership.objects.get(organization=organization)
    assert (owner.user.email, owner.role) == ("Alice@example.org".lower(), "owner")
    assert made["owner"] == owner.user.email
    assert owner.user.check_password(made["password"])
    assert not owner.user.is_staff
    key = ApiKey.objects.get(pk=made["key_id"])
    assert (key.organization_id, key.name, key.limit_micro) == (organization.pk, "default", None)
    assert keys.well_formed(made["api_key"])
    assert made["api_key"].startswith(key.prefix)
    wallet = Wallet.objects.get(pk=organization.pk)
    assert (wallet.posted, wallet.held, wallet.unlimited, wallet.overdraft) == (1_000_000, 0, False, 0)
    entry = wallet.entries.get()
    assert (entry.kind, entry.contra, entry.amount) == ("grant", "promotion", 1_000_000)
    assert (entry.actor, entry.reason) == ("manage.py createtenant", "opening credits")
    assert verifier.violations() == []


@pytest.mark.django_db
def test_createtenant_takes_a_password_and_does_not_repeat_it() -> None:
    made = answer("createtenant", "Acme", "--owner", "alice@example.org", "--password", "correct horse battery")
    assert list(made) == ["organization", "owner", "key_id", "api_key"]
    assert User.objects.get(email="alice@example.org").check_password("correct horse battery")
    assert Wallet.objects.get(pk=made["organization"]).entries.count() == 0


@pytest.mark.django_db
def test_createtenant_for_an_owner_we_know_changes_no_password() -> None:
    first = answer("createtenant", "Acme", "--owner", "alice@example.org")
    second = answer("createtenant", "Acme Labs", "--owner", "alice@example.org")
    assert "password" not in second
    assert User.objects.get(email="alice@example.org").check_password(first["password"])
    assert Membership.objects.filter(user__email="alice@example.org").count() == 2


@pytest.mark.django_db
def test_createtenant_makes_unlimited_wallets_and_overdrafts() -> None:
    rich = answer("createtenant", "Rich", "--owner", "rich@example.org", "--unlimited")
    trusted = answer("createtenant", "Trusted", "--owner", "t@example.org", "--overdraft", 5_000)
    assert Wallet.objects.get(pk=rich["organization"]).unlimited
    assert Wallet.objects.get(pk=trusted["organization"]).overdraft == 5_000


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Acme", "--owner", "nobody"), "email: 'nobody' is not an e-mail address"),
        ((" ", "--owner", "a@example.org"), "name: must not be empty"),
        (("Acme", "--owner", "a@example.org", "--credits", -1), f"credits must be between 0 and {MOST}, not -1"),
        (
            ("Acme", "--owner", "a@example.org", "--credits", 2**63),
            f"credits must be between 0 and {MOST}, not {2**63}",
        ),
        (("Acme", "--owner", "a@example.org", "--overdraft", -1), f"overdraft must be between 0 and {MOST}, not -1"),
    ],
)
def test_createtenant_makes_all_or_nothing(arguments: tuple[object, ...], said: str) -> None:
    assert complaint("createtenant", *arguments) == said
    assert (Organization.objects.count(), User.objects.count(), ApiKey.objects.count()) == (0, 0, 0)


@pytest.mark.django_db
def test_createtenant_without_json_is_for_people() -> None:
    out = StringIO()
    call_command("createtenant", "Acme", "--owner", "alice@example.org", stdout=out)
    names = [line.split()[0] for line in out.getvalue().splitlines()]
    assert names == ["organization", "owner", "key_id", "api_key", "password"]


# --- grantcredits -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_grantcredits_posts_an_entry() -> None:
    alice = Tenant(100)
    given = answer("grantcredits", alice.organization_id, 500, "--reason", "welcome")
    assert given == {"entry": 2, "credits_remaining": 600, "replayed": False}
    assert alice.entries()[-1] == (2, "grant", 500, 600)


@pytest.mark.django_db
def test_grantcredits_with_the_same_key_gives_once() -> None:
    alice = Tenant(100)
    arguments = ("grantcredits", alice.organization_id, 500, "--reason", "welcome", "--idempotency-key", "w-1")
    assert answer(*arguments) == {"entry": 2, "credits_remaining": 600, "replayed": False}
    assert answer(*arguments) == {"entry": 2, "credits_remaining": 600, "replayed": True}
    assert alice.wallet == (600, 0, 2)


@pytest.mark.django_db
def test_grantcredits_gives_credits_that_expire() -> None:
    alice = Tenant()
    given = answer("grantcredits", alice.organization_id, 500, "--reason", "welcome", "--expires", "2030-01-01")
    assert given["credits_remaining"] == 500
    [lot] = lots.open_lots(alice.organization_id)
    assert (lot.left, lot.expires_at.isoformat(), lot.reason) == (500, "2030-01-01T00:00:00+00:00", "welcome")
    past = complaint("grantcredits", alice.organization_id, 500, "--reason=welcome", "--expires=2026-01-01")
    assert past == "expires_at: must be in the future, not 2026-01-01T00:00:00+00:00"
    assert answer("expirecredits") == {"wallets": 0}
    assert alice.wallet == (500, 0, 1)


@pytest.mark.django_db
def test_grantcredits_finds_an_organization_by_its_name() -> None:
    made = answer("createtenant", "Acme", "--owner", "alice@example.org")
    assert answer("grantcredits", "Acme", 5, "--reason", "gift")["credits_remaining"] == 5
    assert Wallet.objects.get(pk=made["organization"]).posted == 5


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("micro", "reason", "said"),
    [
        (0, "gift", f"a grant must be between 1 and {MOST}, not 0"),
        (-5, "gift", f"a grant must be between 1 and {MOST}, not -5"),
        (TOO_MUCH, "gift", f"a grant must be between 1 and {MOST}, not {TOO_MUCH}"),
        (5, "", "reason: must not be empty"),
        (5, "two\nlines", "reason: must not contain control characters"),
    ],
)
def test_grantcredits_gives_something_for_a_reason(micro: int, reason: str, said: str) -> None:
    alice = Tenant(100)
    assert complaint("grantcredits", alice.organization_id, micro, f"--reason={reason}") == said
    assert alice.wallet == (100, 0, 1)


@pytest.mark.django_db
def test_grantcredits_names_the_organization_it_does_not_find() -> None:
    nowhere = uuid4()
    assert (
        complaint("grantcredits", nowhere, 5, "--reason", "gift") == f"organization: there is none called '{nowhere}'"
    )
    assert complaint("grantcredits", "Nobody", 5, "--reason", "gift") == "organization: there is none called 'Nobody'"


# --- verifyledger and sweepholds --------------------------------------------------------------


@pytest.mark.django_db
def test_verifyledger_says_what_it_looked_at() -> None:
    alice, _ = Tenant(100), Tenant(200)
    alice.hold(10)
    assert answer("verifyledger") == {"wallets": 2, "entries": 2, "violations": []}


@pytest.mark.django_db
def test_verifyledger_prints_every_violation_and_fails() -> None:
    alice = Tenant(100)
    Wallet.objects.filter(pk=alice.organization_id).update(held=5)
    out = StringIO()
    with pytest.raises(CommandError, match=r"^the ledger has 1 violations$"):
        call_command("verifyledger", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {
        "wallets": 1,
        "entries": 1,
        "violations": [
            {
                "invariant": "held is the sum of open holds",
                "subject": str(alice.organization_id),
                "detail": "held 5, open holds 0",
            }
        ],
    }


@pytest.mark.django_db
def test_sweepholds_says_what_it_did() -> None:
    alice = Tenant(100)
    alice.hold(10, life_s=-1)
    alice.hold(20)
    assert answer("sweepholds") == {"expired": 1, "settled": 0, "pending": 1}
    assert answer("sweepholds") == {"expired": 0, "settled": 0, "pending": 1}
    assert alice.wallet == (100, 20, 1)


# --- As a script sees them: real processes ----------------------------------------------------


def run(environment: dict[str, str], *arguments: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, MANAGE, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_a_command_that_works_exits_0_with_one_object_on_standard_output(process_environment: dict[str, str]) -> None:
    name = f"Acme {uuid4()}"
    code, out, err = run(process_environment, "createtenant", name, "--owner", f"{uuid4()}@example.org", "--json")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    organization = UUID(json.loads(out)["organization"])
    assert Wallet.objects.get(pk=organization).posted == 0
    abandoned_holds.sweep()
    out = StringIO()
    call_command("verifyledger", "--json", stdout=out)
    assert json.loads(out.getvalue())["violations"] == []


def test_a_command_that_fails_exits_1_with_one_line_on_standard_error(process_environment: dict[str, str]) -> None:
    code, out, err = run(process_environment, "grantcredits", uuid4(), "7", "--reason", "gift", "--json")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("CommandError: organization: there is none called ")
    code, out, err = run(process_environment, "grantcredits", uuid4(), "seven", "--reason", "gift", "--json")
    assert (code, out) == (1, "")
    assert "invalid int value: 'seven'" in err


def test_a_database_that_is_away_is_one_line_on_standard_error(process_environment: dict[str, str]) -> None:
    nowhere = process_environment | {"DATABASE_URL": "postgres://quantized@127.0.0.1:9/nowhere"}
    code, out, err = run(nowhere, "verifyledger", "--json")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("CommandError: the database cannot be used: ")


@pytest.fixture
def broken_books(live_db: None) -> Iterator[Tenant]:
    alice = Tenant(100)
    Wallet.objects.filter(pk=alice.organization_id).update(held=5)
    yield alice
    connection.ensure_connection()
    Wallet.objects.filter(pk=alice.organization_id).update(held=0)


def test_verifyledger_exits_1_when_the_books_are_wrong(
    broken_books: Tenant, process_environment: dict[str, str]
) -> None:
    code, out, err = run(process_environment, "verifyledger", "--json")
    assert (code, err) == (1, "CommandError: the ledger has 1 violations\n")
    assert [found["subject"] for found in json.loads(out)["violations"]] == [str(broken_books.organization_id)]
