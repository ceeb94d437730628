"""The sidebar, in the operator's words."""

from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from billing.models import ExtraCharge, Operation


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Groups without a page that this person may see are not shown."""
    return [{"title": title, "items": list(items)} for title, items in groups(request)]


def groups(request: HttpRequest) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    waiting = Operation.objects.filter(state=Operation.State.WAITING).count()
    queued = ExtraCharge.objects.filter(state=ExtraCharge.State.WAITING).count()
    overview = {"title": "Overview", "icon": "monitoring", "link": reverse("admin:index"), "permission": is_staff}
    yield "", [overview]
    yield (
        "Money",
        [
            page("Organizations", "domain", "accounts.organization"),
            page("Requests", "how_to_vote", "billing.operation", badge=waiting),
            page("Ledger", "receipt_long", "billing.entry"),
            page("Extra charges", "add_card", "billing.extracharge", badge=queued),
            page("Losses", "money_off", "billing.loss"),
            page("Payments", "payments", "billing.payment"),
            page("Auto top-ups", "autorenew", "billing.autotopup"),
            page("Disputes", "gavel", "billing.dispute"),
            page("Vouchers", "redeem", "billing.voucherbatch"),
            page("Expiring credits", "hourglass_bottom", "billing.lot"),
            page("Wallets", "account_balance_wallet", "billing.wallet"),
        ],
    )
    yield "Calls", [page("Usage", "data_usage", "billing.usage"), page("Holds", "lock_clock", "billing.hold")]
    yield (
        "Catalog",
        [
            page("Models", "neurology", "completions.model"),
            page("Routes", "route", "completions.route"),
            page("Price changes", "price_change", "completions.pricechange"),
            page("Providers", "cloud", "completions.provider"),
        ],
    )
    yield (
        "People",
        [
            page("Users", "person", "accounts.user"),
            page("Operators' roles", "badge", "auth.group"),
            page("Second factors", "password", "mfa.authenticator"),
            page("API keys", "key", "accounts.apikey"),
        ],
    )
    yield (
        "Books",
        [
            page("Verifier", "verified", "billing.verifierrun"),
            page("Tasks", "schedule", "billing.heartbeat"),
            page("Drift", "compare_arrows", "billing.providerday"),
            page("Audit log", "history", "accounts.auditentry"),
        ],
    )


def page(title: str, symbol: str, model: str, badge: int = 0) -> dict[str, Any]:
    """A list of the admin, for who may see it; `badge` is how many wait there, 0 for none."""
    app, name = model.split(".")
    rights = (f"{app}.view_{name}", f"{app}.change_{name}")
    item = {
        "title": title,
        "icon": symbol,
        "link": reverse(f"admin:{app}_{name}_changelist"),
        "permission": lambda request: any(map(request.user.has_perm, rights)),
    }
    return item | ({"badge": badge, "badge_variant": "warning"} if badge else {})


def is_staff(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_staff", False))
