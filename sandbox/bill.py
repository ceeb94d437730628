"""What a call consumed and what it costs, from what really happened and what a directive says instead. Pure."""

from decimal import Decimal

import msgspec

from sandbox.cards import Card
from sandbox.conversation import Answer, Question
from sandbox.directives import Directive
from sandbox.prices import Price, Usage, lines, usd


class Bill(msgspec.Struct, frozen=True):
    """Costs in USD. `search_usd` is part of `cost_usd`, not of the inference."""

    usage: Usage
    cost_usd: Decimal
    prompt_usd: Decimal
    completion_usd: Decimal
    search_usd: Decimal

    @property
    def inference_usd(self) -> Decimal:
        return self.cost_usd - self.search_usd


NOTHING = Bill(Usage(), Decimal(0), Decimal(0), Decimal(0), Decimal(0))
_OUTPUT_LINES = ("output", "reasoning", "audio_output", "image")


def of(question: Question, answer: Answer, directive: Directive, card: Card) -> Bill:
    return _priced(measured(question, answer, directive), directive.cost, card.price)


def of_delivered(question: Question, delivered_tokens: int, directive: Directive, card: Card) -> Bill:
    """Of a stream that was cancelled: the prompt, and the output tokens that were sent."""
    given = msgspec.structs.replace(directive, completion=delivered_tokens, reasoning=0, cost=None)
    return of(question, Answer(tokens=delivered_tokens), given, card)


def free(bill: Bill) -> Bill:
    """The same consumption at no cost: a generation that failed is not charged."""
    return Bill(bill.usage, Decimal(0), Decimal(0), Decimal(0), Decimal(0))


def measured(question: Question, answer: Answer, directive: Directive) -> Usage:
    spoken = len(answer.pieces) if question.speech else 0
    return Usage(
        prompt_tokens=_first(directive.prompt, question.prompt_tokens),
        completion_tokens=_first(directive.completion, answer.tokens),
        cached_tokens=_first(directive.cached, question.cached_tokens),
        cache_write_5m_tokens=_first(directive.cache_write, question.cache_write_5m_tokens),
        cache_write_1h_tokens=question.cache_write_1h_tokens if directive.cache_write is None else 0,
        reasoning_tokens=_first(directive.reasoning, len(answer.reasoning)),
        audio_input_tokens=_first(directive.audio, question.attached_tokens("audio")),
        audio_output_tokens=spoken,
        images=question.pictures,
        web_searches=_first(directive.searches, question.searches),
    )


def _priced(usage: Usage, cost: Decimal | None, price: Price) -> Bill:
    billed = lines(usage, price)
    output = sum(line.cost_pico for line in billed if line.name in _OUTPUT_LINES)
    search = sum(line.cost_pico for line in billed if line.name == "web_search")
    total = sum(line.cost_pico for line in billed)
    return Bill(
        usage=usage,
        cost_usd=usd(total) if cost is None else cost,
        prompt_usd=usd(total - output - search),
        completion_usd=usd(output),
        search_usd=usd(search),
    )


def _first(said: int | None, happened: int) -> int:
    return happened if said is None else said
