"""Try a model: the page asks our own API, as any client would, with a short access token of the member who looks."""

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.http import require_POST, require_safe

from accounts import sessions
from accounts.callers import Forbidden
from completions.catalog.loader import load_catalog
from quantized.dashboard.frame import Visitor, member_page, show

EFFORTS = ("minimal", "low", "medium", "high")


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    cards = load_catalog().models.values()
    models = [
        (card.id, card.name, sorted(frozenset[str]().union(*(route.capabilities for route in card.routes))))
        for card in cards
    ]
    context = {
        "models": models,
        "chosen": request.GET.get("model", models[0][0] if models else ""),
        "efforts": EFFORTS,
    }
    return show(request, visitor, "playground.html", context)


@require_POST
@member_page
def token(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Made for this browser, for a quarter of an hour. No API key is read or stored for it."""
    try:
        session = sessions.lend(visitor.membership)
    except Forbidden as refused:
        return JsonResponse({"error": str(refused)}, status=403)
    told = {"access_token": session.access_token, "expires_in": session.expires_in_s}
    return JsonResponse(told, headers={"Cache-Control": "no-store"})
