from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import Q

# The same rule, but a row that keeps to it does not enter PL/pgSQL.
GUARD_BY_CONDITION = """
DROP TRIGGER billing_hold_resolves_once ON billing_hold;
CREATE TRIGGER billing_hold_resolves_once BEFORE UPDATE ON billing_hold FOR EACH ROW
    WHEN (NOT (OLD.state = 'open' OR (OLD.state = 'expired' AND NEW.state = 'expired' AND OLD.charged IS NULL
                                      AND NEW.amount = OLD.amount)))
    EXECUTE FUNCTION billing_hold_resolves_once();
"""
GUARD_BY_FUNCTION = """
DROP TRIGGER billing_hold_resolves_once ON billing_hold;
CREATE TRIGGER billing_hold_resolves_once BEFORE UPDATE ON billing_hold
    FOR EACH ROW EXECUTE FUNCTION billing_hold_resolves_once();
"""

USAGE_WITHOUT = "DROP INDEX billing_usage_key_id, billing_usage_user_id"
USAGE_WITH = """
CREATE INDEX billing_usage_key_id ON billing_usage (key_id);
CREATE INDEX billing_usage_user_id ON billing_usage (user_id);
"""


def pointer(to: str, **options: Any) -> models.ForeignKey:  # type: ignore[type-arg]
    return models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to=to, **options)


KEY = pointer("accounts.apikey", null=True, related_name="+", db_constraint=False, db_index=False)
USER = pointer(settings.AUTH_USER_MODEL, null=True, related_name="+", db_constraint=False, db_index=False)


class Migration(migrations.Migration):
    """What every call paid for and nobody read: docs/adr/0030."""

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("accounts", "0001_initial"),
        ("billing", "0025_failed_attempts"),
    ]

    operations = [
        migrations.AlterField("hold", "wallet", pointer("billing.wallet", related_name="holds", db_index=False)),
        migrations.AlterField("hold", "key", KEY),
        migrations.AlterField(
            "hold", "user", pointer(settings.AUTH_USER_MODEL, null=True, related_name="+", db_index=False)
        ),
        migrations.AlterField("hold", "price", pointer("billing.price", related_name="+", db_index=False)),
        migrations.AddIndex(
            "hold", models.Index(fields=["user"], condition=Q(user__isnull=False), name="hold_by_user")
        ),
        migrations.AlterField("entry", "wallet", pointer("billing.wallet", related_name="entries", db_index=False)),
        migrations.RemoveConstraint("entry", "entry_idempotent"),
        migrations.AddConstraint(
            "entry",
            models.UniqueConstraint(
                fields=["wallet", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="entry_idempotent",
            ),
        ),
        migrations.RunSQL(GUARD_BY_CONDITION, GUARD_BY_FUNCTION),
        # Of the partitioned table, whose indexes 0020 made by hand.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField("usage", "key", KEY),
                migrations.AlterField("usage", "user", USER),
            ],
            database_operations=[migrations.RunSQL(USAGE_WITHOUT, USAGE_WITH)],
        ),
    ]
