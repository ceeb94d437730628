"""One adapter per kind of provider; which kinds there are, completions/models.py says."""

from completions.errors import ProviderUnavailable
from completions.providers.anthropic.adapter import Anthropic
from completions.providers.base import Adapter
from completions.providers.openai.adapter import OpenAICompatible
from completions.providers.openrouter import OpenRouter

_ADAPTERS: dict[str, Adapter] = {
    "openrouter": OpenRouter(),
    "anthropic": Anthropic(),
    "openai": OpenAICompatible(),
}


def adapter(kind: str) -> Adapter:
    """The adapter of a provider's kind. A kind without one is a provider that cannot be reached."""
    if kind not in _ADAPTERS:
        raise ProviderUnavailable(f"Providers of the kind '{kind}' are not served.")
    return _ADAPTERS[kind]
