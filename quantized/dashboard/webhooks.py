"""Webhook endpoints: made and rotated with a secret that is shown once, tried, switched off; what was sent to them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing.models import Delivery, WebhookEndpoint
from billing.notices import webhooks
from common.checks import Invalid
from quantized.dashboard.frame import Visitor, member_page, require_payer, sentence, show
from quantized.dashboard.keys import may_submit, once


class EndpointForm(forms.Form):
    url = forms.CharField(
        label="Address",
        max_length=2_000,
        help_text="https, on a server that the internet reaches.",
        widget=forms.URLInput(attrs={"placeholder": "https://example.com/hooks/quantized", "autocomplete": "off"}),
    )

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, auto_id="endpoint_%s")


class DeliveryLine(msgspec.Struct, frozen=True):
    """A delivery in people's words."""

    delivery: Delivery
    state: str
    tone: str


@require_http_methods(["GET", "POST"])
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    form = EndpointForm(request.POST or None)
    if request.method == "POST":
        require_payer(visitor)
        if form.is_valid():
            try:
                keyed = webhooks.create_endpoint(visitor.organization.pk, form.cleaned_data["url"])
            except Invalid as invalid:
                form.add_error("url", sentence(invalid.message))
            else:
                return reveal(request, visitor, keyed)
    context = {
        "endpoints": webhooks.endpoints_of(visitor.organization.pk),
        "endpoints_max": webhooks.ENDPOINTS_MAX,
        "form": form,
    }
    return show(request, visitor, "webhooks.html", context, status=422 if form.errors else 200)


def reveal(request: HttpRequest, visitor: Visitor, keyed: webhooks.Keyed, *, is_new: bool = True) -> HttpResponseBase:
    """In the answer itself: it would have to be kept to be shown after a redirect."""
    context = {"endpoint": keyed.endpoint, "secret": keyed.secret, "is_new": is_new}
    response = show(request, visitor, "webhook_reveal.html", context)
    response["Cache-Control"] = "no-store"
    return response


@require_safe
@member_page
def endpoint_page(request: HttpRequest, visitor: Visitor, endpoint_id: UUID) -> HttpResponseBase:
    endpoint = own_endpoint(visitor, endpoint_id)
    found = webhooks.deliveries_of(visitor.organization.pk, endpoint.pk)
    context = {"endpoint": endpoint, "sent": [sent(delivery) for delivery in found], "once": once(request)}
    return show(request, visitor, "webhook.html", context)


def sent(delivery: Delivery) -> DeliveryLine:
    if delivery.delivered_at is not None:
        return DeliveryLine(delivery, "delivered", "good")
    if delivery.gave_up_at is not None:
        return DeliveryLine(delivery, "given up", "bad")
    return DeliveryLine(delivery, "trying" if delivery.attempts else "waiting", "warn" if delivery.attempts else "")


@require_POST
@member_page
def rotate(request: HttpRequest, visitor: Visitor, endpoint_id: UUID) -> HttpResponseBase:
    require_payer(visitor)
    endpoint = own_endpoint(visitor, endpoint_id)
    if not may_submit(request):
        messages.warning(request, "This form was sent before. A secret that it made is not shown again.")
        return redirect("dashboard:webhook", endpoint.pk)
    return reveal(request, visitor, webhooks.rotate_secret(visitor.organization.pk, endpoint.pk), is_new=False)


@require_POST
@member_page
def switch(request: HttpRequest, visitor: Visitor, endpoint_id: UUID) -> HttpResponseBase:
    require_payer(visitor)
    endpoint = own_endpoint(visitor, endpoint_id)
    changed = webhooks.set_active(visitor.organization.pk, endpoint.pk, request.POST.get("active") == "1")
    messages.success(request, "The webhook is on." if changed.active else "The webhook is off: nothing is sent to it.")
    return redirect("dashboard:webhook", endpoint.pk)


@require_POST
@member_page
def send_test(request: HttpRequest, visitor: Visitor, endpoint_id: UUID) -> HttpResponseBase:
    require_payer(visitor)
    endpoint = own_endpoint(visitor, endpoint_id)
    try:
        webhooks.send_test(visitor.organization.pk, endpoint.pk)
    except Invalid:
        messages.error(request, "It is off: switch it on, then try it.")
    else:
        messages.success(request, "A test is on its way. See below what becomes of it.")
    return redirect("dashboard:webhook", endpoint.pk)


@require_http_methods(["GET", "POST"])
@member_page
def delete(request: HttpRequest, visitor: Visitor, endpoint_id: UUID) -> HttpResponseBase:
    require_payer(visitor)
    endpoint = own_endpoint(visitor, endpoint_id)
    if request.method == "POST":
        webhooks.delete_endpoint(visitor.organization.pk, endpoint.pk)
        messages.success(request, "The webhook is deleted.")
        return redirect("dashboard:webhooks")
    return show(request, visitor, "webhook_delete.html", {"endpoint": endpoint})


def own_endpoint(visitor: Visitor, endpoint_id: UUID) -> WebhookEndpoint:
    """Another tenant's endpoint is as unknown as one that never was."""
    try:
        return webhooks.find_endpoint(visitor.organization.pk, endpoint_id)
    except Invalid:
        raise Http404 from None
