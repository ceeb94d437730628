"""Rows of payments. What Stripe says is compared with them, never the other way round."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models import Organization


class StripeCustomer(models.Model):
    """Who an organization is at Stripe, and the card it agreed to be charged on while nobody is there."""

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="+")
    customer_id = models.CharField(max_length=255, unique=True)
    payment_method = models.CharField(max_length=255, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.customer_id


class Payment(models.Model):
    """One purchase of credits. Amount and credits are fixed before Stripe hears of it; its id is in all we tell Stripe,
    so that every event finds it, also one that comes before Stripe's answer."""

    class Kind(models.TextChoices):
        CHECKOUT = "checkout"
        AUTO = "auto"

    class State(models.TextChoices):
        CREATED = "created"
        PAID = "paid"
        FAILED = "failed"
        PARTLY_REFUNDED = "partly_refunded"
        REFUNDED = "refunded"
        DISPUTED = "disputed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="payments")
    kind = models.CharField(max_length=8, choices=Kind)
    state = models.CharField(max_length=15, choices=State, default=State.CREATED)
    amount_cents = models.IntegerField()
    currency = models.CharField(max_length=3, default="usd")
    credits_micro = models.BigIntegerField()
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    session_id = models.CharField(max_length=255, null=True, unique=True)
    payment_intent = models.CharField(max_length=255, null=True, unique=True)
    payment_method = models.CharField(max_length=255, default="")  # of an auto top-up: a repeated request is the same
    failure = models.TextField(default="")
    refunded_cents = models.IntegerField(default=0)
    taken_back_micro = models.BigIntegerField(default=0)
    shortfall_micro = models.BigIntegerField(default=0)  # owed back, and spent already: the operator's loss
    movements = models.IntegerField(default=0)  # entries posted for refunds and disputes
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    paid_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization"], condition=Q(kind="auto", state="created"), name="payment_one_auto_in_flight"
            ),
            models.CheckConstraint(
                condition=Q(amount_cents__gt=0, credits_micro__gt=0), name="payment_is_worth_something"
            ),
            models.CheckConstraint(
                condition=Q(refunded_cents__gte=0, refunded_cents__lte=F("amount_cents")),
                name="payment_refunded_within_amount",
            ),
            models.CheckConstraint(
                condition=Q(taken_back_micro__gte=0, shortfall_micro__gte=0)
                & Q(taken_back_micro__lte=F("credits_micro") - F("shortfall_micro")),
                name="payment_taken_back_within_credits",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["created", "failed"], paid_at__isnull=True)
                | (~Q(state__in=["created", "failed"]) & Q(paid_at__isnull=False)),
                name="payment_state_consistent",
            ),
        ]
        indexes = [models.Index(fields=["organization", "-created_at"], name="payment_by_organization")]

    def __str__(self) -> str:
        return f"{self.kind} {self.id} ({self.state})"


class Dispute(models.Model):
    """A payer's objection at their bank. Both marks are only ever set, so events may come in any order."""

    id = models.CharField(primary_key=True, max_length=255)
    payment = models.ForeignKey(Payment, models.PROTECT, related_name="disputes")
    amount_cents = models.IntegerField()
    status = models.CharField(max_length=64)
    withdrawn = models.BooleanField(default=False)  # the bank has taken the money, or will
    returned = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"{self.id} ({self.status})"


class StripeEvent(models.Model):
    """An event that was received: its effect and this row are one transaction, so it has its effect once."""

    id = models.CharField(primary_key=True, max_length=255)
    type = models.CharField(max_length=255)
    outcome = models.CharField(max_length=16)
    received_at = models.DateTimeField(db_default=Now(), editable=False)
    # Of a dispute that is here before its payment: kept until the payment knows its intent.
    payment_intent = models.CharField(max_length=255, default="")
    body = models.TextField(default="")

    class Meta:
        indexes = [
            models.Index(fields=["payment_intent"], condition=Q(outcome="waiting"), name="stripe_event_waiting"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class AutoTopUp(models.Model):
    """An organization's wish to be topped up whenever its balance is below the threshold."""

    class Off(models.TextChoices):
        """Why it was switched off, when no payment had failed. Reasons of failures are Stripe's codes and our own."""

        BY_MEMBER = "switched_off", "Switched off."
        DISPUTED = "payment_disputed", "A payment was disputed."

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="auto_top_up")
    enabled = models.BooleanField(default=True)
    threshold_micro = models.BigIntegerField()
    amount_cents = models.IntegerField()
    monthly_max_cents = models.IntegerField()  # per UTC month
    enabled_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    enabled_at = models.DateTimeField()
    failures = models.IntegerField(default=0)  # in a row
    retry_at = models.DateTimeField(null=True)
    reason = models.TextField(default="")  # a code: why it failed last, or was switched off

    class Meta:
        verbose_name = "auto top-up"
        constraints = [
            models.CheckConstraint(
                condition=Q(threshold_micro__gte=0, amount_cents__gt=0, monthly_max_cents__gte=F("amount_cents")),
                name="auto_top_up_makes_sense",
            ),
        ]
        indexes = [models.Index(fields=["organization"], condition=Q(enabled=True), name="auto_top_up_enabled")]

    def __str__(self) -> str:
        return f"{self.amount_cents} cents below {self.threshold_micro}"
