from django.db import migrations, models


class Migration(migrations.Migration):
    """The few calls that failed, apart: their page reads them alone, not the hours around them. On the partitioned
    table it is made on every month; later months copy it."""

    dependencies = [("billing", "0023_call_operations_requests")]

    operations = [
        migrations.AddIndex(
            model_name="usage",
            index=models.Index(
                condition=models.Q(("error_code__gt", "")), fields=["wallet", "recorded_at"], name="usage_failed"
            ),
        ),
    ]
