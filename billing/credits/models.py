"""Rows of promotional credit (lots.py, vouchers.py) and of credits given and taken by operators (operations.py)."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models import Organization, User


class Lot(models.Model):
    """An expiring grant. `left` is what was unspent of it when the wallet had `counted_seq` entries; what has become of
    it since follows from the entries after that one (billing/credits/lots.py)."""

    wallet = models.ForeignKey("billing.Wallet", models.PROTECT, related_name="lots")
    granted_seq = models.BigIntegerField()  # of its grant's entry
    amount = models.BigIntegerField()
    left = models.BigIntegerField()
    counted_seq = models.BigIntegerField()
    expired = models.BigIntegerField(default=0)
    expiries = models.IntegerField(default=0)  # how many entries took `expired`
    expires_at = models.DateTimeField()
    reason = models.TextField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["wallet", "granted_seq"], name="lot_granted_once"),
            models.CheckConstraint(
                condition=Q(amount__gt=0, left__gte=0, expired__gte=0, left__lte=F("amount") - F("expired")),
                name="lot_within_its_amount",
            ),
            models.CheckConstraint(
                condition=Q(left=0, closed_at__isnull=False) | Q(left__gt=0, closed_at__isnull=True),
                name="lot_closed_when_nothing_is_left",
            ),
        ]
        indexes = [models.Index(fields=["wallet"], condition=Q(closed_at=None), name="lot_open_by_wallet")]

    def __str__(self) -> str:
        return f"{self.amount} until {self.expires_at:%Y-%m-%d %H:%M}"


class VoucherBatch(models.Model):
    """Codes made together, all of the same worth and rules."""

    name = models.CharField(max_length=200)
    amount_micro = models.BigIntegerField()
    count = models.IntegerField()
    redeem_until = models.DateTimeField(null=True)
    credit_days = models.IntegerField(null=True)  # the credit expires so long after redemption; null: never
    once_per_organization = models.BooleanField(default=False)
    created_by = models.TextField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    cancelled_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "voucher batches"
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_micro__gt=0, count__gt=0) & (Q(credit_days=None) | Q(credit_days__gt=0)),
                name="voucher_batch_is_worth_something",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Voucher(models.Model):
    """One code, by its keyed hash; the code itself is told once, when the batch is made."""

    batch = models.ForeignKey(VoucherBatch, models.PROTECT, related_name="vouchers")
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    tail = models.CharField(max_length=4)
    once_per_organization = models.BooleanField()  # the batch's, for the constraint
    redeemed_at = models.DateTimeField(null=True)
    organization = models.ForeignKey(Organization, models.PROTECT, null=True, related_name="+")
    redeemed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    entry_seq = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["batch", "organization"],
                condition=Q(once_per_organization=True),
                name="voucher_once_per_organization",
            ),
            models.CheckConstraint(
                condition=Q(redeemed_at=None, organization=None, entry_seq=None)
                | Q(redeemed_at__isnull=False, organization__isnull=False, entry_seq__isnull=False),
                name="voucher_redeemed_in_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.batch} …{self.tail}"


class Operation(models.Model):
    """What an operator asked to be done to an organization's account: once, with a reason, and above a threshold
    only when a second operator agrees. Written by billing/credits/operations.py."""

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
