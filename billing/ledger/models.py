from django.db import models
from django.db.models import F, Q

from accounts.models import ApiKey, Organization, User
from billing.ledger.commands import FIRST_ENDPOINT
from billing.pricing.models import CreditRate, Price


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
    endpoint = models.TextField(default=FIRST_ENDPOINT, db_default=FIRST_ENDPOINT)  # the path that was called
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
