"""Settings, read once from the environment; docs/configuration.md lists every variable.

A missing or wrong value stops the start with one line that names it. No secret has a default:
`make run` generates its own into var/run.env, production sets them.
"""

import logging
import re
from decimal import Decimal
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from quantized.operator import look

BASE_DIR = Path(__file__).resolve().parent.parent

# First words of addresses that are not the admin's. tests/pages/operator/test_operator_site.py compares them with the
# URL map.
TAKEN_PATHS = frozenset(
    (
        *(
            "accounts",
            "activity",
            "billing",
            "docs",
            "first-call",
            "healthz",
            "invitations",
            "keys",
            "metrics",
            "models",
        ),
        *("organizations", "playground", "readyz", "settings", "static", "team", "v1", "webhooks"),
    )
)

env = environ.Env()
if "DATABASE_URL" not in env.ENVIRON:
    # `make run` leaves its database, broker and secrets here, so that manage.py commands
    # typed in a second terminal reach the same stack.
    env.read_env(BASE_DIR / "var" / "run.env")


def number(name: str, default: float, *, above: float = 0) -> float:
    try:
        value = env.float(name, default=default)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a number, not {env.str(name)!r}") from None
    if value <= above:
        raise ImproperlyConfigured(f"{name} must be above {above:g}, not {value:g}")
    return value


def integer(name: str, default: int, *, at_least: int = 1) -> int:
    try:
        value = env.int(name, default=default)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be an integer, not {env.str(name)!r}") from None
    if value < at_least:
        raise ImproperlyConfigured(f"{name} must be at least {at_least}, not {value}")
    return value


def decimal(name: str, default: str) -> Decimal:
    try:
        value = Decimal(env.str(name, default=default))
    except ArithmeticError:
        raise ImproperlyConfigured(f"{name} must be a decimal number, not {env.str(name)!r}") from None
    if not value.is_finite():
        raise ImproperlyConfigured(f"{name} must be a finite decimal number")
    if int(value.normalize().as_tuple().exponent) < -12:  # as the ledger keeps it with every call
        raise ImproperlyConfigured(f"{name} must have at most 12 decimals")
    return value


def secret(name: str) -> str:
    value = env.str(name, default="")
    if not value:
        raise ImproperlyConfigured(f"{name} is missing: set it to 50 random characters")
    return value


def base_url(name: str, default: str) -> str:
    value = env.str(name, default=default).rstrip("/")
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc:
        raise ImproperlyConfigured(f"{name} must be an http(s) URL, not {value!r}")
    return value


def path(name: str, default: str) -> str:
    """Without slashes around it. Addresses that others have are not for the taking."""
    value = env.str(name, default=default).strip("/")
    if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", value):
        raise ImproperlyConfigured(f"{name} must be words of letters, digits, - and _ between slashes, not {value!r}")
    if value.split("/")[0] in TAKEN_PATHS:
        raise ImproperlyConfigured(f"{name} must not begin with {value.split('/')[0]}, which is taken")
    return value


def flag(name: str, default: bool) -> bool:
    text = env.str(name, default=str(default)).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off", ""):
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {text!r}")


def one_of(name: str, default: str, *schemes: str) -> str:
    value = env.str(name, default=default)
    if urlsplit(value).scheme not in schemes:
        raise ImproperlyConfigured(f"{name} must start with one of {', '.join(s + '://' for s in schemes)}")
    return value


def mail_server(url: str) -> dict[str, Any]:
    """Django's EMAIL_ settings. What is wrong is not repeated: the URL has a password in it."""
    try:
        return dict(env.email_url_config(url))
    except (ValueError, ImproperlyConfigured):
        kinds = ", ".join(sorted(env.EMAIL_SCHEMES))
        raise ImproperlyConfigured(f"EMAIL_URL must be a URL of one of the kinds {kinds}") from None


def mail_address(name: str, default: str) -> str:
    value = env.str(name, default=default)
    if "@" not in parseaddr(value)[1]:
        raise ImproperlyConfigured(f"{name} must be an e-mail address, or a name and one in angle brackets")
    return value


def mail_addresses(name: str) -> list[str]:
    values = [value.strip() for value in env.list(name, default=[])]
    wrong = [value for value in values if "@" not in value or " " in value]
    if wrong:
        raise ImproperlyConfigured(f"{name} must be a list of e-mail addresses, not {wrong[0]!r}")
    return values


# --- Django ---------------------------------------------------------------------------------

SECRET_KEY = secret("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
DEBUG = flag("DEBUG", False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
PUBLIC_URL = base_url("PUBLIC_URL", "http://localhost:8000")
PROXY_COUNT = integer("PROXY_COUNT", 0, at_least=0)  # X-Forwarded-For is believed that far
ADMIN_PATH = path("ADMIN_PATH", "admin")
UNFOLD = look.unfold()

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "quantized.apps.OperatorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular_sidecar",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "accounts",
    "billing",
    "completions",
    "quantized",
]

# The ordinary lane: dashboard, admin, management API. The model API has its own lean lane, see asgi.py.
MIDDLEWARE = [
    "quantized.middleware.RequestIdMiddleware",
    "quantized.middleware.ContentSecurityPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "quantized.urls"
ASGI_APPLICATION = "quantized.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates", BASE_DIR / "billing/notices/kinds"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "quantized.dashboard.frame.account_pages",
            ]
        },
    }
]

DATABASE_URL = env.str("DATABASE_URL", default="")
if not DATABASE_URL.startswith(("postgres://", "postgresql://")):
    raise ImproperlyConfigured("DATABASE_URL must be set to postgres://user:password@host:port/name")
DATABASES = {"default": env.db_url_config(DATABASE_URL)}
# Connections are per request: kept ones leak under ASGI. The ledger's writer owns its own.
DATABASES["default"]["CONN_MAX_AGE"] = 0

REDIS_URL = one_of("REDIS_URL", "", "redis", "rediss", "unix")

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # served from the apps: nothing to collect, nothing to forget

# Behind TLS (every production set-up) cookies are host-bound and HSTS is on; on plain http
# (`make run` on a laptop) browsers would refuse such cookies.
HTTPS = PUBLIC_URL.startswith("https://")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-session" if HTTPS else "session"
CSRF_COOKIE_NAME = "__Host-csrf" if HTTPS else "csrf"
X_FRAME_OPTIONS = "DENY"

# --- Accounts: django-allauth's pages under /accounts/ -----------------------------------------

SIGNUP_OPEN = flag("SIGNUP_OPEN", True)  # closed: only who was invited may sign up
SIGNUP_CREDIT_MICRO = integer("SIGNUP_CREDIT_MICRO", 0, at_least=0)
SIGNUP_CREDIT_DAYS = integer("SIGNUP_CREDIT_DAYS", 0, at_least=0)  # 0: for good
ADMIN_REQUIRES_2FA = flag("ADMIN_REQUIRES_2FA", HTTPS)
ADMIN_IDLE_S = number("ADMIN_IDLE_S", 1800)

# What allauth counts by its cache (sign-ups, mails, codes asked for) must hold in every process: rows of the database.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "accounts_cache",
        # Expired rows are deleted by a task; what a full table throws out would be counts that still hold.
        "OPTIONS": {"MAX_ENTRIES": 1_000_000},
    }
}

AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
ACCOUNT_ADAPTER = "quantized.sign_up.AccountAdapter"
ACCOUNT_FORMS = {"signup": "accounts.forms.SignUpForm"}
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
# By code, not by link: it must be typed where the sign-up began, so a link that somebody else opens confirms nothing.
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_PASSWORD_RESET_BY_CODE_ENABLED = True
ACCOUNT_PASSWORD_RESET_BY_CODE_TIMEOUT = 15 * 60
ACCOUNT_CHANGE_EMAIL = True  # one address each; the old one counts until the new one is confirmed
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_RATE_LIMITS = {
    "login_failed": None,  # counted by accounts/throttle.py, together with /v1/auth/token
    "signup": "20/10m/ip",
    "reset_password": "20/10m/ip,3/10m/key",
    "change_password": "5/m/user",
}

MFA_ADAPTER = "accounts.adapters.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_FORMS = {
    "authenticate": "accounts.forms.AuthenticateForm",
    "reauthenticate": "accounts.forms.ReauthenticateForm",
}
MFA_TOTP_ISSUER = "Quantized"
MFA_TOTP_TOLERANCE = 1  # clocks differ; each step counts once, see accounts/second_factor.py
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not HTTPS

# --- The API's framework ----------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["completions.api.negotiation.Json"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "completions.api.border.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "completions.api.openapi.PathEntry",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "completions.api.negotiation.JsonOnly",
}

# /openapi.json: drf-spectacular walks the URL map, completions/api/openapi.py says what it finds there.
SPECTACULAR_SETTINGS = {
    "TITLE": "Quantized",
    "DESCRIPTION": "One API for many model providers. Amounts are integers of micro-credits; a credit has a million.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVERS": [{"url": "/", "description": "This server"}, {"url": PUBLIC_URL}],
    "SORT_OPERATIONS": False,  # as in the URL map: completions first
    "POSTPROCESSING_HOOKS": ["completions.api.openapi.add_components"],
}

# No line says these; finding them out for each costs more than to write it (Python's logging how-to, "Optimization").
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
logging._srcfile = None

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "fontTools": {"level": "WARNING"},  # tells every step of a PDF's fonts
        "stripe": {"level": "WARNING"},  # tells every request; what matters of them, we say
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
}

# --- E-mail and webhooks ----------------------------------------------------------------------

EMAIL_URL = env.str("EMAIL_URL", default="")
vars().update(mail_server(EMAIL_URL or "consolemail://"))  # without one, mails are printed: see check quantized.W003
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = mail_address("MAIL_FROM", "Quantized <noreply@localhost>")
OPERATOR_EMAILS = mail_addresses("OPERATOR_EMAILS")
WEBHOOK_ALLOW_PRIVATE = flag("WEBHOOK_ALLOW_PRIVATE", False)
STATEMENT_ISSUER = [line.strip() for line in env.str("STATEMENT_ISSUER", default="Quantized").split("|")]

# --- Celery ---------------------------------------------------------------------------------

# redis-py says unix:///path, kombu says redis+socket:///path.
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"

# --- Who and what ---------------------------------------------------------------------------

KEY_PEPPER = secret("KEY_PEPPER")  # keys the HMAC of API keys; changing it ends every key

OPENROUTER_API_KEY = env.str("OPENROUTER_API_KEY", default="")
OPENROUTER_BASE_URL = base_url("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1")
ANTHROPIC_API_KEY = env.str("ANTHROPIC_API_KEY", default="")
ANTHROPIC_BASE_URL = base_url("ANTHROPIC_BASE_URL", "https://api.anthropic.com")

# --- Money ----------------------------------------------------------------------------------

CREDITS_PER_USD = decimal("CREDITS_PER_USD", "100")
MARGIN = decimal("MARGIN", "0.05")
if CREDITS_PER_USD <= 0:
    raise ImproperlyConfigured("CREDITS_PER_USD must be above 0")
if not 0 <= MARGIN < 1:
    raise ImproperlyConfigured("MARGIN must be at least 0 and below 1")
OUTPUT_FLOOR_TOKENS = integer("OUTPUT_FLOOR_TOKENS", 256)
APPROVAL_ABOVE_MICRO = integer("APPROVAL_ABOVE_MICRO", 10_000_000_000, at_least=0)

RECONCILE_PER_MINUTE = integer("RECONCILE_PER_MINUTE", 240)
ANTHROPIC_ADMIN_KEY = env.str("ANTHROPIC_ADMIN_KEY", default="")
OPENROUTER_MANAGEMENT_KEY = env.str("OPENROUTER_MANAGEMENT_KEY", default="")
DRIFT_ALERT_PERCENT = decimal("DRIFT_ALERT_PERCENT", "2")
DRIFT_ALERT_USD = decimal("DRIFT_ALERT_USD", "1")
LOSS_ALERT_USD = decimal("LOSS_ALERT_USD", "10")
if DRIFT_ALERT_PERCENT < 0 or DRIFT_ALERT_USD < 0 or LOSS_ALERT_USD < 0:
    raise ImproperlyConfigured("DRIFT_ALERT_PERCENT, DRIFT_ALERT_USD and LOSS_ALERT_USD must be at least 0")

# --- Payments -------------------------------------------------------------------------------

STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", default="")
STRIPE_WEBHOOK_SECRET = env.str("STRIPE_WEBHOOK_SECRET", default="")
STRIPE_BASE_URL = base_url("STRIPE_BASE_URL", "https://api.stripe.com")
if STRIPE_SECRET_KEY and not STRIPE_WEBHOOK_SECRET:
    raise ImproperlyConfigured("STRIPE_WEBHOOK_SECRET is missing: without it nobody who pays gets their credits")
TOP_UP_MIN_USD = decimal("TOP_UP_MIN_USD", "5")
TOP_UP_MAX_USD = decimal("TOP_UP_MAX_USD", "1000")
if Decimal("0.5") > TOP_UP_MIN_USD:
    raise ImproperlyConfigured("TOP_UP_MIN_USD must be at least 0.5, the least that Stripe charges")
if not TOP_UP_MIN_USD <= TOP_UP_MAX_USD <= 999_999:
    raise ImproperlyConfigured("TOP_UP_MAX_USD must be at least TOP_UP_MIN_USD and at most 999999")
OPERATOR_CONTACT = env.str("OPERATOR_CONTACT", default="")

# --- Times and sizes ------------------------------------------------------------------------

HOLD_TTL_S = number("HOLD_TTL_S", 1200)
CALL_MAX_S = number("CALL_MAX_S", 0.95 * HOLD_TTL_S)
if CALL_MAX_S >= HOLD_TTL_S:
    raise ImproperlyConfigured(f"CALL_MAX_S must be below HOLD_TTL_S ({HOLD_TTL_S:g}), not {CALL_MAX_S:g}")
DRAIN_MAX_S = number("DRAIN_MAX_S", 300)
SWEEP_EVERY_S = number("SWEEP_EVERY_S", 30)
UPSTREAM_CONNECT_TIMEOUT_S = number("UPSTREAM_CONNECT_TIMEOUT_S", 5)
UPSTREAM_READ_TIMEOUT_S = number("UPSTREAM_READ_TIMEOUT_S", 300)
FIRST_EVENT_WAIT_S = number("FIRST_EVENT_WAIT_S", 10)
KEEPALIVE_S = number("KEEPALIVE_S", 15)
REDIS_TIMEOUT_S = number("REDIS_TIMEOUT_S", 0.05)
SERVER_PROCESSES = integer("SERVER_PROCESSES", 1)
CIRCUIT_FAILURES = integer("CIRCUIT_FAILURES", 10)
CIRCUIT_OPEN_S = number("CIRCUIT_OPEN_S", 10)
SHUTDOWN_GRACE_S = number("SHUTDOWN_GRACE_S", 30)
MAX_BODY_BYTES = integer("MAX_BODY_BYTES", 32 * 1024 * 1024)
BODY_TIMEOUT_S = number("BODY_TIMEOUT_S", 60)
LEDGER_QUEUE_MAX = integer("LEDGER_QUEUE_MAX", 10_000)
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
METRICS_DIR = env.str("METRICS_DIR", default="")  # made by `serve` for its workers
USAGE_RETENTION_MONTHS = integer("USAGE_RETENTION_MONTHS", 0, at_least=0)
SPOOL_DIR = Path(env.str("SPOOL_DIR", default=str(BASE_DIR / "var" / "spool")))
