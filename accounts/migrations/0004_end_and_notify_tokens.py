"""Every process that remembers callers also hears at commit what ends an access token: a changed membership, user,
token family or signing key. And a new password ends the families that the old one began.

Log-ins and renewals are not news: nobody can remember a token that did not exist.
"""

from django.db import migrations

CREATE = """
CREATE TRIGGER accounts_membership_changed AFTER INSERT OR UPDATE OR DELETE ON accounts_membership
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_notify_keys();
CREATE TRIGGER accounts_user_changed AFTER UPDATE ON accounts_user
    FOR EACH ROW WHEN (OLD.is_active IS DISTINCT FROM NEW.is_active) EXECUTE FUNCTION accounts_notify_keys();
CREATE TRIGGER accounts_tokenfamily_changed AFTER UPDATE OR DELETE ON accounts_tokenfamily
    FOR EACH ROW EXECUTE FUNCTION accounts_notify_keys();
CREATE TRIGGER accounts_signingkey_changed AFTER INSERT OR UPDATE OR DELETE ON accounts_signingkey
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_notify_keys();

CREATE FUNCTION accounts_end_token_families() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE accounts_tokenfamily SET revoked_at = now() WHERE user_id = NEW.id AND revoked_at IS NULL;
    RETURN NULL;
END $$;

CREATE TRIGGER accounts_user_password_changed AFTER UPDATE ON accounts_user
    FOR EACH ROW WHEN (OLD.password IS DISTINCT FROM NEW.password) EXECUTE FUNCTION accounts_end_token_families();
"""

DROP = """
DROP TRIGGER accounts_user_password_changed ON accounts_user;
DROP FUNCTION accounts_end_token_families();
DROP TRIGGER accounts_signingkey_changed ON accounts_signingkey;
DROP TRIGGER accounts_tokenfamily_changed ON accounts_tokenfamily;
DROP TRIGGER accounts_user_changed ON accounts_user;
DROP TRIGGER accounts_membership_changed ON accounts_membership;
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_access_tokens")]

    operations = [migrations.RunSQL(CREATE, DROP)]
