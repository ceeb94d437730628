"""The kinds of providers. Each is a folder with one record, and nothing about a kind is anywhere else. Pure."""

from completions.ask import Operation, Translator
from completions.errors import ProviderUnavailable
from completions.providers.anthropic.kind import ANTHROPIC
from completions.providers.openai.kind import OPENAI_COMPATIBLE
from completions.providers.openrouter.kind import OPENROUTER
from completions.providers.record import ProviderKind

# Read anew by everybody who asks, so that a test can put one more in.
KINDS: dict[str, ProviderKind] = {kind.name: kind for kind in (OPENROUTER, ANTHROPIC, OPENAI_COMPATIBLE)}


def translator(kind: str, operation: Operation) -> Translator:
    """Raises ProviderUnavailable: a kind without a record, or without a translator for this, cannot be reached."""
    found = KINDS.get(kind)
    if found is None or operation not in found.translators:
        raise ProviderUnavailable(f"Providers of the kind '{kind}' are not served.")
    return found.translators[operation]


def choices() -> list[tuple[str, str]]:
    """Of a provider row's kind: the name, and what people read."""
    return [(kind.name, kind.label) for kind in KINDS.values()]
