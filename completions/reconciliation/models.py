from django.db import models

from completions.catalog.models import LONG_AGO


class LookupPace(models.Model):
    """How fast a provider is asked for bills, by all workers together; see generations.py."""

    provider = models.TextField(primary_key=True)  # its name: the pace outlives the row
    free_at = models.DateTimeField(default=LONG_AGO)  # the look-ups taken so far are paid off by then
    paused_until = models.DateTimeField(default=LONG_AGO)  # the provider has said so

    def __str__(self) -> str:
        return f"{self.provider} from {self.free_at}"
