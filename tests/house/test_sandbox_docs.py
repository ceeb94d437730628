"""docs/sandbox.md says what the code does: every directive, every fault, every default."""

import re

import pytest

from sandbox import directives, faults, tokens
from sandbox.directives import BadDirective, Directive
from sandbox.openrouter.request import EFFORTS
from tests.kit import CHECKOUT

DOC = (CHECKOUT / "docs" / "sandbox.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The rows of the table that begins with this heading."""
    lines = DOC[DOC.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_directive_is_documented_with_its_default() -> None:
    expected = [[f"`{name}`", directives.default_of(name) or "-", doc] for name, doc in directives.DOCS.items()]
    assert table("| word | default | does |") == expected


def test_every_fault_is_documented_with_its_number_and_bill() -> None:
    expected = [
        [f"`{name}`", "-" if kind.number is None else str(kind.number), kind.bills, kind.doc]
        for name, kind in faults.KINDS.items()
    ]
    assert table("| fault | N | billed | what happens |") == expected


def test_the_directives_documented_are_those_that_exist() -> None:
    assert tuple(directives.DOCS) == Directive.__struct_fields__
    for word in directives.USAGE_PLACES + directives.USAGE_FORMS:
        assert f"`{word}`" in directives.DOCS["usage"]


def test_the_documented_token_counts_are_the_codes() -> None:
    counted = dict(table("| counted | tokens |"))
    assert counted["a prompt"] == f"{tokens.PROMPT_START_TOKENS}, each message, {tokens.REPLY_PRIMER_TOKENS}"
    assert counted["a message"].startswith(f"{tokens.TURN_TOKENS}, its text, {tokens.NAME_TOKENS} and")
    assert counted["a tool call"].startswith(f"{tokens.CALL_TOKENS}, ")
    assert counted["tools offered"].startswith(f"{tokens.TOOL_TOKENS} each")
    assert counted["an image"].startswith(
        f"{tokens.IMAGE_BASE_TOKENS}, and {tokens.IMAGE_TILE_TOKENS} for each tile of {tokens.IMAGE_TILE_PX} pixels"
    )
    assert counted["a sound"] == f"1 for each {tokens.AUDIO_BYTES_PER_TOKEN:,} bytes"
    assert counted["a file"] == f"1 for each {tokens.FILE_BYTES_PER_TOKEN} bytes"
    assert ", ".join(str(number) for number in EFFORTS.values() if number) in re.sub(r"\s+", " ", DOC)


def test_the_example_directive_can_be_read() -> None:
    example = re.search(r'\{"metadata": \{"sandbox": "(.*?)"\}\}', DOC)
    assert example is not None
    directive = directives.parse(example[1])
    assert (directive.tokens, directive.delay_ms, directive.fault) == (200, 5, "die_after:3")
    assert (directive.usage_place, directive.usage_form) == ("empty_choices", "zero")


def test_later_words_win_over_earlier_ones_and_over_the_default() -> None:
    assert directives.of("tokens=1 chunk=4", {"sandbox": "tokens=3 tokens=4"}, "sandbox: tokens=2") == Directive(
        tokens=4, chunk=4
    )
    assert directives.of("tokens=1", {"other": "tokens=2"}, "alice") == Directive(tokens=1)
    assert directives.of("", None, None) == Directive()


@pytest.mark.parametrize(
    "text",
    [
        "speed=9",
        "tokens=0",
        "tokens=many",
        "chunk=0",
        "think=1000001",
        "delay_ms=-1",
        "usage=odd",
        "cancel=maybe",
        "cost=free",
        "tokens",
    ],
)
def test_a_word_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadDirective):
        directives.parse(text)


def test_a_directive_has_a_greatest_length() -> None:
    with pytest.raises(BadDirective, match="longer than"):
        directives.parse("tokens=1 " * 300)
