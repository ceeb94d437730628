"""Any server that speaks OpenAI's Chat Completions, at a base URL of its own, with a key or without one. Pure.

The header is OpenRouter's; gateways that pass its answers on pass it on too.
"""

from completions.providers.openai.adapter import OpenAICompatible
from completions.providers.openai.fields import FIELDS
from completions.providers.record import ProviderKind, bearer

OPENAI_COMPATIBLE = ProviderKind(
    name="openai",
    label="OpenAI-compatible",
    translators={"chat": OpenAICompatible()},
    needs_key=False,
    probe_path="/models",
    credentials=bearer,
    call_id_header="x-generation-id",
    treatment=FIELDS,
)
