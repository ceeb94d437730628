"""Where somebody who has signed up comes in for the first time: the one place that knows accounts and credits."""

from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest

from accounts.adapters import INVITATION_KEY, ThrottledAccountAdapter
from accounts.models import User
from billing.credits.accounts import welcome


class AccountAdapter(ThrottledAccountAdapter):
    """What settings.ACCOUNT_ADAPTER names."""

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """After password, confirmed address and second factor. Nobody is logged in whose welcome fails."""
        assert isinstance(user, User)
        welcome(user)
        super().login(request, user)
        request.session.pop(INVITATION_KEY, None)
