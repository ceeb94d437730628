"""Kinds of providers: one record each, and nothing about a kind anywhere else. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from completions.ask import Operation, Translator
from completions.errors import ProviderUnavailable
from completions.providers.anthropic.adapter import Anthropic
from completions.providers.openai.adapter import OpenAICompatible
from completions.providers.openrouter import OpenRouter


class ProviderKind(Struct, frozen=True, kw_only=True):
    """`bill_after_s`: how long after a call its provider can be asked what it billed; None if it cannot be asked."""

    name: str
    translators: Mapping[Operation, Translator]
    bill_after_s: int | None = None


KINDS: dict[str, ProviderKind] = {
    kind.name: kind
    for kind in (
        # OpenRouter knows a generation a little after it ended; the others have no look-up of one call.
        ProviderKind(name="openrouter", translators={"chat": OpenRouter()}, bill_after_s=5),
        ProviderKind(name="anthropic", translators={"chat": Anthropic()}),
        ProviderKind(name="openai", translators={"chat": OpenAICompatible()}),
    )
}


def of(name: str) -> ProviderKind:
    """A kind without a record is a provider that cannot be reached."""
    if name not in KINDS:
        raise ProviderUnavailable(f"Providers of the kind '{name}' are not served.")
    return KINDS[name]


_TRANSLATORS: dict[tuple[str, Operation], Translator] = {
    (kind.name, operation): translator for kind in KINDS.values() for operation, translator in kind.translators.items()
}


def translator(kind: str, operation: Operation) -> Translator:
    found = _TRANSLATORS.get((kind, operation))
    if found is None:
        raise ProviderUnavailable(f"Providers of the kind '{kind}' are not served.")
    return found
