"""The price classes: what a provider may bill apart, each of them one line of `CLASSES`.

Everything that knows classes reads this table: prices and their rates, the counts of a call, what a hold covers,
receipts, the catalog file, the API's shapes and document, the pages. docs/catalog.md says what a new line needs
beside it. Pure.
"""

from typing import Any, Literal

from msgspec import Struct, defstruct

Reckoned = Literal["always", "when_cache_is_marked", "never"]


class PriceClass(Struct, frozen=True, kw_only=True):
    """What is priced by a figure of its own: USD per million tokens, or USD each.

    `part_of` is the class whose total includes it, and as which it is billed without a figure of its own: never at
    zero. Without `part_of` and without a figure it costs nothing: a `capability` that needs the figure keeps a route
    from being sold without it.
    """

    name: str  # in the catalog file, in price rows, in the API
    unit: Literal["token", "each"]
    counted_as: str  # the field of money.Usage, or the key of its `units`; empty: every call is one
    label: str  # on receipts
    part_of: str | None = None
    title: str = ""  # in the price form; empty: the name in words
    capability: str = ""  # what a route cannot offer without this price
    openrouter: str = ""  # what OpenRouter's model list calls it; empty: it has no such price
    only_if_priced: bool = False  # without a figure it is not on the receipt: it stays in the class it is part of
    held: Reckoned = "always"  # whether a hold reckons with every token of the total being of this class

    @property
    def is_token(self) -> bool:
        return self.unit == "token"

    @property
    def decimals(self) -> int:
        """Of a price in USD: the smallest one is a picodollar per token, or each."""
        return 6 if self.is_token else 12

    @property
    def words(self) -> str:
        return self.name.replace("_", " ")


# In the order in which the API, the catalog's differences and the price form name them.
CLASSES = (
    PriceClass(name="input", unit="token", counted_as="prompt_tokens", label="Input", openrouter="prompt"),
    PriceClass(name="output", unit="token", counted_as="completion_tokens", label="Output", openrouter="completion"),
    PriceClass(
        name="cache_read",
        unit="token",
        part_of="input",
        counted_as="cached_tokens",
        label="Cached input",
        openrouter="input_cache_read",
        held="never",  # nobody knows before what will be found in a cache
    ),
    PriceClass(
        name="cache_write_5m",
        unit="token",
        part_of="input",
        counted_as="cache_write_5m_tokens",
        label="Cache write, 5 minutes",
        title="Cache write, 5 minutes",
        openrouter="input_cache_write",
        held="when_cache_is_marked",
    ),
    PriceClass(
        name="cache_write_1h",
        unit="token",
        part_of="cache_write_5m",
        counted_as="cache_write_1h_tokens",
        label="Cache write, 1 hour",
        title="Cache write, 1 hour",
        openrouter="input_cache_write_1h",
        held="when_cache_is_marked",
    ),
    PriceClass(
        name="reasoning",
        unit="token",
        part_of="output",
        counted_as="reasoning_tokens",
        label="Reasoning",
        openrouter="internal_reasoning",
        only_if_priced=True,
    ),
    PriceClass(
        name="audio_input",
        unit="token",
        part_of="input",
        counted_as="audio_input_tokens",
        label="Audio in",
        capability="audio_input",
        openrouter="audio",
    ),
    PriceClass(
        name="audio_output",
        unit="token",
        part_of="output",
        counted_as="audio_output_tokens",
        label="Audio out",
        capability="audio_output",
        openrouter="audio_output",
    ),
    PriceClass(
        name="image", unit="each", counted_as="images", label="Images", capability="image_output", openrouter="image"
    ),
    PriceClass(name="request", unit="each", counted_as="", label="Request", openrouter="request", only_if_priced=True),
    PriceClass(
        name="web_search",
        unit="each",
        counted_as="web_searches",
        label="Web searches",
        capability="web_search",
        openrouter="web_search",
    ),
)

NAMES = tuple(one.name for one in CLASSES)
BY_NAME = {one.name: one for one in CLASSES}


def total_of(name: str) -> str | None:
    """The class at the end of the chain of `part_of`: `input` or `output`; None for what is part of nothing and has
    no parts."""
    parent = BY_NAME[name].part_of
    if parent is not None:
        return total_of(parent)
    return name if any(one.part_of == name for one in CLASSES) else None


# What the other tokens are part of: a price always has them.
TOTALS = tuple(name for name in NAMES if total_of(name) == name)


def _place_on_a_receipt(one: PriceClass) -> tuple[int, ...]:
    """The totals, the parts of each, what is counted by itself, what every call is."""
    if not one.counted_as:
        return (2,)
    total = total_of(one.name)
    if total is None:
        return (1,)
    return (0, -1) if total == one.name else (0, TOTALS.index(total))


ON_A_RECEIPT = tuple(one.name for one in sorted(CLASSES, key=_place_on_a_receipt))


def by_class(kind: Any, default: Any, base: type[Struct] = Struct, *, needed: Any = None) -> Any:
    """The base of a frozen struct with a field for every class, in their order: of type `kind`, absent as `default`.
    With `needed`, the totals are of that type and must be given."""
    fields = [(name, needed) if needed is not None and name in TOTALS else (name, kind, default) for name in NAMES]
    return defstruct("ByClass", fields, bases=(base,), module=__name__, frozen=True, kw_only=True)
