from django.db import migrations

# A queued call had no row that an operator could decide: the next pass looks it up again and makes one.
AGAIN = """
UPDATE billing_usage SET reconciliation = 'pending', reconcile_at = now(), reconcile_attempts = 0
WHERE reconciliation = 'queued'
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0013_days_at_the_provider")]
    operations = [migrations.RunSQL(AGAIN, migrations.RunSQL.noop)]
