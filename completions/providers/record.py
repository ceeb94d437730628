"""What a kind of provider is: one record that says all the house knows of it. Pure.

Nothing here asks anybody anything. A question is described (`Inquiry`, a GET below the provider's base URL, sent with
the kind's credentials), and what is answered is read; completions/catalog and completions/reconciliation do the
asking. docs/ADDING_A_PROVIDER.md leads through a new one.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from billing.pricing.money import Usage
from completions.ask import Operation, Translator
from completions.providers.fields import Treatment
from completions.routes import NO_RULES, RouteRules

Headers = Mapping[str, str]


class Unreadable(Exception):
    """What a provider tells of its bills cannot be taken, in one line."""


class Inquiry(Struct, frozen=True):
    """A GET: a path below the provider's base URL, and its parameters."""

    path: str
    params: tuple[tuple[str, str], ...] = ()


class Generation(Struct, frozen=True):
    """What a provider says of one call."""

    cost_usd: Decimal
    usage: Usage
    streamed: bool = False
    cancelled: bool = False
    finish_reason: str = ""


class Lookup(Struct, frozen=True):
    """How a provider is asked for the bill of a single call; a 404 means that it does not know the call, or not yet.

    `after_s`: how long after a call it knows. `inquiry` takes the provider's own id of the call. `read` takes the
    answer's body, raises Unreadable, and must bear anything.
    """

    after_s: int
    inquiry: Callable[[str], Inquiry]
    read: Callable[[bytes], Generation]


class Day(Struct):
    """One model on one day. Searches are apart where the provider bills them apart."""

    cost_usd: Decimal = Decimal(0)
    search_usd: Decimal = Decimal(0)
    prompt_tokens: int = 0
    completion_tokens: int = 0


Report = dict[tuple[date, str], Day]  # by day and the provider's name of the model; "" is what belongs to none
# Yields what shall be asked, is sent the JSON of every answer (its decimals as Decimal), returns what they said.
Dialogue = Generator[Inquiry, Any, Report]


class DayReports(Struct, frozen=True, kw_only=True):
    """How a provider is asked what an account was billed for whole days, that is for the calls of the settings' key.

    `key_setting` names the setting with the key that may ask. `read` gets the days, oldest first; what it raises for an
    answer that is no report (KeyError, TypeError ...) is told as such, an Unreadable in its own words.
    """

    key_setting: str
    read: Callable[[Sequence[date]], Dialogue]
    searches_apart: bool = False


class ProviderKind(Struct, frozen=True, kw_only=True):
    """Everything about a kind; completions/providers/kinds.py lists them.

    A provider without a base URL of its own has the one in `base_url_setting`, and the key in `key_setting`; a kind
    without these settings has providers with a base URL alone. `needs_key`: without a key they are not served.

    `probe_path` answers, without a call, to whoever may make one; `credentials` are the headers that show a key.
    `stream_media_type` is what streamed answers come as. `call_id_header` is the header of an answer that names the
    call, where the provider says its id before the body.
    `rules` is what a route's rules must be; None: its routes have none.
    `treatment` is its column of docs/providers.md: every field of a request, in their order.
    """

    name: str  # in catalog files and rows
    label: str  # what people read
    translators: Mapping[Operation, Translator]
    probe_path: str
    credentials: Callable[[str], Headers]
    treatment: Mapping[str, Treatment]
    base_url_setting: str | None = None
    key_setting: str | None = None
    needs_key: bool = True
    stream_media_type: str = "text/event-stream"
    call_id_header: str | None = None
    rules: type[RouteRules] | None = None
    lookup: Lookup | None = None
    day_reports: DayReports | None = None

    def read_rules(self, given: Mapping[str, Any]) -> RouteRules:
        """A route's rules as its translators read them; raises ValueError, in one line, for what is none."""
        return NO_RULES if self.rules is None else msgspec.convert(given, self.rules)


def bearer(secret: str) -> Headers:
    """The credentials of most."""
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def usd(value: Any) -> Decimal:
    """A figure of a report, as a number or as text."""
    amount = Decimal(value)
    if not amount.is_finite():
        raise Unreadable("a cost that is none")
    return amount
