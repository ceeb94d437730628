from django.db import migrations

# The first 48 bits of a UUIDv7 are milliseconds since 1970: a month of calls is a range of ids.
FUNCTIONS = """
CREATE FUNCTION billing_first_id_of(month date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(extract(epoch FROM month)::bigint * 1000), 12, '0') || repeat('0', 20))::uuid
$$;

-- True if it made the partition. The owner's rights: the role that serves need not own tables. LIKE and ATTACH take
-- weaker locks than PARTITION OF; who cannot have them at once comes again, instead of making the ledger queue behind.
CREATE FUNCTION billing_add_usage_month(month date) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET lock_timeout = '200ms' AS $$
DECLARE
    partition text := 'billing_usage_' || to_char(month, 'YYYY_MM');
    first_id uuid := billing_first_id_of(month);
    end_id uuid := billing_first_id_of((month + interval '1 month')::date);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('billing.partitions'));
    IF month <> date_trunc('month', month) THEN
        RAISE EXCEPTION '% is not the first day of a month', month;
    ELSIF to_regclass(partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE billing_usage INCLUDING ALL)', partition);
    LOCK TABLE billing_usage_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('WITH moved AS (DELETE FROM billing_usage_default WHERE hold_id >= %L AND hold_id < %L RETURNING *)
                    INSERT INTO %I SELECT * FROM moved', first_id, end_id, partition);
    EXECUTE format('ALTER TABLE billing_usage ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   partition, first_id, end_id);
    RETURN true;
END $$;

-- Empty if it dropped the partition, else why it must stay. What is asked of its rows, indexes answer.
CREATE FUNCTION billing_drop_usage_month(month date) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET lock_timeout = '200ms' AS $$
DECLARE
    partition text := 'billing_usage_' || to_char(month, 'YYYY_MM');
    month_end timestamptz := (month + interval '1 month') AT TIME ZONE 'UTC';
    last_row timestamptz;
    is_waiting boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('billing.partitions'));
    IF to_regclass(partition) IS NULL THEN
        RETURN 'there is no such month';
    END IF;
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', partition);
    EXECUTE format('SELECT max(recorded_at) FROM %I', partition) INTO last_row;
    IF last_row >= coalesce((SELECT date_trunc('hour', through, 'UTC') FROM billing_rollupstate WHERE id = 1),
                            '-infinity') THEN
        RETURN 'its calls are not all rolled up';
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE reconciliation = ''pending'')
                        OR EXISTS (SELECT FROM %I WHERE reconciliation = ''queued'')', partition, partition)
        INTO is_waiting;
    IF is_waiting THEN
        RETURN 'it has calls that wait for reconciliation or an operator';
    END IF;
    EXECUTE format('DROP TABLE %I', partition);
    INSERT INTO billing_usageretention AS kept (id, holds_from, hours_from)
    VALUES (1, month_end, greatest(month_end, date_trunc('hour', last_row, 'UTC') + interval '1 hour'))
    ON CONFLICT (id) DO UPDATE SET holds_from = greatest(kept.holds_from, excluded.holds_from),
                                   hours_from = greatest(kept.hours_from, excluded.hours_from);
    RETURN '';
END $$;
"""

DROP_FUNCTIONS = """
DROP FUNCTION billing_drop_usage_month(date);
DROP FUNCTION billing_add_usage_month(date);
DROP FUNCTION billing_first_id_of(date);
"""

# What LIKE does not copy, with the names that Django knows.
KEYS_AND_INDEXES = """
DROP TABLE billing_usage_before;
ALTER TABLE billing_usage ADD CONSTRAINT billing_usage_pkey PRIMARY KEY (hold_id);
ALTER TABLE billing_usage ADD CONSTRAINT billing_usage_hold_id_fk FOREIGN KEY (hold_id) REFERENCES billing_hold (id)
    DEFERRABLE INITIALLY DEFERRED;
CREATE INDEX billing_usage_key_id ON billing_usage (key_id);
CREATE INDEX billing_usage_user_id ON billing_usage (user_id);
CREATE INDEX usage_by_wallet_and_time ON billing_usage (wallet_id, recorded_at);
CREATE INDEX usage_by_time ON billing_usage (recorded_at);
CREATE INDEX usage_to_reconcile ON billing_usage (reconcile_at) WHERE reconciliation = 'pending';
CREATE INDEX usage_for_the_operator ON billing_usage (reconciliation) WHERE reconciliation IN ('queued', 'gave_up');
"""

# Rows of months long ago get a partition as well; only ids that are no UUIDv7 of these decades stay in the default one.
PARTITION = """
ALTER TABLE billing_usage RENAME TO billing_usage_before;
CREATE TABLE billing_usage (LIKE billing_usage_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
    PARTITION BY RANGE (hold_id);
CREATE TABLE billing_usage_default PARTITION OF billing_usage DEFAULT;
SELECT billing_add_usage_month(month) FROM (
    SELECT DISTINCT date_trunc('month', to_timestamp(('x' || left(replace(hold_id::text, '-', ''), 12))::bit(48)::bigint
                                                     / 1000.0) AT TIME ZONE 'UTC')::date AS month
    FROM billing_usage_before WHERE hold_id BETWEEN billing_first_id_of('2020-01-01') AND billing_first_id_of(
        (now() + interval '1 year')::date)
    UNION
    SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead))::date
    FROM generate_series(0, 3) AS ahead) needed ORDER BY month;
INSERT INTO billing_usage SELECT * FROM billing_usage_before;
""" + KEYS_AND_INDEXES

JOIN_AGAIN = """
ALTER TABLE billing_usage RENAME TO billing_usage_before;
ALTER TABLE billing_usage_before DROP CONSTRAINT billing_usage_pkey CASCADE;
ALTER TABLE billing_usage_before DROP CONSTRAINT billing_usage_hold_id_fk;
DROP INDEX billing_usage_key_id, billing_usage_user_id, usage_by_wallet_and_time, usage_by_time, usage_to_reconcile,
    usage_for_the_operator;
CREATE TABLE billing_usage (LIKE billing_usage_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
INSERT INTO billing_usage SELECT * FROM billing_usage_before;
""" + KEYS_AND_INDEXES


class Migration(migrations.Migration):
    """Usage becomes partitioned by month. Rows are copied: about a minute for every few million of them."""

    dependencies = [("billing", "0019_more_roll_ups")]
    operations = [migrations.RunSQL(FUNCTIONS, DROP_FUNCTIONS), migrations.RunSQL(PARTITION, JOIN_AGAIN)]
