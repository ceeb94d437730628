"""What the endpoints of account and keys answer, as structs: the shapes of the code and of the OpenAPI document."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from billing.usage_report import Figures, GroupBy, Row

Period = Literal["day", "week", "month", "total"]
Role = Literal["owner", "admin", "developer", "billing", "viewer"]


class RateLimits(Struct, frozen=True):
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None


class Spent(Struct, frozen=True):
    """Micro-credits spent in the running UTC day, ISO week and month, and in all."""

    day: int
    week: int
    month: int
    total: int


class Key(Struct, frozen=True, kw_only=True):
    """An API key as people may see it. Amounts are micro-credits."""

    object: Literal["key"] = "key"
    id: UUID
    name: str
    prefix: str
    last_four: str
    organization: UUID
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    limit: int | None
    limit_period: Period | None
    limit_remaining: int | None
    limit_resets_at: datetime | None
    usage: Spent
    models: list[str] | None
    rate_limits: RateLimits


class NewKey(Key, frozen=True, kw_only=True):
    """With the key itself, which is shown this once."""

    api_key: str


class KeyList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Key]
    has_more: bool


class UsageReport(Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """`to` is excluded. `total` has the figures of all rows."""

    object: Literal["list"] = "list"
    from_: datetime
    to: datetime
    time_zone: str
    group_by: GroupBy
    data: list[Row]
    total: Figures


class Session(Struct, frozen=True, kw_only=True):
    """What a log-in or a renewal gives: the access token for `expires_in` seconds, then the refresh token, once."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # the name of a scheme
    expires_in: int
    refresh_token: str
    organization: UUID
    role: Role


class Revoked(Struct, frozen=True, kw_only=True):
    object: Literal["session"] = "session"
    revoked: Literal[True] = True
