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
PAGES = TENANT + STRANGERS
