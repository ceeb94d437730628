"""What every part of a reply says: names, headers, the keys around the choices."""

from typing import Any

import msgspec

from sandbox.exchange import Exchange
from sandbox.steps import Headers

FINGERPRINT = "fp_sandbox"
MARK: Headers = ((b"x-quantized-sandbox", b"true"),)
JSON: Headers = ((b"content-type", b"application/json"), *MARK)
ENCODER = msgspec.json.Encoder()

PROVIDERS = {
    "anthropic": "Anthropic",
    "deepseek": "DeepSeek",
    "google": "Google",
    "meta-llama": "Together",
    "mistralai": "Mistral",
    "moonshotai": "Moonshot AI",
    "openai": "OpenAI",
    "qwen": "Alibaba",
    "x-ai": "xAI",
    "z-ai": "Z.AI",
}
_NATIVE_FINISH = {
    "OpenAI": {"stop": "completed", "tool_calls": "completed", "length": "max_output_tokens"},
    "Anthropic": {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"},
    "Google": {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS"},
}


def provider(x: Exchange) -> str:
    """The display name of who answered, as OpenRouter tells it."""
    return x.directive.provider or PROVIDERS.get(x.maker, "Sandbox")


def native_finish(x: Exchange) -> str:
    return _NATIVE_FINISH.get(provider(x), {}).get(x.finish, x.finish)


def headers(x: Exchange) -> Headers:
    # A directive may name a provider in any script: headers are ASCII.
    return ((b"x-generation-id", x.id.encode()), (b"x-provider-name", provider(x).encode("ascii", "replace")))


def envelope(x: Exchange, kind: str) -> dict[str, Any]:
    """The keys that the body and every chunk begin with."""
    about = {"model": x.model, "provider": provider(x), "system_fingerprint": FINGERPRINT}
    return {"id": x.id, "object": kind, "created": x.created, **about}
