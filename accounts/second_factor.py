"""Codes of a second factor: of an authenticator app, or recovery codes. Each works once.

django-allauth keeps the secrets (sealed by our adapter) and asks for them on pages; `/v1/auth/token` asks here. Both
end in `use_code`, which takes the authenticator's row lock: two requests with one code cannot both succeed.
"""

import hmac

from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from allauth.mfa.utils import decrypt
from django.db import transaction
from django.db.models import QuerySet

from accounts.models import User

STEP = "last_step"  # in the authenticator's data: the newest time step whose code was used


def has_one(user: User) -> bool:
    return Authenticator.objects.filter(user=user).exists()


@transaction.atomic
def use_code(user: User, code: str) -> Authenticator | None:
    """The authenticator that this code is good for, from now on used up; None if there is none."""
    code = "".join(code.split())
    for authenticator in typed_ones(user).select_for_update():
        is_totp = authenticator.type == Authenticator.Type.TOTP
        if use_totp(authenticator, code) if is_totp else authenticator.wrap().validate_code(code):
            return authenticator
    return None


def typed_ones(user: User) -> QuerySet[Authenticator]:
    """Those with codes that one types, locked in one order. A security key has none."""
    return Authenticator.objects.filter(user=user).exclude(type=Authenticator.Type.WEBAUTHN).order_by("pk")


def use_totp(authenticator: Authenticator, code: str) -> bool:
    """A step counts only if it is newer than the last one used (RFC 6238, 5.2): an overseen code is worth nothing."""
    secret = decrypt(authenticator.data["secret"])
    newest = authenticator.data.get(STEP, -1)
    for step in yield_hotp_counters_from_time():
        if step > newest and hmac.compare_digest(format_hotp_value(hotp_value(secret, step)).encode(), code.encode()):
            authenticator.data[STEP] = step
            authenticator.save(update_fields=["data"])
            return True
    return False
