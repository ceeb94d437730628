from django.db import migrations, models


class Migration(migrations.Migration):
    """A tenant's usage is summed from the index alone: docs/adr/0031."""

    dependencies = [("billing", "0026_fewer_indexes")]

    operations = [
        migrations.RemoveConstraint("usagehour", "usage_hour_once"),
        migrations.AddConstraint(
            "usagehour",
            models.UniqueConstraint(
                fields=["wallet", "hour", "key", "user", "model", "provider"],
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
            ),
        ),
    ]
