"""What the sandbox's model answers: honest, deterministic, within its bounds."""

import struct
from typing import Any

import pytest

from sandbox import brain, images, tokens
from sandbox.conversation import Answer, Attachment, Question, Turn
from sandbox.directives import Directive
from sandbox.knowledge import CAPITALS

OUTPUT_MAX = 1000


def question(*texts: str, **fields: Any) -> Question:
    """A conversation in which user and assistant take turns."""
    roles = ("user", "assistant")
    turns = tuple(Turn(roles[at % 2], text) for at, text in enumerate(texts))
    return Question(model="openai/gpt-4.1-mini", turns=turns, **fields)


def answer(*texts: str, directive: Directive | None = None, **fields: Any) -> Answer:
    return brain.answer(question(*texts, **fields), OUTPUT_MAX, directive or Directive())


def text(*texts: str, **fields: Any) -> str:
    return "".join(answer(*texts, **fields).pieces)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("What is the capital of France?", "The capital of France is Paris."),
        ("what's the capital of the uk", "The capital of the United Kingdom is London."),
        ("Please tell me the capital city of Brazil.", "The capital of Brazil is Brasília."),
        ("Capital of the United States?", "The capital of the United States is Washington, D.C."),
        ("What is the capital of Atlantis?", "I do not know the capital of Atlantis."),
        ("What is 2+2?", "2 + 2 = 4."),
        ("What's (3 x 4) - 10/4?", "(3 x 4) - 10 / 4 = 9.5."),
        ("12*3=", "12 * 3 = 36."),
        ("Calculate 1/3", "1 / 3 = 0.333333."),
        ("What is 1/0?", "1 / 0 is undefined: division by zero."),
        ("Say hello world", "hello world"),
        ('Repeat after me: "Quiet please"', "Quiet please"),
        ("Name a river.", "The Danube."),
        ("Name three rivers", "The Danube, the Rhine and the Nile."),
        ("List 2 countries", "Portugal and Japan."),
        ("Count to 5", "1, 2, 3, 4, 5"),
        ("Count from 8 to 10.", "8, 9, 10"),
        ("Hello!", "Hello! How can I help you today?"),
        ("Thank you very much!", "You are welcome."),
    ],
)
def test_a_question_it_knows_has_this_answer(asked: str, expected: str) -> None:
    assert text(asked) == expected


@pytest.mark.parametrize("country", CAPITALS)
def test_every_capital_is_known(country: str) -> None:
    assert text(f"What is the capital of {country}?").startswith(f"The capital of {country} is {CAPITALS[country]}")


@pytest.mark.parametrize("asked", ["2**9999999999", "9" * 3000 + "+1", "1+" * 3000 + "1", "What is 2024-10-10T12:00?"])
def test_what_is_no_plain_sum_is_answered_with_prose(asked: str) -> None:
    assert len(answer(asked).pieces) >= brain.PROSE_TOKENS_MIN


def test_a_follow_up_takes_the_question_before_it() -> None:
    assert (
        text("What is the capital of France?", "Paris.", "What about Germany?") == "The capital of Germany is Berlin."
    )
    assert text("Name a river.", "The Danube.", "And a lake?") == "Lake Victoria."
    assert text("Name a river.", "The Danube.", "Thanks", "Sure.", "How about an ocean?") == "The Atlantic."
    assert text("Hi", "Hello!", "And the capital of Peru?") == "The capital of Peru is Lima."


def test_prose_depends_on_the_whole_conversation_and_on_nothing_else() -> None:
    first = text("Tell me a story.")
    assert first == text("Tell me a story.")
    assert first.startswith("In writes writes door opens often writes book watches each.")
    assert (
        len({first, text("Tell me a tale."), text("Hi", "Hello", "Tell me a story."), text("Tell me a story.", seed=1)})
        == 4
    )


def test_the_text_says_nothing_about_a_sandbox() -> None:
    assert "sandbox" not in text("Who are you?").lower()


def test_an_answer_counts_its_pieces_and_the_end_token() -> None:
    found = answer("What is the capital of France?")
    assert (len(found.pieces), found.tokens, found.finish) == (7, 8, "stop")


@pytest.mark.parametrize(
    ("bound", "said", "counted", "finish"),
    [
        (1, "The", 1, "length"),
        (6, "The capital of France is Paris", 6, "length"),
        (7, "The capital of France is Paris.", 7, "length"),
        (8, "The capital of France is Paris.", 8, "stop"),
    ],
)
def test_a_bound_is_kept_exactly(bound: int, said: str, counted: int, finish: str) -> None:
    found = answer("What is the capital of France?", max_tokens=bound)
    assert ("".join(found.pieces), found.tokens, found.finish) == (said, counted, finish)


def test_the_model_keeps_its_own_bound() -> None:
    found = brain.answer(question("Count to 100", max_tokens=10**6), 20, Directive())
    assert (found.tokens, found.finish) == (20, "length")


@pytest.mark.parametrize("length", [1, 2, 3, 17, 200, 999])
def test_a_directive_sets_the_length_exactly(length: int) -> None:
    found = answer("Go on.", directive=Directive(tokens=length))
    assert (found.tokens, found.finish) == (length, "stop")
    assert tokens.count("".join(found.pieces)) == length - 1


def test_text_ends_before_a_stop_sequence() -> None:
    found = answer("What is the capital of France?", stop=(" is", "Paris"))
    assert ("".join(found.pieces), found.tokens, found.finish) == ("The capital of France", 5, "stop")
    assert text("What is the capital of France?", stop=("Rome",)) == "The capital of France is Paris."
    assert text("What is the capital of France?", stop=("ital",)) == "The cap"


def test_reasoning_comes_before_the_answer_and_counts() -> None:
    found = answer("What is the capital of France?", reasoning_tokens=16)
    assert (len(found.reasoning), len(found.pieces), found.tokens) == (16, 7, 24)
    cut = answer("What is the capital of France?", reasoning_tokens=16, max_tokens=10)
    assert (len(cut.reasoning), cut.pieces, cut.tokens, cut.finish) == (10, (), 10, "length")


def test_json_is_valid_and_conforms_to_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"country": {"type": "string"}, "capital": {"type": "string"}, "known": {"type": "boolean"}},
        "required": ["country", "capital", "known"],
        "additionalProperties": False,
    }
    assert text("What is the capital of France?", json_schema=schema) == (
        '{"country": "France", "capital": "Paris", "known": true}'
    )
    assert text("What is 2+2?", json_schema={}) == '{"result": 4, "value": 4, "answer": "2 + 2 = 4."}'


def test_images_sounds_and_files_are_described() -> None:
    seen = (
        Attachment("image", "image/png", 99, 255, 64, 32),
        Attachment("image", "image/*", 0, 765, url="https://example.com/photo.jpg"),
        Attachment("audio", "audio/wav", 3200, 1),
    )
    turn = Turn("user", "What is this?", seen)
    found = brain.answer(Question(model="m", turns=(turn,)), OUTPUT_MAX, Directive())
    assert "".join(found.pieces) == (
        "There are two images: a PNG of 64 by 32 pixels and one at https://example.com/photo.jpg. "
        "There is one audio clip: 3200 bytes of WAV."
    )


PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
GIF = b"GIF89a" + struct.pack("<HH", 320, 200)
JPEG = b"\xff\xd8\xff\xe0\x00\x04ab" + b"\xff\xc4\x00\x03x" + b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 768, 1024)
WEBP_LOSSY = b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + struct.pack("<HH", 100, 50)
WEBP_LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L" + bytes(4) + b"\x2f" + struct.pack("<I", 99 | 49 << 14)
WEBP_EXTENDED = b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (99).to_bytes(3, "little") + (49).to_bytes(3, "little")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (PNG, images.Size("image/png", 640, 480)),
        (GIF, images.Size("image/gif", 320, 200)),
        (JPEG, images.Size("image/jpeg", 1024, 768)),
        (WEBP_LOSSY, images.Size("image/webp", 100, 50)),
        (WEBP_LOSSLESS, images.Size("image/webp", 100, 50)),
        (WEBP_EXTENDED, images.Size("image/webp", 100, 50)),
        (b"BM" + bytes(60), None),
        (b"", None),
    ],
)
def test_the_size_of_an_image_is_read_from_its_head(data: bytes, expected: images.Size | None) -> None:
    assert images.measure(data) == expected


@pytest.mark.parametrize("data", [PNG, GIF, JPEG, WEBP_LOSSY, WEBP_LOSSLESS, WEBP_EXTENDED])
def test_an_image_cut_anywhere_has_no_size_and_no_error(data: bytes) -> None:
    assert {images.measure(data[:cut]) for cut in range(len(data))} == {None}
