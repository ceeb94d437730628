"""What django-allauth asks us: who is throttled, where a request comes from, how a letter looks, what is sealed."""

import math
from ipaddress import ip_address
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from accounts import mail, throttle
from accounts.callers import TooManyAttempts
from accounts.models import Invitation, User
from accounts.sign_ups import sign_up
from accounts.team import invitation_of
from common import sealing
from common.addresses import client_address

INVITATION_KEY = "invitation"  # in the session: the link that brought somebody here
UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104  # nothing listens here: whatever a proxy said was no address
SEALED_FOR = "second factor"


class ThrottledAccountAdapter(DefaultAccountAdapter):
    """quantized.sign_up completes it with what happens when somebody has come in."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": "E-mail and password do not match an account.",
        "incorrect_code": "This code is wrong. Look at the newest e-mail.",
    }

    # --- Log-in ---

    def authenticate(self, request: HttpRequest, **credentials: Any) -> AbstractBaseUser | None:
        """Failures count together with those at /v1/auth/token, also when a password is asked for again."""
        email, address = credentials.get("email", ""), address_of(request)
        count_attempt(email, address)
        user = super().authenticate(request, **credentials)
        if user is not None:
            throttle.take_back(email, address)
        return user

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """allauth would count by the cache here."""

    def set_password(self, user: AbstractBaseUser, password: str) -> None:
        """Whoever may set a new password has shown who they are: guesses at the old one no longer keep them out."""
        super().set_password(user, password)
        assert isinstance(user, User)
        throttle.forgive(user.email)

    def get_client_ip(self, request: HttpRequest) -> str:
        """For allauth's own counts and its list of sessions, which keeps nothing but addresses."""
        try:
            return str(ip_address(address_of(request).partition("%")[0]))
        except ValueError:
            return UNKNOWN_ADDRESS

    # --- Sign-up ---

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.SIGNUP_OPEN) or invitation_in(request) is not None

    def save_user(
        self, request: HttpRequest, user: AbstractBaseUser, form: Any, commit: bool = True
    ) -> AbstractBaseUser:
        super().save_user(request, user, form, commit=False)
        assert isinstance(user, User)
        invitation = invitation_in(request)
        is_theirs = invitation is not None and invitation.email == user.email
        return sign_up(user, form.cleaned_data["organization_name"], invitation if is_theirs else None)

    # --- Letters ---

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Links in letters lead to PUBLIC_URL, whatever host the request was sent to."""
        mail.send(template_prefix, email, {**context, "email": email, "public_url": settings.PUBLIC_URL})


class MfaAdapter(DefaultMFAAdapter):
    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": "This code is wrong, or it was used already.",
    }

    def encrypt(self, text: str) -> str:
        return sealing.seal(text.encode(), SEALED_FOR)

    def decrypt(self, encrypted_text: str) -> str:
        return sealing.unseal(encrypted_text, SEALED_FOR).decode()


def address_of(request: HttpRequest) -> str:
    meta = request.META
    return client_address(meta.get("REMOTE_ADDR", ""), meta.get("HTTP_X_FORWARDED_FOR", ""), settings.PROXY_COUNT)


def invitation_in(request: HttpRequest) -> Invitation | None:
    token = request.session.get(INVITATION_KEY)
    return invitation_of(token) if token else None


def count_attempt(email: str, address: str) -> None:
    try:
        throttle.count_attempt(email, address)
    except TooManyAttempts as error:
        minutes = math.ceil(error.retry_after_s / 60)
        raise ValidationError(
            f"Too many failed attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}.",
            code="too_many_login_attempts",
        ) from None
