from django.db import migrations, models

FIRST_ENDPOINT = "/v1/chat/completions"


class Migration(migrations.Migration):
    """A constant default: neither table is written again, and every month of usage gets the column."""

    dependencies = [("billing", "0032_why_a_top_up_is_off_as_a_code")]

    operations = [
        migrations.AddField("hold", "endpoint", models.TextField(default=FIRST_ENDPOINT, db_default=FIRST_ENDPOINT)),
        migrations.AddField("usage", "endpoint", models.TextField(default=FIRST_ENDPOINT, db_default=FIRST_ENDPOINT)),
    ]
