"""What was put in and what was taken out: the wallet's statement, entry by entry, each with the balance after it."""

from collections.abc import Iterator
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.http import require_safe

from billing.browse import Kinds, entries, put_in
from billing.lookups import generation_id
from billing.models import Entry
from quantized.dashboard.downloads import PAGE_ROWS, Rows, csv_download, moment
from quantized.dashboard.frame import Visitor, member_page, show

PAGE_ENTRIES = 50
SEQ_MAX = 2**63 - 1
KINDS: tuple[tuple[Kinds, str], ...] = (
    ("", "Everything"),
    ("credits", "Credits in and out"),
    ("calls", "Calls"),
    ("corrections", "Corrections"),
)
WORDS = {
    Entry.Kind.PURCHASE: "Credits bought",
    Entry.Kind.GRANT: "Credits granted",
    Entry.Kind.ADJUSTMENT: "Adjustment",
    Entry.Kind.USAGE: "Call",
    Entry.Kind.LATE_USAGE: "Call, charged late",
    Entry.Kind.CORRECTION: "Correction of a call",
    Entry.Kind.REFUND: "Refund",
    Entry.Kind.EXPIRY: "Credits expired",
}
CSV_HEADER = ("number", "time", "kind", "description", "call", "micro_credits", "balance_after_micro_credits")


class Line(msgspec.Struct, frozen=True):
    """An entry in people's words."""

    entry: Entry
    what: str
    detail: str
    generation: str


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    kinds = kinds_of(request)
    before_seq = seq_of(request.GET.get("before", ""))
    found = entries(visitor.organization.pk, kinds, before_seq, PAGE_ENTRIES + 1)
    put = put_in(visitor.organization.pk)
    context = {
        "lines": [line_of(entry) for entry in found[:PAGE_ENTRIES]],
        "kinds": KINDS,
        "chosen": kinds,
        "before": before_seq,
        "older": found[PAGE_ENTRIES - 1].seq if len(found) > PAGE_ENTRIES else None,
        "put_in": put,
        "used": put.total - visitor.wallet.posted,
    }
    return show(request, visitor, "billing.html", context)


@require_safe
@member_page
def download(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    return csv_download("statement", CSV_HEADER, csv_pages(visitor, kinds_of(request)))


def csv_pages(visitor: Visitor, kinds: Kinds) -> Iterator[Rows]:
    before_seq = None
    while found := entries(visitor.organization.pk, kinds, before_seq, PAGE_ROWS):
        yield [csv_row(line_of(entry)) for entry in found]
        before_seq = found[-1].seq


def csv_row(line: Line) -> tuple[Any, ...]:
    entry = line.entry
    description = f"{line.what}: {line.detail}" if line.detail else line.what
    return (
        entry.seq,
        moment(entry.created_at),
        entry.kind,
        description,
        line.generation,
        entry.amount,
        entry.balance_after,
    )


def line_of(entry: Entry) -> Line:
    """Of a call its model; of everything else the reason that was given. Who did it is the operator's business."""
    detail = entry.hold.model if entry.hold and entry.kind != Entry.Kind.CORRECTION else entry.reason
    generation = generation_id(entry.hold_id) if entry.hold_id else ""
    return Line(entry, WORDS[Entry.Kind(entry.kind)], detail, generation)


def kinds_of(request: HttpRequest) -> Kinds:
    given = request.GET.get("kind", "")
    return next((kind for kind, _ in KINDS if kind == given), "")


def seq_of(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= SEQ_MAX else None
