"""The sandbox's model: a question in, an honest and deterministic answer out. Pure.

It knows capitals, sums and a few examples of things, follows a conversation, describes images,
calls tools, uses their results and fills JSON schemas. Asked for anything else it writes prose
that depends on the whole conversation.
"""

import hashlib
import json
import re
from collections.abc import Callable

import msgspec

from sandbox import arithmetic, prose, synthesis, tokens, toolbox
from sandbox.conversation import Answer, Attachment, CallPieces, Json, Question, ToolCall, Turn
from sandbox.directives import Directive
from sandbox.knowledge import ALIASES, CAPITALS, EXAMPLES, NUMBER_WORDS

PROSE_TOKENS_MIN = 24
PROSE_TOKENS_SPREAD = 40
_COUNT_MAX = 1000
_ASKED_CHARS_MAX = 2000  # of a text that is tried as a question; longer ones are answered with prose
_FOLLOW_UP = re.compile(
    r"(?:and |then )?(?:what about|how about|and)\s+(?:an? )?(.+?)\s*[?.!]*", re.IGNORECASE | re.DOTALL
)


class Reply(msgspec.Struct, frozen=True):
    """A text, and what it states by name (to fill a JSON schema with)."""

    text: str
    facts: dict[str, Json] = {}


Rule = Callable[[re.Match[str]], Reply | None]


def answer(question: Question, output_max: int, directive: Directive) -> Answer:
    """The answer, within `output_max` tokens and the question's own bound."""
    budget = min(output_max, question.max_tokens or output_max)
    reasoning = _reasoning(question, directive)[:budget]
    rest = budget - len(reasoning)
    calls = () if directive.tokens or directive.letters else toolbox.choose(question)
    if calls:
        return _calling(calls, reasoning, rest)
    return _saying(_pieces(question, directive), reasoning, rest)


def _reasoning(question: Question, directive: Directive) -> tuple[str, ...]:
    length = question.reasoning_tokens if directive.think is None else directive.think
    return prose.tokens(seed(question, b"reasoning"), length) if length else ()


def _pieces(question: Question, directive: Directive) -> tuple[str, ...]:
    if directive.letters:
        return ("a" * directive.letters,)
    if directive.tokens:
        # The end token makes it whole, beside what was spent on reasoning.
        return prose.tokens(seed(question), directive.tokens - 1)
    pieces = tokens.split(_text(question))
    return _until_stop(pieces, question.stop) if question.stop else pieces


def _saying(pieces: tuple[str, ...], reasoning: tuple[str, ...], rest: int) -> Answer:
    """The end token is a token: a text that leaves no room for it ends for length."""
    if len(pieces) < rest:
        return Answer(pieces=pieces, reasoning=reasoning, tokens=len(reasoning) + len(pieces) + 1)
    return Answer(pieces=pieces[:rest], reasoning=reasoning, finish="length", tokens=len(reasoning) + rest)


def _calling(calls: tuple[ToolCall, ...], reasoning: tuple[str, ...], rest: int) -> Answer:
    made = []
    for call in calls:
        head = tokens.CALL_TOKENS + tokens.count(call.name)
        pieces = tokens.split(call.arguments)[: max(0, rest - head)]
        if rest < head:
            break
        made.append(CallPieces(call.id, call.name, pieces, head + len(pieces)))
        rest -= head + len(pieces)
    whole = len(made) == len(calls) and rest > 0
    used = len(reasoning) + sum(call.tokens for call in made)
    finish = "tool_calls" if whole else "length"
    return Answer(reasoning=reasoning, calls=tuple(made), finish=finish, tokens=used + (1 if whole else rest))


def _until_stop(pieces: tuple[str, ...], stops: tuple[str, ...]) -> tuple[str, ...]:
    """The pieces of the text before the first stop sequence."""
    text = "".join(pieces)
    end = min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))
    return pieces if end == len(text) else tokens.split(text[:end])


def seed(question: Question, salt: bytes = b"") -> int:
    """A number that depends on all that was said, and on nothing else."""
    said = msgspec.json.encode((question.turns, question.seed))
    return int.from_bytes(hashlib.blake2b(said + salt, digest_size=8).digest(), "big")


def _text(question: Question) -> str:
    reply = _reply(question)
    if question.json_schema is None:
        return reply.text
    return _as_json(question.json_schema, reply, last_user(question.turns).text)


def _as_json(schema: dict[str, Json], reply: Reply, asked: str) -> str:
    if not schema:
        return _compact({**reply.facts, "answer": reply.text})
    plain = "" if reply.facts == {} and synthesis.names(asked) else reply.text
    return _compact(synthesis.value(schema, synthesis.Hints(asked, {"answer": reply.text, **reply.facts}, plain)))


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _reply(question: Question) -> Reply:
    results = toolbox.results(question.turns)
    if results:
        return Reply(" ".join(results))
    turn = last_user(question.turns)
    if turn.attachments:
        return Reply(_described(turn.attachments))
    return _known(question.turns, turn.text) or Reply(_prose(question))


def _prose(question: Question) -> str:
    number = seed(question)
    return "".join(prose.tokens(number, PROSE_TOKENS_MIN + number % PROSE_TOKENS_SPREAD))


def last_user(turns: tuple[Turn, ...]) -> Turn:
    return next((turn for turn in reversed(turns) if turn.role == "user"), turns[-1])


# --- What it knows --------------------------------------------------------------------------


def _known(turns: tuple[Turn, ...], text: str) -> Reply | None:
    found = _direct(text)
    if found is None and len(text) <= _ASKED_CHARS_MAX and (follow_up := _FOLLOW_UP.fullmatch(text.strip())):
        found = _direct(follow_up[1]) or _continued(turns, follow_up[1])
    return found


def _continued(turns: tuple[Turn, ...], subject: str) -> Reply | None:
    """ "What about Germany?": the newest earlier question that has a subject, asked of another."""
    for turn in reversed([turn for turn in turns if turn.role == "user"][:-1]):
        for pattern, rule in _SUBJECT_RULES:
            if len(turn.text) <= _ASKED_CHARS_MAX and pattern.fullmatch(turn.text.strip()):
                return rule(subject)
    return None


def _direct(text: str) -> Reply | None:
    text = text.strip()
    if len(text) > _ASKED_CHARS_MAX:
        return None
    for pattern, rule in _RULES:
        if (match := pattern.fullmatch(text)) and (reply := rule(match)):
            return reply
    return None


def _capital(country: str) -> Reply:
    key = country.strip().lower().removeprefix("the ")
    if key not in _COUNTRIES:
        return Reply(f"I do not know the capital of {country.strip()}.")
    name = _COUNTRIES[key]
    city = CAPITALS[name]
    end = "" if city.endswith(".") else "."
    return Reply(f"The capital of {name} is {city}{end}", {"country": name, "capital": city, "city": city})


_COUNTRIES = {name.lower().removeprefix("the "): name for name in CAPITALS} | ALIASES


def _example(kind: str, number: int = 1) -> Reply | None:
    kind = kind.strip().lower()
    singular = next((form for form in (kind, kind.removesuffix("s"), _from_ies(kind)) if form in EXAMPLES), None)
    if singular is None:
        return None
    chosen = EXAMPLES[singular][:number]
    return Reply(_sentence(_listed(chosen)), {"name": chosen[0], singular: chosen[0], "names": list(chosen)})


def _from_ies(plural: str) -> str:
    return plural.removesuffix("ies") + "y"


def _sum(match: re.Match[str]) -> Reply | None:
    solved = arithmetic.solve(match[1])
    if solved is None:
        return None
    sum_text, result = solved
    if result is None:
        return Reply(f"{sum_text} is undefined: division by zero.")
    number = int(result) if result.denominator == 1 else float(result)
    return Reply(f"{sum_text} = {arithmetic.written(result)}.", {"result": number, "value": number})


def _counted(match: re.Match[str]) -> Reply | None:
    first, last = int(match[1] or 1), int(match[2])
    if not 0 <= last - first < _COUNT_MAX:
        return None
    return Reply(", ".join(str(number) for number in range(first, last + 1)))


def _several(match: re.Match[str]) -> Reply | None:
    word = match[1].lower()
    number = NUMBER_WORDS.index(word) if word in NUMBER_WORDS else int(word) if word.isdigit() else 1
    return _example(match[2], max(1, number))


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


_POLITE = r"(?:please |can you |could you |would you )*"
_CAPITAL_OF = _pattern(
    rf"{_POLITE}(?:what(?:'s|’s| is)|tell me|name|give me)?\s*(?:the )?capital(?: city)? of ([^?.!,]+)[?.!\s]*"
)
_NAME_A = _pattern(rf"{_POLITE}(?:name|give me|tell me|think of|suggest)\s+(an?|one|another)\s+([a-z]+)[?.!\s]*")
_NAME_SOME = _pattern(rf"{_POLITE}(?:name|give me|tell me|list|suggest)\s+([a-z]+|\d)\s+([a-z]+)[?.!\s]*")
_ARITHMETIC = _pattern(
    rf"{_POLITE}(?:what(?:'s|’s| is)|how much is|calculate|compute|solve|evaluate)?\s*([-\d(][^?=a-wyz]*[\d)])[=?.!\s]*"
)
_SAY = _pattern(rf"{_POLITE}(?:say|repeat(?: after me)?|echo|reply with|answer with|respond with)\b[:,]?\s+(.+)")
_COUNT = _pattern(rf"{_POLITE}count\s+(?:from (\d{{1,9}}) )?(?:up )?to (\d{{1,9}})[?.!\s]*")
_HELLO = _pattern(r"(?:hello|hi|hey|good (?:morning|afternoon|evening))(?:[ ,]+there)?[?.!\s]*")
_THANKS = _pattern(r"(?:thanks|thank you)(?: very much| a lot)?[?.!\s]*")

_RULES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (_CAPITAL_OF, lambda match: _capital(match[1])),
    (_ARITHMETIC, _sum),
    (_SAY, lambda match: Reply(_unquoted(match[1]))),
    (_COUNT, _counted),
    (_NAME_A, lambda match: _example(match[2])),
    (_NAME_SOME, _several),
    (_HELLO, lambda _: Reply("Hello! How can I help you today?")),
    (_THANKS, lambda _: Reply("You are welcome.")),
)
_SUBJECT_RULES: tuple[tuple[re.Pattern[str], Callable[[str], Reply | None]], ...] = (
    (_CAPITAL_OF, _capital),
    (_NAME_A, _example),
)


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


# --- What it sees ---------------------------------------------------------------------------


def _described(attachments: tuple[Attachment, ...]) -> str:
    images = [one for one in attachments if one.kind == "image"]
    sounds = [one for one in attachments if one.kind == "audio"]
    files = [one for one in attachments if one.kind == "file"]
    parts = [_group("image", images), _group("audio clip", sounds), _group("file", files)]
    return " ".join(part for part in parts if part)


def _group(noun: str, things: list[Attachment]) -> str:
    if not things:
        return ""
    number = NUMBER_WORDS[len(things)] if len(things) < len(NUMBER_WORDS) else str(len(things))
    verb, plural = ("is", "") if len(things) == 1 else ("are", "s")
    return f"There {verb} {number} {noun}{plural}: {_listed([_looks(thing) for thing in things])}."


def _looks(thing: Attachment) -> str:
    if thing.url:
        return f"one at {thing.url}"
    kind = thing.media_type.partition("/")[2].upper()
    if thing.width:
        return f"a {kind} of {thing.width} by {thing.height} pixels"
    return f"{thing.size_bytes} bytes of {kind}"


def _listed(things: list[str] | tuple[str, ...]) -> str:
    return " and ".join([", ".join(things[:-1]), things[-1]]) if len(things) > 1 else things[0]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
