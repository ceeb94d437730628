from django.db import models

from accounts.models import ApiKey
from billing.ledger.models import Wallet


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
