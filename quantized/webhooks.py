"""`POST /webhooks/stripe`: where Stripe sends its events. The signature says who may speak here, no session does."""

import logging

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing.payments import webhooks

logger = logging.getLogger(__name__)


@csrf_exempt
@require_POST
def stripe(request: HttpRequest) -> HttpResponse:
    if not settings.STRIPE_WEBHOOK_SECRET:
        raise Http404
    try:
        outcome = webhooks.receive(request.body, request.headers.get("Stripe-Signature", ""))
    except webhooks.BadEvent as error:
        logger.warning("refused what came to Stripe's address: %s", error)
        return JsonResponse({"error": str(error)}, status=400)
    return JsonResponse({"outcome": outcome})
