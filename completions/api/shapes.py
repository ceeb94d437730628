"""What the endpoints beside completions answer, as structs: the shapes of the code and of the OpenAPI document."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from billing.pricing.classes import by_class
from billing.usage.report import Figures, GroupBy, Row
from completions.dialects.openai_chat.answers import UsageView

Period = Literal["day", "week", "month", "total"]
GenerationStatus = Literal["open", "settled", "estimated", "corrected", "voided", "expired"]
Role = Literal["owner", "admin", "developer", "billing", "viewer"]


class ExpiringCredits(Struct, frozen=True):
    """What is left of a grant with an end; spent before all other credits, the soonest to expire first."""

    credits: int
    expires_at: datetime


class Credits(Struct, frozen=True, kw_only=True):
    """An organization's balance in micro-credits; `credits_remaining` is null when it is unlimited."""

    object: Literal["credits"] = "credits"
    credits_remaining: int | None
    credits_held: int
    credits_granted: int
    credits_used: int
    overdraft: int
    unlimited: bool
    expiring: list[ExpiringCredits]


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
    """A page of keys, the newest first."""

    object: Literal["list"] = "list"
    data: list[Key]
    has_more: bool


class Correction(Struct, frozen=True):
    credits: int
    created_at: datetime
    reason: str


class Attempt(Struct, frozen=True):
    provider: str
    outcome: str
    milliseconds: int


_UsdByClass: Any = by_class(str | UnsetType, UNSET)
_CreditsByClass: Any = by_class(int | str | UnsetType, UNSET)


class Rates(_UsdByClass, Struct, frozen=True, kw_only=True):
    """USD per million tokens by class, or each; a class without a price of its own is absent."""


class TierRates(Rates, frozen=True, kw_only=True):
    """What a longer prompt pays instead."""

    above_prompt_tokens: int


class PriceVersion(Rates, frozen=True, kw_only=True):
    """The prices that a call keeps."""

    version: int
    tiers: list[TierRates] | UnsetType = UNSET


class Generation(Struct, frozen=True, kw_only=True):
    """The receipt of one call. Credits are micro-credits, after corrections."""

    object: Literal["generation"] = "generation"
    id: str
    created_at: datetime
    endpoint: str
    model: str
    provider: str
    status: GenerationStatus
    streamed: bool
    cancelled: bool
    finish_reason: str | None
    error: str | None
    usage: UsageView
    credits_used: int
    credits_held: int
    credits_remaining: int | None
    price: PriceVersion
    cost_usd: str
    corrections: list[Correction]
    attempts: list[Attempt]
    first_token_ms: int | None
    latency_ms: int | None
    key: UUID | None


class CreditRates(_CreditsByClass, Struct, frozen=True, kw_only=True):
    """Micro-credits per million tokens by class, or each: whole, or a decimal string."""


class Tier(Struct, frozen=True, kw_only=True):
    """What the whole request pays once its prompt is longer."""

    above_prompt_tokens: int
    pricing: Rates
    credits: CreditRates


class ModelProvider(Struct, frozen=True, kw_only=True):
    """A way to a model. Lower priorities are tried first."""

    name: str
    priority: int
    context_length: int
    max_output_tokens: int
    capabilities: list[str]
    price_version: int
    pricing: Rates
    credits: CreditRates
    tiers: list[Tier]


class Model(Struct, frozen=True, kw_only=True):
    """A model can what one of its providers can."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    name: str
    context_length: int
    max_output_tokens: int
    capabilities: list[str]
    providers: list[ModelProvider]


class ModelList(Struct, frozen=True, kw_only=True):
    """OpenAI's list shape."""

    object: Literal["list"] = "list"
    data: list[Model]


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


class Revocation(Struct, frozen=True, kw_only=True):
    """The session has ended."""

    object: Literal["session"] = "session"
    revoked: Literal[True] = True


class JsonWebKey(Struct, frozen=True, kw_only=True):
    """A public key of access tokens (RFC 7517, RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    alg: Literal["EdDSA"]
    use: Literal["sig"]


class JsonWebKeys(Struct, frozen=True):
    """The active key first."""

    keys: list[JsonWebKey]


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """`code` is for programs, `message` for people; `param` is the field that is meant."""

    message: str
    type: str
    param: str | None
    code: str
    metadata: dict[str, Any] | UnsetType = UNSET


class Error(Struct, frozen=True):
    """The one shape of every error."""

    error: ErrorDetail
