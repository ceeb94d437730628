from django.db import migrations

PROTECT = """
CREATE FUNCTION billing_voucher_redeemed_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.redeemed_at IS NOT NULL AND (NEW.redeemed_at, NEW.organization_id, NEW.entry_seq)
            IS DISTINCT FROM (OLD.redeemed_at, OLD.organization_id, OLD.entry_seq) THEN
        RAISE EXCEPTION 'voucher % is redeemed and stays so', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER billing_voucher_redeemed_once BEFORE UPDATE ON billing_voucher
    FOR EACH ROW EXECUTE FUNCTION billing_voucher_redeemed_once();
CREATE TRIGGER billing_voucher_no_delete BEFORE DELETE ON billing_voucher
    FOR EACH ROW EXECUTE FUNCTION billing_append_only();

-- A lot only shrinks, and its end stays where it is.
CREATE FUNCTION billing_lot_only_shrinks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW."left" > OLD."left" OR NEW.counted_seq < OLD.counted_seq OR NEW.expired < OLD.expired
       OR (NEW.wallet_id, NEW.granted_seq, NEW.amount, NEW.expires_at)
            IS DISTINCT FROM (OLD.wallet_id, OLD.granted_seq, OLD.amount, OLD.expires_at) THEN
        RAISE EXCEPTION 'lot % only shrinks', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER billing_lot_only_shrinks BEFORE UPDATE ON billing_lot
    FOR EACH ROW EXECUTE FUNCTION billing_lot_only_shrinks();
CREATE TRIGGER billing_lot_no_delete BEFORE DELETE ON billing_lot
    FOR EACH ROW EXECUTE FUNCTION billing_append_only();
"""

UNPROTECT = """
DROP TRIGGER billing_lot_no_delete ON billing_lot;
DROP TRIGGER billing_lot_only_shrinks ON billing_lot;
DROP FUNCTION billing_lot_only_shrinks();
DROP TRIGGER billing_voucher_no_delete ON billing_voucher;
DROP TRIGGER billing_voucher_redeemed_once ON billing_voucher;
DROP FUNCTION billing_voucher_redeemed_once();
"""


class Migration(migrations.Migration):
    """A voucher is redeemed once and a lot only shrinks: in the database, whatever the code does."""

    dependencies = [("billing", "0015_promotions")]
    operations = [migrations.RunSQL(PROTECT, UNPROTECT)]
