from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("billing", "0022_find_entries_by_key")]

    operations = [migrations.AlterModelOptions(name="operation", options={"verbose_name": "request"})]
