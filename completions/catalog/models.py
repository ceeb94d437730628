from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.models import User
from billing.models import Price
from completions.catalog import secrets
from completions.catalog.capabilities import missing_prices, unknown_capabilities
from completions.providers import kinds
from completions.routes import NO_RULES, RouteRules

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
PRIVATE_NETWORKS = tuple(
    ip_network(text) for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")


class Provider(models.Model):
    """An upstream service. A row without a base URL takes its kind's, and the key, from the settings."""

    class Leaving(models.TextChoices):
        CANCEL = "cancel", "Cancel"
        DRAIN = "drain", "Drain"

    name = models.SlugField(max_length=64, unique=True, help_text="What X-Quantized-Provider calls it.")
    kind = models.CharField(max_length=16, choices=kinds.choices)
    base_url = models.CharField(
        max_length=500,
        blank=True,
        default="",
        help_text="As far as the version, e.g. https://api.example.com/v1. Empty: taken from the environment.",
    )
    allow_plain_http = models.BooleanField(
        default=False, help_text="Accept http:// for a loopback or private address. The secret then travels in clear."
    )
    secret_encrypted = models.TextField(blank=True, default="", editable=False)
    when_client_leaves = models.CharField(
        max_length=6,
        choices=Leaving,
        default=Leaving.CANCEL,
        help_text="What becomes of a stream nobody listens to any more. Cancel: the provider is let go, and what was "
        "delivered is charged. Drain, for a provider that bills all of it anyway: it is read to its end.",
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(base_url="") | Q(base_url__startswith="https://") | Q(allow_plain_http=True),
                name="provider_plain_http_is_explicit",
            ),
            models.CheckConstraint(
                condition=Q(when_client_leaves__in=("cancel", "drain")), name="provider_knows_what_leaving_means"
            ),
            models.CheckConstraint(
                condition=~Q(base_url="") | Q(secret_encrypted=""), name="provider_secret_has_a_base_url"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def secret(self) -> str:
        """The stored secret, "" if there is none. Raises SecretUnreadable if `base_url` has moved to another origin."""
        return secrets.unseal(self.secret_encrypted, self.base_url) if self.secret_encrypted else ""

    def set_secret(self, secret: str) -> None:
        """Seal a secret for the present `base_url`, which must be set before; "" forgets it."""
        self.secret_encrypted = secrets.seal(secret, self.base_url) if secret else ""

    def clean(self) -> None:
        kind = kinds.KINDS.get(self.kind)
        if self.base_url:
            _refuse_unsafe_url(self.base_url, self.allow_plain_http)
        elif kind is not None and kind.base_url_setting is None:
            article = "An" if kind.label.startswith(tuple("AEIOU")) else "A"
            raise ValidationError({"base_url": f"{article} {kind.label} provider needs its base URL."})
        elif self.secret_encrypted:
            raise ValidationError({"base_url": "A provider with its own secret needs its own base URL."})
        self._refuse_moved_secret()

    def _refuse_moved_secret(self) -> None:
        try:
            _ = self.secret
        except secrets.SecretUnreadable as error:
            raise ValidationError({"base_url": f"Enter the secret again: {error}."}) from error


class Model(models.Model):
    """A model as clients name it."""

    id = models.CharField(
        max_length=200,
        primary_key=True,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._:/-]*\Z", "Letters, digits and . _ : / - only.")],
        help_text="What clients write in `model`, e.g. openai/gpt-4.1-mini.",
    )
    name = models.CharField(max_length=200)
    owned_by = models.CharField(max_length=100)
    created = models.DateTimeField(default=timezone.now, help_text="When the model came out.")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.id


class Route(models.Model):
    """One way to a model: a provider, the model's name there, its limits, and what it costs us."""

    model = models.ForeignKey(Model, models.CASCADE, related_name="routes")
    provider = models.ForeignKey(Provider, models.PROTECT, related_name="routes")
    upstream_model = models.CharField(max_length=200, help_text="The model's id at the provider.")
    priority = models.PositiveSmallIntegerField(default=0, help_text="Lower is tried first.")
    capabilities = models.JSONField(default=list, blank=True)
    context_length = models.PositiveIntegerField(help_text="Tokens, prompt and answer together.")
    max_output_tokens = models.PositiveIntegerField()
    price = models.ForeignKey(Price, models.PROTECT, null=True, blank=True, related_name="routes")
    # What a provider's translator must know of this very model and no other column says.
    rules = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=False)

    class Meta:
        ordering = ["model", "priority", "id"]
        constraints = [
            models.UniqueConstraint(fields=["model", "provider", "upstream_model"], name="route_once"),
            models.CheckConstraint(
                condition=Q(enabled=False) | Q(price__isnull=False), name="route_enabled_has_a_price"
            ),
            models.CheckConstraint(
                condition=Q(max_output_tokens__gte=1, context_length__gte=F("max_output_tokens")),
                name="route_output_fits_the_context",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_id} by {self.provider}"

    def clean(self) -> None:
        unknown = unknown_capabilities(self.capabilities)
        if unknown:
            raise ValidationError({"capabilities": f"Unknown: {', '.join(map(repr, unknown))}."})
        if self.enabled and self.missing_prices():
            lacking = ", ".join(self.missing_prices())
            raise ValidationError({"price": f"The route cannot be enabled without a price for {lacking}."})
        if self.provider_id:
            self._refuse_unreadable_rules()

    def _refuse_unreadable_rules(self) -> None:
        try:
            self.ruled()
        except ValueError as error:
            raise ValidationError({"rules": f"{error}."}) from error

    def ruled(self) -> RouteRules:
        """The rules in the form of the provider's kind; raises ValueError for what is none."""
        kind = kinds.KINDS.get(self.provider.kind)
        return NO_RULES if kind is None else kind.read_rules(self.rules)

    def missing_prices(self) -> list[str]:
        return missing_prices(self.capabilities, self.price.rates if self.price else ())


class PriceChange(models.Model):
    """A price version that a route takes at a given time; completions/catalog/price_changes.py puts it there."""

    route = models.ForeignKey(Route, models.CASCADE, related_name="price_changes")
    price = models.ForeignKey(Price, models.PROTECT, related_name="+")
    effective_from = models.DateTimeField()
    reason = models.TextField()
    requested_by = models.ForeignKey(User, models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(auto_now_add=True)
    applied_at = models.DateTimeField(null=True, editable=False)
    cancelled_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(applied_at__isnull=True) | Q(cancelled_at__isnull=True), name="price_change_ends_once"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="price_change_names_its_reason"),
        ]
        indexes = [
            models.Index(
                fields=["effective_from"], condition=Q(applied_at=None, cancelled_at=None), name="price_change_due"
            )
        ]

    def __str__(self) -> str:
        return f"{self.route}: {self.price}"


def _refuse_unsafe_url(base_url: str, allow_plain_http: bool) -> None:
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValidationError({"base_url": f"Not a URL: {error}."}) from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValidationError({"base_url": "A base URL starts with https:// and names a host."})
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValidationError({"base_url": "A base URL has no user, password, query or fragment."})
    if parts.scheme == "http" and not (allow_plain_http and _is_private(host)):
        raise ValidationError({"base_url": "Plain http is for loopback and private addresses, if explicitly allowed."})


def _is_private(host: str) -> bool:
    """Whether a host cannot be on the public internet, judged by its name alone: nothing is resolved."""
    try:
        address = ip_address(host)
    except ValueError:
        # A name without a dot is a container or a machine of the own network.
        return "." not in host or host.endswith(PRIVATE_SUFFIXES)
    return any(address in network for network in PRIVATE_NETWORKS)
