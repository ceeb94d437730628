"""Recorded streams of Anthropic → our own, whatever the cut."""


from completions.answers import StreamWriter, usage_view
from completions.providers import adapter
from completions.providers.base import Chunk, StreamDecoder
from completions.sse import SSEDecoder
from tests.claude_routes import recording

THINKING = recording("anthropic_thinking.sse")
OURS = recording("anthropic_thinking.ours.sse")


def decoder() -> StreamDecoder:
    return adapter("anthropic").decoder(context_length=1_000_000)


def chunks_of(*pieces: bytes) -> list[Chunk]:
    events, stream = SSEDecoder(), decoder()
    meant = [stream.event(data) for piece in pieces for data in events.feed(piece)]
    return [chunk for chunk in (*meant, stream.close()) if chunk is not None]


def relayed(*pieces: bytes) -> bytes:
    writer = StreamWriter(id="gen-q2", model="anthropic/claude-opus-5", created=1790000007, include_usage=True)
    chunks = chunks_of(*pieces)
    written = b"".join(writer.events(chunk) for chunk in chunks if chunk.choices)
    usage = next(chunk.reported.usage for chunk in reversed(chunks) if chunk.reported)
    assert usage is not None
    return written + writer.end(usage_view(usage, credits_used=4500, credits_remaining=995500))


def test_the_sample_with_thinking_and_tools_to_the_byte() -> None:
    assert relayed(THINKING) == OURS


def test_the_sample_cut_at_every_byte_comes_out_the_same() -> None:
    for cut in range(len(THINKING) + 1):
        assert relayed(THINKING[:cut], THINKING[cut:]) == OURS, cut
    assert relayed(*(THINKING[at : at + 1] for at in range(len(THINKING)))) == OURS
