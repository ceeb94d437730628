from django.db import models

from completions.catalog.models import LONG_AGO


class LookupPace(models.Model):
    """How fast a provider is asked for bills, by all workers together; see lookups.py."""

    provider = models.TextField(primary_key=True)  # its name: the pace outlives the row
    free_at = models.DateTimeField(default=LONG_AGO)  # by then the look-ups taken so far are within the pace again
    paused_until = models.DateTimeField(default=LONG_AGO)  # the provider has asked for no more until then

    def __str__(self) -> str:
        return f"{self.provider} from {self.free_at}"
