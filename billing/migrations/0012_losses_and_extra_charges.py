import django.db.models.deletion
from django.db import migrations, models

PROTECT = """
CREATE TRIGGER billing_loss_append_only BEFORE UPDATE OR DELETE ON billing_loss
    FOR EACH ROW EXECUTE FUNCTION billing_append_only();
CREATE TRIGGER billing_loss_no_truncate BEFORE TRUNCATE ON billing_loss
    FOR EACH STATEMENT EXECUTE FUNCTION billing_append_only();
"""
UNPROTECT = """
DROP TRIGGER billing_loss_no_truncate ON billing_loss;
DROP TRIGGER billing_loss_append_only ON billing_loss;
"""


class Migration(migrations.Migration):
    """The losses of the operator, and what waits for his word."""

    dependencies = [("billing", "0011_keep_the_sweepers_tries")]
    operations = [
        migrations.CreateModel(
            name='ExtraCharge',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('version', models.SmallIntegerField(default=1)),
                ('amount_micro', models.BigIntegerField()),
                ('call_charged_micro', models.BigIntegerField()),
                ('billed_cost_usd', models.DecimalField(decimal_places=18, max_digits=30)),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('charged', 'Charged'), ('waived', 'Waived')], default='waiting', max_length=7)),
                ('taken_micro', models.BigIntegerField(default=0)),
                ('decided_by', models.TextField(default='')),
                ('decided_at', models.DateTimeField(null=True)),
                ('reason', models.TextField(default='')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name='Loss',
            fields=[
                ('hold', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='loss', serialize=False, to='billing.hold')),
                ('reason', models.CharField(choices=[('no_reference', 'No Reference'), ('unknown_to_provider', 'Unknown To Provider'), ('provider_silent', 'Provider Silent'), ('failed_without_output', 'Failed Without Output'), ('extra_charge_unpayable', 'Extra Charge Unpayable'), ('extra_charge_waived', 'Extra Charge Waived')], max_length=22)),
                ('cost_usd', models.DecimalField(decimal_places=18, max_digits=30, null=True)),
                ('noted_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'verbose_name_plural': 'losses',
            },
        ),
        migrations.AddField(
            model_name='extracharge',
            name='hold',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='extra_charges', to='billing.hold'),
        ),
        migrations.AddField(
            model_name='extracharge',
            name='wallet',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='billing.wallet'),
        ),
        migrations.AddIndex(
            model_name='loss',
            index=models.Index(fields=['noted_at'], name='loss_by_time'),
        ),
        migrations.AddIndex(
            model_name='extracharge',
            index=models.Index(condition=models.Q(('state', 'waiting')), fields=['created_at'], name='extra_charge_waiting'),
        ),
        migrations.AddConstraint(
            model_name='extracharge',
            constraint=models.UniqueConstraint(fields=('hold', 'version'), name='extra_charge_once'),
        ),
        migrations.AddConstraint(
            model_name='extracharge',
            constraint=models.CheckConstraint(condition=models.Q(('amount_micro__gt', 0)), name='extra_charge_positive'),
        ),
        migrations.AddConstraint(
            model_name='extracharge',
            constraint=models.CheckConstraint(condition=models.Q(('taken_micro__gte', 0), ('taken_micro__lte', models.F('amount_micro'))), name='extra_charge_taken_within'),
        ),
        migrations.AddConstraint(
            model_name='extracharge',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', True), ('decided_by', ''), ('state', 'waiting'), ('taken_micro', 0)), models.Q(('decided_at__isnull', False), ('state', 'charged'), models.Q(('decided_by', ''), _negated=True), models.Q(('reason', ''), _negated=True)), models.Q(('decided_at__isnull', False), ('state', 'waived'), ('taken_micro', 0), models.Q(('decided_by', ''), _negated=True), models.Q(('reason', ''), _negated=True)), _connector='OR'), name='extra_charge_state_consistent'),
        ),
        migrations.RunSQL(PROTECT, UNPROTECT),
    ]
