from django.db import migrations, models

from completions.providers import kinds


class Migration(migrations.Migration):
    """The kinds are records of the code (completions/providers/kinds.py): no column and no constraint lists them."""

    dependencies = [("completions", "0007_server_processes")]

    operations = [
        migrations.RemoveConstraint(model_name="provider", name="provider_openai_compatible_has_a_base_url"),
        migrations.AlterField(
            model_name="provider", name="kind", field=models.CharField(choices=kinds.choices, max_length=16)
        ),
    ]
