"""A caller, as the rest of the house sees one, and the ways in which a caller is turned away. Plain structs and errors:
accounts/principals.py makes them."""

from uuid import UUID

import msgspec


class RateLimits(msgspec.Struct, frozen=True):
    """How fast a key may call; None: as fast as it likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None  # calls at once


NO_LIMITS = RateLimits()

# The members of other roles look, pay and invite; they do not spend. Roles are those of accounts.models.Membership.
SPENDING_ROLES = frozenset({"key", "owner", "admin", "developer"})


class Principal(msgspec.Struct, frozen=True):
    """Whose credits a call spends, and what the caller may do."""

    organization_id: UUID
    key_id: UUID | None  # None for a member's JWT
    user_id: int | None  # None for a key
    role: str  # "key" or the member's role
    models: frozenset[str] | None  # the allowed model ids; None: all
    rate_limits: RateLimits | None = None  # None: no limit at all

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def may_spend(self) -> bool:
        return self.role in SPENDING_ROLES


class Unauthenticated(Exception):
    """401. `code`: invalid_api_key, expired_api_key, revoked_api_key, invalid_token, expired_token,
    invalid_credentials, second_factor_required, invalid_code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Forbidden(Exception):
    """403. `code`: organization_suspended."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TooManyAttempts(Exception):
    """429, for `retry_after_s` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"Too many failed log-ins: try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s
