from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("billing", "0021_checkpoints_and_heartbeats")]

    operations = [
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(
                fields=["idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="entry_by_idempotency_key",
            ),
        )
    ]
