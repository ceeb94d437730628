"""The books: wallet, hold, entry, meter, usage and its roll-up, and the immutable price versions.

The database holds the invariants (CHECK, UNIQUE, triggers in migration 0002); the rows are written
by billing/statements.py, in batches, and by nothing else. Amounts are micro-credits.
"""

from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import F, Q

from accounts.models import ApiKey, Organization, User
from billing import money
from billing import notice_models as notice_models  # its tables belong to this room's app
from billing.payments.models import AutoTopUp as AutoTopUp
from billing.payments.models import Dispute as Dispute
from billing.payments.models import Payment as Payment
from billing.payments.models import StripeCustomer as StripeCustomer
from billing.payments.models import StripeEvent as StripeEvent
from billing.promotions import Lot as Lot
from billing.promotions import Voucher as Voucher
from billing.promotions import VoucherBatch as VoucherBatch


def usd_per_million(**options: Any) -> models.DecimalField:
    return models.DecimalField(max_digits=20, decimal_places=6, **options)


def usd_per_unit(**options: Any) -> models.DecimalField:
    return models.DecimalField(max_digits=20, decimal_places=12, null=True, blank=True, **options)


class Price(models.Model):
    """One immutable version of what a route costs us: USD per million tokens, or per unit."""

    version = models.PositiveIntegerField()
    input = usd_per_million()
    output = usd_per_million()
    cache_read = usd_per_million(null=True, blank=True)
    cache_write_5m = usd_per_million(null=True, blank=True)
    cache_write_1h = usd_per_million(null=True, blank=True)
    reasoning = usd_per_million(null=True, blank=True)
    audio_input = usd_per_million(null=True, blank=True)
    audio_output = usd_per_million(null=True, blank=True)
    image = usd_per_unit()
    request = usd_per_unit()
    web_search = usd_per_unit()
    # [{"above_prompt_tokens": 200000, "input": "2.50", ...}]: what a longer prompt pays instead.
    tiers = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        figures = [f"{Decimal(figure).normalize():f}" for figure in (self.input, self.output)]
        return f"v{self.version}: {figures[0]} in, {figures[1]} out (USD per million tokens)"

    def rates(self, overrides: dict[str, str]) -> money.Rates:
        """The rates in picodollars, with a tier's own figures in place of the base ones."""
        return money.rates_from_usd({name: overrides.get(name, getattr(self, name)) for name in money.CLASSES})

    def to_struct(self) -> money.Price:
        tiers = sorted(self.tiers, key=lambda tier: tier["above_prompt_tokens"])
        return money.Price(
            id=self.pk,
            version=self.version,
            base=self.rates({}),
            tiers=tuple(money.Tier(tier["above_prompt_tokens"], self.rates(tier)) for tier in tiers),
        )


class CreditRate(models.Model):
    """What a dollar of cost sells for: MARGIN and CREDITS_PER_USD as they were when calls began. Immutable."""

    credits_per_usd = models.DecimalField(max_digits=30, decimal_places=12)
    margin = models.DecimalField(max_digits=13, decimal_places=12)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["credits_per_usd", "margin"], name="credit_rate_once")]

    def __str__(self) -> str:
        return f"{self.credits_per_usd.normalize():f} credits per USD, margin {self.margin.normalize():f}"

    def to_struct(self) -> money.CreditRate:
        return money.CreditRate.of(self.credits_per_usd, self.margin, id=self.pk)


class Wallet(models.Model):
    """One organization's credits. Narrow and hot: every hold and settlement updates this row."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        FROZEN = "frozen"
        CLOSED = "closed"

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="wallet")
    posted = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)
    unlimited = models.BooleanField(default=False)
    overdraft = models.BigIntegerField(default=0)
    seq = models.BigIntegerField(default=0)
    status = models.CharField(max_length=8, choices=Status, default=Status.ACTIVE)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(held__gte=0), name="wallet_held_not_negative"),
            models.CheckConstraint(condition=Q(overdraft__gte=0), name="wallet_overdraft_not_negative"),
            models.CheckConstraint(
                condition=Q(unlimited=True) | Q(posted__gte=F("held") - F("overdraft")), name="wallet_above_floor"
            ),
        ]

    def __str__(self) -> str:
        return f"wallet of {self.organization_id}"

    def payable(self, micro: int) -> int:
        """How much of it the floor lets go. True as long as the row is locked."""
        if self.unlimited:
            return micro
        return min(micro, max(0, self.posted - self.held + self.overdraft))


class Hold(models.Model):
    """Credits set aside for one call before its provider is reached; resolved exactly once."""

    class State(models.TextChoices):
        OPEN = "open"
        SETTLED = "settled"
        VOIDED = "voided"
        EXPIRED = "expired"

    id = models.UUIDField(primary_key=True)  # UUIDv7, made by the gateway; "gen-" + hex is the generation id
    # Indexes cost every call, most of them twice: docs/adr/0030 says what each of this table and the next two is for.
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="holds", db_index=False)
    # A rate cannot be deleted, nor can a key that has a meter: a check by the database would lock the one row for
    # every call.
    key = models.ForeignKey(ApiKey, models.PROTECT, null=True, related_name="+", db_constraint=False, db_index=False)
    user = models.ForeignKey(User, models.PROTECT, null=True, related_name="+", db_index=False)
    model = models.TextField()
    price = models.ForeignKey(Price, models.PROTECT, related_name="+", db_index=False)
    rate = models.ForeignKey(
        CreditRate, models.PROTECT, null=True, related_name="+", db_constraint=False, db_index=False
    )
    amount = models.BigIntegerField()
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    actual = models.BigIntegerField(null=True)
    charged = models.BigIntegerField(null=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    provider = models.TextField(default="")
    provider_ref = models.TextField(default="")
    dispatched_at = models.DateTimeField(null=True)
    # The sweeper's look-ups of a call that never ended. Written by it alone, without the wallet's lock: no other
    # column goes with them, and no other writer touches them.
    sweep_attempts = models.SmallIntegerField(default=0, db_default=0)
    sweep_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="hold_amount_not_negative"),
            models.CheckConstraint(
                # A comparison with a missing `actual` is neither true nor false, and passes a CHECK: say it.
                condition=Q(charged__isnull=True) | Q(charged__gte=0, actual__isnull=False, actual__gte=F("charged")),
                name="hold_charged_within_actual",
            ),
            models.CheckConstraint(
                condition=(
                    Q(state="open", resolved_at__isnull=True, charged__isnull=True)
                    | Q(state="settled", resolved_at__isnull=False, charged__isnull=False)
                    | Q(state="voided", resolved_at__isnull=False, charged__isnull=True)
                    | Q(state="expired", resolved_at__isnull=False)
                ),
                name="hold_state_consistent",
            ),
        ]
        indexes = [
            models.Index(fields=["expires_at"], condition=Q(state="open"), name="hold_open_by_expiry"),
            models.Index(fields=["wallet"], condition=Q(state="open"), name="hold_open_by_wallet"),
            models.Index(fields=["wallet", "created_at"], name="hold_by_wallet_and_time"),
            models.Index(fields=["user"], condition=Q(user__isnull=False), name="hold_by_user"),
            models.Index(
                fields=["sweep_at"],
                condition=Q(state__in=["open", "expired"], charged__isnull=True, sweep_at__isnull=False),
                name="hold_to_look_up",
            ),
            models.Index(fields=["resolved_at"], condition=Q(actual__gt=F("charged")), name="hold_with_a_loss"),
            models.Index(fields=["resolved_at"], condition=Q(state="voided"), name="hold_voided"),
        ]

    def __str__(self) -> str:
        return f"hold {self.pk} ({self.state})"


class Entry(models.Model):
    """One append-only movement between a wallet and a contra account."""

    class Kind(models.TextChoices):
        PURCHASE = "purchase"
        GRANT = "grant"
        ADJUSTMENT = "adjustment"
        USAGE = "usage"
        LATE_USAGE = "late_usage"
        CORRECTION = "correction"
        REFUND = "refund"
        EXPIRY = "expiry"

    class Contra(models.TextChoices):
        ISSUANCE = "issuance"
        REVENUE = "revenue"
        PROMOTION = "promotion"
        ADJUSTMENT = "adjustment"
        WRITE_OFF = "write_off"

    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="entries", db_index=False)
    seq = models.BigIntegerField()
    kind = models.CharField(max_length=10, choices=Kind)
    contra = models.CharField(max_length=10, choices=Contra)
    amount = models.BigIntegerField()
    balance_after = models.BigIntegerField()
    hold = models.ForeignKey(Hold, models.PROTECT, null=True, related_name="entries")
    idempotency_key = models.TextField(null=True)
    actor = models.TextField(default="")
    reason = models.TextField(default="")
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "entries"
        constraints = [
            models.UniqueConstraint(fields=["wallet", "seq"], name="entry_seq_once"),
            models.UniqueConstraint(
                fields=["hold"], condition=Q(kind__in=["usage", "late_usage"]), name="entry_call_charged_once"
            ),
            models.UniqueConstraint(
                fields=["wallet", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),  # calls have none
                name="entry_idempotent",
            ),
            models.CheckConstraint(
                condition=~Q(kind__in=["grant", "adjustment", "correction"]) | (~Q(actor="") & ~Q(reason="")),
                name="entry_names_actor_and_reason",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["usage", "late_usage"], hold__isnull=False, amount__lte=0)
                | ~Q(kind__in=["usage", "late_usage"]),
                name="entry_usage_takes_from_a_hold",
            ),
        ]
        indexes = [
            models.Index(fields=["wallet", "created_at"], name="entry_by_wallet_and_time"),
            # What was put in is a handful of rows among millions of calls.
            models.Index(
                fields=["wallet"],
                condition=~Q(kind__in=["usage", "late_usage", "correction"]),
                name="entry_not_of_calls",
            ),
            models.Index(fields=["wallet", "created_at"], condition=Q(kind="correction"), name="entry_corrections"),
            # Found again by what it was posted with, whosever it is. Calls' entries have no key.
            models.Index(
                fields=["idempotency_key"], condition=Q(idempotency_key__isnull=False), name="entry_by_idempotency_key"
            ),
            models.Index(fields=["created_at"], condition=Q(kind="correction"), name="entry_corrections_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount:+d}"


class Meter(models.Model):
    """What one key has spent and holds in the running UTC day, ISO week and month, and in all.

    A hold belongs to the windows it was made in (`hold.created_at >= <window>_start`); a window
    starts over with the first use after its end. The wallet's lock covers the row.
    """

    key = models.OneToOneField(ApiKey, models.PROTECT, primary_key=True, related_name="meter")
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="meters")
    day_start = models.DateTimeField()
    day_spent = models.BigIntegerField(default=0)
    day_held = models.BigIntegerField(default=0)
    week_start = models.DateTimeField()
    week_spent = models.BigIntegerField(default=0)
    week_held = models.BigIntegerField(default=0)
    month_start = models.DateTimeField()
    month_spent = models.BigIntegerField(default=0)
    month_held = models.BigIntegerField(default=0)
    total_spent = models.BigIntegerField(default=0)
    total_held = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"meter of key {self.key_id}"


class Usage(models.Model):
    """What one call consumed and how it went: counts, prices, times and ids, never text.

    Partitioned by the month of its hold (billing/partitions.py), so that old months are dropped, not deleted.
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
    images = models.BigIntegerField(default=0)
    web_searches = models.BigIntegerField(default=0)
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


class UsageSums(models.Model):
    """The figures of a roll-up; billing/rollups.py says how each is computed from usage rows."""

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


class Operation(models.Model):
    """What an operator asked to be done to an organization's account: once, with a reason, and above a threshold
    only when a second operator agrees. Written by billing/operations.py."""

    class Kind(models.TextChoices):
        GRANT = "grant", "Grant credits"
        DEDUCT = "deduct", "Deduct credits"
        REFUND = "refund", "Refund a purchase"
        UNLIMITED = "unlimited", "Make unlimited"
        LIMITED = "limited", "Make limited again"
        OVERDRAFT = "overdraft", "Set the overdraft"
        SUSPEND = "suspend", "Suspend"
        REACTIVATE = "reactivate", "Reactivate"

    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        DECLINED = "declined"

    id = models.UUIDField(primary_key=True)  # made before the form is shown: sent twice, it happens once
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="operations")
    kind = models.CharField(max_length=10, choices=Kind)
    amount = models.BigIntegerField(default=0)  # micro-credits; of an overdraft the new one
    expires_at = models.DateTimeField(null=True, blank=True)  # of granted credits
    reason = models.TextField()
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    requested_by = models.ForeignKey(User, models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(auto_now_add=True)
    decided_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "request"
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="operation_amount_not_negative"),
            models.CheckConstraint(condition=~Q(reason=""), name="operation_names_its_reason"),
            models.CheckConstraint(
                condition=Q(state="waiting", decided_by__isnull=True, decided_at__isnull=True)
                | Q(state__in=["done", "declined"], decided_by__isnull=False, decided_at__isnull=False),
                name="operation_decided_or_waiting",
            ),
        ]
        indexes = [models.Index(fields=["requested_at"], condition=Q(state="waiting"), name="operation_waiting")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.organization}"


class ExtraCharge(models.Model):
    """What a provider billed beyond what a call was charged: nothing is taken until an operator says so."""

    class State(models.TextChoices):
        WAITING = "waiting"
        CHARGED = "charged"
        WAIVED = "waived"

    hold = models.ForeignKey(Hold, models.PROTECT, related_name="extra_charges")
    version = models.SmallIntegerField(default=1)  # of the call's correction: its entry is keyed recon:<call>:<version>
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+")
    amount_micro = models.BigIntegerField()
    call_charged_micro = models.BigIntegerField()  # what the call was charged before
    billed_cost_usd = models.DecimalField(max_digits=30, decimal_places=18)
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    taken_micro = models.BigIntegerField(default=0)  # what the wallet could pay of it
    decided_by = models.TextField(default="")
    decided_at = models.DateTimeField(null=True)
    reason = models.TextField(default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["hold", "version"], name="extra_charge_once"),
            models.CheckConstraint(condition=Q(amount_micro__gt=0), name="extra_charge_positive"),
            models.CheckConstraint(
                condition=Q(taken_micro__gte=0, taken_micro__lte=F("amount_micro")), name="extra_charge_taken_within"
            ),
            models.CheckConstraint(
                condition=(
                    Q(state="waiting", decided_at__isnull=True, decided_by="", taken_micro=0)
                    | (Q(state="charged", decided_at__isnull=False) & ~Q(decided_by="") & ~Q(reason=""))
                    | (Q(state="waived", decided_at__isnull=False, taken_micro=0) & ~Q(decided_by="") & ~Q(reason=""))
                ),
                name="extra_charge_state_consistent",
            ),
        ]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(state="waiting"), name="extra_charge_waiting"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_micro} micro-credits more for {self.hold_id} ({self.state})"


class Loss(models.Model):
    """A call, or a part of one, that cost the operator and that nobody pays. Append-only.

    What a settlement could not take from its wallet is not here: the hold says it (`actual - charged`). Both are
    listed by billing/losses.py.
    """

    class Reason(models.TextChoices):
        NO_REFERENCE = "no_reference"  # begun at a provider that cannot be asked, or whose id of the call died with us
        UNKNOWN_TO_PROVIDER = "unknown_to_provider"  # begun, and the provider knows nothing of it
        PROVIDER_SILENT = "provider_silent"  # begun, and the provider could not be asked in time
        FAILED_WITHOUT_OUTPUT = "failed_without_output"  # billed to us, and the tenant got nothing for it
        EXTRA_CHARGE_UNPAYABLE = "extra_charge_unpayable"
        EXTRA_CHARGE_WAIVED = "extra_charge_waived"

    hold = models.OneToOneField(Hold, models.PROTECT, primary_key=True, related_name="loss")
    reason = models.CharField(max_length=22, choices=Reason)
    cost_usd = models.DecimalField(max_digits=30, decimal_places=18, null=True)  # None: the provider did not say
    noted_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "losses"
        indexes = [models.Index(fields=["noted_at"], name="loss_by_time")]

    def __str__(self) -> str:
        return f"{self.hold_id}: {self.reason}"


class FailedAttempt(models.Model):
    """A provider that had begun to answer a call when the call turned to another one. Its tenant never pays for it;
    what the provider billed is the operator's loss (billing/losses.py). Looked up as usage is, by the same columns."""

    hold = models.ForeignKey(Hold, models.PROTECT, related_name="failed_attempts")
    provider = models.TextField()
    provider_ref = models.TextField()  # the provider's id of the call; never told to tenants
    recorded_at = models.DateTimeField()
    reconciliation = models.CharField(max_length=9, choices=Usage.Reconciliation)
    reconcile_at = models.DateTimeField(null=True)
    reconcile_attempts = models.SmallIntegerField(default=0)
    reconcile_reason = models.TextField(default="")
    billed_cost_usd = models.DecimalField(max_digits=30, decimal_places=18, null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["hold", "provider", "provider_ref"], name="failed_attempt_once")]
        indexes = [
            models.Index(
                fields=["reconcile_at"], condition=Q(reconciliation="pending"), name="failed_attempt_to_look_up"
            ),
            models.Index(fields=["recorded_at"], name="failed_attempt_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.hold_id} at {self.provider}"


class ProviderDay(models.Model):
    """What a provider says a model cost on one UTC day, beside what our usage rows say."""

    day = models.DateField()
    provider = models.TextField()
    model = models.TextField()
    expected_usd = models.DecimalField(max_digits=30, decimal_places=18)  # by our counts and prices
    charged_micro = models.BigIntegerField()
    reported_usd = models.DecimalField(max_digits=30, decimal_places=18)
    prompt_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()
    reported_prompt_tokens = models.BigIntegerField(null=True)  # None: the provider's bill has no counts
    reported_completion_tokens = models.BigIntegerField(null=True)
    checked_at = models.DateTimeField()
    alerted_at = models.DateTimeField(null=True)  # since when the difference is above the threshold

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "provider", "model"], name="provider_day_once")]
        indexes = [models.Index(fields=["day"], condition=Q(alerted_at__isnull=False), name="provider_day_alerts")]

    def __str__(self) -> str:
        return f"{self.provider} {self.model} on {self.day}"


class UsageRetention(models.Model):
    """What of the usage rows is still there: those of calls made before `holds_from` were dropped, and hours before
    `hours_from` cannot be rebuilt from rows any more. No row: nothing was dropped yet."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    holds_from = models.DateTimeField()
    hours_from = models.DateTimeField()

    def __str__(self) -> str:
        return f"usage since {self.holds_from:%Y-%m}"


class WalletCheckpoint(models.Model):
    """A wallet as the verifier last found it right: an incremental run reads the entries above `seq`."""

    wallet = models.OneToOneField(Wallet, models.PROTECT, primary_key=True, related_name="+")
    seq = models.BigIntegerField()
    posted = models.BigIntegerField()

    def __str__(self) -> str:
        return f"wallet {self.wallet_id} at entry {self.seq}"


class MeterCheckpoint(models.Model):
    """What a key had spent in all when the verifier last found everything right."""

    key = models.OneToOneField(ApiKey, models.PROTECT, primary_key=True, related_name="+")
    total_spent = models.BigIntegerField()

    def __str__(self) -> str:
        return f"key {self.key_id}: {self.total_spent}"


class VerifierRun(models.Model):
    """One run of the verifier and what it found. A run that could not end has an `error`."""

    class Kind(models.TextChoices):
        COMPLETE = "complete"
        INCREMENTAL = "incremental"

    kind = models.CharField(max_length=11, choices=Kind)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    wallets = models.BigIntegerField()
    entries = models.BigIntegerField()
    hours_until = models.DateTimeField(null=True)  # roll-ups were compared before this hour
    violations = models.BigIntegerField()
    first_violations = models.JSONField(default=list)  # [{"invariant", "subject", "detail"}]
    error = models.TextField(default="")

    class Meta:
        indexes = [
            models.Index(fields=["kind", "-started_at"], name="verifier_run_latest"),
            models.Index(fields=["started_at"], name="verifier_run_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} at {self.started_at:%Y-%m-%d %H:%M}: {self.violations} violations"


class Heartbeat(models.Model):
    """When a periodic task last ran to its end, and when it last failed. A worker can be connected and do nothing."""

    task = models.TextField(primary_key=True)
    succeeded_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    duration_ms = models.BigIntegerField(default=0)
    error = models.TextField(default="")  # of the last failure: the exception's class

    def __str__(self) -> str:
        return self.task
