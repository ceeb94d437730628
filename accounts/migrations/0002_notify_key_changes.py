"""Every process that remembers keys hears at commit that some key or organization changed (accounts/principals.py).

A trigger, because raw SQL and `queryset.update()` must be heard too. The flush of `last_used_at` is not news: it
happens every few seconds and would empty the memories it came from.
"""

from django.db import migrations

CREATE = """
CREATE FUNCTION accounts_notify_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('quantized', 'keys');
    RETURN NULL;
END $$;

CREATE TRIGGER accounts_apikey_added_or_removed AFTER INSERT OR DELETE ON accounts_apikey
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_notify_keys();
CREATE TRIGGER accounts_apikey_changed AFTER UPDATE ON accounts_apikey
    FOR EACH ROW WHEN ((to_jsonb(OLD) - 'last_used_at') IS DISTINCT FROM (to_jsonb(NEW) - 'last_used_at'))
    EXECUTE FUNCTION accounts_notify_keys();
CREATE TRIGGER accounts_organization_changed AFTER INSERT OR UPDATE OR DELETE ON accounts_organization
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_notify_keys();
"""

DROP = """
DROP TRIGGER accounts_organization_changed ON accounts_organization;
DROP TRIGGER accounts_apikey_changed ON accounts_apikey;
DROP TRIGGER accounts_apikey_added_or_removed ON accounts_apikey;
DROP FUNCTION accounts_notify_keys();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [migrations.RunSQL(CREATE, DROP)]
