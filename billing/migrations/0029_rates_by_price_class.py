from django.db import migrations, models

# Rows of prices are never updated, a trigger refuses it; a column may well be made from others.
ADD_AND_FILL = """
ALTER TABLE billing_price ADD COLUMN rates jsonb;
ALTER TABLE billing_price ALTER COLUMN rates TYPE jsonb USING jsonb_strip_nulls(jsonb_build_object(
    'input', input::text, 'output', output::text, 'cache_read', cache_read::text,
    'cache_write_5m', cache_write_5m::text, 'cache_write_1h', cache_write_1h::text, 'reasoning', reasoning::text,
    'audio_input', audio_input::text, 'audio_output', audio_output::text, 'image', image::text,
    'request', request::text, 'web_search', web_search::text));
"""
EMPTY = "ALTER TABLE billing_price DROP COLUMN rates"

# What numeric(20, 6) and numeric(20, 12) said, and more: no sign, no exponent, no third scale, whatever the class.
CONSTRAIN = """
ALTER TABLE billing_price ALTER COLUMN rates SET NOT NULL,
    ADD CONSTRAINT price_has_input_and_output CHECK (
        jsonb_typeof(rates) = 'object' AND rates ?& ARRAY['input', 'output']
        AND rates ->> 'input' ~ '[.][0-9]{6}$' AND rates ->> 'output' ~ '[.][0-9]{6}$'),
    ADD CONSTRAINT price_rates_are_usd CHECK (NOT jsonb_path_exists(rates, 'strict $.keyvalue() ? (
        !(@.key like_regex "^[a-z][a-z0-9_]*$") || @.value.type() != "string"
        || !(@.value like_regex "^([0-9]{1,14}[.][0-9]{6}|[0-9]{1,8}[.][0-9]{12})$"))'));
"""
RELEASE = """
ALTER TABLE billing_price DROP CONSTRAINT price_rates_are_usd, DROP CONSTRAINT price_has_input_and_output,
    ALTER COLUMN rates DROP NOT NULL;
"""

DROP = """
ALTER TABLE billing_price DROP COLUMN input, DROP COLUMN output, DROP COLUMN cache_read, DROP COLUMN cache_write_5m,
    DROP COLUMN cache_write_1h, DROP COLUMN reasoning, DROP COLUMN audio_input, DROP COLUMN audio_output,
    DROP COLUMN image, DROP COLUMN request, DROP COLUMN web_search;
"""
# Refused when there is a price of a class that has no column to go back to.
COLUMNS_AGAIN = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM billing_price WHERE rates - ARRAY['input', 'output', 'cache_read', 'cache_write_5m',
        'cache_write_1h', 'reasoning', 'audio_input', 'audio_output', 'image', 'request', 'web_search'] <> '{}') THEN
        RAISE EXCEPTION 'there are prices of classes that had no column';
    END IF;
END $$;
ALTER TABLE billing_price ADD COLUMN input numeric(20, 6), ADD COLUMN output numeric(20, 6),
    ADD COLUMN cache_read numeric(20, 6), ADD COLUMN cache_write_5m numeric(20, 6),
    ADD COLUMN cache_write_1h numeric(20, 6), ADD COLUMN reasoning numeric(20, 6),
    ADD COLUMN audio_input numeric(20, 6), ADD COLUMN audio_output numeric(20, 6), ADD COLUMN image numeric(20, 12),
    ADD COLUMN request numeric(20, 12), ADD COLUMN web_search numeric(20, 12);
ALTER TABLE billing_price
    ALTER COLUMN input TYPE numeric(20, 6) USING (rates ->> 'input')::numeric,
    ALTER COLUMN output TYPE numeric(20, 6) USING (rates ->> 'output')::numeric,
    ALTER COLUMN cache_read TYPE numeric(20, 6) USING (rates ->> 'cache_read')::numeric,
    ALTER COLUMN cache_write_5m TYPE numeric(20, 6) USING (rates ->> 'cache_write_5m')::numeric,
    ALTER COLUMN cache_write_1h TYPE numeric(20, 6) USING (rates ->> 'cache_write_1h')::numeric,
    ALTER COLUMN reasoning TYPE numeric(20, 6) USING (rates ->> 'reasoning')::numeric,
    ALTER COLUMN audio_input TYPE numeric(20, 6) USING (rates ->> 'audio_input')::numeric,
    ALTER COLUMN audio_output TYPE numeric(20, 6) USING (rates ->> 'audio_output')::numeric,
    ALTER COLUMN image TYPE numeric(20, 12) USING (rates ->> 'image')::numeric,
    ALTER COLUMN request TYPE numeric(20, 12) USING (rates ->> 'request')::numeric,
    ALTER COLUMN web_search TYPE numeric(20, 12) USING (rates ->> 'web_search')::numeric;
ALTER TABLE billing_price ALTER COLUMN input SET NOT NULL, ALTER COLUMN output SET NOT NULL;
"""
COLUMNS = (
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning",
    "audio_input",
    "audio_output",
    "image",
    "request",
    "web_search",
)


class Migration(migrations.Migration):
    """A column per price class becomes one of JSON: a new class needs no migration. Server processes of the version
    before read the columns: stop them before, start the new ones after."""

    dependencies = [("billing", "0028_spend_by_time_from_the_index")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddField("price", "rates", models.JSONField()),
                *(migrations.RemoveField("price", name) for name in COLUMNS),
            ],
            database_operations=[
                migrations.RunSQL(ADD_AND_FILL, EMPTY),
                migrations.RunSQL(CONSTRAIN, RELEASE),
                migrations.RunSQL(DROP, COLUMNS_AGAIN),
            ],
        )
    ]
