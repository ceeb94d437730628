"""Every page that people see, under the name of its picture. tests/browser/test_pages.py holds it to the map of
addresses: a new page is added here, or in NOT_PAGES with the reason."""

from typing import Literal, NamedTuple

Who = Literal["stranger", "owner", "newcomer", "operator"]


class Shown(NamedTuple):
    name: str
    path: str  # with fields of Populated
    who: Who = "owner"
    status: int = 200


TENANT = (
    Shown("overview", "/"),
    Shown("first-run", "/", "newcomer"),
    Shown("keys", "/keys?ended=1"),
    Shown("key-new", "/keys/new"),
    Shown("key-edit", "/keys/{key}"),
    Shown("key-rotate", "/keys/{key}/rotate"),
    Shown("key-revoke", "/keys/{key}/revoke"),
    Shown("activity", "/activity"),
    Shown("activity-empty", "/activity", "newcomer"),
    Shown("receipt", "/activity/{receipt}"),
    Shown("receipt-failed", "/activity/{failed}"),
    Shown("billing", "/billing"),
    Shown("billing-credits", "/billing?kind=credits"),
    Shown("payments", "/billing/payments"),
    Shown("statements", "/billing/statements"),
    Shown("alerts", "/billing/alerts"),
    Shown("alert-new", "/billing/alerts/new/low_balance"),
    Shown("alert", "/billing/alerts/{rule}"),
    Shown("alert-delete", "/billing/alerts/{rule}/delete"),
    Shown("webhooks", "/billing/webhooks"),
    Shown("webhook", "/billing/webhooks/{endpoint}"),
    Shown("webhook-delete", "/billing/webhooks/{endpoint}/delete"),
    Shown("models", "/models"),
    Shown("model", "/models/anthropic/claude-opus-5.5"),
    Shown("playground", "/playground"),
    Shown("team", "/team"),
    Shown("team-member", "/team/{member}"),
    Shown("team-remove", "/team/{member}/remove"),
    Shown("team-leave", "/team/leave"),
    Shown("settings", "/settings"),
    Shown("second-factor", "/accounts/2fa/"),
    Shown("second-factor-keys", "/accounts/2fa/webauthn/"),
    Shown("sessions", "/accounts/sessions/"),
    Shown("e-mail-address", "/accounts/email/"),
    Shown("password-change", "/accounts/password/change/"),
    Shown("log-out", "/accounts/logout/"),
    Shown("not-found", "/nothing-here", status=404),
)
STRANGERS = (
    Shown("landing", "/", "stranger"),
    Shown("log-in", "/accounts/login/", "stranger"),
    Shown("sign-up", "/accounts/signup/", "stranger"),
    Shown("password-reset", "/accounts/password/reset/", "stranger"),
    Shown("invitation", "/invitations/{invitation}/", "stranger"),
    Shown("api-reference", "/docs", "stranger"),
)
LISTS = (
    "accounts/apikey",
    "accounts/auditentry",
    "accounts/organization",
    "accounts/user",
    "auth/group",
    "billing/autotopup",
    "billing/creditrate",
    "billing/dispute",
    "billing/entry",
    "billing/extracharge",
    "billing/failedattempt",
    "billing/heartbeat",
    "billing/hold",
    "billing/loss",
    "billing/lot",
    "billing/meter",
    "billing/operation",
    "billing/payment",
    "billing/price",
    "billing/providerday",
    "billing/stripeevent",
    "billing/usage",
    "billing/usagehour",
    "billing/verifierrun",
    "billing/voucher",
    "billing/voucherbatch",
    "billing/wallet",
    "completions/model",
    "completions/pricechange",
    "completions/provider",
    "completions/route",
    "mfa/authenticator",
)
ADMIN = (
    Shown("admin", "/admin/", "operator"),
    Shown("admin-organization", "/admin/accounts/organization/{organization}/change/", "operator"),
    Shown("admin-grant", "/admin/accounts/organization/{organization}/grant/", "operator"),
    Shown("admin-request", "/admin/billing/operation/{request}/change/", "operator"),
    Shown("admin-voucher-issue", "/admin/billing/voucherbatch/issue/", "operator"),
    Shown("admin-route-price", "/admin/completions/route/{route}/price/", "operator"),
    Shown("admin-provider", "/admin/completions/provider/{provider}/change/", "operator"),
    *(Shown(f"admin-{path.partition('/')[2]}-list", f"/admin/{path}/", "operator") for path in LISTS),
)
PAGES = TENANT + STRANGERS + ADMIN

# Addresses of the map that are no page of their own, and why.
NOT_PAGES = {
    "a download": ["dashboard:spend-csv", "dashboard:activity-csv", "dashboard:billing-csv", "dashboard:statement"],
    "a part of a page": ["dashboard:first-call", "dashboard:quote", "dashboard:payment"],
    "by POST alone, or on to another page": [
        "dashboard:key-first",
        "dashboard:top-up",
        "dashboard:voucher",
        "dashboard:auto-on",
        "dashboard:auto-off",
        "dashboard:webhook-rotate",
        "dashboard:webhook-switch",
        "dashboard:webhook-test",
        "dashboard:playground-token",
        "dashboard:invite",
        "dashboard:invitation-resend",
        "dashboard:invitation-revoke",
        "switch_organization",
        "stripe-webhook",
    ],
    "not HTML": ["openapi", "jwks"],
    "asks for the password or a factor first; walked through by test_sign_up.py and test_second_factor.py": [
        "account_reauthenticate",
        "account_email_verification_sent",
        "account_confirm_password_reset_code",
        "account_complete_password_reset",
        "account_password_reset_completed",
        "account_confirm_login_code",
        "account_set_password",
        "account_inactive",
        "mfa_authenticate",
        "mfa_reauthenticate",
        "mfa_reauthenticate_webauthn",
        "mfa_activate_totp",
        "mfa_deactivate_totp",
        "mfa_view_recovery_codes",
        "mfa_generate_recovery_codes",
        "mfa_download_recovery_codes",
        "mfa_add_webauthn",
        "mfa_remove_webauthn",
        "mfa_edit_webauthn",
    ],
}
