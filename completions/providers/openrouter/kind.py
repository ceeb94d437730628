"""OpenRouter: OpenAI-compatible, and it tells what every call and every day cost. Pure."""

from completions.providers.fields import CAPABLE, translated
from completions.providers.openai.fields import FIELDS
from completions.providers.openrouter import activity, generation
from completions.providers.openrouter.adapter import OpenRouter
from completions.providers.record import DayReports, Lookup, ProviderKind, bearer

_BOUND = translated("one bound, `max_tokens`")

OPENROUTER = ProviderKind(
    name="openrouter",
    label="OpenRouter",
    translators={"chat": OpenRouter()},
    base_url_setting="OPENROUTER_BASE_URL",
    key_setting="OPENROUTER_API_KEY",
    probe_path="/key",
    credentials=bearer,
    call_id_header="x-generation-id",
    lookup=Lookup(generation.AFTER_S, generation.inquiry, generation.read),
    day_reports=DayReports(key_setting="OPENROUTER_MANAGEMENT_KEY", read=activity.read),
    treatment={**FIELDS, "max_tokens": _BOUND, "max_completion_tokens": _BOUND, "reasoning": CAPABLE},
)
