"""Golden figures: what providers say was used, whole and streamed, to exact micro-credits.

Prices are copies of the catalog's as they were when the figures were worked out by hand; the dollars stand beside
the credits, so that a reader can check a line with a pocket calculator: usd / 0.95 * 100 * 1,000,000, rounded up.
"""

from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest

from billing.pricing.money import CreditRate, Price, Tier, cost_pico, rates_from_usd, usd
from completions.ask import Reported
from tests.kit.translators import adapter

RATE = CreditRate.of(Decimal(100), Decimal("0.05"))
CONTEXT = 10_000_000


def price(*tiers: tuple[int, dict[str, Any]], **base: Any) -> Price:
    told = tuple(Tier(above, rates_from_usd({**base, **figures})) for above, figures in tiers)
    return Price(1, 1, rates_from_usd(base), told)


def tier(above_prompt_tokens: int, **figures: str) -> tuple[int, dict[str, Any]]:
    return above_prompt_tokens, figures


PRICES = {
    "gpt-4.1-mini": price(input="0.40", output="1.60", cache_read="0.10", web_search="0.01"),
    "gpt-4o": price(input="2.50", output="10.00", cache_read="1.25"),
    "gpt-5.5": price(
        tier(272_000, input="10.00", output="45.00", cache_read="1.00"),
        input="5.00",
        output="30.00",
        cache_read="0.50",
        web_search="0.01",
    ),
    "gpt-6-luna": price(
        tier(272_000, input="0.20", output="0.75", cache_read="0.02", cache_write_5m="0.25"),
        input="0.10",
        output="0.50",
        cache_read="0.01",
        cache_write_5m="0.125",
        web_search="0.01",
    ),
    "gpt-audio": price(input="2.50", output="10.00", audio_input="32.00", audio_output="64.00"),
    "gemini-3.1-pro": price(
        tier(200_000, input="4.00", output="18.00", cache_read="0.40", cache_write_5m="4.375"),
        input="2.00",
        output="12.00",
        cache_read="0.20",
        cache_write_5m="2.375",
    ),
    "gemini-2.5-flash": price(
        input="0.30",
        output="2.50",
        cache_read="0.03",
        cache_write_5m="0.383334",
        audio_input="1.00",
        web_search="0.014",
    ),
    "llama-3.3-70b": price(input="0.10", output="0.32"),
    "reasoner": price(input="1.00", output="2.00", reasoning="3.00"),
    "per-request": price(input="0.50", output="1.00", request="0.005", image="0.04"),
    "claude-sonnet-4.6": price(
        input="3.00", output="15.00", cache_read="0.30", cache_write_5m="3.75", cache_write_1h="6.00", web_search="0.01"
    ),
    "claude-opus-5": price(
        input="5.00",
        output="25.00",
        cache_read="0.50",
        cache_write_5m="6.25",
        cache_write_1h="10.00",
        web_search="0.01",
    ),
    "claude-opus-5.5": price(
        input="4.00", output="20.00", cache_read="0.20", cache_write_5m="5.00", cache_write_1h="8.00", web_search="0.01"
    ),
    "claude-sonnet-5.5": price(
        input="2.00", output="10.00", cache_read="0.10", cache_write_5m="2.50", cache_write_1h="4.00", web_search="0.01"
    ),
    "claude-fable-5.1": price(
        input="10.00",
        output="50.00",
        cache_read="0.25",
        cache_write_5m="12.50",
        cache_write_1h="20.00",
        web_search="0.01",
    ),
    "claude-haiku-4.5": price(
        input="1.00", output="5.00", cache_read="0.10", cache_write_5m="1.25", cache_write_1h="2.00", web_search="0.01"
    ),
    "claude-haiku-5.5": price(
        tier(100_000, input="0.50", output="2.50", cache_read="0.05", cache_write_5m="0.625", cache_write_1h="1.00"),
        input="0.10",
        output="0.50",
        cache_read="0.01",
        cache_write_5m="0.125",
        cache_write_1h="0.20",
        web_search="0.01",
    ),
}


class Row(NamedTuple):
    name: str
    model: str
    usage: dict[str, Any]
    prompt_tokens: int
    usd: str
    micro: int


def chat_usage(
    prompt: int,
    completion: int,
    cached: int | None = None,
    write: int | None = None,
    audio: int | None = None,
    reason: int | None = None,
    caudio: int | None = None,
    search: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """As OpenRouter and OpenAI say it; what is None is not said."""
    of_prompt = {"cached_tokens": cached, "cache_write_tokens": write, "audio_tokens": audio}
    of_completion = {"reasoning_tokens": reason, "audio_tokens": caudio}
    details = {
        "prompt_tokens_details": _said(of_prompt),
        "completion_tokens_details": _said(of_completion),
        "server_tool_use_details": _said({"web_search_requests": search}),
    }
    totals = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**totals, **{name: part for name, part in details.items() if part}, **more}


def claude_usage(
    plain: int,
    output: int,
    read: int | None = None,
    w5: int | None = None,
    w1: int | None = None,
    think: int | None = None,
    search: int | None = None,
    total: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """As Anthropic says it; what is None is not said."""
    lives = _said({"ephemeral_5m_input_tokens": w5, "ephemeral_1h_input_tokens": w1})
    told = {
        "input_tokens": plain,
        "output_tokens": output,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": (w5 or 0) + (w1 or 0) if lives and total is None else total,
        "cache_creation": lives or None,
        "output_tokens_details": _said({"thinking_tokens": think}) or None,
        "server_tool_use": _said({"web_search_requests": search}) or None,
    }
    return {**_said(told), **more}


def iteration(kind: str, plain: int, output: int, read: int = 0) -> dict[str, Any]:
    return {"type": kind, **claude_usage(plain, output, read, 0, 0)}


def _said(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if part is not None}


OPENROUTER = (
    Row("the public API's example", "gpt-4.1-mini", chat_usage(25, 8, 0, 0, 0, 0, 0), 25, "0.0000228", 2400),
    Row("totals alone", "gpt-4.1-mini", chat_usage(25, 8), 25, "0.0000228", 2400),
    Row(
        "null details",
        "gpt-4.1-mini",
        chat_usage(25, 8, prompt_tokens_details=None, completion_tokens_details=None),
        25,
        "0.0000228",
        2400,
    ),
    Row("one token each", "gpt-4.1-mini", chat_usage(1, 1), 1, "0.000002", 211),
    Row("nothing at all", "gpt-4.1-mini", chat_usage(0, 0), 0, "0", 0),
    Row("a prompt alone", "gpt-4.1-mini", chat_usage(1000, 0), 1000, "0.0004", 42106),
    Row("output alone", "gpt-4.1-mini", chat_usage(0, 1000), 0, "0.0016", 168422),
    Row("a long prompt without tiers", "gpt-4.1-mini", chat_usage(1000000, 32768), 1000000, "0.4524288", 47624085),
    Row("cached", "gpt-4.1-mini", chat_usage(1200, 30, 1024), 1200, "0.0002208", 23243),
    Row("all cached", "gpt-4.1-mini", chat_usage(1024, 30, 1024), 1024, "0.0001504", 15832),
    Row("cached, dearer", "gpt-4o", chat_usage(2006, 300, 1920), 2006, "0.005615", 591053),
    Row("one search", "gpt-4.1-mini", chat_usage(1000, 50, search=1), 1000, "0.01048", 1103158),
    Row("ten searches", "gpt-4.1-mini", chat_usage(1000, 50, search=10), 1000, "0.10048", 10576843),
    Row(
        "searches under their older name",
        "gpt-4.1-mini",
        chat_usage(1000, 50, server_tool_use={"web_search_requests": 2}),
        1000,
        "0.02048",
        2155790,
    ),
    Row(
        "no searches counted",
        "gpt-4.1-mini",
        chat_usage(1000, 50, server_tool_use_details={"web_search_requests": None}),
        1000,
        "0.00048",
        50527,
    ),
    Row("reasoning at the price of output", "gpt-5.5", chat_usage(500, 900, reason=640), 500, "0.0295", 3105264),
    Row("more reasoning than output", "gpt-5.5", chat_usage(43, 10, reason=11), 43, "0.000515", 54211),
    Row("reasoning priced apart", "reasoner", chat_usage(100, 300, reason=200), 100, "0.0009", 94737),
    Row("more reasoning than output, priced apart", "reasoner", chat_usage(43, 10, reason=11), 43, "0.000076", 8000),
    Row("at the edge of a tier", "gpt-5.5", chat_usage(272000, 1000), 272000, "1.39", 146315790),
    Row("one token beyond it", "gpt-5.5", chat_usage(272001, 1000), 272001, "2.76501", 291053685),
    Row("beyond a tier, most of it cached", "gpt-5.5", chat_usage(300000, 10, 250000), 300000, "0.75045", 78994737),
    Row("a cache write", "gpt-6-luna", chat_usage(5000, 100, 0, 4000), 5000, "0.00065", 68422),
    Row("a cache write beyond a tier", "gpt-6-luna", chat_usage(280000, 100, 1000, 4000), 280000, "0.056095", 5904737),
    Row("a cache write that has no price", "gpt-4o", chat_usage(5000, 100, 0, 4000), 5000, "0.0135", 1421053),
    Row("a cache read that has no price", "llama-3.3-70b", chat_usage(5000, 100, 4000), 5000, "0.000532", 56000),
    Row("sound in and out", "gpt-audio", chat_usage(300, 200, 0, 0, 250, 0, 150), 300, "0.018225", 1918422),
    Row("sound alone", "gpt-audio", chat_usage(250, 150, audio=250, caudio=150), 250, "0.0176", 1852632),
    Row("sound in at a price of its own", "gemini-2.5-flash", chat_usage(1000, 20, 0, 0, 800), 1000, "0.00091", 95790),
    Row("sound out that has no price", "gemini-2.5-flash", chat_usage(10, 20, caudio=20), 10, "0.000053", 5579),
    Row("six decimals of a price", "gemini-2.5-flash", chat_usage(1000, 20, 0, 999), 1000, "0.000433250666", 45606),
    Row("a dearer search", "gemini-2.5-flash", chat_usage(1000, 20, search=3), 1000, "0.04235", 4457895),
    Row("Gemini at the edge", "gemini-3.1-pro", chat_usage(200000, 10), 200000, "0.40012", 42117895),
    Row(
        "Gemini beyond it, read and written",
        "gemini-3.1-pro",
        chat_usage(200001, 10, 100000, 50000),
        200001,
        "0.458934",
        48308843,
    ),
    Row("a price for each request", "per-request", chat_usage(10, 10), 10, "0.005015", 527895),
    Row("a request for nothing", "per-request", chat_usage(0, 0), 0, "0.005", 526316),
    Row("Claude by OpenRouter", "claude-sonnet-4.6", chat_usage(254, 9, 0, 0, 0, 4), 254, "0.000897", 94422),
    Row(
        "Claude by OpenRouter, read and written",
        "claude-sonnet-4.6",
        chat_usage(10000, 100, 8000, 1500),
        10000,
        "0.011025",
        1160527,
    ),
)

ANTHROPIC = (
    Row("plain", "claude-sonnet-4.6", claude_usage(15, 8), 15, "0.000165", 17369),
    Row(
        "the sample with a cache read",
        "claude-sonnet-4.6",
        claude_usage(380, 52, 1200, 0, 0, service_tier="standard", inference_geo="global"),
        1580,
        "0.00228",
        240000,
    ),
    Row("the sample with thinking", "claude-opus-5", claude_usage(420, 96, 0, 0, 0, 31), 420, "0.0045", 473685),
    Row("one token in and out", "claude-sonnet-4.6", claude_usage(1, 1), 1, "0.000018", 1895),
    Row("zero of everything", "claude-sonnet-4.6", claude_usage(0, 0, 0, 0, 0, 0, 0), 0, "0", 0),
    Row(
        "nulls for what there was none of",
        "claude-sonnet-4.6",
        claude_usage(
            15,
            8,
            cache_read_input_tokens=None,
            cache_creation_input_tokens=None,
            cache_creation=None,
            server_tool_use=None,
            output_tokens_details=None,
        ),
        15,
        "0.000165",
        17369,
    ),
    Row("five minutes written", "claude-sonnet-4.6", claude_usage(3, 8, 0, 5000, 0), 5003, "0.018879", 1987264),
    Row("an hour written", "claude-sonnet-4.6", claude_usage(3, 8, 0, 0, 5000), 5003, "0.030129", 3171474),
    Row("both written", "claude-sonnet-4.6", claude_usage(3, 8, 0, 2000, 3000), 5003, "0.025629", 2697790),
    Row(
        "read, and both written",
        "claude-sonnet-4.6",
        claude_usage(10, 100, 100000, 2000, 3000),
        105010,
        "0.05703",
        6003158,
    ),
    Row("read again", "claude-sonnet-4.6", claude_usage(3, 8, 5000, 0, 0), 5003, "0.001629", 171474),
    Row(
        "a write of unsaid life",
        "claude-sonnet-4.6",
        claude_usage(3, 8, cache_creation_input_tokens=5000),
        5003,
        "0.018879",
        1987264,
    ),
    Row(
        "a write half of which is known",
        "claude-sonnet-4.6",
        claude_usage(3, 8, 0, 0, 1000, total=5000),
        5003,
        "0.021129",
        2224106,
    ),
    Row(
        "lives without their sum",
        "claude-sonnet-4.6",
        {**claude_usage(3, 8, 0, 2000, 3000), "cache_creation_input_tokens": None},
        5003,
        "0.025629",
        2697790,
    ),
    Row("a cheap read, Opus 5.5", "claude-opus-5.5", claude_usage(100, 50, 40000, 0, 0), 40100, "0.0094", 989474),
    Row("a cheap read, Sonnet 5.5", "claude-sonnet-5.5", claude_usage(100, 50, 40000, 0, 0), 40100, "0.0047", 494737),
    Row(
        "the cheapest read, Fable 5.1", "claude-fable-5.1", claude_usage(100, 50, 40000, 0, 0), 40100, "0.0135", 1421053
    ),
    Row(
        "the dearest write, Fable 5.1",
        "claude-fable-5.1",
        claude_usage(100, 50, 0, 0, 40000),
        40100,
        "0.8035",
        84578948,
    ),
    Row("much thinking", "claude-fable-5.1", claude_usage(50, 8000, think=7900), 50, "0.4005", 42157895),
    Row("all of it thinking", "claude-opus-5", claude_usage(50, 4096, think=4096), 50, "0.10265", 10805264),
    Row("old models do not count thinking", "claude-haiku-4.5", claude_usage(50, 1500), 50, "0.00755", 794737),
    Row("one search at Anthropic", "claude-sonnet-4.6", claude_usage(2411, 90, search=1), 2411, "0.018583", 1956106),
    Row(
        "five searches and a cache",
        "claude-opus-5",
        claude_usage(12000, 900, 8000, 500, 0, 300, 5),
        20500,
        "0.139625",
        14697369,
    ),
    Row("a search alone", "claude-sonnet-4.6", claude_usage(0, 0, search=1), 0, "0.01", 1052632),
    Row("Haiku 5.5, short", "claude-haiku-5.5", claude_usage(15, 8), 15, "0.0000055", 579),
    Row("Haiku 5.5 at the edge", "claude-haiku-5.5", claude_usage(100000, 8), 100000, "0.010004", 1053053),
    Row("Haiku 5.5 one beyond", "claude-haiku-5.5", claude_usage(100001, 8), 100001, "0.0500205", 5265316),
    Row(
        "Haiku 5.5 at the edge with its caches",
        "claude-haiku-5.5",
        claude_usage(20000, 8, 50000, 20000, 10000),
        100000,
        "0.007004",
        737264,
    ),
    Row(
        "Haiku 5.5 beyond by its caches alone",
        "claude-haiku-5.5",
        claude_usage(1, 8, 100000, 0, 0),
        100001,
        "0.0050205",
        528474,
    ),
    Row(
        "Haiku 5.5 beyond, written for an hour",
        "claude-haiku-5.5",
        claude_usage(1, 8, 0, 0, 100000),
        100001,
        "0.1000205",
        10528474,
    ),
    Row("a million tokens", "claude-sonnet-4.6", claude_usage(872000, 128000), 872000, "4.536", 477473685),
    Row(
        "a long write and a long answer",
        "claude-opus-5",
        claude_usage(7, 64000, 0, 900000, 0),
        900007,
        "7.225035",
        760530000,
    ),
    Row(
        "iterations are the whole truth",
        "claude-sonnet-4.6",
        claude_usage(100, 20, 0, iterations=[iteration("compaction", 5000, 300), iteration("message", 100, 20)]),
        5100,
        "0.0201",
        2115790,
    ),
    Row(
        "iterations of another model are its own",
        "claude-sonnet-4.6",
        claude_usage(
            100, 20, 0, iterations=[iteration("advisor_message", 9000, 900), iteration("message", 100, 20, 50)]
        ),
        150,
        "0.000615",
        64737,
    ),
    Row("rounded up to a whole micro-credit", "claude-haiku-5.5", claude_usage(1, 0), 1, "0.0000001", 11),
)


def openrouter_whole(usage: dict[str, Any]) -> Reported | None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    body = {"id": "gen-1", "choices": [choice], "usage": usage}
    return adapter("openrouter").answer(msgspec.json.encode(body), context_length=CONTEXT).reported


def openrouter_streamed(usage: dict[str, Any]) -> Reported | None:
    words = {"id": "gen-1", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}
    last = {"id": "gen-1", "choices": [], "usage": usage}
    return reported_at_last("openrouter", words, last)


def anthropic_whole(usage: dict[str, Any]) -> Reported | None:
    told = {"type": "message", "content": [], "stop_reason": "end_turn", "usage": usage}
    return adapter("anthropic").answer(msgspec.json.encode(told), context_length=CONTEXT).reported


def anthropic_streamed(usage: dict[str, Any]) -> Reported | None:
    """The prompt's side at the start, everything but the lives of cache writes at the end."""
    begun = {name: part for name, part in usage.items() if name not in ("output_tokens_details", "iterations")}
    ended = {name: part for name, part in usage.items() if name != "cache_creation"}
    start = {"type": "message_start", "message": {"id": "msg_1", "usage": {**begun, "output_tokens": 1}}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ended}
    return reported_at_last("anthropic", start, end, {"type": "message_stop"})


def reported_at_last(kind: str, *events: dict[str, Any]) -> Reported | None:
    stream = adapter(kind).decoder(context_length=CONTEXT)
    chunks = [stream.event(msgspec.json.encode(event)) for event in events]
    return [chunk.reported for chunk in chunks if chunk and chunk.reported][-1]


WAYS = [
    *((openrouter_whole, row) for row in OPENROUTER),
    *((openrouter_streamed, row) for row in OPENROUTER),
    *((anthropic_whole, row) for row in ANTHROPIC),
    *((anthropic_streamed, row) for row in ANTHROPIC),
]


def test_there_are_enough_of_them() -> None:
    assert len({row.name for row in (*OPENROUTER, *ANTHROPIC)}) == len(OPENROUTER) + len(ANTHROPIC) >= 60


@pytest.mark.parametrize(("read", "row"), WAYS, ids=[f"{row.name}, {read.__name__}" for read, row in WAYS])
def test_usage_costs_exactly_so_many_micro_credits(read: Any, row: Row) -> None:
    reported = read(row.usage)
    assert (reported.problem, reported.is_partial, reported.cost_usd) == (None, False, None)
    cost = cost_pico(reported.usage, PRICES[row.model])
    assert reported.usage.prompt_tokens == row.prompt_tokens
    assert (usd(cost), RATE.micro(cost)) == (Decimal(row.usd), row.micro)
