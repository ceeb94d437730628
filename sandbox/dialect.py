"""What the sandbox needs to speak a provider's wire format; a package such as `openrouter` offers it."""

from typing import Protocol

from sandbox.cards import Card
from sandbox.conversation import Question, Refusal
from sandbox.exchange import Exchange
from sandbox.steps import Steps, Whole


class Asked(Protocol):
    """What is looked at of a decoded request, beside what becomes the question."""

    @property
    def model(self) -> str: ...
    @property
    def user(self) -> str | None: ...
    @property
    def metadata(self) -> dict[str, str] | None: ...
    @property
    def bound(self) -> int | None: ...

    def question(self, card: Card) -> Question:
        """What is asked of this model. Raises Refusal for what it cannot do."""


class Dialect(Protocol):
    kind: str  # of provider, in the catalog's words

    def new_id(self, now: float) -> str: ...

    def authorize(self, headers: dict[str, str]) -> None:
        """Raises Refusal for a missing or wrong key."""

    def decode(self, headers: dict[str, str], body: bytes) -> Asked:
        """Raises Refusal for what the provider does not take."""

    def unknown_model(self, model: str) -> Refusal: ...

    def refused(self, refusal: Refusal) -> Whole:
        """The error in the provider's words."""

    def steps(self, x: Exchange) -> Steps:
        """The reply, with the faults that need the provider's own words."""

    def provider(self, x: Exchange) -> str: ...

    def native_finish(self, x: Exchange) -> str: ...
