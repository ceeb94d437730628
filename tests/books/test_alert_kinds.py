"""A kind of alert is one folder: one that is put into the table has its pages, mails and webhooks, and nothing else is
changed."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import connection

from billing import tasks
from billing.notices import alerts, webhooks
from billing.notices.kinds import KINDS
from billing.notices.kinds.base import AlertKind, Crossing
from billing.notices.letter import Letter, Payload
from billing.notices.models import AlertRule
from quantized.devstack.places import CHECKOUT
from tests.kit.dashboard import text
from tests.kit.tenants import Tenant
from tests.kit.webhook_receiver import receiving

pytestmark = pytest.mark.django_db

DUE = """
UPDATE billing_alertrule r SET armed = false, fired_at = now() FROM billing_wallet w
WHERE r.kind = 'much_held' AND r.enabled AND r.armed AND w.organization_id = r.organization_id
  AND w.held > r.threshold_micro
RETURNING r.id, w.held
"""


class MuchHeld(AlertKind):
    """Running calls hold more than the threshold."""

    name = "much_held"
    event = "balance.held"
    event_fields = ("held",)
    title = "held alert"
    noun = "held alert"
    threshold_label = "Tell when more is held than, credits"
    roles = ("developer",)
    disarmed = "told of much"
    disarmed_hint = "Once and for all"

    def crossings(self) -> Iterable[Crossing]:
        with connection.cursor() as cursor:
            cursor.execute(DUE)
            return [Crossing(rule_id, lambda held=held: {"held": held}) for rule_id, held in cursor.fetchall()]

    def letter(self, payload: Payload, organization: str, public_url: str) -> Letter:
        return Letter(
            f"{organization}: much is held", "Much is held", (), (("Held", f"{payload['held']}"),), "You asked."
        )


@pytest.fixture
def credits_micro() -> int:
    return 10_000_000


@pytest.fixture
def much_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: pytest.FixtureRequest) -> AlertKind:
    kind = MuchHeld()
    folder = tmp_path / kind.name
    folder.mkdir()
    (folder / "row.html").write_text("<td>More than {{ rule.threshold_micro }} are held</td>")
    (folder / "form.html").write_text('{% include "components/field.html" with field=form.threshold %}')
    (folder / "delete.html").write_text("<p>Nobody is told of much.</p>")
    monkeypatch.setitem(KINDS, kind.name, kind)
    templates = dict(django_settings.TEMPLATES[0])
    templates["DIRS"] = [*templates["DIRS"], tmp_path]
    settings.TEMPLATES = [templates]
    return kind


def test_a_kind_that_is_put_into_the_table_is_offered_made_told_and_deleted(
    much_held: AlertKind, alice: Tenant, bob: Tenant, settings, mailoutbox
) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    owner = alice.client
    assert "New balance alert New budget New held alert" in text(owner.get("/billing/alerts"))
    page = text(owner.get("/billing/alerts/new/much-held"))
    assert "New held alert" in page
    assert "Tell when more is held than, credits" in page
    with receiving() as receiver:
        endpoint, _ = webhooks.create_endpoint(alice.organization_id, receiver.url())
        wish = {"threshold": "2", "roles": ["developer"], "addresses": "", "webhook": str(endpoint.pk)}
        made = text(owner.post("/billing/alerts/new/much-held", wish, follow=True))
        assert "The alert is on." in made
        assert "More than 2000000 are held on never developer webhook" in made
        rule = AlertRule.objects.get()
        assert (rule.kind, rule.period, rule.percents, rule.key_id) == ("much_held", None, [], None)
        alice.hold(3_000_000)
        for _ in range(2):
            tasks.check_alerts()
            tasks.send_notices()
    assert [json.loads(body)["data"]["held"] for _, _, body in receiver.got] == [3_000_000]
    assert [json.loads(body)["type"] for _, _, body in receiver.got] == ["balance.held"]
    assert [(mail.to, mail.subject.partition(": ")[2]) for mail in mailoutbox] == [([bob.email], "much is held")]
    assert "told of much" in text(owner.get("/billing/alerts"))
    assert "Change held alert" in text(owner.get(f"/billing/alerts/{rule.pk}"))
    question = text(owner.get(f"/billing/alerts/{rule.pk}/delete"))
    assert "Delete this held alert? Nobody is told of much." in question


def test_a_kind_says_who_is_told_unless_the_rule_does(much_held: AlertKind, alice: Tenant) -> None:
    assert alerts.create_rule(alice.organization_id, "much_held", 5).roles == ["developer"]
    assert alerts.create_rule(alice.organization_id, "much_held", 5, roles=["admin"]).roles == ["admin"]
    assert alerts.create_rule(alice.organization_id, "low_balance", 5).roles == ["owner", "billing"]


def test_what_is_no_kind_has_no_page(alice: Tenant) -> None:
    assert alice.client.get("/billing/alerts/new/much-held").status_code == 404


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_kind_has_its_templates_and_its_line_in_the_documents(kind: AlertKind) -> None:
    for template in (kind.row_template, kind.form_template, kind.delete_template):
        assert (CHECKOUT / "billing" / "notices" / "kinds" / template).is_file()
    api = (CHECKOUT / "docs" / "api.md").read_text(encoding="utf-8")
    (line,) = [line for line in api.splitlines() if line.startswith(f"| `{kind.event}` |")]
    fields = line.rpartition(" | ")[2]
    assert [word for word in fields.split("`")[1::2] if word != "rule"] == list(kind.event_fields)
