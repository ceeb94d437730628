from django.db import migrations, models


class Migration(migrations.Migration):
    """What the sweeper has asked of a provider, and why a look-up was given up."""

    dependencies = [("billing", "0010_keep_the_rate_of_a_call")]
    operations = [
        migrations.AddField(
            model_name='hold',
            name='sweep_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='hold',
            name='sweep_attempts',
            field=models.SmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='usage',
            name='reconcile_reason',
            field=models.TextField(db_default='', default=''),
        ),
        migrations.AlterField(
            model_name='usage',
            name='reconciliation',
            field=models.CharField(choices=[('none', 'None'), ('pending', 'Pending'), ('matched', 'Matched'), ('corrected', 'Corrected'), ('queued', 'Queued'), ('waived', 'Waived'), ('gave_up', 'Gave Up'), ('swept', 'Swept')], default='none', max_length=9),
        ),
        migrations.AddIndex(
            model_name='hold',
            index=models.Index(condition=models.Q(('charged__isnull', True), ('state__in', ['open', 'expired']), ('sweep_at__isnull', False)), fields=['sweep_at'], name='hold_to_look_up'),
        ),
    ]
