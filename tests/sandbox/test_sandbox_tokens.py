"""The sandbox's tokenizer: exact counts, and pieces that make up the text again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import tokens
from sandbox.conversation import Attachment, Tool, ToolCall, Turn
from sandbox.knowledge import PROSE_WORDS


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ()),
        ("What is the capital of France?", ("What", " is", " the", " capital", " of", " France", "?")),
        ("The capital of France is Paris.", ("The", " capital", " of", " France", " is", " Paris", ".")),
        ("12345", ("123", "45")),
        ("internationalization", ("internationa", "lization")),
        ("naïve", ("na", "ïve")),
        ("日本の首都", ("日本の", "首都")),
        ("a_b", ("a", "_", "b")),
        ("wait...!?", ("wait", "...!?")),
        ("a  b\n\nc", ("a", " ", " b", "\n", "\n", "c")),
    ],
)
def test_text_is_split_into_these_pieces(text: str, pieces: tuple[str, ...]) -> None:
    assert tokens.split(text) == pieces
    assert tokens.count(text) == len(pieces)


@given(st.text())
def test_the_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(tokens.split(text)) == text


def test_the_example_of_the_public_api_has_25_prompt_tokens() -> None:
    turns = (Turn("system", "You are a helpful assistant."), Turn("user", "What is the capital of France?"))
    assert tokens.prompt_tokens(turns, (), "") == 25


def test_tools_names_calls_and_attachments_count() -> None:
    plain = Turn("user", "Hello")
    assert tokens.turn_tokens(plain) == 5
    assert tokens.turn_tokens(Turn("user", "Hello", name="alice")) == 7
    assert tokens.turn_tokens(Turn("user", "Hello", (Attachment("image", "image/png", 1, 255),))) == 260
    called = Turn("assistant", "", tool_calls=(ToolCall("call_1", "get_weather", '{"city": "Paris"}'),))
    assert tokens.turn_tokens(called) == 4 + 3 + 3 + 6
    tool = Tool("add", "", {})
    assert tokens.prompt_tokens((plain,), (tool,), '[{"name":"add"}]') == 9 + 7 + 5


@pytest.mark.parametrize(
    ("width", "height", "low_detail", "expected"),
    [
        (64, 64, False, 255),
        (513, 512, False, 425),
        (4096, 4096, True, 85),
        (0, 0, False, 765),
        (9999, 9999, False, 2805),
    ],
)
def test_an_image_costs_85_tokens_and_170_for_each_tile(
    width: int, height: int, low_detail: bool, expected: int
) -> None:
    assert tokens.image_tokens(width, height, low_detail) == expected


def test_sounds_and_files_cost_by_their_size() -> None:
    assert [tokens.audio_tokens(size) for size in (0, 1, 3200, 3201)] == [0, 1, 1, 2]
    assert [tokens.file_tokens(size) for size in (0, 1, 64, 65)] == [0, 1, 1, 2]


@pytest.mark.parametrize("word", sorted(set(PROSE_WORDS)))
def test_every_word_of_the_prose_is_one_token(word: str) -> None:
    assert tokens.count(word.capitalize()) == tokens.count(f" {word}") == 1
