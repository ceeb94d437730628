from datetime import UTC, datetime

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("completions", "0005_price_changes")]
    operations = [
        migrations.CreateModel(
            name="LookupPace",
            fields=[
                ("provider", models.TextField(primary_key=True, serialize=False)),
                ("free_at", models.DateTimeField(default=datetime(2000, 1, 1, tzinfo=UTC))),
                ("paused_until", models.DateTimeField(default=datetime(2000, 1, 1, tzinfo=UTC))),
            ],
        ),
    ]
