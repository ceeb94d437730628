from django.db import migrations

PROTECT = """
-- What was agreed on before Stripe heard of a payment stays as it was.
CREATE FUNCTION billing_payment_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.organization_id, NEW.kind, NEW.amount_cents, NEW.currency, NEW.credits_micro)
            IS DISTINCT FROM (OLD.organization_id, OLD.kind, OLD.amount_cents, OLD.currency, OLD.credits_micro)
       OR (OLD.paid_at IS NOT NULL AND NEW.paid_at IS DISTINCT FROM OLD.paid_at)
       OR NEW.refunded_cents < OLD.refunded_cents OR NEW.movements < OLD.movements THEN
        RAISE EXCEPTION 'payment % stays as it was made', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER billing_payment_stays BEFORE UPDATE ON billing_payment
    FOR EACH ROW EXECUTE FUNCTION billing_payment_stays();
CREATE TRIGGER billing_payment_no_delete BEFORE DELETE ON billing_payment
    FOR EACH ROW EXECUTE FUNCTION billing_append_only();
CREATE TRIGGER billing_dispute_no_delete BEFORE DELETE ON billing_dispute
    FOR EACH ROW EXECUTE FUNCTION billing_append_only();
"""

UNPROTECT = """
DROP TRIGGER billing_dispute_no_delete ON billing_dispute;
DROP TRIGGER billing_payment_no_delete ON billing_payment;
DROP TRIGGER billing_payment_stays ON billing_payment;
DROP FUNCTION billing_payment_stays();
"""


class Migration(migrations.Migration):
    """A payment's amount and credits are fixed when it is made, and it cannot be deleted."""

    dependencies = [("billing", "0017_payments")]
    operations = [migrations.RunSQL(PROTECT, UNPROTECT)]
