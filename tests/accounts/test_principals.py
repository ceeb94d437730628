import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import connection

from accounts import keys
from accounts import tokens as access
from accounts.authentication import BearerAuthentication
from accounts.callers import SPENDING_ROLES, Forbidden, Principal, Unauthenticated
from accounts.models import ApiKey, Membership, TokenFamily, User
from accounts.principals import (
    KEY_SQL,
    KEYRING_SQL,
    MEMBER_SQL,
    USED_SQL,
    Directory,
    KeyRow,
    authorization,
    load_principal,
    principal_of,
)
from accounts.services import issue_key, reactivate, revoke_key, suspend
from accounts.sessions import renew
from accounts.signing_keys import rotate
from tests.kit.tenants import make_cast

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY_ID, ORGANIZATION_ID, FAMILY_ID = UUID(int=1), UUID(int=2), UUID(int=3)
ROLES = ["owner", "admin", "developer", "billing", "viewer"]
ROW = (KEY_ID, ORGANIZATION_ID, None, None, None, "active")
PEPPER = "p" * 32
ISSUER = "https://quantized.example"
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2ln"


def row(**changes):
    return KeyRow(**dict(zip(KeyRow.__struct_fields__, ROW, strict=False)) | changes)


# --- The header ---


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_has_no_case(scheme):
    key = keys.mint()
    assert authorization(f"{scheme} {key}") == key


def test_space_around_the_token_is_nothing():
    key = keys.mint()
    assert authorization(f" Bearer   {key} ") == key


@pytest.mark.parametrize("header", [None, "", "  "])
def test_no_header_says_what_to_send(header):
    with pytest.raises(Unauthenticated, match="No API key was given") as caught:
        authorization(header)
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("header", ["Bearer", "Basic YTpi", "Bearer ", "Token abc"])
def test_another_scheme_is_refused(header):
    with pytest.raises(Unauthenticated, match="must read 'Bearer <api-key>'") as caught:
        authorization(header)
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("token", ["sk-quantized-YOUR-KEY", "sk-or-v1-0123", "sk-a.b.c", "a b", "é" * 40, "a.b"])
def test_a_malformed_key_is_refused_without_being_repeated(token):
    with pytest.raises(Unauthenticated) as caught:
        authorization(f"Bearer {token}")
    assert caught.value.code == "invalid_api_key"
    assert token not in str(caught.value)


@pytest.mark.parametrize("token", [JWT, JWT.rpartition(".")[0], f"{JWT}.x.y", "a.b.c", ".."])
def test_what_looks_like_a_jwt_is_looked_at_as_one(token):
    assert authorization(f"Bearer {token}") == token


# --- The decision ---


def test_a_good_row_is_a_principal():
    principal = principal_of(row(models=["openai/gpt-4.1-mini"]), NOW)
    assert principal == Principal(ORGANIZATION_ID, KEY_ID, None, "key", frozenset({"openai/gpt-4.1-mini"}))
    assert principal.is_authenticated


def test_without_a_list_every_model_is_allowed():
    assert principal_of(row(), NOW).models is None


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (None, "invalid_api_key"),
        (row(revoked_at=NOW), "revoked_api_key"),
        (row(expires_at=NOW), "expired_api_key"),
        (row(expires_at=NOW, revoked_at=NOW, organization_status="suspended"), "revoked_api_key"),
    ],
)
def test_a_key_that_does_not_count_is_named(found, code):
    with pytest.raises(Unauthenticated) as caught:
        principal_of(found, NOW)
    assert caught.value.code == code


def test_a_suspended_organization_is_forbidden():
    with pytest.raises(Forbidden, match="suspended") as caught:
        principal_of(row(organization_status="suspended"), NOW)
    assert caught.value.code == "organization_suspended"


def test_a_key_counts_until_the_moment_it_expires():
    assert principal_of(row(expires_at=NOW + timedelta(microseconds=1)), NOW).key_id == KEY_ID


# --- Ordinary views ---


@pytest.mark.django_db
def test_a_key_is_found_in_the_database():
    cast = make_cast()
    key, token = issue_key(cast.alice.organization, models=["a/b"])
    assert load_principal(token) == Principal(cast.alice.organization_id, key.pk, None, "key", frozenset({"a/b"}))


@pytest.mark.django_db
def test_a_key_nobody_issued_does_not_exist():
    with pytest.raises(Unauthenticated, match="does not exist"):
        load_principal(keys.mint())


@pytest.mark.django_db
def test_the_first_use_is_noted_and_the_next_one_of_the_minute_is_not():
    cast = make_cast()
    key, token = issue_key(cast.alice.organization)
    load_principal(token)
    key.refresh_from_db()
    first = key.last_used_at
    load_principal(token)
    key.refresh_from_db()
    assert first is not None
    assert key.last_used_at == first


@pytest.mark.django_db
def test_drf_sees_the_principal_and_never_the_key(rf):
    cast = make_cast()
    key, token = issue_key(cast.alice.organization)
    principal, shown = BearerAuthentication().authenticate(rf.get("/", headers={"authorization": f"Bearer {token}"}))
    assert principal.key_id == key.pk
    assert shown == f"{key.prefix}…{key.last_four}"
    assert BearerAuthentication().authenticate_header(rf.get("/")) == "Bearer"


def test_drf_leaves_a_request_without_a_header_to_the_permissions(rf):
    assert BearerAuthentication().authenticate(rf.get("/")) is None


# --- The async lane ---


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds

    def now(self):
        return NOW + timedelta(seconds=self.seconds - 1000)


class Table:
    """What a Directory fetches from: rows by token, and how often it asked."""

    def __init__(self, **rows):
        self.rows = {keys.digest(token, PEPPER): found for token, found in rows.items()}
        self.asked = []
        self.gate = asyncio.Event()
        self.gate.set()

    def __setitem__(self, token, found):
        self.rows[keys.digest(token, PEPPER)] = found

    async def fetch(self, sql, parameters):
        assert sql == KEY_SQL
        [digest] = parameters
        self.asked.append(digest)
        found = self.rows.get(digest)
        await self.gate.wait()
        return found


def new_directory(clock, **options):
    directory = Directory(PEPPER, ISSUER, clock=clock, now=clock.now, **options)
    directory.listening(True)
    return directory


def run(story):
    return asyncio.run(story)


def test_a_key_is_asked_for_once_in_its_life():
    async def story():
        clock, token = Clock(), keys.mint()
        table, directory = Table(**{token: ROW}), new_directory(clock)
        for seconds in (0, 10, 29.9):
            clock.seconds = 1000 + seconds
            assert (await directory.authenticate(f"Bearer {token}", table.fetch)).key_id == KEY_ID
        assert table.asked == [keys.digest(token, PEPPER)]
        clock.seconds = 1030
        await directory.authenticate(f"Bearer {token}", table.fetch)
        assert len(table.asked) == 2

    run(story())


def test_without_notifications_a_key_lives_a_second():
    async def story():
        clock, token = Clock(), keys.mint()
        table, directory = Table(**{token: ROW}), new_directory(clock)
        await directory.authenticate(f"Bearer {token}", table.fetch)
        directory.listening(False)
        table[token] = (*ROW[:4], NOW, "active")
        with pytest.raises(Unauthenticated, match="revoked"):
            await directory.authenticate(f"Bearer {token}", table.fetch)
        table[token] = ROW
        clock.seconds += 1
        assert (await directory.authenticate(f"Bearer {token}", table.fetch)).key_id == KEY_ID

    run(story())


def test_a_bad_checksum_asks_nobody():
    async def story():
        table, directory = Table(), new_directory(Clock())
        with pytest.raises(Unauthenticated):
            await directory.authenticate("Bearer sk-quantized-YOUR-KEY", table.fetch)
        assert table.asked == []

    run(story())


def test_an_unknown_key_is_asked_for_once_a_second():
    async def story():
        clock, token = Clock(), keys.mint()
        table, directory = Table(), new_directory(clock)
        for seconds in (0, 0.5, 0.9):
            clock.seconds = 1000 + seconds
            with pytest.raises(Unauthenticated, match="does not exist"):
                await directory.authenticate(f"Bearer {token}", table.fetch)
        assert len(table.asked) == 1
        clock.seconds = 1001
        table[token] = ROW
        assert (await directory.authenticate(f"Bearer {token}", table.fetch)).key_id == KEY_ID

    run(story())


def test_keys_that_share_a_beginning_are_different_keys():
    async def story():
        first = keys.mint()
        body = first[13:42] + ("x" if first[42] != "x" else "y")
        second = f"sk-quantized-{body}{keys.checksum(body)}"
        table, directory = Table(**{first: ROW}), new_directory(Clock())
        await directory.authenticate(f"Bearer {first}", table.fetch)
        with pytest.raises(Unauthenticated, match="does not exist"):
            await directory.authenticate(f"Bearer {second}", table.fetch)

    run(story())


def test_a_remembered_key_still_expires_on_time():
    async def story():
        clock, token = Clock(), keys.mint()
        table = Table(**{token: (*ROW[:3], NOW + timedelta(seconds=5), None, "active")})
        directory = new_directory(clock)
        await directory.authenticate(f"Bearer {token}", table.fetch)
        clock.seconds += 5
        with pytest.raises(Unauthenticated, match="expired"):
            await directory.authenticate(f"Bearer {token}", table.fetch)
        assert len(table.asked) == 1

    run(story())


def test_a_notification_makes_it_ask_again():
    async def story():
        token = keys.mint()
        table, directory = Table(**{token: ROW}), new_directory(Clock())
        await directory.authenticate(f"Bearer {token}", table.fetch)
        table[token] = (*ROW[:5], "suspended")
        directory.invalidate()
        with pytest.raises(Forbidden):
            await directory.authenticate(f"Bearer {token}", table.fetch)

    run(story())


def test_those_who_miss_together_share_one_query():
    async def story():
        token = keys.mint()
        table, directory = Table(**{token: ROW}), new_directory(Clock())
        found = await asyncio.gather(*(directory.authenticate(f"Bearer {token}", table.fetch) for _ in range(50)))
        assert {principal.key_id for principal in found} == {KEY_ID}
        assert len(table.asked) == 1

    run(story())


def test_what_was_read_before_a_notification_is_not_kept():
    async def story():
        token = keys.mint()
        table, directory = Table(**{token: ROW}), new_directory(Clock())
        table.gate.clear()
        early = asyncio.create_task(directory.authenticate(f"Bearer {token}", table.fetch))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(table.asked) == 1  # the row has been read, the answer is still on its way
        table[token] = (*ROW[:4], NOW, "active")
        directory.invalidate()
        table.gate.set()
        await early
        with pytest.raises(Unauthenticated, match="revoked"):
            await directory.authenticate(f"Bearer {token}", table.fetch)

    run(story())


def test_a_caller_who_leaves_takes_nobody_along():
    async def story():
        token = keys.mint()
        table, directory = Table(**{token: ROW}), new_directory(Clock())
        table.gate.clear()
        leaver = asyncio.create_task(directory.authenticate(f"Bearer {token}", table.fetch))
        stayer = asyncio.create_task(directory.authenticate(f"Bearer {token}", table.fetch))
        await asyncio.sleep(0)
        leaver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaver
        table.gate.set()
        assert (await stayer).key_id == KEY_ID
        assert len(table.asked) == 1

    run(story())


def test_a_failed_query_fails_its_callers_and_is_forgotten():
    async def story():
        token = keys.mint()
        table, directory = Table(**{token: ROW}), new_directory(Clock())

        async def broken(sql, parameters):
            raise psycopg.OperationalError("gone")

        with pytest.raises(psycopg.OperationalError):
            await directory.authenticate(f"Bearer {token}", broken)
        assert (await directory.authenticate(f"Bearer {token}", table.fetch)).key_id == KEY_ID

    run(story())


def test_the_directory_is_bounded_and_the_oldest_make_room():
    async def story():
        tokens = [keys.mint() for _ in range(4)]
        table = Table(**dict.fromkeys(tokens, ROW))
        directory = new_directory(Clock(), entries_max=3)
        for token in tokens:
            await directory.authenticate(f"Bearer {token}", table.fetch)
        for token in tokens[1:]:
            await directory.authenticate(f"Bearer {token}", table.fetch)
        assert len(table.asked) == 4
        await directory.authenticate(f"Bearer {tokens[0]}", table.fetch)
        assert len(table.asked) == 5

    run(story())


def test_a_flood_of_invented_keys_pushes_no_real_one_out():
    async def story():
        token = keys.mint()
        table, directory = Table(**{token: ROW}), new_directory(Clock(), entries_max=3)
        await directory.authenticate(f"Bearer {token}", table.fetch)
        for _ in range(10):
            with pytest.raises(Unauthenticated):
                await directory.authenticate(f"Bearer {keys.mint()}", table.fetch)
        await directory.authenticate(f"Bearer {token}", table.fetch)
        assert len(table.asked) == 11

    run(story())


def test_used_keys_are_handed_over_once():
    async def story():
        token = keys.mint()
        table, directory = Table(**{token: ROW}), new_directory(Clock())
        for _ in range(3):
            await directory.authenticate(f"Bearer {token}", table.fetch)
        assert directory.take_used() == [KEY_ID]
        assert directory.take_used() == []

    run(story())


# --- Access tokens on the async lane ---


class Members:
    """What a Directory fetches from for access tokens: a keyring and one member, and how often it asked."""

    def __init__(self, key, fields=("developer", "active")):
        self.key, self.fields = key, fields
        self.asked = []

    async def fetch(self, sql, parameters):
        self.asked.append(sql)
        if sql == KEYRING_SQL:
            return ([["k", access.public_text(self.key)]] if self.key else None,)
        assert (sql, parameters) == (MEMBER_SQL, (FAMILY_ID, 7, ORGANIZATION_ID))
        return self.fields


@pytest.fixture(scope="module")
def signer():
    return Ed25519PrivateKey.generate()


def token_of(key, kid="k", at=NOW, **changes):
    begins_s = int(at.timestamp())
    claims = {
        "iss": ISSUER,
        "aud": "quantized-api",
        "sub": "7",
        "org": ORGANIZATION_ID,
        "role": "owner",
        "sid": FAMILY_ID,
        "jti": UUID(int=4),
        "iat": begins_s,
        "exp": begins_s + 900,
    }
    return access.sign(access.Claims(**claims | changes), kid, key)


def assert_refused_with(code, directory, token, table):
    async def refusal():
        with pytest.raises((Unauthenticated, Forbidden)) as caught:
            await directory.authenticate(f"Bearer {token}", table.fetch)
        assert caught.value.code == code

    return refusal()


def test_a_token_is_a_member_with_the_role_of_today(signer):
    async def story():
        table, directory = Members(signer), new_directory(Clock())
        principal = await directory.authenticate(f"Bearer {token_of(signer)}", table.fetch)
        assert principal == Principal(ORGANIZATION_ID, None, 7, "developer", None)
        assert directory.take_used() == []

    run(story())


def test_a_token_is_asked_for_once_in_its_life(signer):
    async def story():
        clock = Clock()
        table, directory = Members(signer), new_directory(clock)
        token = token_of(signer)
        for seconds in (0, 10, 29.9):
            clock.seconds = 1000 + seconds
            await directory.authenticate(f"Bearer {token}", table.fetch)
        assert table.asked == [KEYRING_SQL, MEMBER_SQL]
        directory.invalidate()
        await directory.authenticate(f"Bearer {token}", table.fetch)
        assert table.asked == [KEYRING_SQL, MEMBER_SQL] * 2

    run(story())


def test_a_remembered_token_still_expires_on_time(signer):
    async def story():
        clock = Clock()
        table, directory = Members(signer), new_directory(clock)
        token = token_of(signer, at=NOW - timedelta(seconds=910))
        await directory.authenticate(f"Bearer {token}", table.fetch)
        clock.seconds += 20
        await assert_refused_with("expired_token", directory, token, table)
        assert len(table.asked) == 2

    run(story())


def test_forged_tokens_cost_one_query_a_second_and_no_look_at_a_member(signer):
    async def story():
        clock, stranger = Clock(), Ed25519PrivateKey.generate()
        table, directory = Members(signer), new_directory(clock)
        for number in range(1, 100):
            for forged in (token_of(stranger, sub=str(number)), token_of(stranger, kid=f"k{number}")):
                await assert_refused_with("invalid_token", directory, forged, table)
        assert table.asked == [KEYRING_SQL]
        clock.seconds += 1
        await assert_refused_with("invalid_token", directory, token_of(stranger), table)
        assert table.asked == [KEYRING_SQL] * 2

    run(story())


def test_before_the_first_key_every_token_is_somebody_elses(signer):
    async def story():
        await assert_refused_with("invalid_token", new_directory(Clock()), token_of(signer), Members(None))

    run(story())


@pytest.mark.parametrize(
    ("fields", "code"),
    [(None, "invalid_token"), (("owner", "suspended"), "organization_suspended"), ((None, "active"), "invalid_token")],
)
def test_a_token_whose_holder_may_no_more_is_refused(signer, fields, code):
    async def story():
        await assert_refused_with(code, new_directory(Clock()), token_of(signer), Members(signer, fields))

    run(story())


def test_those_who_come_together_with_tokens_share_the_queries(signer):
    async def story():
        table, directory = Members(signer), new_directory(Clock())
        token = token_of(signer)
        await asyncio.gather(*(directory.authenticate(f"Bearer {token}", table.fetch) for _ in range(50)))
        assert table.asked == [KEYRING_SQL, MEMBER_SQL]

    run(story())


@pytest.mark.parametrize(("role", "may"), [("key", True), *((role, role in "owner admin developer") for role in ROLES)])
def test_who_may_spend(role, may):
    assert Principal(ORGANIZATION_ID, None, 7, role, None).may_spend is may


def test_those_who_spend_are_keys_and_roles_that_members_have():
    assert {"key"} < SPENDING_ROLES < {"key", *Membership.Role.values}


# --- The SQL of the async lane, and what PostgreSQL tells it ---


def parameters():
    given = connection.get_connection_params()
    return {name: given[name] for name in ("dbname", "user", "password", "host", "port") if given.get(name)}


def test_the_async_lane_and_the_orm_agree_on_a_key(live_db):
    cast = make_cast("agree.example.org")
    expires_at = datetime.now(UTC) + timedelta(days=1)
    key, token = issue_key(cast.alice.organization, models=["a/b", "c/d"], expires_at=expires_at)

    async def story():
        async with await psycopg.AsyncConnection.connect(**parameters(), autocommit=True) as database:

            async def fetch(sql, parameters):
                return await (await database.execute(sql, parameters)).fetchone()

            directory = Directory(settings.KEY_PEPPER, ISSUER)
            principal = await directory.authenticate(f"Bearer {token}", fetch)
            await database.execute(USED_SQL, (directory.take_used(),))
            with pytest.raises(Unauthenticated, match="does not exist"):
                await directory.authenticate(f"Bearer {keys.mint()}", fetch)
            return principal

    principal = run(story())
    key.refresh_from_db()
    assert key.last_used_at is not None
    assert load_principal(token) == principal
    assert principal.models == {"a/b", "c/d"}


@pytest.fixture
def heard(live_db):
    """The payloads that arrived since the last call."""
    with psycopg.connect(**parameters(), autocommit=True) as listener:
        listener.execute("LISTEN quantized")
        yield lambda: [notification.payload for notification in listener.notifies(timeout=0.2)]


def test_every_change_of_a_key_or_organization_is_announced(heard):
    cast = make_cast("announced.example.org")
    assert set(heard()) == {"keys"}
    key, _ = issue_key(cast.alice.organization)
    assert heard() == ["keys"]
    revoke_key(key.pk)
    assert heard() == ["keys"]
    ApiKey.objects.filter(pk=key.pk).update(limit_micro=5, limit_period="day")
    assert heard() == ["keys"]
    suspend(cast.alice.organization_id)
    assert heard() == ["keys"]
    reactivate(cast.alice.organization_id)
    assert heard() == ["keys"]
    key.delete()
    assert heard() == ["keys"]


def test_a_key_being_used_is_not_news(heard):
    cast = make_cast("used.example.org")
    key, token = issue_key(cast.alice.organization)
    heard()
    load_principal(token)
    revoke_key(key.pk)
    assert heard() == ["keys"]
    revoke_key(key.pk)
    assert heard() == []


def test_every_change_that_a_token_stands_on_is_announced(heard):
    member = make_cast("standing.example.org").bob
    family = TokenFamily.objects.create(user=member.user, organization_id=member.membership.organization_id)
    heard()
    for change in (
        lambda: Membership.objects.filter(pk=member.membership.pk).update(role="viewer"),
        lambda: User.objects.filter(pk=member.user.pk).update(is_active=False),
        lambda: TokenFamily.objects.filter(pk=family.pk).update(revoked_at=datetime.now(UTC)),
        family.delete,
        rotate,
        member.membership.delete,
    ):
        change()
        assert heard() == ["keys"], change


def test_log_ins_and_renewals_are_not_news(heard):
    member = make_cast("renewing.example.org").bob
    member.begin_session()
    heard()
    session = member.begin_session()
    for _ in range(3):
        session = renew(session.refresh_token)
    member.user.save()
    assert heard() == []


def test_both_lanes_agree_on_a_member(live_db):
    member = make_cast("agreeing.example.org").alice.member("billing")
    token = member.begin_session().access_token

    async def story():
        async with await psycopg.AsyncConnection.connect(**parameters(), autocommit=True) as database:

            async def fetch(sql, parameters):
                return await (await database.execute(sql, parameters)).fetchone()

            return await Directory(settings.KEY_PEPPER, settings.PUBLIC_URL).authenticate(f"Bearer {token}", fetch)

    expected = Principal(member.membership.organization_id, None, member.user.pk, "billing", None)
    assert run(story()) == load_principal(token) == expected
