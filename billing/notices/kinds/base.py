"""What a kind of alert says of itself: its name, who is told, when it fires, its form, its words and its templates.

A kind is a folder beside this file and an entry in the table of `__init__.py`. `<name>/row.html` is its cell in the
list of alerts (with `rule`), `<name>/form.html` what it asks for (with `form` and `wallet`), `<name>/delete.html` the
question before a rule is deleted (with `rule`). A rule's row has a threshold, and may have a period, percentages and a
key. A kind whose rows must have a certain shape can add a CHECK to AlertRule; others need no migration.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from django import forms

from billing.notices.letter import Letter, Payload
from billing.notices.models import AlertRule
from billing.notices.outbox import MONEY_ROLES
from common.checks import Invalid


class Crossing(NamedTuple):
    """A rule that is to fire. `fire` is called in a transaction and changes the rule's row by one conditional
    statement; it returns the figures to tell, or None if somebody else was faster or it is so no more."""

    rule_id: UUID
    fire: Callable[[], Payload | None]


class AlertKind(ABC):
    name: ClassVar[str]  # AlertRule.kind
    event: ClassVar[str]  # the notification's kind, which webhooks get as `type`
    event_fields: ClassVar[tuple[str, ...]]  # of `data`, besides `organization` and `rule`; amounts in micro-credits
    title: ClassVar[str]  # on buttons and headings: "New budget"
    noun: ClassVar[str]  # "Delete this alert?"
    threshold_label: ClassVar[str]
    roles: ClassVar[Sequence[str]] = MONEY_ROLES  # who is told unless the rule names others
    # For a kind that disarms its rules: how the list calls one that has told, and when it tells again.
    disarmed: ClassVar[str] = ""
    disarmed_hint: ClassVar[str] = ""

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-")

    @property
    def row_template(self) -> str:
        return f"{self.name}/row.html"

    @property
    def form_template(self) -> str:
        return f"{self.name}/form.html"

    @property
    def delete_template(self) -> str:
        return f"{self.name}/delete.html"

    def rearm(self) -> None:
        """Before a pass: rules that may tell of the next time. Nothing to do for most."""
        return None

    @abstractmethod
    def crossings(self) -> Iterable[Crossing]:
        """The enabled rules of this kind that are to fire now."""

    def checked(
        self, organization_id: UUID, period: str | None, percents: Sequence[int], key_id: UUID | None
    ) -> dict[str, Any]:
        """The rule's columns `period`, `percents` and `key_id`; raises Invalid. Without them here."""
        if period is not None or key_id is not None:
            raise Invalid("period" if period is not None else "key", "is for budgets only")
        return {"period": None, "percents": [], "key_id": None}

    def form_fields(self, organization_id: UUID) -> dict[str, forms.Field]:
        """What is asked for besides threshold and receivers."""
        return {}

    def wanted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Of the form's cleaned values, what `create_rule` takes of this kind alone."""
        return {}

    def typed(self, rule: AlertRule) -> dict[str, Any]:
        """The rule's own values as the form's initial ones."""
        return {}

    @abstractmethod
    def letter(self, payload: Payload, organization: str, public_url: str) -> Letter:
        """`payload` is what `fire` returned, with `rule`."""
