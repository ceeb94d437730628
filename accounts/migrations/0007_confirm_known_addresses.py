"""Everybody who is here was made by an operator, who vouched for the address: it counts as confirmed, so that they
log in as before."""

from django.db import migrations

CONFIRM = """
INSERT INTO account_emailaddress (user_id, email, verified, "primary")
SELECT u.id, u.email, true, true FROM accounts_user u
WHERE NOT EXISTS (SELECT FROM account_emailaddress e WHERE e.user_id = u.id)
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_counts_of_requests"),
        ("account", "0009_emailaddress_unique_primary_email"),
    ]

    operations = [migrations.RunSQL(CONFIRM, migrations.RunSQL.noop)]
