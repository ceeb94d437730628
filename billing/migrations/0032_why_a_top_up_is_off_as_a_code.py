from django.db import migrations

# A sentence was the state, and the page compared it. Codes of failures were codes already.
CODES = """
UPDATE billing_autotopup SET reason = CASE reason WHEN 'Switched off.' THEN 'switched_off' ELSE 'payment_disputed' END
WHERE reason IN ('Switched off.', 'A payment was disputed.')
"""
SENTENCES = """
UPDATE billing_autotopup SET reason = CASE reason WHEN 'switched_off' THEN 'Switched off.' ELSE 'A payment was disputed.' END
WHERE reason IN ('switched_off', 'payment_disputed')
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0031_kinds_of_alerts_in_a_table")]
    operations = [migrations.RunSQL(CODES, SENTENCES)]
