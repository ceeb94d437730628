"""Access tokens: what we sign, what we refuse, on both lanes over a socket."""

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from accounts import signing_keys, tokens
from accounts.tokens import Claims, Expired, Invalid
from tests.kit.calls import assert_error, call, chat, holds, post, wallet
from tests.kit.members import Bearer, credits, encoded, family_of, signed
from tests.kit.tenants import make_tenant

ISSUER = "http://localhost:8000"
KID = "0123456789abcdef"
HEADER = {"alg": "EdDSA", "kid": KID, "typ": "at+jwt"}
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
ORGANIZATION_ID, FAMILY_ID = UUID(int=2), UUID(int=3)
CLAIMS = Claims(
    iss=ISSUER,
    aud="quantized-api",
    sub="7",
    org=ORGANIZATION_ID,
    role="developer",
    sid=FAMILY_ID,
    jti=UUID(int=4),
    iat=NOW_S,
    exp=NOW_S + 900,
)


@pytest.fixture(scope="module")
def key():
    return Ed25519PrivateKey.generate()


@pytest.fixture
def keyring(key):
    return tokens.keyring({KID: tokens.public_text(key)})


# --- What we sign ---


def test_a_token_of_ours_is_read_back(key, keyring):
    assert tokens.verify(tokens.sign(CLAIMS, KID, key), keyring, ISSUER, NOW) == CLAIMS


def test_its_header_and_claims_are_these(key):
    header, payload, _ = tokens.sign(CLAIMS, KID, key).split(".")
    assert jwt.utils.base64url_decode(header) == b'{"alg":"EdDSA","kid":"0123456789abcdef","typ":"at+jwt"}'
    assert header == tokens.header(KID)
    assert json.loads(jwt.utils.base64url_decode(payload)) == {
        "iss": ISSUER,
        "aud": "quantized-api",
        "sub": "7",
        "org": str(ORGANIZATION_ID),
        "role": "developer",
        "sid": str(FAMILY_ID),
        "jti": str(UUID(int=4)),
        "iat": NOW_S,
        "exp": NOW_S + 900,
    }


def test_anybody_can_verify_it_with_the_published_key(key):
    now_s = int(time.time())
    fresh = Claims(**{**fields(CLAIMS), "iat": now_s, "exp": now_s + 900})
    published = jwt.PyJWKSet.from_dict({"keys": [tokens.jwk(KID, tokens.public_text(key))]})
    token = tokens.sign(fresh, KID, key)
    found = published[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, found, algorithms=["EdDSA"], audience="quantized-api", issuer=ISSUER)
    assert claims["sub"] == "7"


def fields(claims):
    return {name: getattr(claims, name) for name in claims.__struct_fields__}


def test_it_counts_from_its_beginning_to_its_end_with_30_seconds_between_clocks(key, keyring):
    token = tokens.sign(CLAIMS, KID, key)
    for seconds in (-30, 0, 900, 929):
        assert tokens.verify(token, keyring, ISSUER, NOW + timedelta(seconds=seconds)) == CLAIMS
    with pytest.raises(Invalid):
        tokens.verify(token, keyring, ISSUER, NOW - timedelta(seconds=31))
    with pytest.raises(Expired):
        tokens.verify(token, keyring, ISSUER, NOW + timedelta(seconds=930))
    assert CLAIMS.over_at == NOW + timedelta(seconds=930)


# --- What we refuse: every forger has our public key, the worst one even our private key ---


def payload(now_s, **changes):
    """Good claims with some changed; None: left out."""
    good = {
        "iss": ISSUER,
        "aud": "quantized-api",
        "sub": "7",
        "org": str(ORGANIZATION_ID),
        "role": "owner",
        "sid": str(FAMILY_ID),
        "jti": str(UUID(int=5)),
        "iat": now_s,
        "exp": now_s + 900,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def with_hmac(header, claims, secret):
    content = f"{encoded(header)}.{encoded(claims)}"
    return f"{content}.{encoded(hmac.digest(secret, content.encode(), hashlib.sha256))}"


def other_algorithms(good, public, now_s):
    claims = payload(now_s)
    ours = good.split(".")
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name in ("none", "None", "NONE", "nOnE", ""):
        header = HEADER | {"kid": kid_of(good), "alg": name}
        yield f"alg {name!r}, unsigned", f"{encoded(header)}.{encoded(claims)}."
        yield f"alg {name!r}, our signature", f"{encoded(header)}.{ours[1]}.{ours[2]}"
    for name, secret in {"raw": raw, "PEM": pem, "x": encoded(raw).encode(), "empty": b""}.items():
        header = HEADER | {"kid": kid_of(good), "alg": "HS256"}
        yield f"HS256 keyed with our public key ({name})", with_hmac(header, claims, secret)
    headers = {"kid": kid_of(good), "typ": "at+jwt"}
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    yield "RS256", jwt.encode(claims, rsa_key, "RS256", headers=headers)
    yield "PS256", jwt.encode(claims, rsa_key, "PS256", headers=headers)
    yield "ES256", jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", headers=headers)
    yield "no alg", f"{encoded(headers)}.{ours[1]}.{ours[2]}"


def kid_of(token):
    return jwt.get_unverified_header(token)["kid"]


def other_keys(good, now_s):
    stranger = Ed25519PrivateKey.generate()
    header, claims = HEADER | {"kid": kid_of(good)}, payload(now_s)
    embedded = {"kty": "OKP", "crv": "Ed25519", "x": tokens.public_text(stranger)}
    yield "somebody else's key under our kid", signed(header, claims, stranger)
    yield "a key in the header (jwk)", signed(header | {"jwk": embedded}, claims, stranger)
    yield "a key elsewhere (jku)", signed(header | {"jku": "http://127.0.0.1:9/jwks.json"}, claims, stranger)
    yield "a certificate elsewhere (x5u)", signed(header | {"x5u": "http://127.0.0.1:9/cert"}, claims, stranger)
    yield "a certificate in the header (x5c)", signed(header | {"x5c": ["AAAA"]}, claims, stranger)
    for kid in ("", "ffffffffffffffff", "../../dev/null", "' OR true --", 7, None, [kid_of(good)], {"a": 1}):
        yield f"kid {kid!r}", signed(header | {"kid": kid}, claims, stranger)
    yield "no kid", signed({"alg": "EdDSA", "typ": "at+jwt"}, claims, stranger)


def other_headers(good, key, now_s):
    header, claims = HEADER | {"kid": kid_of(good)}, payload(now_s)
    for extra in (
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"b64": False},
        {"b64": True},
        {"jku": "https://quantized.example/.well-known/jwks.json"},
        {"x5u": "https://quantized.example/cert"},
        {"jwk": {}},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ):
        yield f"signed by us, with {extra}", signed(header | extra, claims, key)
    for typ in ("JWT", "at+JWT", "rt+jwt", "application/at+jwt", "", None, 1):
        yield f"signed by us, typ {typ!r}", signed(header | {"typ": typ}, claims, key)
    yield "signed by us, no typ", signed({"alg": "EdDSA", "kid": kid_of(good)}, claims, key)
    ordered = json.dumps(header, separators=(",", ":"))
    yield "signed by us, alg twice", signed('{"alg":"none",' + ordered[1:], claims, key)
    yield "signed by us, spaces in the header", signed(json.dumps(header), claims, key)
    for text in ("", "{}", "[]", "null", "EdDSA", "\xff", "[" * 500):
        yield f"a header of {text[:9]!r}", signed(text, claims, key)


def other_claims(good, key, now_s):
    header = json.dumps(HEADER | {"kid": kid_of(good)}, separators=(",", ":"))
    for name in ("iss", "aud", "sub", "org", "role", "sid", "jti", "iat", "exp"):
        yield f"signed by us, no {name}", signed(header, payload(now_s, **{name: None}), key)
    for name, values in {
        "iss": ["https://evil.example", f"{ISSUER}/", "", 7, [ISSUER]],
        "aud": ["other-api", "", ["quantized-api"], ["quantized-api", "other-api"], 7],
        "sub": ["", "0", "-7", "7 ", "alice", "7" * 19, 7, True],
        "org": ["", "mine", 7],
        "role": [7, ["owner"]],
        "sid": ["", "x"],
        "jti": ["", 7],
        "iat": [now_s + 120, "now", str(now_s), now_s + 0.5, True],
        "exp": [now_s + 7200, 2**63, 10**400, "never", str(now_s + 900), now_s + 0.5],
        "nbf": [now_s + 120, "now"],
    }.items():
        for value in values:
            shown = str(value)[:30]
            yield f"signed by us, {name} {shown!r}", signed(header, payload(now_s, **{name: value}), key)
    for text in ("", "{}", "[]", "null", "7", "no JSON", "{", "[" * 500, b'{"iss":"\xff"}'):
        yield f"signed by us, a payload of {text[:9]!r}", signed(header, text, key)
    yield "signed by us, too long", signed(header, payload(now_s, role="x" * 3000), key)


def other_shapes(good, stranger, key):
    head, body, signature = good.split(".")
    yield "no signature", f"{head}.{body}."
    yield "no signature and no dot", f"{head}.{body}"
    yield "the header alone", head
    yield "no payload", f"{head}..{signature}"
    yield "no header", f".{body}.{signature}"
    yield "a fourth segment", f"{good}.{signature}"
    yield "five segments (JWE)", f"{head}.{body}.{signature}.{body}.{signature}"
    yield "the payload twice", f"{head}.{body}.{body}.{signature}"
    yield "a payload that is not encoded", f"{head}.{json.dumps({'sub': '7'})}.{signature}"
    yield "padding", f"{head}.{body}=.{signature}"
    yield "padding of the signature", f"{good}=="
    yield "the other base64", f"{head}.{body[:-2]}+/.{signature}"
    yield "white space", f"{head}.{body}. {signature}"
    yield "another token's signature", f"{head}.{body}.{stranger.split('.')[2]}"
    yield "another token's payload", f"{head}.{stranger.split('.')[1]}.{signature}"
    yield "a changed signature", f"{head}.{body}.{flipped(signature, 10)}"
    yield "a changed payload", f"{head}.{flipped(body, 20)}.{signature}"
    yield "a signature spelled otherwise", f"{head}.{body}.{respelled(signature)}"
    yield "a short signature", f"{head}.{body}.{signature[:-4]}"
    yield "letters of other scripts", f"{head}.{body}.{signature[:-1]}é"


def flipped(text, place):
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


def respelled(signature):
    """64 bytes end with a character of which four bits are not used: another one decodes to the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return signature[:-1] + alphabet[alphabet.index(signature[-1]) ^ 1]


def bad_tokens(good, another, key, now_s):
    """What is wrong with it → a token. `good` and `another` are good ones of the key."""
    public = key.public_key()
    found = [
        *other_algorithms(good, public, now_s),
        *other_keys(good, now_s),
        *other_headers(good, key, now_s),
        *other_claims(good, key, now_s),
        *other_shapes(good, another, key),
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_every_crafted_token_is_refused(key, keyring):
    good = tokens.sign(CLAIMS, KID, key)
    another = tokens.sign(Claims(**{**fields(CLAIMS), "sub": "8"}), KID, key)
    bad = bad_tokens(good, another, key, NOW_S)
    accepted = []
    for what, token in bad.items():
        try:
            tokens.verify(token, keyring, ISSUER, NOW)
        except Invalid:
            continue
        accepted.append(what)
    assert accepted == []
    assert len(bad) > 100
    assert tokens.verify(good, keyring, ISSUER, NOW) == CLAIMS


def test_the_forger_who_has_our_key_is_the_measure_of_the_table(key, keyring):
    """Unchanged, the tables' own claims are good: each is refused for what it says it is."""
    header = json.dumps(HEADER, separators=(",", ":"))
    assert tokens.verify(signed(header, payload(NOW_S), key), keyring, ISSUER, NOW).role == "owner"


def test_a_token_of_a_server_of_another_name_is_refused(key, keyring):
    with pytest.raises(Invalid):
        tokens.verify(tokens.sign(CLAIMS, KID, key), keyring, "https://quantized.example", NOW)


# --- Both lanes, over a socket ---


def test_a_crafted_token_is_a_401_on_both_lanes(gateway, alice, bob):
    kid, private_key = signing_keys.active()
    good, another = bob.begin_session().access_token, bob.begin_session().access_token
    assert kid_of(good) == kid
    for what, token in bad_tokens(good, another, private_key, int(time.time())).items():
        for answer in (post(gateway, Bearer(token), chat()), credits(gateway, token)):
            try:
                assert_error(answer, 401, "authentication_error", "invalid_token")
            except AssertionError as error:
                raise AssertionError(what) from error
            assert answer.headers["www-authenticate"] == "Bearer"
    assert credits(gateway, good).status == 200
    assert wallet(alice) == (1_000_000, 0)
    assert holds(alice) == []


def test_an_expired_token_is_told_apart(gateway, alice, bob):
    kid, private_key = signing_keys.active()
    family = family_of_new(bob)
    now_s = int(time.time())
    for age_s, answers in ((929, 200), (931, 401)):
        claims = Claims(
            **{
                **fields(CLAIMS),
                "sub": str(bob.user.pk),
                "org": alice.organization_id,
                "sid": family.pk,
                "iat": now_s - age_s,
                "exp": now_s - age_s + 900,
            }
        )
        token = tokens.sign(claims, kid, private_key)
        assert credits(gateway, token).status == answers
        assert post(gateway, Bearer(token), chat()).status == answers
    message = "This access token has expired."
    for answer in (credits(gateway, token), post(gateway, Bearer(token), chat())):
        assert_error(answer, 401, "authentication_error", "expired_token", None, message)


def family_of_new(member):
    member.begin_session()
    return family_of(member)


def test_a_token_spends_the_organizations_credits_in_the_members_name(gateway, alice, bob):
    token = bob.begin_session().access_token
    answer = post(gateway, Bearer(token), chat())
    assert (answer.status, answer.usage["credits_used"], answer.usage["credits_remaining"]) == (200, 2_400, 997_600)
    [hold] = holds(alice)
    assert (hold.key_id, hold.user_id, hold.charged) == (None, bob.user.pk, 2_400)
    assert credits(gateway, token).json["credits_remaining"] == 997_600


@pytest.mark.parametrize("role", ["owner", "admin", "developer"])
def test_these_roles_spend(gateway, alice, role):
    token = alice.member(role).begin_session().access_token
    assert post(gateway, Bearer(token), chat()).usage["credits_used"] == 2_400


@pytest.mark.parametrize("role", ["billing", "viewer"])
def test_these_roles_look_and_do_not_spend(gateway, sandbox, alice, role):
    sandbox.reset()
    token = alice.member(role).begin_session().access_token
    message = f"Your role '{role}' may not spend the organization's credits."
    assert_error(post(gateway, Bearer(token), chat()), 403, "permission_error", "role", None, message)
    assert credits(gateway, token).json["credits_remaining"] == 1_000_000
    assert sandbox.counters["received"] == 0
    assert (wallet(alice), holds(alice)) == ((1_000_000, 0), [])


def get(gateway, path, token):
    return call(gateway, "GET", path, {"authorization": f"Bearer {token}"})


def test_a_token_is_no_key(gateway, bob):
    answer = get(gateway, "/v1/key", bob.begin_session().access_token)
    message = "This request was not made with an API key."
    assert_error(answer, 404, "not_found_error", "not_found", None, message)


def test_a_token_opens_its_own_organization_and_no_other(gateway, alice, bob):
    charlie = make_tenant(0).join()
    hers = post(gateway, Bearer(bob.begin_session().access_token), chat()).json["id"]
    token = charlie.begin_session().access_token
    assert get(gateway, f"/v1/generation?id={hers}", bob.begin_session().access_token).status == 200
    assert get(gateway, f"/v1/generation?id={hers}", token).status == 404
    assert credits(gateway, token).json["credits_remaining"] == 0
    assert post(gateway, Bearer(token), chat()).status == 402
    assert wallet(alice) == (997_600, 0)


def test_an_owners_token_manages_keys_and_a_developers_does_not(gateway, alice, bob):
    owner = alice.member("owner")
    made = call(gateway, "POST", "/v1/keys", Bearer(owner.begin_session().access_token).headers, b'{"name": "made"}')
    assert (made.status, made.json["organization"]) == (201, str(alice.organization_id))
    assert post(gateway, Bearer(made.json["api_key"]), chat()).usage["credits_used"] == 2_400
    refused = call(gateway, "POST", "/v1/keys", Bearer(bob.begin_session().access_token).headers, b"{}")
    assert_error(refused, 403, "permission_error", "role")
