"""The table of Django's cache, where django-allauth counts how often one may ask: the same for every process."""

from django.db import migrations

CREATE = """
CREATE TABLE accounts_cache (
    cache_key varchar(255) NOT NULL PRIMARY KEY,
    value text NOT NULL,
    expires timestamp with time zone NOT NULL
);
CREATE INDEX accounts_cache_expires ON accounts_cache (expires);
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_invitations_and_sign_ups")]

    operations = [migrations.RunSQL(CREATE, "DROP TABLE accounts_cache")]
