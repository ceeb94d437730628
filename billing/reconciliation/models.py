from django.db import models
from django.db.models import F, Q

from billing.ledger.models import Hold, Wallet
from billing.usage.models import Usage


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
    listed by billing/reconciliation/losses.py.
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
    what the provider billed is the operator's loss (billing/reconciliation/losses.py). Looked up as usage is, by the
    same columns."""

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
