from django.db import migrations

CREATE = """
CREATE FUNCTION billing_open_wallet() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO billing_wallet (organization_id, posted, held, unlimited, overdraft, seq, status)
    VALUES (NEW.id, 0, 0, false, 0, 0, 'active');
    RETURN NULL;
END $$;
CREATE TRIGGER billing_open_wallet AFTER INSERT ON accounts_organization
    FOR EACH ROW EXECUTE FUNCTION billing_open_wallet();
"""

DROP = """
DROP TRIGGER billing_open_wallet ON accounts_organization;
DROP FUNCTION billing_open_wallet();
"""


class Migration(migrations.Migration):
    """Whoever makes an organization (sign-up, admin, command, SQL), it has a wallet from its first moment."""

    dependencies = [("billing", "0002_protection")]
    operations = [migrations.RunSQL(CREATE, DROP)]
