from django.db import models
from django.db.models import Q

from accounts.models import ApiKey, User
from billing.ledger.commands import FIRST_ENDPOINT
from billing.ledger.models import Hold, Wallet
from billing.pricing import money
from billing.pricing.models import Price


class Usage(models.Model):
    """What one call consumed and how it went: counts, prices, times and ids, never text.

    Partitioned by the month of its hold (billing/usage/partitions.py), so that old months are dropped, not deleted.
    Nothing may have a foreign key to it.
    """

    class Reconciliation(models.TextChoices):
        NONE = "none"  # the provider offers no look-up
        PENDING = "pending"
        MATCHED = "matched"
        CORRECTED = "corrected"
        QUEUED = "queued"  # an extra charge that waits for an operator
        WAIVED = "waived"  # an extra charge that an operator gave up, or that the wallet could not pay at all
        GAVE_UP = "gave_up"  # `reconcile_reason` says why
        SWEPT = "swept"  # settled by the sweeper: counts and cost are the provider's own

    hold = models.OneToOneField(Hold, models.PROTECT, primary_key=True, related_name="usage")
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    key = models.ForeignKey(ApiKey, models.PROTECT, null=True, related_name="+", db_constraint=False, db_index=False)
    user = models.ForeignKey(User, models.PROTECT, null=True, related_name="+", db_constraint=False, db_index=False)
    recorded_at = models.DateTimeField()
    endpoint = models.TextField(default=FIRST_ENDPOINT, db_default=FIRST_ENDPOINT)  # its hold's
    model = models.TextField()
    provider = models.TextField()
    provider_ref = models.TextField(default="")
    price = models.ForeignKey(Price, models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    streamed = models.BooleanField(default=False)
    cancelled = models.BooleanField(default=False)
    estimated = models.BooleanField(default=False)
    finish_reason = models.TextField(default="")
    error_code = models.TextField(default="")  # "" when the call was answered
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    cache_write_5m_tokens = models.BigIntegerField(default=0)
    cache_write_1h_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    audio_input_tokens = models.BigIntegerField(default=0)
    audio_output_tokens = models.BigIntegerField(default=0)
    # {"images": 2, ...}: what is counted and has no column, by the `counted_as` of its price class.
    units = models.JSONField(default=dict, db_default={})
    cost_pico = models.BigIntegerField(default=0)  # expected, by our price version
    reported_cost_usd = models.DecimalField(max_digits=30, decimal_places=18, null=True)
    charged = models.BigIntegerField(default=0)
    attempts = models.JSONField(default=list)  # [{"provider", "outcome", "milliseconds"}]
    first_token_ms = models.IntegerField(null=True)
    latency_ms = models.IntegerField(null=True)
    reconciliation = models.CharField(max_length=9, choices=Reconciliation, default=Reconciliation.NONE)
    reconcile_at = models.DateTimeField(null=True)
    reconcile_attempts = models.SmallIntegerField(default=0)
    reconcile_reason = models.TextField(default="", db_default="")
    billed_cost_usd = models.DecimalField(max_digits=30, decimal_places=18, null=True)  # the provider's bill

    class Meta:
        verbose_name_plural = "usage"
        indexes = [
            models.Index(fields=["wallet", "recorded_at"], name="usage_by_wallet_and_time"),
            models.Index(fields=["wallet", "recorded_at"], condition=Q(error_code__gt=""), name="usage_failed"),
            models.Index(fields=["recorded_at"], name="usage_by_time"),
            models.Index(fields=["reconcile_at"], condition=Q(reconciliation="pending"), name="usage_to_reconcile"),
            models.Index(
                fields=["reconciliation"],
                condition=Q(reconciliation__in=["queued", "gave_up"]),
                name="usage_for_the_operator",
            ),
        ]

    def __str__(self) -> str:
        return f"usage of {self.hold_id}"

    def to_struct(self) -> money.Usage:
        """What was counted."""
        return money.Usage(**{name: getattr(self, name) for name in money.Usage.__struct_fields__})


class UsageSums(models.Model):
    """The figures of a roll-up; billing/usage/rollups.py says how each is computed from usage rows."""

    requests = models.BigIntegerField()
    errors = models.BigIntegerField()
    cancelled = models.BigIntegerField(db_default=0)
    estimated = models.BigIntegerField(db_default=0)
    prompt_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    cost_pico = models.BigIntegerField()
    charged = models.BigIntegerField()
    # Of the calls whose provider told a cost: how many, what it told, and what we expected of the same ones.
    reported = models.BigIntegerField(db_default=0)
    reported_cost_usd = models.DecimalField(max_digits=40, decimal_places=18, db_default=0)
    reported_expected_pico = models.BigIntegerField(db_default=0)
    # An average is its sum by its count: only answered calls have a first token.
    first_tokens = models.BigIntegerField(db_default=0)
    first_token_ms = models.BigIntegerField(db_default=0)
    timed = models.BigIntegerField(db_default=0)
    latency_ms = models.BigIntegerField(db_default=0)

    class Meta:
        abstract = True


class UsageHour(UsageSums):
    """The sum of usage by organization, key, member, model, provider and hour: what a tenant's pages read."""

    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+")
    key = models.ForeignKey(ApiKey, models.PROTECT, null=True, related_name="+")
    user = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    model = models.TextField()
    provider = models.TextField()
    hour = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["wallet", "hour", "key", "user", "model", "provider"],
                # What /v1/usage sums: a tenant's hours lie together here, and between everybody's in the table.
                include=[
                    "requests",
                    "errors",
                    "prompt_tokens",
                    "cached_tokens",
                    "cache_write_tokens",
                    "completion_tokens",
                    "reasoning_tokens",
                    "charged",
                ],
                nulls_distinct=False,
                name="usage_hour_once",
            )
        ]
        # What each tenant used in a week, for the operator's first page.
        indexes = [models.Index(fields=["hour"], include=["wallet", "charged"], name="usage_hour_by_time")]

    def __str__(self) -> str:
        return f"{self.model} at {self.hour:%Y-%m-%d %H}:00"


class ProviderHour(UsageSums):
    """The same over all tenants, by model, provider and hour: what the operator's pages read."""

    model = models.TextField()
    provider = models.TextField()
    hour = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["hour", "model", "provider"], name="provider_hour_once")]

    def __str__(self) -> str:
        return f"{self.model} at {self.provider}, {self.hour:%Y-%m-%d %H}:00"


class AttemptHour(models.Model):
    """How often a provider was asked, and how it went, also by calls that another one answered in the end."""

    model = models.TextField()
    provider = models.TextField()
    hour = models.DateTimeField()
    outcome = models.TextField()
    attempts = models.BigIntegerField()
    milliseconds = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["hour", "model", "provider", "outcome"], name="attempt_hour_once")
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.outcome}, {self.hour:%Y-%m-%d %H}:00"


class RollUpState(models.Model):
    """How far the hours are rolled up: every usage row recorded before `through` is counted."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    through = models.DateTimeField()

    def __str__(self) -> str:
        return f"rolled up through {self.through:%Y-%m-%d %H:%M}"


class UsageRetention(models.Model):
    """What of the usage rows is still there: those of calls made before `holds_from` were dropped, and hours before
    `hours_from` cannot be rebuilt from rows any more. No row: nothing was dropped yet."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    holds_from = models.DateTimeField()
    hours_from = models.DateTimeField()

    def __str__(self) -> str:
        return f"usage since {self.holds_from:%Y-%m}"
