from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.core.checks import Tags, register

from quantized import checks


class OperatorAdminConfig(SimpleAdminConfig):
    """Django's admin as quantized/operator/site.py has it."""

    default = False
    default_site = "quantized.operator.site.OperatorSite"

    def ready(self) -> None:
        super().ready()
        admin.autodiscover()


class QuantizedConfig(AppConfig):
    name = "quantized"
    default = True  # of those in this file
    verbose_name = "Quantized"

    def ready(self) -> None:
        register(checks.secrets_differ, Tags.security)
        register(checks.public_host_is_allowed, Tags.security)
        register(checks.mail_is_sent, Tags.security, deploy=True)
