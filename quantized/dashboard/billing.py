"""What was put in and what was taken out: the wallet's statement, entry by entry, each with the balance after it; and
how credits are added, by card or by voucher."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from billing.credits import lots, vouchers
from billing.models import Entry, Payment
from billing.payments import checkout
from billing.payments.stripe_api import PaymentError
from billing.usage.browse import Kinds, entries, put_in
from common.ids import generation_id
from common.numbers import BIGINT_MAX
from quantized.dashboard.downloads import PAGE_ROWS, Rows, csv_download, moment
from quantized.dashboard.frame import Visitor, member_page, require_payer, show, user_of
from quantized.dashboard.paying import (
    OWN,
    TopUpForm,
    VoucherForm,
    paying_policy,
    payment_line,
    payment_of,
)
from quantized.middleware import POLICY
from quantized.templatetags.numbers import credits

PAGE_ENTRIES = 50
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
    return show_billing(request, visitor)


def show_billing(
    request: HttpRequest,
    visitor: Visitor,
    top_up: TopUpForm | None = None,
    voucher: VoucherForm | None = None,
    status: int = 200,
) -> HttpResponseBase:
    kinds = kinds_of(request)
    before_seq = seq_of(request.GET.get("before", ""))
    found = entries(visitor.organization.pk, kinds, before_seq, PAGE_ENTRIES + 1)
    put = put_in(visitor.organization.pk)
    offer = checkout.offer()
    payment = payment_of(visitor.organization.pk, request.GET.get("payment", ""))
    context = {
        "lines": [line_of(entry) for entry in found[:PAGE_ENTRIES]],
        "kinds": KINDS,
        "chosen": kinds,
        "before": before_seq,
        "older": found[PAGE_ENTRIES - 1].seq if len(found) > PAGE_ENTRIES else None,
        "put_in": put,
        "used": put.total - visitor.wallet.posted,
        "open_lots": lots.open_lots(visitor.organization.pk),
        "offer": offer,
        "own": OWN,
        "dollar_micro": checkout.credits_of(100),
        "top_up": top_up or TopUpForm(),
        "voucher": voucher or VoucherForm(),
        "line": payment and payment_line(payment, visitor.now),
        "was_cancelled": request.GET.get("cancelled") == "1",
    }
    response = show(request, visitor, "billing.html", context, status=status)
    if offer.can_buy and visitor.may_pay:
        response[POLICY] = paying_policy()
    return response


# --- Adding credits ---------------------------------------------------------------------------------


@require_POST
@member_page
def top_up(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """To Stripe's page, and from there back here."""
    require_payer(visitor)
    form = TopUpForm(request.POST)
    if not form.is_valid():
        return show_billing(request, visitor, top_up=form, status=422)
    try:
        begun = checkout.start(
            visitor.organization.pk,
            form.cleaned_data["cents"],
            user_of(request).pk,
            save_card=form.cleaned_data["save_card"],
            return_path=reverse("dashboard:billing"),
        )
    except PaymentError as error:
        form.add_error(None, str(error))
        return show_billing(request, visitor, top_up=form, status=503)
    return redirect(begun.url)


@require_safe
@member_page
def quote(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """What an amount of one's own buys, while it is typed."""
    form = TopUpForm({"amount": OWN, "own": request.GET.get("own", "")})
    micro = checkout.credits_of(form.cleaned_data["cents"]) if form.is_valid() else None
    return render(request, "dashboard/quote.html", {"micro": micro})


@require_safe
@member_page
def payment_part(request: HttpRequest, visitor: Visitor, payment_id: UUID) -> HttpResponse:
    """What the page asks for while Stripe has not told us yet. Then the whole page is shown anew, balance and all."""
    payment = payment_of(visitor.organization.pk, payment_id)
    if payment is None:
        raise Http404
    if payment.state != Payment.State.CREATED:
        return HttpResponse(status=204, headers={"HX-Redirect": f"{reverse('dashboard:billing')}?payment={payment.pk}"})
    context = {"line": payment_line(payment, visitor.now), "offer": checkout.offer()}
    return render(request, "dashboard/payment_waiting.html", context)


@require_POST
@member_page
def redeem(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    require_payer(visitor)
    form = VoucherForm(request.POST)
    if not form.is_valid():
        return show_billing(request, visitor, voucher=form, status=422)
    try:
        redeemed = vouchers.redeem(visitor.organization.pk, form.cleaned_data["code"], user_of(request).pk)
    except vouchers.Refused as refused:
        form.refuse(refused)
        return show_billing(request, visitor, voucher=form, status=422)
    until = f", good until {redeemed.expires_at:%-d %b %Y}" if redeemed.expires_at else ""
    messages.success(request, f"{credits(redeemed.amount_micro)} credits came in{until}.")
    return redirect("dashboard:billing")


# --- The statement ----------------------------------------------------------------------------------


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
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= BIGINT_MAX else None
