"""What each Claude model takes and does by itself: the vendor's tables as of 2026-11-22. Pure data."""

from msgspec import Struct

EFFORTS = ("low", "medium", "high", "xhigh", "max")
_EFFORTS_OF_4_6 = ("low", "medium", "high", "max")


class Generation(Struct, frozen=True, kw_only=True):
    name: str  # as people write it
    created_at: str
    thinking: tuple[str, ...]
    effort_unsaid: str = ""  # how hard it thinks when nothing is said; empty: not at all
    off_effort_max: str = "max"  # up to which effort thinking may be disabled, or be between tools
    efforts: tuple[str, ...] = EFFORTS
    sampling: bool = False
    forced_tools: bool = True
    prefill: bool = False
    system_turns: bool = True
    shows_thinking: bool = False  # without being told to
    takes_idle_thoughts: bool = True  # thinking blocks in the history while thinking is off
    binds_thoughts: bool = False  # to everything that was said before them
    cache_tokens_min: int = 512
    context_tokens: int = 1_000_000
    output_tokens_max: int = 128_000


_ADAPTIVE = ("adaptive",)
_SWITCHED = ("adaptive", "disabled")

MODELS: dict[str, Generation] = {
    "claude-haiku-4-5": Generation(
        name="Claude Haiku 4.5",
        created_at="2025-10-15T00:00:00Z",
        thinking=("enabled", "disabled"),
        efforts=(),
        sampling=True,
        prefill=True,
        system_turns=False,
        shows_thinking=True,
        takes_idle_thoughts=False,
        cache_tokens_min=4096,
        context_tokens=200_000,
        output_tokens_max=64_000,
    ),
    **{
        f"claude-{family}-4-6": Generation(
            name=f"Claude {family.title()} 4.6",
            created_at=created_at,
            thinking=("adaptive", "enabled", "disabled"),
            efforts=_EFFORTS_OF_4_6,
            sampling=True,
            system_turns=False,
            shows_thinking=True,
            cache_tokens_min=cache_tokens_min,
        )
        for family, created_at, cache_tokens_min in (
            ("opus", "2026-02-05T00:00:00Z", 4096),
            ("sonnet", "2026-02-17T00:00:00Z", 1024),
        )
    },
    "claude-opus-4-7": Generation(
        name="Claude Opus 4.7",
        created_at="2026-04-16T00:00:00Z",
        thinking=_SWITCHED,
        system_turns=False,
        cache_tokens_min=2048,
    ),
    "claude-opus-4-8": Generation(
        name="Claude Opus 4.8", created_at="2026-05-28T00:00:00Z", thinking=_SWITCHED, cache_tokens_min=1024
    ),
    "claude-sonnet-5": Generation(
        name="Claude Sonnet 5",
        created_at="2026-06-30T00:00:00Z",
        thinking=_SWITCHED,
        effort_unsaid="high",
        cache_tokens_min=1024,
    ),
    "claude-opus-5": Generation(
        name="Claude Opus 5",
        created_at="2026-07-24T00:00:00Z",
        thinking=_SWITCHED,
        effort_unsaid="high",
        off_effort_max="high",
    ),
    "claude-fable-5-1": Generation(
        name="Claude Fable 5.1",
        created_at="2026-09-01T00:00:00Z",
        thinking=_ADAPTIVE,
        effort_unsaid="high",
        forced_tools=False,
        binds_thoughts=True,
    ),
    "claude-opus-5-5": Generation(
        name="Claude Opus 5.5",
        created_at="2026-09-22T00:00:00Z",
        thinking=_ADAPTIVE,
        effort_unsaid="medium",
        forced_tools=False,
        binds_thoughts=True,
    ),
    "claude-sonnet-5-5": Generation(
        name="Claude Sonnet 5.5",
        created_at="2026-09-28T00:00:00Z",
        thinking=("adaptive", "between_tools"),
        effort_unsaid="high",
        off_effort_max="high",
        forced_tools=False,
        binds_thoughts=True,
    ),
    "claude-haiku-5-5": Generation(
        name="Claude Haiku 5.5",
        created_at="2026-10-07T00:00:00Z",
        thinking=_SWITCHED,
        effort_unsaid="medium",
        off_effort_max="high",
        binds_thoughts=True,
    ),
}
