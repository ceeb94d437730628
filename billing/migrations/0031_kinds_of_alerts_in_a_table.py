from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    """A kind of alert is a folder of code: the database holds the shape of those that have one, and knows no list."""

    dependencies = [("billing", "0030_units_of_usage")]

    operations = [
        migrations.AlterField("alertrule", "kind", models.CharField(max_length=32)),
        migrations.RemoveConstraint("alertrule", "alert_kind_consistent"),
        migrations.AddConstraint(
            "alertrule",
            models.CheckConstraint(
                condition=~Q(kind="low_balance") | Q(period__isnull=True, percents=[], key__isnull=True),
                name="alert_low_balance_shape",
            ),
        ),
        migrations.AddConstraint(
            "alertrule",
            models.CheckConstraint(
                condition=~Q(kind="budget") | (Q(period__isnull=False) & ~Q(percents=[])), name="alert_budget_shape"
            ),
        ),
    ]
