from django.db import migrations

PROTECT = """
CREATE FUNCTION billing_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER billing_entry_append_only BEFORE UPDATE OR DELETE ON billing_entry
    FOR EACH ROW EXECUTE FUNCTION billing_append_only();
CREATE TRIGGER billing_entry_no_truncate BEFORE TRUNCATE ON billing_entry
    FOR EACH STATEMENT EXECUTE FUNCTION billing_append_only();
CREATE TRIGGER billing_price_append_only BEFORE UPDATE OR DELETE ON billing_price
    FOR EACH ROW EXECUTE FUNCTION billing_append_only();
CREATE TRIGGER billing_price_no_truncate BEFORE TRUNCATE ON billing_price
    FOR EACH STATEMENT EXECUTE FUNCTION billing_append_only();

-- A resolved hold stays as it is; an expired one may still be charged late, once.
CREATE FUNCTION billing_hold_resolves_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'open'
       OR (OLD.state = 'expired' AND NEW.state = 'expired' AND OLD.charged IS NULL AND NEW.amount = OLD.amount) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'hold % is % and stays as it is', OLD.id, OLD.state USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER billing_hold_resolves_once BEFORE UPDATE ON billing_hold
    FOR EACH ROW EXECUTE FUNCTION billing_hold_resolves_once();
CREATE TRIGGER billing_hold_no_delete BEFORE DELETE ON billing_hold
    FOR EACH ROW EXECUTE FUNCTION billing_append_only();

-- Room for hot updates on the page: every hold and settlement rewrites these rows.
ALTER TABLE billing_wallet SET (fillfactor = 50);
ALTER TABLE billing_meter SET (fillfactor = 50);
ALTER TABLE billing_hold SET (fillfactor = 80);
"""

UNPROTECT = """
ALTER TABLE billing_wallet RESET (fillfactor);
ALTER TABLE billing_meter RESET (fillfactor);
ALTER TABLE billing_hold RESET (fillfactor);
DROP TRIGGER billing_hold_no_delete ON billing_hold;
DROP TRIGGER billing_hold_resolves_once ON billing_hold;
DROP FUNCTION billing_hold_resolves_once();
DROP TRIGGER billing_price_no_truncate ON billing_price;
DROP TRIGGER billing_price_append_only ON billing_price;
DROP TRIGGER billing_entry_no_truncate ON billing_entry;
DROP TRIGGER billing_entry_append_only ON billing_entry;
DROP FUNCTION billing_append_only();
"""


class Migration(migrations.Migration):
    """Entries and prices cannot be changed, a hold resolves once: in the database, whatever the code does."""

    dependencies = [("billing", "0001_initial")]
    operations = [migrations.RunSQL(PROTECT, UNPROTECT)]
