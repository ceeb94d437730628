from django.db import migrations, models


class Migration(migrations.Migration):
    """What providers say of a day, beside what we say."""

    dependencies = [("billing", "0012_losses_and_extra_charges")]
    operations = [
        migrations.CreateModel(
            name='ProviderDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('provider', models.TextField()),
                ('model', models.TextField()),
                ('expected_usd', models.DecimalField(decimal_places=18, max_digits=30)),
                ('charged_micro', models.BigIntegerField()),
                ('reported_usd', models.DecimalField(decimal_places=18, max_digits=30)),
                ('prompt_tokens', models.BigIntegerField()),
                ('completion_tokens', models.BigIntegerField()),
                ('reported_prompt_tokens', models.BigIntegerField(null=True)),
                ('reported_completion_tokens', models.BigIntegerField(null=True)),
                ('checked_at', models.DateTimeField()),
                ('alerted_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.AddIndex(
            model_name='providerday',
            index=models.Index(condition=models.Q(('alerted_at__isnull', False)), fields=['day'], name='provider_day_alerts'),
        ),
        migrations.AddConstraint(
            model_name='providerday',
            constraint=models.UniqueConstraint(fields=('day', 'provider', 'model'), name='provider_day_once'),
        ),
    ]
