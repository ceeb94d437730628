import io
import sys
from typing import Any

import msgspec
from django.conf import settings
from django.core.management import call_command

from accounts import keys
from accounts.models import ApiKey, Organization, User
from accounts.services import issue_key
from billing.usage import partitions
from common.console import JsonCommand
from common.numbers import MICRO

TENANT = "Acme"


class LogIn(msgspec.Struct, frozen=True):
    email: str
    password: str


class Preparation(msgspec.Struct, frozen=True):
    operator: LogIn
    owner: LogIn
    api_key: str


class Command(JsonCommand):
    help = "Bring a development database up to date: migrations, catalog, an operator, a tenant. Used by `make run`."

    def run(self, **options: Any) -> dict[str, Any]:
        """The log-ins that shall work come as JSON on standard input; what is there already stays."""
        wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Preparation)
        call_command("migrate", interactive=False, verbosity=0)
        partitions.ensure_ahead()
        call_command("loadcatalog", str(settings.BASE_DIR / "catalog.toml"), stdout=io.StringIO())
        ensure_operator(wanted.operator)
        return {"api_key": ensure_tenant(wanted.owner, wanted.api_key)}


def ensure_operator(log_in: LogIn) -> None:
    operator = User.objects.filter(email=log_in.email).first()
    if operator is None:
        User.objects.create_superuser(log_in.email, log_in.password)
    else:
        ensure_password(operator, log_in.password)


def ensure_password(user: User, password: str) -> None:
    if not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])


def ensure_tenant(owner: LogIn, api_key: str) -> str:
    """An API key of the tenant that works: the one we know, if the database knows it too."""
    organization = Organization.objects.filter(name=TENANT, memberships__user__email=owner.email).first()
    if organization is None:
        return create_tenant(owner)
    ensure_password(User.objects.get(email=owner.email), owner.password)
    digest = keys.digest(api_key, settings.KEY_PEPPER)
    if ApiKey.objects.filter(organization=organization, digest=digest, revoked_at=None).exists():
        return api_key
    return issue_key(organization, "make run")[1]


def create_tenant(owner: LogIn) -> str:
    answer = io.StringIO()
    options = {"owner": owner.email, "password": owner.password, "credits": MICRO, "json": True}
    call_command("createtenant", TENANT, stdout=answer, **options)
    return str(msgspec.json.decode(answer.getvalue())["api_key"])
