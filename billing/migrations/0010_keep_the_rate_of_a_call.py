import django.db.models.deletion
from django.db import migrations, models

PROTECT = """
CREATE TRIGGER billing_creditrate_append_only BEFORE UPDATE OR DELETE ON billing_creditrate
    FOR EACH ROW EXECUTE FUNCTION billing_append_only();
CREATE TRIGGER billing_creditrate_no_truncate BEFORE TRUNCATE ON billing_creditrate
    FOR EACH STATEMENT EXECUTE FUNCTION billing_append_only();
"""
UNPROTECT = """
DROP TRIGGER billing_creditrate_no_truncate ON billing_creditrate;
DROP TRIGGER billing_creditrate_append_only ON billing_creditrate;
"""


class Migration(migrations.Migration):
    """Every call names the margin and the price of a credit that it began with."""

    dependencies = [("billing", "0009_operations")]
    operations = [
        migrations.CreateModel(
            name="CreditRate",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("credits_per_usd", models.DecimalField(decimal_places=12, max_digits=30)),
                ("margin", models.DecimalField(decimal_places=12, max_digits=13)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("credits_per_usd", "margin"), name="credit_rate_once")
                ],
            },
        ),
        migrations.RunSQL(PROTECT, UNPROTECT),
        migrations.AddField(
            model_name="hold",
            name="rate",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="billing.creditrate",
            ),
        ),
    ]
