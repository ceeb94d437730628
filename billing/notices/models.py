"""What we tell people and their servers: alert rules, the endpoints of webhooks, notifications and their deliveries.

Rows of the outbox are written by billing/notices/outbox.py in the transaction of what they tell about;
billing/delivery/deliveries.py sends them.
"""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import ApiKey, Membership, Organization


class WebhookEndpoint(models.Model):
    """A tenant's own server that wants to be told. Its secrets are sealed, and shown once when they are made."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="webhooks")
    url = models.TextField()
    secret_sealed = models.TextField()
    previous_secret_sealed = models.TextField(default="", blank=True)
    previous_ends_at = models.DateTimeField(null=True, blank=True)  # until then both secrets sign
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "url"], name="webhook_url_once"),
            models.CheckConstraint(
                condition=Q(previous_secret_sealed="", previous_ends_at__isnull=True)
                | (~Q(previous_secret_sealed="") & Q(previous_ends_at__isnull=False)),
                name="webhook_previous_secret_ends",
            ),
        ]

    def __str__(self) -> str:
        return self.url


class AlertRule(models.Model):
    """One wish to be told, and how far it has been fulfilled; see alerts.py and kinds/."""

    class Period(models.TextChoices):
        DAY = "day"
        WEEK = "week"
        MONTH = "month"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="alert_rules")
    kind = models.CharField(max_length=32)  # one of billing/notices/kinds
    threshold_micro = models.BigIntegerField()  # of a budget: all of it
    period = models.CharField(max_length=5, choices=Period, null=True, blank=True)
    percents = ArrayField(models.SmallIntegerField(), default=list, blank=True)  # of a budget, ascending
    key = models.ForeignKey(ApiKey, models.CASCADE, null=True, blank=True, related_name="+")
    roles = ArrayField(models.CharField(max_length=16, choices=Membership.Role), default=list, blank=True)
    addresses = ArrayField(models.EmailField(), default=list, blank=True)
    webhook = models.ForeignKey(WebhookEndpoint, models.SET_NULL, null=True, blank=True, related_name="+")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    # What has been told already. Changed by conditional statements only.
    armed = models.BooleanField(default=True)  # False: told of a state that has not ended yet
    fired_at = models.DateTimeField(null=True, blank=True)
    fired_period = models.DateTimeField(null=True, blank=True)  # the budget's period that fired_percent belongs to
    fired_percent = models.SmallIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(threshold_micro__gt=0), name="alert_threshold_positive"),
            models.CheckConstraint(
                condition=~Q(kind="low_balance") | Q(period__isnull=True, percents=[], key__isnull=True),
                name="alert_low_balance_shape",
            ),
            models.CheckConstraint(
                condition=~Q(kind="budget") | (Q(period__isnull=False) & ~Q(percents=[])), name="alert_budget_shape"
            ),
        ]
        indexes = [models.Index(fields=["kind"], condition=Q(enabled=True), name="alert_enabled")]

    def __str__(self) -> str:
        return f"{self.kind} {self.threshold_micro}"


class Notification(models.Model):
    """Something to tell an organization, or, without one, the operator."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, null=True, related_name="notifications")
    kind = models.TextField()
    payload = models.JSONField()
    dedupe_key = models.TextField(null=True)  # what it tells about; a second row with the same one is refused
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "dedupe_key"],
                condition=Q(dedupe_key__isnull=False),
                nulls_distinct=False,
                name="notification_once",
            )
        ]
        indexes = [models.Index(fields=["organization", "created_at"], name="notification_by_time")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Delivery(models.Model):
    """One notification on its way to one receiver: open until it is delivered or given up."""

    class Channel(models.TextChoices):
        EMAIL = "email"
        WEBHOOK = "webhook"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    notification = models.ForeignKey(Notification, models.CASCADE, related_name="deliveries")
    channel = models.CharField(max_length=7, choices=Channel)
    target = models.TextField()  # an address, or the id of an endpoint
    attempts = models.SmallIntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now())
    delivered_at = models.DateTimeField(null=True)
    gave_up_at = models.DateTimeField(null=True)
    last_status = models.SmallIntegerField(null=True)  # the HTTP status, of a webhook that was answered
    last_error = models.TextField(default="")

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["notification", "channel", "target"], name="delivery_once"),
            models.CheckConstraint(
                condition=Q(delivered_at__isnull=True) | Q(gave_up_at__isnull=True), name="delivery_ends_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at"],
                condition=Q(delivered_at__isnull=True, gave_up_at__isnull=True),
                name="delivery_open_by_due",
            ),
            models.Index(fields=["channel", "target"], name="delivery_by_target"),
        ]

    def __str__(self) -> str:
        return f"{self.channel} to {self.target}"
