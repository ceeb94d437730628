"""The forms of django-allauth that ask or check something of ours."""

from typing import Any

from allauth.account.forms import SignupForm
from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms as mfa
from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from accounts import second_factor, throttle
from accounts.adapters import address_of, count_attempt, invitation_in
from accounts.models import User
from accounts.sign_ups import NAME_CHARACTERS_MAX
from common import checks


class SignUpForm(SignupForm):
    """Who comes by an invitation joins that organization, and is not asked for one."""

    organization_name = forms.CharField(
        label="Organization (optional)",
        max_length=NAME_CHARACTERS_MAX,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order_fields(["email", "password1", "organization_name"])
        invitation = invitation_in(context.request)
        if invitation is not None:
            self.fields["email"].initial = invitation.email
            self.fields["organization_name"].widget = forms.HiddenInput()

    def clean_email(self) -> str:
        """While sign-up is closed, only for the address that was invited."""
        email: str = super().clean_email()
        invitation = invitation_in(context.request)
        if not settings.SIGNUP_OPEN and (invitation is None or invitation.email != email):
            raise ValidationError("The invitation was sent to another e-mail address. Sign up with that one.")
        return email

    def clean_organization_name(self) -> str:
        name = str(self.cleaned_data["organization_name"])
        try:
            return checks.checked_text("organization_name", name, NAME_CHARACTERS_MAX) if name.strip() else ""
        except checks.Invalid as error:
            raise ValidationError(error.message) from None

    def try_save(self, request: Any) -> Any:
        """Who is second with an address is answered like one who came much later."""
        try:
            with transaction.atomic():
                return super().try_save(request)
        except checks.Invalid:
            self.account_already_exists = True
            return super().try_save(request)


class CodeMixin(forms.Form):
    """A wrong code counts like a wrong password: for the same address, in the same rows."""

    user: User

    def clean_code(self) -> str:
        address = address_of(context.request)
        count_attempt(self.user.email, address)
        code = str(self.cleaned_data["code"])
        authenticator = second_factor.use_code(self.user, code)
        if authenticator is None:
            raise get_adapter().validation_error("incorrect_code")
        throttle.take_back(self.user.email, address)
        self.authenticator = authenticator
        return code


class AuthenticateForm(CodeMixin, mfa.AuthenticateForm):
    pass


class ReauthenticateForm(CodeMixin, mfa.ReauthenticateForm):
    pass
