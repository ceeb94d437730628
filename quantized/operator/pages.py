"""What the operator's lists have in common: how they count, what they show of amounts, and that changes are audited."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from accounts import audit
from accounts.models import Organization, User
from common.checks import as_uuid
from common.ids import hold_id_of
from quantized.templatetags.numbers import credits, exact_micro

COUNTED_MAX = 5_000
Column = Callable[[Any], Any]


class BoundedPaginator(Paginator):
    """Counts no further than one can page: to count a ledger costs more than to read a page of it. Who looks for
    something older narrows the list."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        return int(rows.order_by()[:COUNTED_MAX].count())


class UncountedChangeList(ChangeList):
    """How many there are in all is not asked, and not said."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count


class Page(ModelAdmin):
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    list_fullwidth = True
    paginator: Any = BoundedPaginator
    empty_value_display = "–"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UncountedChangeList


class Audited(Page):
    """A change here is a row of the audit log too, in the same transaction. What a field held is not in it."""

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        self.note(request, obj, "add", message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        self.note(request, obj, "change", message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        for row in queryset:
            self.note(request, row, "delete", "")
        return super().log_deletions(request, queryset)

    def note(self, request: HttpRequest, obj: Model, verb: str, message: Any) -> None:
        record(request, f"{obj._meta.model_name}.{verb}", obj, changed=what_changed(message))


class ReadOnly(Page):
    """To look at, never to change, for nobody."""

    actions = None

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Sequence[Any]:
        return tuple(flat(self.fields)) if self.fields else super().get_readonly_fields(request, obj)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        return super().change_view(request, object_id, form_url, {"show_history": False} | (extra_context or {}))


def flat(rows: Sequence[Any]) -> list[Any]:
    return [name for row in rows for name in (row if isinstance(row, tuple | list) else (row,))]


# --- The audit log ----------------------------------------------------------------------------------


def record(request: HttpRequest, action: str, obj: Model, *, reason: str = "", **details: Any) -> None:
    """What this operator did to a row, in the audit log."""
    audit.record(
        operator(request).email,
        action,
        f"{obj._meta.verbose_name} {obj.pk}"[:200],
        organization_id=organization_id_of(obj),
        reason=reason,
        **details,
    )


def operator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # admin_view let nobody else in
    return request.user


def organization_id_of(obj: Model) -> UUID | None:
    if isinstance(obj, Organization):
        return obj.pk
    return getattr(obj, "organization_id", None) or getattr(obj, "wallet_id", None)


def what_changed(message: Any) -> str | None:
    """Of Django's change message, which fields: never what was typed into them."""
    if isinstance(message, str):
        return message or None
    parts = [part for one in message for verb, part in one.items()]
    names = [str(name) for part in parts for name in (part.get("fields") or [part.get("object", "")])]
    return ", ".join(name for name in names if name) or None


# --- Columns ----------------------------------------------------------------------------------------


def amount(micro: int | None, *, signed: bool = False) -> SafeString | str:
    """Credits, with the exact micro-credits on hover."""
    if micro is None:
        return "–"
    shown = f"+{credits(micro)}" if signed and micro > 0 else credits(micro)
    return format_html('<span class="q-number q-amount" title="{}">{}</span>', exact_micro(micro), shown)


def moment(at: datetime | None) -> SafeString | str:
    if at is None:
        return "–"
    return format_html(
        '<time class="q-number" datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        f"{at:%Y-%m-%d %H:%M:%S.%f} UTC",
        f"{at:%Y-%m-%d %H:%M:%S}",
    )


def badge(text: str, tone: str = "") -> SafeString:
    """Tones: good, warn, bad, or none."""
    return format_html('<span class="q-badge q-{}">{}</span>', tone or "plain", text)


def column(field: str, title: str, show: Callable[[Any], Any]) -> Column:
    """A column that shows a field in its own way, and is ordered by it."""

    @admin.display(description=title, ordering=field)
    def shown(row: Any) -> Any:
        return show(getattr(row, field))

    shown.__name__ = field
    return shown


def credit(field: str, title: str = "") -> Column:
    return column(field, title or field.removesuffix("_micro").replace("_", " "), amount)


def movement(field: str, title: str = "") -> Column:
    return column(field, title or field.replace("_", " "), lambda micro: amount(micro, signed=True))


def when(field: str, title: str = "") -> Column:
    return column(field, title or field.removesuffix("_at").replace("_", " "), moment)


def count(field: str, title: str = "") -> Column:
    return column(field, title or field.replace("_", " "), counted)


def counted(number: int | None) -> SafeString | str:
    return "–" if number is None else format_html('<span class="q-number q-amount">{}</span>', f"{number:,}")


def milliseconds(ms: int | None) -> SafeString | str:
    return "–" if ms is None else format_html('<span class="q-number q-amount">{} ms</span>', f"{ms:,}")


def state(field: str, tones: dict[str, str], title: str = "") -> Column:
    return column(field, title or field, lambda word: badge(str(word).replace("_", " "), tones.get(word, "")))


def linked(obj: Model | None) -> SafeString | str:
    """The row's name, leading to its page."""
    if obj is None:
        return "–"
    return format_html('<a class="q-link" href="{}" title="{}">{}</a>', page_of(obj), str(obj), str(obj))


def page_of(obj: Model) -> str:
    return reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[quote(obj.pk)])


def list_of(model: type[Model], query: str = "") -> str:
    path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{path}?{query}" if query else path


@admin.display(description="organization")
def of_organization(row: Any) -> SafeString | str:
    """For rows of a wallet, read with `wallet__organization`."""
    return linked(row.wallet.organization)


# --- Searching --------------------------------------------------------------------------------------


def typed_id(text: str) -> UUID | None:
    """An id as people have it: a hold's, or a call's with its `gen-`."""
    return hold_id_of(text) or as_uuid(text)
