"""Prompts, answers and keys are in no log line, no database row, no Redis key and no file that the server writes."""

import base64
import logging
import os
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.db import connection

from accounts import keys
from accounts.services import create_user
from billing.credits import vouchers
from billing.notices import webhooks
from tests.kit.calls import ask, call, holds, open_call, post, read_until, stream
from tests.kit.canned_provider import CannedProvider, response
from tests.kit.catalogs import make_provider, make_route
from tests.kit.live import start_server
from tests.kit.stripe import post as post_to_stripes_address
from tests.kit.tenants import Tenant, wait_closed

PROVIDER_SECRET = "sk-or-v1-MarkerOfTheProvidersSecret0123456789"


def traces(marker: str) -> list[bytes]:
    """The ways in which a text may be written down."""
    text = marker.encode()
    return [text, text.hex().encode(), base64.b64encode(text)[: len(text)]]


def everything_the_database_holds() -> bytes:
    """Every row of every table as text; bytea columns in hex."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'")
        tables = [row[0] for row in cursor.fetchall()]
        assert {"public.billing_usage", "public.accounts_apikey", "public.completions_model"} <= set(tables)
        rows = []
        for table in tables:
            cursor.execute(f"SELECT t::text FROM {table} t")
            rows += [row[0] for row in cursor.fetchall()]
    return "\n".join(rows).encode()


def everything_redis_holds() -> bytes:
    with redis.from_url(settings.REDIS_URL) as client:
        return b"\n".join(key + b" " + (client.dump(key) or b"") for key in client.scan_iter())


def everything_below(directory: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_what_was_said_and_whose_key_it_was_is_written_nowhere(server_environment, tmp_path, sandbox, alice):
    secret = f"Marker{os.urandom(8).hex()}"
    unknown_key = keys.mint()
    token = f"eyJhbGciOiJSUzI1NiJ9.{secret}.{secret}"
    environment = {**server_environment, "OPENROUTER_API_KEY": PROVIDER_SECRET, "SPOOL_DIR": str(tmp_path / "spool")}
    with CannedProvider() as canned:
        make_route(
            "test/telltale", make_provider("telltale", kind="openai", base_url=canned.origin, allow_plain_http=True)
        )
        with start_server(environment, tmp_path) as server:
            say_it_in_every_way(server, alice, canned, secret)
            for authorization in (f"Bearer {unknown_key}", f"Bearer {token}", f"Basic {secret}"):
                assert post(server, None, {}, {"authorization": authorization}).status == 401
            wait_closed(alice)
            assert sandbox.counters["received"] >= 10
        written = server.log.read_bytes()
    assert written.count(b"quantized.calls") >= len(holds(alice)) >= 10
    places = {
        "log": written,
        "database": everything_the_database_holds(),
        "redis": everything_redis_holds(),
        "files": everything_below(tmp_path),
    }
    assert all(str(alice.organization_id).encode() in places[place] for place in ("log", "database", "files"))
    for marker in (secret, alice.api_key, alice.api_key[20:], unknown_key, token, PROVIDER_SECRET):
        for place, content in places.items():
            for trace in traces(marker):
                assert trace not in content, f"{marker} is in the {place}"


def say_it_in_every_way(server, tenant, canned, secret):
    said = {"messages": [{"role": "system", "content": secret}, {"role": "user", "content": f"Say {secret}"}]}
    assert secret in ask(server, tenant, **said).json["choices"][0]["message"]["content"]
    assert secret in stream(server, tenant, **said).text
    tool = {"type": "function", "function": {"name": secret, "description": secret, "parameters": {secret: secret}}}
    assert ask(server, tenant, tools=[tool], **said).status == 200
    image = {"type": "image_url", "image_url": {"url": f"https://example.com/{secret}.png"}}
    messages = [{"role": "user", "name": secret, "content": [{"type": "text", "text": secret}, image]}]
    assert ask(server, tenant, messages=messages, user=secret, stop=[secret], metadata={"note": secret}).status == 200
    for fault in ("http:400", "http:403", "http:500", "die_after", "midstream_documented", "invalid_json", "html"):
        ask(server, tenant, f"fault={fault}", **said)
        stream(server, tenant, f"fault={fault}", **said)
    with open_call(server, tenant, "delay_ms=20 tokens=500", stream=True, **said) as connection:
        read_until(connection, b'"content":"')
    be_refused(server, tenant, secret)
    be_quoted(server, tenant, canned, secret, said)


def be_refused(server, tenant, secret):
    """Requests that our own errors could quote."""
    bodies = (
        secret.encode(),
        f'{{"model": "{secret}'.encode(),
        {"model": secret, "messages": [{"role": "user", "content": secret}]},
        {secret: secret},
        {"messages": secret},
        {"messages": [{"role": secret}]},
    )
    for body in bodies:
        assert post(server, tenant, body).status in (400, 404)
    assert post(server, tenant, {}, {"x-quantized-provider": secret, "x-request-id": f"{secret} é"}).status == 400
    assert call(server, "GET", f"/v1/nothing?{secret}", tenant.headers).status == 404
    assert call(server, "GET", f"/v1/generation?id=gen-{secret}", tenant.headers).status == 404
    assert call(server, "POST", "/v1/credits", tenant.headers, secret.encode()).status == 405


def be_quoted(server, tenant, canned, secret, said):
    """A provider that repeats the prompt wherever it can."""
    error = (
        f'{{"error": {{"message": "{secret}", "code": 400, "param": "{secret}", "metadata": {{"raw": "{secret}"}}}}}}'
    )
    chunk = f'data: {{"id": "gen-1\\u0000", "choices": [{{"index": 0, "delta": {{"content": "{secret}"}}}}]}}\n\n'
    replies = (
        response(400, error.encode()),
        response(401, error.encode()),
        response(500, secret.encode(), content_type=secret),
        response(200, error.encode()),
        response(200, f'{{"choices": "{secret}"}}'.encode()),
        response(200, f"data: {secret}\n\n".encode(), content_type="text/event-stream"),
        response(200, chunk.encode(), content_type="text/event-stream"),
    )
    for reply in replies:
        canned.reply = reply
        ask(server, tenant, model="test/telltale", **said)
        stream(server, tenant, model="test/telltale", **said)


# --- Secrets of money ---------------------------------------------------------------------------------


def test_vouchers_webhook_secrets_and_stripes_are_written_nowhere(db, settings, caplog):
    """Also of codes that nobody has, and of signatures that are not Stripe's."""
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = (f"sk_test_{os.urandom(8).hex()}" for _ in range(2))
    alice = Tenant()
    user = create_user(f"alice-{os.urandom(4).hex()}@example.org")
    forged = f"t=1,v1={os.urandom(8).hex()}"
    with caplog.at_level(logging.DEBUG):
        _, [redeemed, kept] = vouchers.create_batch("Spring", 2, 500, created_by="carol")
        vouchers.redeem(alice.organization_id, redeemed, user.pk)
        unknown = vouchers.mint()
        with pytest.raises(vouchers.Unknown):
            vouchers.redeem(alice.organization_id, unknown, user.pk)
        first = webhooks.create_endpoint(alice.organization_id, "https://example.com/hook")
        second = webhooks.rotate_secret(alice.organization_id, first.endpoint.pk)
        assert post_to_stripes_address(b"{}", forged).status_code == 400
    codes = [text for code in (redeemed, kept, unknown) for text in (code, code.replace("-", ""))]
    stripes = [settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET, forged]
    written = everything_the_database_holds() + caplog.text.encode()
    assert b"Spring" in written
    for marker in (*codes, first.secret, second.secret, *stripes):
        for trace in traces(marker):
            assert trace not in written, f"{marker} is written down"
