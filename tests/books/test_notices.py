"""The outbox and its mails: who is told, once for each cause, in the transaction of the cause."""

import smtplib
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.core import mail as django_mail
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from accounts.models import Membership, User
from accounts.services import add_member, create_user
from billing import tasks
from billing.delivery import deliveries, mails
from billing.delivery.deliveries import Pass
from billing.delivery.letters import letter
from billing.notices import outbox
from billing.notices.models import Delivery, Notification
from common.numbers import spelled_credits
from quantized import settings as quantized_settings
from quantized.celery import app
from quantized.checks import mail_is_sent
from tests.kit.books import at_once
from tests.kit.tenants import Cast, Tenant, make_cast

LOW = {"rule": str(uuid4()), "threshold": 5_000_000, "available": 1_250_000, "balance": 1_250_000, "held": 0}


@pytest.fixture
def credits_micro() -> int:
    return 0


def targets(notification: Notification | None) -> list[str]:
    assert notification is not None
    return sorted(notification.deliveries.values_list("target", flat=True))


# --- Who is told ------------------------------------------------------------------------------------


def test_owners_and_billing_people_hear_of_money(cast: Cast) -> None:
    add_member(cast.alice.organization, create_user("dora@example.org"), Membership.Role.BILLING)
    add_member(cast.alice.organization, create_user("eve@example.org"), Membership.Role.BILLING)
    User.objects.filter(email="eve@example.org").update(is_active=False)
    assert targets(outbox.notify(cast.alice.organization_id, "balance.low", LOW)) == [
        "alice@example.org",
        "dora@example.org",
    ]


def test_roles_and_addresses_may_be_named(cast: Cast) -> None:
    told = outbox.notify(
        cast.alice.organization_id,
        "balance.low",
        LOW,
        roles=["developer"],
        addresses=["bob@example.org", "cfo@example.org"],
    )
    assert targets(told) == ["bob@example.org", "cfo@example.org"], "bob, who is both, gets one mail"


def test_one_cause_is_told_once(cast: Cast) -> None:
    told = [outbox.notify(cast.alice.organization_id, "x", {}, dedupe_key="k") for _ in range(3)]
    assert [one is not None for one in told] == [True, False, False]
    assert Delivery.objects.count() == 1
    assert outbox.notify(cast.charlie.organization_id, "x", {}, dedupe_key="k") is not None, (
        "another's cause is another"
    )


def test_without_a_key_each_is_told(cast: Cast) -> None:
    assert all(outbox.notify(cast.alice.organization_id, "x", {}) for _ in range(2))


def test_a_cause_that_is_rolled_back_was_never_told(cast: Cast) -> None:
    with transaction.atomic():
        assert outbox.notify(cast.alice.organization_id, "x", {}, dedupe_key="k") is not None
        transaction.set_rollback(True)
    assert (Notification.objects.count(), Delivery.objects.count()) == (0, 0)


def test_twenty_at_once_tell_once(live_db: None) -> None:
    cast = make_cast(f"{uuid4()}.example.org")

    def tell() -> bool:
        return outbox.notify(cast.alice.organization_id, "x", {}, dedupe_key="k") is not None

    assert sum(at_once([tell] * 20)) == 1
    assert Delivery.objects.filter(target=cast.alice.user.email).count() == 1
    Delivery.objects.filter(target=cast.alice.user.email).delete()


def test_what_was_told_long_ago_is_forgotten(cast: Cast) -> None:
    waiting, _, fresh = (outbox.notify(cast.alice.organization_id, "x", {}) for _ in range(3))
    Notification.objects.exclude(pk=fresh.pk).update(created_at=datetime.now(UTC) - timedelta(days=181))
    Delivery.objects.exclude(notification=waiting).update(delivered_at=datetime.now(UTC))
    assert outbox.forget_old() == 1
    assert set(Notification.objects.values_list("pk", flat=True)) == {waiting.pk, fresh.pk}


# --- The operator -----------------------------------------------------------------------------------


def test_one_trouble_is_one_mail_to_every_operator(db: None, settings, mailoutbox) -> None:
    settings.OPERATOR_EMAILS = ["ops@example.com", "boss@example.com"]
    for _ in range(3):
        outbox.notify_operator("ledger.violations", "violations:2026-11-26", {"violations": 2})
    assert deliveries.send_due() == Pass(2, 0, 0)
    assert sorted(mail.to[0] for mail in mailoutbox) == ["boss@example.com", "ops@example.com"]
    assert mailoutbox[0].subject == "[Quantized] ledger violations"
    assert "violations: 2" in mailoutbox[0].body


def test_without_an_operators_address_it_is_in_the_log(db: None, caplog) -> None:
    assert targets(outbox.notify_operator("provider.refused", "openrouter", {})) == []
    assert "for the operator: provider.refused (openrouter)" in caplog.text


# --- The mails --------------------------------------------------------------------------------------


def test_a_mail_has_a_text_and_an_html_of_the_same_words(cast: Cast, settings, mailoutbox) -> None:
    settings.PUBLIC_URL = "https://ai.example.com"
    settings.DEFAULT_FROM_EMAIL = "Example AI <billing@example.com>"
    told = outbox.notify(cast.alice.organization_id, "balance.low", LOW)
    assert deliveries.send_due() == Pass(1, 0, 0)
    [mail] = mailoutbox
    assert (mail.from_email, mail.to) == ("Example AI <billing@example.com>", ["alice@example.org"])
    assert mail.subject == "Alice & Co: credits are running low"
    assert mail.message()["Message-ID"] == f"<{told.deliveries.get().pk.hex}@ai.example.com>"
    assert "Alice & Co has 1.25 credits left for new calls" in mail.body
    assert "Add credits: https://ai.example.com/billing\n" in mail.body
    [(html, kind)] = mail.alternatives
    assert kind == "text/html"
    assert "Alice &amp; Co has 1.25 credits left for new calls" in html
    assert 'href="https://ai.example.com/billing"' in html
    assert "<img" not in html
    assert "prefers-color-scheme: dark" in html


def test_a_name_cannot_write_into_the_mail(cast: Cast, mailoutbox) -> None:
    type(cast.alice.organization).objects.filter(pk=cast.alice.organization_id).update(
        name="<b>x</b>\nBcc: charlie@example.org"
    )
    outbox.notify(cast.alice.organization_id, "balance.low", LOW)
    deliveries.send_due()
    [mail] = mailoutbox
    assert "\n" not in mail.subject
    assert mail.recipients() == ["alice@example.org"]
    assert "<b>x</b>" not in mail.alternatives[0][0]


def test_a_statement_comes_with_its_files(db: None, mailoutbox) -> None:
    tenant = Tenant(1_000_000)
    month = f"{datetime.now(UTC):%Y-%m}"
    payload = {"month": month, "opening_balance": 0, "closing_balance": 1_000_000, "credits_used": 0}
    outbox.notify(tenant.organization_id, "statement.ready", payload, addresses=["cfo@example.org"])
    assert deliveries.send_due() == Pass(1, 0, 0)
    [mail] = mailoutbox
    found = {name.rpartition(".")[2]: (content, kind) for name, content, kind in mail.attachments}
    assert found["pdf"][0].startswith(b"%PDF")
    assert found["pdf"][1] == "application/pdf"
    text = found["csv"][0]
    assert "purchase" in (text.decode() if isinstance(text, bytes) else text)


@pytest.mark.parametrize(
    ("kind", "payload", "subject"),
    [
        (
            "budget.reached",
            {
                "percent": 80,
                "period": "month",
                "period_start": "2026-11-01T00:00:00Z",
                "spent": 8_000_001,
                "budget": 10_000_000,
                "key": None,
                "key_name": None,
            },
            "Acme: 80 % of the monthly budget is used",
        ),
        (
            "statement.ready",
            {"month": "2026-10", "opening_balance": 1, "closing_balance": -2, "credits_used": 3},
            "Acme: statement of 2026-10",
        ),
        ("something.new", {"some_figure": 5}, "Acme: something new"),
    ],
)
def test_every_kind_has_words(kind: str, payload: dict[str, object], subject: str) -> None:
    written = letter(kind, payload, "Acme", "https://x")
    assert written.subject == subject
    assert written.rows


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "0 credits"),
        (1_000_000, "1 credit"),
        (1_234_500_000, "1,234.5 credits"),
        (-1, "−0.000001 credits"),
        (2**63 - 1, "9,223,372,036,854.775807 credits"),
    ],
)
def test_credits_are_exact_in_words(micro: int, text: str) -> None:
    assert spelled_credits(micro) == text


# --- When mail does not go well ---------------------------------------------------------------------


def failing(monkeypatch, error: Exception) -> None:
    def send(delivery: Delivery) -> None:
        raise error

    monkeypatch.setattr(mails, "send", send)


@pytest.mark.parametrize(
    ("error", "result", "text"),
    [
        (ConnectionRefusedError(), Pass(0, 1, 0), "the mail server: ConnectionRefusedError"),
        (smtplib.SMTPServerDisconnected(), Pass(0, 1, 0), "the mail server: SMTPServerDisconnected"),
        (smtplib.SMTPRecipientsRefused({"a": (451, b"later")}), Pass(0, 1, 0), "refused with [451]"),
        (smtplib.SMTPRecipientsRefused({"a": (550, b"nobody")}), Pass(0, 0, 1), "refused with [550]"),
    ],
)
def test_a_mail_server_in_trouble(monkeypatch, cast: Cast, error: Exception, result: Pass, text: str) -> None:
    failing(monkeypatch, error)
    told = outbox.notify(cast.alice.organization_id, "balance.low", LOW)
    assert deliveries.send_due() == result
    assert told.deliveries.get().last_error == text


def test_mail_to_nobody_is_noticed(settings) -> None:
    settings.EMAIL_URL, settings.DEBUG = "", False
    assert [message.id for message in mail_is_sent(None)] == ["quantized.W003"]
    settings.EMAIL_URL = "smtp://mail.example.com"
    assert mail_is_sent(None) == []


def test_mail_that_is_only_printed_says_so(cast: Cast, settings, caplog) -> None:
    settings.EMAIL_URL, settings.DEBUG = "", False
    outbox.notify(cast.alice.organization_id, "balance.low", LOW)
    deliveries.send_due()
    assert "EMAIL_URL is not set" in caplog.text
    assert len(django_mail.outbox) == 1


# --- Settings and schedule --------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["mail.example.com", "http://mail.example.com", "smtp://user:hidden@mail:port"])
def test_a_wrong_mail_server_is_named_and_its_password_is_not(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="EMAIL_URL must be a URL of one of the kinds") as caught:
        quantized_settings.mail_server(url)
    assert "hidden" not in str(caught.value)


def test_a_mail_servers_url_is_taken_apart() -> None:
    found = quantized_settings.mail_server("smtp+tls://user%40x:pass@mail.example.com:587")
    assert {name: found[name] for name in ("EMAIL_HOST", "EMAIL_PORT", "EMAIL_HOST_USER", "EMAIL_USE_TLS")} == {
        "EMAIL_HOST": "mail.example.com",
        "EMAIL_PORT": 587,
        "EMAIL_HOST_USER": "user@x",
        "EMAIL_USE_TLS": True,
    }


@pytest.mark.parametrize(
    ("helper", "name", "value"),
    [("mail_address", "MAIL_FROM", "nobody"), ("mail_addresses", "OPERATOR_EMAILS", "ops@example.com,nobody")],
)
def test_an_address_that_is_none_is_named(monkeypatch, helper: str, name: str, value: str) -> None:
    monkeypatch.setitem(quantized_settings.env.ENVIRON, name, value)
    arguments = [name, "a@b"] if helper == "mail_address" else [name]
    with pytest.raises(ImproperlyConfigured, match=name):
        getattr(quantized_settings, helper)(*arguments)


@pytest.mark.parametrize("name", ["check_alerts", "send_notices", "announce_statements", "forget_notices"])
def test_the_beat_runs_each_task_any_number_of_times(db: None, name: str) -> None:
    app.loader.import_default_modules()
    scheduled = [entry["task"] for entry in app.conf.beat_schedule.values()]
    assert scheduled.count(f"billing.tasks.{name}") == 1
    for _ in range(3):
        getattr(tasks, name)()
    assert Notification.objects.count() == 0
