from django.db import migrations, models

# On the partitioned table: each month gets the column without being rewritten, later months copy it.
ADD = "ALTER TABLE billing_usage ADD COLUMN units jsonb NOT NULL DEFAULT '{}'"
REMOVE = "ALTER TABLE billing_usage DROP COLUMN units"

FILL = """
UPDATE billing_usage SET units = jsonb_strip_nulls(jsonb_build_object(
    'images', nullif(images, 0), 'web_searches', nullif(web_searches, 0))) WHERE images <> 0 OR web_searches <> 0
"""
EMPTY = """
UPDATE billing_usage SET images = coalesce((units ->> 'images')::bigint, 0),
    web_searches = coalesce((units ->> 'web_searches')::bigint, 0) WHERE units <> '{}'
"""

DROP = "ALTER TABLE billing_usage DROP COLUMN images, DROP COLUMN web_searches"
# Refused when there are counts that have no column to go back to.
COLUMNS_AGAIN = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM billing_usage WHERE units - ARRAY['images', 'web_searches'] <> '{}') THEN
        RAISE EXCEPTION 'there are counts of units that had no column';
    END IF;
END $$;
ALTER TABLE billing_usage ADD COLUMN images bigint NOT NULL DEFAULT 0, ADD COLUMN web_searches bigint NOT NULL DEFAULT 0;
ALTER TABLE billing_usage ALTER COLUMN images DROP DEFAULT, ALTER COLUMN web_searches DROP DEFAULT;
"""


class Migration(migrations.Migration):
    """Counts that are no tokens become one column of JSON: a new one needs no migration. Rows with images or web
    searches are written again, the others are not touched. Server processes of the version before write the columns:
    stop them before, start the new ones after."""

    dependencies = [("billing", "0029_rates_by_price_class")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddField("usage", "units", models.JSONField(db_default={}, default=dict)),
                migrations.RemoveField("usage", "images"),
                migrations.RemoveField("usage", "web_searches"),
            ],
            database_operations=[
                migrations.RunSQL(ADD, REMOVE),
                migrations.RunSQL(FILL, EMPTY),
                migrations.RunSQL(DROP, COLUMNS_AGAIN),
            ],
        )
    ]
