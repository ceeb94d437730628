"""Anthropic: the Messages API for calls, the Admin API for what days cost. Pure. It has no look-up of one call."""

from completions.providers.anthropic import reports
from completions.providers.anthropic.adapter import VERSION, Anthropic
from completions.providers.anthropic.fields import FIELDS
from completions.providers.anthropic.rules import Rules
from completions.providers.record import DayReports, Headers, ProviderKind


def credentials(secret: str) -> Headers:
    return {"x-api-key": secret, "anthropic-version": VERSION}


ANTHROPIC = ProviderKind(
    name="anthropic",
    label="Anthropic",
    translators={"chat": Anthropic()},
    base_url_setting="ANTHROPIC_BASE_URL",
    key_setting="ANTHROPIC_API_KEY",
    probe_path="/v1/models?limit=1",
    credentials=credentials,
    rules=Rules,
    day_reports=DayReports(key_setting="ANTHROPIC_ADMIN_KEY", read=reports.read, searches_apart=True),
    treatment=FIELDS,
)
