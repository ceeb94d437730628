from django.db import migrations

TABLES = ("completions_provider", "completions_model", "completions_route")

NOTIFY = """
CREATE FUNCTION completions_notify_catalog() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('quantized', 'catalog');
    RETURN NULL;
END $$;
"""

TRIGGER = """
CREATE TRIGGER {table}_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION completions_notify_catalog();
"""


class Migration(migrations.Migration):
    """Workers keep the catalog in memory: whatever changes it, raw SQL included, tells them at commit."""

    dependencies = [("completions", "0001_initial")]
    operations = [
        migrations.RunSQL(NOTIFY, "DROP FUNCTION completions_notify_catalog();"),
        *(
            migrations.RunSQL(TRIGGER.format(table=table), f"DROP TRIGGER {table}_notify ON {table};")
            for table in TABLES
        ),
    ]
