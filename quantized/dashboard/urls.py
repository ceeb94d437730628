"""A member's addresses. The overview is the front page itself (quantized/urls.py)."""

from django.urls import path

from quantized.dashboard import (
    activity,
    billing,
    keys,
    models,
    overview,
    playground,
    settings,
    team,
)

app_name = "dashboard"
urlpatterns = [
    path("spend.csv", overview.spend_download, name="spend-csv"),
    path("first-call", overview.first_call_part, name="first-call"),
    path("keys", keys.page, name="keys"),
    path("keys/new", keys.new, name="key-new"),
    path("keys/first", keys.first, name="key-first"),
    path("keys/<uuid:key_id>", keys.edit, name="key-edit"),
    path("keys/<uuid:key_id>/rotate", keys.rotate, name="key-rotate"),
    path("keys/<uuid:key_id>/revoke", keys.revoke, name="key-revoke"),
    path("activity", activity.page, name="activity"),
    path("activity.csv", activity.download, name="activity-csv"),
    path("activity/<str:generation>", activity.receipt_page, name="receipt"),
    path("billing", billing.page, name="billing"),
    path("billing.csv", billing.download, name="billing-csv"),
    path("billing/top-up", billing.top_up, name="top-up"),
    path("billing/quote", billing.quote, name="quote"),
    path("billing/payment/<uuid:payment_id>", billing.payment_part, name="payment"),
    path("billing/voucher", billing.redeem, name="voucher"),
    path("models", models.page, name="models"),
    path("models/<path:model_id>", models.model_page, name="model"),
    path("playground", playground.page, name="playground"),
    path("playground/token", playground.token, name="playground-token"),
    path("team", team.page, name="team"),
    path("team/invite", team.invite, name="invite"),
    path("team/invitations/<uuid:invitation_id>/resend", team.resend, name="invitation-resend"),
    path("team/invitations/<uuid:invitation_id>/revoke", team.revoke, name="invitation-revoke"),
    path("team/leave", team.leave, name="team-leave"),
    path("team/<int:membership_id>", team.member, name="member"),
    path("team/<int:membership_id>/remove", team.remove, name="member-remove"),
    path("settings", settings.page, name="settings"),
]
