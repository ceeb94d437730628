"""Reconciliation when one call's look-up goes wrong: it waits its turn again and keeps nobody else's waiting."""

import os
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.utils import timezone

from billing.ledger import journal
from billing.ledger.commands import Receipt, Reserve, Settle
from billing.models import Usage
from completions.models import LookupPace, Provider
from completions.reconciliation import calls as reconciliation
from tests.kit.catalogs import make_price, make_provider
from tests.kit.tenants import Tenant, make_tenant

RIGHT = b'{"data": {"total_cost": 0.00001}}'


class Lookups:
    """An upstream that answers a look-up by its id, and remembers what it was sent."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.refusal: tuple[int, str] | None = None  # a status and its Retry-After
        self.connections: set[Any] = set()
        self.authorizations: list[str | None] = []
        lookups = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                lookups.authorizations.append(self.headers["authorization"])
                lookups.connections.add(self.client_address)
                if lookups.refusal is not None:
                    return self.refuse(*lookups.refusal)
                body = lookups.bodies.get(self.path.partition("id=")[2], RIGHT)
                self.send_response(200)
                self.send_header("content-length", str(len(RIGHT)))
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = len(body) < len(RIGHT)  # it breaks off

            def refuse(self, status: int, retry_after: str) -> None:
                self.send_response(status)
                self.send_header("retry-after", retry_after)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def lookups() -> Iterator[Lookups]:
    lookups = Lookups()
    yield lookups
    lookups.server.shutdown()
    lookups.server.server_close()


@pytest.fixture
def provider(db: None, lookups: Lookups) -> Provider:
    url = f"http://127.0.0.1:{lookups.server.server_port}/api/v1"
    made = make_provider(f"or-{os.urandom(4).hex()}", kind="openrouter", base_url=url, allow_plain_http=True)
    made.set_secret("sk-or-test")
    made.save()
    return made


def due_call(tenant: Tenant, provider: str, ref: str) -> Usage:
    price, hold_id = make_price(), uuid.uuid4()
    ids: dict[str, Any] = {"wallet_id": tenant.organization_id, "hold_id": hold_id, "key_id": tenant.key_id}
    receipt = Receipt(
        model="m", provider=provider, price_id=price.pk, provider_ref=ref, reconciliation="pending", reconcile_after_s=0
    )
    more: dict[str, Any] = {"user_id": None, "model": "m", "price_id": price.pk, "provider": provider}
    journal.execute([Reserve(**ids, **more, amount=5000, floor=5000, life_s=60)])
    journal.execute([Settle(**ids, actual=5000, receipt=receipt)])
    return Usage.objects.get(pk=hold_id)


@pytest.mark.parametrize("trouble", [b'{"data": {"total_cost": null}}'.ljust(len(RIGHT)), b'{"data"'])
def test_one_call_that_cannot_be_looked_up_holds_up_no_other(provider: Provider, lookups: Lookups, trouble: bytes):
    """The second answer breaks off in the middle."""
    tenant = make_tenant()
    poison, good = (due_call(tenant, provider.name, ref) for ref in ("poison", "good"))
    lookups.bodies["poison"] = trouble
    for _ in range(2):
        reconciliation.reconcile()
    poison.refresh_from_db()
    good.refresh_from_db()
    assert good.reconciliation == "corrected"
    assert (poison.reconciliation, poison.reconcile_attempts) == ("pending", 1)
    assert poison.reconcile_at is not None
    assert poison.reconcile_at > timezone.now()


def test_a_provider_that_is_gone_holds_up_no_other(provider: Provider):
    tenant = make_tenant()
    due_call(tenant, "gone", "lost")
    good = due_call(tenant, provider.name, "good")
    for _ in range(2):
        reconciliation.reconcile()
    good.refresh_from_db()
    assert good.reconciliation == "corrected"


def test_a_lookup_takes_nothing_from_the_environment(
    provider: Provider, lookups: Lookups, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    """Neither a proxy, to whom our secret would go, nor somebody's .netrc in its place."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    good = due_call(make_tenant(), provider.name, "good")
    reconciliation.reconcile()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    other = due_call(make_tenant(), provider.name, "other")
    reconciliation.reconcile()
    for usage in (good, other):
        usage.refresh_from_db()
        assert usage.reconciliation == "corrected"
    assert lookups.authorizations == ["Bearer sk-or-test"] * 2


def test_a_pass_keeps_its_connection(provider: Provider, lookups: Lookups):
    tenant = make_tenant()
    for n in range(4):
        due_call(tenant, provider.name, f"good-{n}")
    assert reconciliation.reconcile().corrected == 4
    assert (len(lookups.authorizations), len(lookups.connections)) == (4, 1)


@pytest.mark.parametrize("status", [429, 503])
def test_a_provider_that_wants_to_be_left_alone_is_until_it_said(provider: Provider, lookups: Lookups, status: int):
    tenant = make_tenant()
    calls = [due_call(tenant, provider.name, f"good-{n}") for n in range(3)]
    lookups.refusal = (status, "120")
    reconciliation.reconcile()
    pace = LookupPace.objects.get(provider=provider.name)
    assert 115 < (pace.paused_until - timezone.now()).total_seconds() <= 120
    lookups.refusal = None
    reconciliation.reconcile()
    assert len(lookups.authorizations) == 1
    LookupPace.objects.filter(pk=pace.pk).update(paused_until=timezone.now())
    Usage.objects.filter(pk__in=[call.pk for call in calls]).update(reconcile_at=timezone.now())
    assert reconciliation.reconcile().corrected == 3
