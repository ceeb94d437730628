"""Signed webhooks: endpoints, their secrets, and what arrives at a receiver that checks, misbehaves, or is gone."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection

from billing.delivery import deliveries
from billing.delivery.deliveries import PAUSES_S, Pass
from billing.notices import outbox, webhook_http, webhooks
from billing.notices.models import Delivery, Notification, WebhookEndpoint
from common import sealing
from common.checks import Invalid
from tests.kit import CHECKOUT, webhook_receiver
from tests.kit.books import at_once
from tests.kit.tenants import Cast, make_cast
from tests.kit.webhook_receiver import Receiver, receiving, status

API = CHECKOUT / "docs" / "api.md"
PUBLIC = "https://hooks.example.com/x"
PAYLOAD = {"threshold": 5_000_000, "available": 4_999_999, "reason": "Zażółć"}


@pytest.fixture
def credits_micro() -> int:
    return 0


@pytest.fixture
def receiver(settings) -> Iterator[Receiver]:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    with receiving() as server:
        yield server


@pytest.fixture
def alices(cast: Cast, receiver: Receiver) -> webhooks.Keyed:
    return webhooks.create_endpoint(cast.alice.organization_id, receiver.url())


def tell(cast: Cast) -> Delivery:
    told = outbox.notify(cast.alice.organization_id, "balance.low", PAYLOAD, roles=())
    assert told is not None
    return told.deliveries.get()


def make_due() -> None:
    Delivery.objects.update(due_at=datetime.now(UTC) - timedelta(seconds=1))


def state(delivery: Delivery) -> tuple[int, bool, bool, int | None, str]:
    delivery.refresh_from_db()
    return (
        delivery.attempts,
        delivery.delivered_at is not None,
        delivery.gave_up_at is not None,
        delivery.last_status,
        delivery.last_error,
    )


def verify(body: bytes, headers: dict[str, str], secret: str) -> bool:
    """The specification's own words, not our code."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return expected in headers["webhook-signature"].split(" ")


# --- The signature ----------------------------------------------------------------------------------


def test_the_specifications_own_example() -> None:
    """From the reference implementations of Standard Webhooks."""
    found = webhooks.signature(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_arrives(cast: Cast, receiver: Receiver, alices: webhooks.Keyed) -> None:
    delivery = tell(cast)
    assert deliveries.send_due() == Pass(1, 0, 0)
    assert state(delivery) == (1, True, False, 204, "")
    [(path, headers, body)] = receiver.got
    assert path == "/hooks?tenant=1"
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == f"msg_{delivery.notification_id.hex}"
    assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    assert verify(body, headers, alices.secret)
    assert not verify(body + b" ", headers, alices.secret)
    found = json.loads(body)
    assert datetime.fromisoformat(found.pop("timestamp")) == delivery.notification.created_at
    assert found == {"type": "balance.low", "data": {"organization": str(cast.alice.organization_id), **PAYLOAD}}


def test_the_docs_snippet_verifies_it(cast: Cast, receiver: Receiver, alices: webhooks.Keyed) -> None:
    tell(cast)
    deliveries.send_due()
    [(_, headers, body)] = receiver.got
    section = API.read_text(encoding="utf-8").split("\n## Webhooks\n")[1].split("\n## ")[0]
    [snippet] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(snippet, {"body": body, "headers": headers, "secret": alices.secret})
    with pytest.raises(AssertionError):
        exec(snippet, {"body": body + b" ", "headers": headers, "secret": alices.secret})
    old = headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)}
    with pytest.raises(AssertionError):
        exec(snippet, {"body": body, "headers": old, "secret": alices.secret})


# --- Secrets ----------------------------------------------------------------------------------------


def test_a_secret_is_shown_once_and_sealed(cast: Cast) -> None:
    endpoint, secret = webhooks.create_endpoint(cast.alice.organization_id, PUBLIC)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    row = WebhookEndpoint.objects.values().get(pk=endpoint.pk)
    assert secret not in str(row)
    assert secret.removeprefix("whsec_") not in str(row)
    assert webhooks.signing_secrets(endpoint, datetime.now(UTC)) == [secret]


def test_a_rotation_overlaps(cast: Cast, receiver: Receiver, alices: webhooks.Keyed) -> None:
    rotated = webhooks.rotate_secret(cast.alice.organization_id, alices.endpoint.pk)
    assert rotated.secret != alices.secret
    tell(cast)
    deliveries.send_due()
    [(_, headers, body)] = receiver.got
    assert [verify(body, headers, secret) for secret in (alices.secret, rotated.secret)] == [True, True]
    WebhookEndpoint.objects.update(previous_ends_at=datetime.now(UTC) - timedelta(seconds=1))
    tell(cast)
    deliveries.send_due()
    _, headers, body = receiver.got[1]
    assert [verify(body, headers, secret) for secret in (alices.secret, rotated.secret)] == [False, True]


def test_a_rotation_without_overlap_ends_the_old_one_at_once(cast: Cast) -> None:
    endpoint, _ = webhooks.create_endpoint(cast.alice.organization_id, PUBLIC)
    endpoint, secret = webhooks.rotate_secret(cast.alice.organization_id, endpoint.pk, timedelta(0))
    assert webhooks.signing_secrets(endpoint, datetime.now(UTC)) == [secret]
    assert (endpoint.previous_secret_sealed, endpoint.previous_ends_at) == ("", None)


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=31)])
def test_an_overlap_has_bounds(cast: Cast, overlap: timedelta) -> None:
    endpoint, _ = webhooks.create_endpoint(cast.alice.organization_id, PUBLIC)
    with pytest.raises(Invalid, match="overlap: must be between 0 and 30 days"):
        webhooks.rotate_secret(cast.alice.organization_id, endpoint.pk, overlap)


def test_a_secret_of_another_secret_key_sends_nothing(
    cast: Cast, receiver: Receiver, alices: webhooks.Keyed, settings
) -> None:
    settings.SECRET_KEY = "another one" * 5
    delivery = tell(cast)
    assert deliveries.send_due() == Pass(0, 1, 0)
    assert state(delivery) == (1, False, False, None, "its secret cannot be decrypted: rotate it")
    assert receiver.got == []
    with pytest.raises(sealing.Unreadable):
        webhooks.signing_secrets(alices.endpoint, datetime.now(UTC))


# --- Endpoints --------------------------------------------------------------------------------------


def test_an_url_that_may_not_be_called_is_refused_by_name(cast: Cast) -> None:
    with pytest.raises(Invalid, match="url: must begin with https://"):
        webhooks.create_endpoint(cast.alice.organization_id, "http://hooks.example.com/")
    assert webhooks.endpoints_of(cast.alice.organization_id) == []


def test_an_endpoint_is_made_once(cast: Cast) -> None:
    webhooks.create_endpoint(cast.alice.organization_id, PUBLIC)
    with pytest.raises(Invalid, match="url: is an endpoint already"):
        webhooks.create_endpoint(cast.alice.organization_id, f" {PUBLIC} ")
    assert [endpoint.url for endpoint in webhooks.endpoints_of(cast.alice.organization_id)] == [PUBLIC]


def test_there_are_not_too_many(cast: Cast) -> None:
    for number in range(5):
        webhooks.create_endpoint(cast.alice.organization_id, f"{PUBLIC}{number}")
    with pytest.raises(Invalid, match="webhook: an organization has at most 5"):
        webhooks.create_endpoint(cast.alice.organization_id, PUBLIC)


def test_charlie_finds_nothing_of_alices(cast: Cast) -> None:
    endpoint, _ = webhooks.create_endpoint(cast.alice.organization_id, PUBLIC)
    before = WebhookEndpoint.objects.values().get()
    attempts = [
        lambda: webhooks.find_endpoint(cast.charlie.organization_id, endpoint.pk),
        lambda: webhooks.rotate_secret(cast.charlie.organization_id, endpoint.pk),
        lambda: webhooks.set_active(cast.charlie.organization_id, endpoint.pk, False),
        lambda: webhooks.delete_endpoint(cast.charlie.organization_id, endpoint.pk),
        lambda: webhooks.send_test(cast.charlie.organization_id, endpoint.pk),
        lambda: webhooks.deliveries_of(cast.charlie.organization_id, endpoint.pk),
    ]
    for attempt in attempts:
        with pytest.raises(Invalid, match=f"webhook: there is none with the id {endpoint.pk}"):
            attempt()
    outbox.notify(cast.charlie.organization_id, "balance.low", {}, roles=(), webhook_ids=[endpoint.pk])
    assert webhooks.endpoints_of(cast.charlie.organization_id) == []
    assert WebhookEndpoint.objects.values().get() == before
    assert Delivery.objects.count() == 0


def test_a_test_goes_to_one_endpoint(cast: Cast, receiver: Receiver, alices: webhooks.Keyed) -> None:
    webhooks.create_endpoint(cast.alice.organization_id, receiver.url("/other"))
    webhooks.send_test(cast.alice.organization_id, alices.endpoint.pk)
    assert deliveries.send_due() == Pass(1, 0, 0)
    assert [(path, json.loads(body)["type"]) for path, _, body in receiver.got] == [("/hooks?tenant=1", "webhook.test")]
    [sent] = webhooks.deliveries_of(cast.alice.organization_id, alices.endpoint.pk)
    assert (sent.notification.kind, sent.last_status) == ("webhook.test", 204)


# --- When it does not go well -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "last_status", "error"),
    [
        (status(500, b"our secrets"), 500, "answered 500"),
        (status(404), 404, "answered 404"),
        (status(302, location="http://127.0.0.1:1/"), 302, "answered 302"),
        (webhook_receiver.cut, None, "no answer: BadStatusLine"),
        (webhook_receiver.never, None, "no answer: TimeoutError"),
    ],
)
def test_a_failure_is_tried_again_with_the_same_id_and_body(
    monkeypatch, cast: Cast, receiver: Receiver, alices: webhooks.Keyed, answer, last_status, error: str
) -> None:
    monkeypatch.setattr(webhook_http, "TOTAL_TIMEOUT_S", 0.4)
    receiver.answers = [answer]
    delivery = tell(cast)
    assert deliveries.send_due() == Pass(0, 1, 0)
    found = state(delivery)
    assert found[:4] == (1, False, False, last_status)
    assert found[4].startswith(error) or (error.startswith("no answer") and found[4].startswith("no answer"))
    assert deliveries.send_due() == Pass(0, 0, 0), "not before its time"
    make_due()
    assert deliveries.send_due() == Pass(1, 0, 0)
    (_, first, sent), (_, second, again) = receiver.got
    assert first["webhook-id"] == second["webhook-id"]
    assert sent == again


def test_the_pauses_grow_and_end(cast: Cast, receiver: Receiver, alices: webhooks.Keyed) -> None:
    receiver.answers = [status(503)] * 20
    delivery = tell(cast)
    pauses = []
    for number in range(1, len(PAUSES_S) + 1):
        assert deliveries.send_due() == Pass(0, 1, 0)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT extract(epoch FROM due_at - statement_timestamp()) FROM billing_delivery WHERE id = %s",
                [delivery.pk],
            )
            pauses.append(round(cursor.fetchone()[0]))
        assert state(delivery)[0] == number
        make_due()
    assert pauses == list(PAUSES_S)
    assert deliveries.send_due().gave_up == 1
    assert state(delivery) == (9, False, True, 503, "answered 503")
    make_due()
    Delivery.objects.filter(channel="email").delete()
    assert deliveries.send_due() == Pass(0, 0, 0)
    assert len(receiver.got) == 9


def test_a_webhook_that_was_given_up_is_told_by_mail_once_a_day(
    cast: Cast, receiver: Receiver, alices: webhooks.Keyed, mailoutbox
) -> None:
    receiver.answers = [status(500)] * 2
    first, second = tell(cast), tell(cast)
    Delivery.objects.update(attempts=8)
    deliveries.send_due()
    assert [state(delivery)[2] for delivery in (first, second)] == [True, True]
    [mail] = mailoutbox
    assert mail.to == [cast.alice.user.email]
    assert mail.subject == "Alice & Co: a webhook could not be delivered"
    assert receiver.url() in mail.body


def test_gone_switches_the_endpoint_off(cast: Cast, receiver: Receiver, alices: webhooks.Keyed) -> None:
    receiver.answers = [status(410)]
    delivery = tell(cast)
    deliveries.send_due()
    assert state(delivery) == (1, False, True, 410, "answered 410: the endpoint is switched off")
    assert not webhooks.find_endpoint(cast.alice.organization_id, alices.endpoint.pk).active
    assert outbox.notify(cast.alice.organization_id, "balance.low", {}, roles=()).deliveries.count() == 0


@pytest.mark.parametrize("removed", [True, False])
def test_an_endpoint_that_is_not_there_any_more_is_not_called(
    cast: Cast, receiver: Receiver, alices: webhooks.Keyed, removed: bool
) -> None:
    delivery = tell(cast)
    if removed:
        webhooks.delete_endpoint(cast.alice.organization_id, alices.endpoint.pk)
    else:
        webhooks.set_active(cast.alice.organization_id, alices.endpoint.pk, False)
    deliveries.send_due()
    assert state(delivery)[1:3] == (False, True)
    assert receiver.got == []


def test_a_name_that_leads_inside_by_now_is_not_called(
    cast: Cast, receiver: Receiver, alices: webhooks.Keyed, settings
) -> None:
    """It was fine when it was entered: whoever owns the name changed it afterwards."""
    settings.WEBHOOK_ALLOW_PRIVATE = False
    port = receiver.server_address[1]
    WebhookEndpoint.objects.update(url=f"https://localhost:{port}/")
    delivery = tell(cast)
    assert deliveries.send_due() == Pass(0, 1, 0)
    assert state(delivery)[4] == "leads to an address that is not public"
    assert receiver.got == []


def test_one_that_fails_unexpectedly_holds_up_nobody(
    monkeypatch, cast: Cast, receiver: Receiver, alices: webhooks.Keyed
) -> None:
    first, second = tell(cast), tell(cast)
    Notification.objects.filter(pk=first.notification_id).update(kind="broken")
    whole = deliveries.body_of

    def body_of(delivery: Delivery) -> bytes:
        if delivery.notification.kind == "broken":
            raise RuntimeError
        return whole(delivery)

    monkeypatch.setattr(deliveries, "body_of", body_of)
    assert deliveries.send_due() == Pass(1, 1, 0)
    assert state(first)[4] == "unexpected RuntimeError"
    assert state(second)[1]


def test_whoever_dies_with_a_delivery_leaves_it_to_the_next(
    cast: Cast, receiver: Receiver, alices: webhooks.Keyed
) -> None:
    delivery = tell(cast)
    dead = deliveries.claim()
    assert dead is not None
    assert deliveries.claim() is None, "it is leased"
    make_due()
    heir = deliveries.claim()
    assert heir is not None
    assert deliveries.record(dead, deliveries.Outcome("too late")) == "overtaken", "it was given to another one"
    assert state(delivery) == (2, False, False, None, "")
    assert deliveries.record(heir, deliveries.attempt(heir)) == "delivered"
    assert deliveries.record(heir, deliveries.Outcome("too late")) == "overtaken", "it has ended"
    assert state(delivery) == (2, True, False, 204, "")


def test_three_passes_at_once_send_each_once(live_db: None, receiver: Receiver) -> None:
    cast = make_cast(f"{uuid4()}.example.org")
    webhooks.create_endpoint(cast.alice.organization_id, receiver.url())
    for _ in range(12):
        tell(cast)
    passes = at_once([deliveries.send_due] * 3)
    assert sum(one.delivered for one in passes) == 12
    ids = [headers["webhook-id"] for _, headers, _ in receiver.got]
    assert len(set(ids)) == len(ids) == 12
