from django.db import migrations, models


class Migration(migrations.Migration):
    """What all tenants used lately is summed from the index alone: docs/adr/0031."""

    dependencies = [("billing", "0027_usage_from_the_index")]

    operations = [
        migrations.RemoveIndex("usagehour", "usage_hour_by_time"),
        migrations.AddIndex(
            "usagehour",
            models.Index(fields=["hour"], include=["wallet", "charged"], name="usage_hour_by_time"),
        ),
    ]
