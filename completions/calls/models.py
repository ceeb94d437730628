from django.db import models

from accounts.models import Organization


class ServerProcess(models.Model):
    """A server process that runs, and what only it knows; see processes.py. A row that has not been seen for
    a while belongs to a process that died."""

    id = models.UUIDField(primary_key=True)
    name = models.TextField()  # host:pid
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    circuits = models.JSONField(default=dict)  # {provider: "open" or "half_open"}; the closed ones are left out
    running_calls = models.IntegerField(default=0)
    ledger_queue = models.IntegerField(default=0)
    commit_ms = models.FloatField(null=True)  # of the ledger's batches since it told last, the mean; None without one

    class Meta:
        verbose_name_plural = "server processes"

    def __str__(self) -> str:
        return self.name


class IdempotentCall(models.Model):
    """A request made with an `Idempotency-Key`; written by idempotency.py alone, kept for a day."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    key = models.TextField()
    fingerprint = models.BinaryField()  # SHA-256 of the request
    claim = models.UUIDField()
    lease_until = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    answer = models.TextField()  # sealed; empty while the call runs

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "key"], name="idempotent_call_once")]

    def __str__(self) -> str:
        return f"{self.organization_id}: {self.key}"
