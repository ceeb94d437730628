from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("completions", "0006_pace_of_lookups")]

    operations = [
        migrations.CreateModel(
            name="ServerProcess",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("name", models.TextField()),
                ("started_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("circuits", models.JSONField(default=dict)),
                ("running_calls", models.IntegerField(default=0)),
                ("ledger_queue", models.IntegerField(default=0)),
                ("commit_ms", models.FloatField(null=True)),
            ],
            options={"verbose_name_plural": "server processes"},
        ),
    ]
