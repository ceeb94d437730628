"""Statements: a file for every month since the organization began; the running month to date."""

import logging
from datetime import date

import msgspec
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_safe

from billing.statements import files, monthly
from common.checks import Invalid
from quantized.dashboard.frame import Visitor, member_page, show

logger = logging.getLogger(__name__)

PAGE_MONTHS = 24


class Month(msgspec.Struct, frozen=True):
    name: str  # 2026-11
    first: date
    is_running: bool


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    shown = Paginator(months_of(visitor), PAGE_MONTHS).get_page(request.GET.get("page"))
    return show(request, visitor, "statements.html", {"months": shown, "query": request.GET.copy()})


@require_safe
@member_page
def download(request: HttpRequest, visitor: Visitor, month: str, format: str) -> HttpResponseBase:
    """What does not add up is not given out."""
    if month not in [known.name for known in months_of(visitor)]:
        raise Http404
    try:
        file = files.statement_file(visitor.organization.pk, month, format)
    except Invalid:
        raise Http404 from None
    except monthly.Mismatch:
        logger.exception("a statement was asked for and not given out")
        messages.error(request, f"The figures of {month} are being checked: its statement cannot be given out now.")
        return redirect("dashboard:statements")
    response = HttpResponse(file.content, content_type=file.content_type)
    response["Content-Disposition"] = f'attachment; filename="{file.name}"'
    response["Cache-Control"] = "private, no-store"
    return response


def months_of(visitor: Visitor) -> list[Month]:
    found = monthly.months_of(visitor.organization.pk)
    return [
        Month(f"{year:04}-{month:02}", date(year, month, 1), place == 0) for place, (year, month) in enumerate(found)
    ]
