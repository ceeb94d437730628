import json
import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.callers import Unauthenticated
from accounts.models import ApiKey
from accounts.principals import load_principal
from accounts.services import issue_key
from tests.kit import CHECKOUT
from tests.kit.tenants import make_cast

MANAGE = CHECKOUT / "manage.py"


def called(*arguments):
    out = StringIO()
    call_command(*map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_issuekey_prints_the_key_once_as_one_json_object():
    cast = make_cast()
    answer = json.loads(called("issuekey", cast.alice.organization_id, "--json"))
    assert load_principal(answer["api_key"]).organization_id == cast.alice.organization_id
    assert answer["id"] == str(ApiKey.objects.get().pk)


@pytest.mark.django_db
def test_issuekey_takes_every_limit():
    make_cast()
    called(
        *("issuekey", "Alice & Co", "--name", "nightly", "--limit", 5_000_000, "--period", "month"),
        *("--models", "a/b,c/d", "--expires", "2999-12-31", "--rpm", 60, "--tpm", 1000, "--concurrency", 2),
    )
    key = ApiKey.objects.get()
    assert (key.name, key.limit_micro, key.limit_period, key.models) == ("nightly", 5_000_000, "month", ["a/b", "c/d"])
    assert key.expires_at == datetime(2999, 12, 31, tzinfo=UTC)
    assert (key.requests_per_minute, key.tokens_per_minute, key.concurrency) == (60, 1000, 2)


@pytest.mark.django_db
def test_a_time_with_a_zone_keeps_it():
    make_cast()
    called("issuekey", "Alice & Co", "--expires", "2999-12-31T12:00:00+02:00")
    assert ApiKey.objects.get().expires_at == datetime(2999, 12, 31, 10, tzinfo=UTC)


@pytest.mark.django_db
def test_without_json_the_answer_is_readable_lines():
    make_cast()
    lines = called("issuekey", "Alice & Co", "--name", "laptop").splitlines()
    assert [line.split()[0] for line in lines] == ["id", "organization", "name", "expires_at", "api_key"]
    assert lines[3].split() == ["expires_at", "-"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["Nobody Inc"], "organization: there is none called 'Nobody Inc'"),
        (["Alice & Co", "--limit", "5"], "limit_period: must be given with a limit"),
        (["Alice & Co", "--rpm", "0"], "requests_per_minute: must be between 1 and 2147483647, not 0"),
        (["Alice & Co", "--models", "a,,b"], "models: must not be empty"),
        (["Alice & Co", "--expires", "2001-01-01"], "expires_at: must be in the future"),
        (["Alice & Co", "--expires", "soon"], "'soon' is not an ISO 8601 date or time"),
        (["Alice & Co", "--limit", "5", "--period", "year"], "invalid choice: 'year'"),
    ],
)
def test_issuekey_names_what_is_wrong_in_one_line(arguments, complaint):
    make_cast()
    with pytest.raises(CommandError) as caught:
        called("issuekey", *arguments)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ApiKey.objects.count() == 0


@pytest.mark.django_db
def test_revokekey_ends_a_key_and_says_when():
    key, token = issue_key(make_cast().alice.organization)
    answer = json.loads(called("revokekey", key.pk, "--json"))
    key.refresh_from_db()
    assert answer["id"] == str(key.pk)
    assert datetime.fromisoformat(answer["revoked_at"]) == key.revoked_at
    with pytest.raises(Unauthenticated, match="revoked"):
        load_principal(token)
    assert json.loads(called("revokekey", key.pk, "--json")) == answer


@pytest.mark.django_db
def test_revokekey_knows_when_there_is_no_such_key():
    with pytest.raises(CommandError, match="key: there is none with the id nonsense"):
        called("revokekey", "nonsense")


def manage(environment, *arguments):
    return subprocess.run([sys.executable, MANAGE, *arguments], env=environment, capture_output=True, text=True)


def test_from_a_shell_json_is_all_there_is_and_a_mistake_is_one_line(process_environment):
    cast = make_cast("shell.example.org")
    good = manage(process_environment, "issuekey", str(cast.alice.organization_id), "--json")
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["organization"] == str(cast.alice.organization_id)

    wrong = manage(process_environment, "revokekey", "nonsense", "--json")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "CommandError: key: there is none with the id nonsense\n"


def test_a_command_names_the_argument_that_is_missing():
    with pytest.raises(CommandError) as refused:
        called("revokekey")
    assert str(refused.value) == "Error: the following arguments are required: KEY_ID"


def test_without_a_database_a_command_says_so_in_one_line(process_environment):
    nowhere = process_environment | {"DATABASE_URL": "postgres://nobody@127.0.0.1:9/nothing"}
    answer = manage(nowhere, "revokekey", "11111111-1111-4111-8111-111111111111", "--json")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("CommandError: the database cannot be used: ")
    assert answer.stderr.count("\n") == 1
