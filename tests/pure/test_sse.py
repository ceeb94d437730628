"""Server-sent events. The first tests are the standard's own examples."""

import pytest

from completions.upstream.sse import EventTooLarge, SSEDecoder
from tests.kit import openrouter_recordings as recordings


def decoded(*chunks: bytes) -> list[bytes]:
    decoder = SSEDecoder()
    return [data for chunk in chunks for data in decoder.feed(chunk)]


def test_standard_three_messages_of_two_lines_and_one() -> None:
    stream = b"data: This is the first message.\n\ndata: This is the second message, it\ndata: has two lines.\n\n"
    assert decoded(stream + b"data: This is the third message.\n\n") == [
        b"This is the first message.",
        b"This is the second message, it\nhas two lines.",
        b"This is the third message.",
    ]


def test_standard_stock_ticker() -> None:
    assert decoded(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [b"YHOO\n+2\n10"]


def test_standard_comment_id_and_a_value_with_two_spaces() -> None:
    decoder = SSEDecoder()
    stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
    assert decoder.feed(stream) == [b"first event", b"second event", b" third event"]
    assert decoder.comments == 1


def test_standard_empty_data_lines_and_an_unfinished_event() -> None:
    assert decoded(b"data\n\ndata\ndata\n\ndata:") == [b"", b"\n"]


def test_standard_space_after_the_colon_is_optional() -> None:
    assert decoded(b"data:test\n\ndata: test\n\n") == [b"test", b"test"]


def test_event_names_ids_and_retries_are_read_over() -> None:
    assert decoded(b'event: ping\nid: 7\nretry: 10\ndata: {"a":1}\n\n') == [b'{"a":1}']


def test_event_without_data_is_none() -> None:
    assert decoded(b"event: ping\n\n\n\n: only a comment\n\n") == []


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_of_the_standard(end: bytes) -> None:
    stream = end.join((b": hello", b"", b"data: one", b"data: two", b"", b"data: three", b"", b""))
    assert decoded(stream) == [b"one\ntwo", b"three"]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_cut_at_every_byte(end: bytes) -> None:
    stream = b"\xef\xbb\xbf" + end.join((b"data: one", b"data: two", b"", b": c", b"", b"data: three", b"", b""))
    for cut in range(len(stream) + 1):
        assert decoded(stream[:cut], stream[cut:]) == [b"one\ntwo", b"three"], cut
    assert decoded(*(stream[at : at + 1] for at in range(len(stream)))) == [b"one\ntwo", b"three"]


def test_carriage_return_at_a_chunks_end_does_not_eat_the_next_events_line_feed() -> None:
    assert decoded(b"data: a\r\r", b"data: b\n\n", b"\ndata: c\n\n") == [b"a", b"b", b"c"]


def test_byte_order_mark_only_at_the_start() -> None:
    assert decoded(b"\xef\xbb\xbfdata: one\n\n", b"\xef\xbb\xbfdata: two\n\n") == [b"one"]
    assert decoded(b"data: one\n\n", b"\xef\xbb\xbfdata: two\n\n") == [b"one"]


def test_one_event_per_chunk_and_several() -> None:
    assert decoded(b"data: a\n\n", b"data: b\n\n", b"data: c\n\ndata: d\n\n") == [b"a", b"b", b"c", b"d"]


def test_field_that_only_begins_like_data_is_another_field() -> None:
    assert decoded(b"database: x\n\ndata : y\n\n") == []


def test_recorded_stream_cut_at_every_byte_gives_the_same_events() -> None:
    whole = decoded(recordings.STREAM)
    assert whole == [recordings.FIRST, recordings.SECOND, recordings.FINISH, recordings.LAST_OF_2026, b"[DONE]"]
    for cut in range(len(recordings.STREAM) + 1):
        assert decoded(recordings.STREAM[:cut], recordings.STREAM[cut:]) == whole, cut


def test_comments_are_counted() -> None:
    decoder = SSEDecoder()
    decoder.feed(recordings.STREAM)
    assert decoder.comments == 2


def test_line_beyond_the_bound_is_refused_before_it_ends() -> None:
    decoder = SSEDecoder(event_bytes_max=100)
    decoder.feed(b"data: " + b"x" * 90)
    with pytest.raises(EventTooLarge):
        decoder.feed(b"x" * 10)


def test_event_of_many_lines_beyond_the_bound_is_refused() -> None:
    decoder = SSEDecoder(event_bytes_max=100)
    with pytest.raises(EventTooLarge):
        decoder.feed(b"data: 1234567890\n" * 11)


def test_whole_event_beyond_the_bound_is_refused() -> None:
    decoder = SSEDecoder(event_bytes_max=100)
    decoder.feed(b": begin\n\n")
    with pytest.raises(EventTooLarge):
        decoder.feed(b"data: " + b"x" * 200 + b"\n\n")


def test_many_events_beyond_the_bound_together_are_fine() -> None:
    decoder = SSEDecoder(event_bytes_max=100)
    assert len(decoder.feed(b"data: 1234567890\n\n" * 50)) == 50
