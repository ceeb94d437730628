"""What OpenRouter sent: shapes of real exchanges, and the routes they were asked on."""

from billing.pricing.money import Price, Rates
from completions.routes import Provider, Route

EVERY_CAPABILITY = frozenset(
    {"tools", "structured_outputs", "json_mode", "reasoning", "logprobs", "web_search", "image_input", "file_input"}
    | {"audio_input", "image_output", "audio_output"}
)

ANSWER = (
    b'{"id":"gen-1790000001-aB3dE5fG7hJ9kL1mN3pQ","object":"chat.completion","created":1790000001,'
    b'"model":"openai/gpt-4.1-mini","provider":"OpenAI","system_fingerprint":null,"service_tier":"default",'
    b'"choices":[{"index":0,"logprobs":null,"finish_reason":"stop","native_finish_reason":"completed",'
    b'"message":{"role":"assistant","content":"The Danube.","refusal":null,"reasoning":null}}],'
    b'"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16,"cost":0.0000124,"is_byok":false,'
    b'"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0,"audio_tokens":0,"video_tokens":0},'
    b'"cost_details":{"upstream_inference_cost":0.0000124,"upstream_inference_prompt_cost":0.0000044,'
    b'"upstream_inference_completions_cost":0.000008},'
    b'"completion_tokens_details":{"reasoning_tokens":0,"image_tokens":0,"audio_tokens":0}}}'
)

_HEAD = (
    b'"id":"gen-1790000002-zz","object":"chat.completion.chunk","created":1790000002,'
    b'"model":"anthropic/claude-4.6-sonnet-20260217","provider":"Google"'
)
USAGE = (
    b'"usage":{"prompt_tokens":254,"completion_tokens":9,"total_tokens":263,"cost":0.000897,"is_byok":false,'
    b'"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0,"audio_tokens":0,"video_tokens":0},'
    b'"cost_details":{"upstream_inference_cost":0.000897,"upstream_inference_prompt_cost":0.000762,'
    b'"upstream_inference_completions_cost":0.000135},'
    b'"completion_tokens_details":{"reasoning_tokens":4,"image_tokens":0,"audio_tokens":0}}'
)
FIRST = (
    b"{" + _HEAD + b',"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"Short.",'
    b'"reasoning_details":[{"type":"reasoning.text","text":"Short.","format":"anthropic-claude-v1","index":0}]},'
    b'"finish_reason":null,"native_finish_reason":null}]}'
)
SECOND = (
    b"{" + _HEAD + b',"choices":[{"index":0,"delta":{"content":"Rhine","role":"assistant"},'
    b'"finish_reason":null,"native_finish_reason":null}]}'
)
FINISH = (
    b"{" + _HEAD + b',"choices":[{"index":0,"delta":{"content":"","role":"assistant"},'
    b'"finish_reason":"stop","native_finish_reason":"stop"}]}'
)
# The usage chunk has had three shapes within a year, and each of them is read.
LAST_OF_2026 = (
    b"{" + _HEAD + b',"service_tier":null,"choices":[{"index":0,"delta":{"content":"","role":"assistant"},'
    b'"finish_reason":"stop","native_finish_reason":"stop"}],' + USAGE + b"}"
)
LAST_OF_MARCH_2026 = b"{" + _HEAD + b',"choices":[],' + USAGE + b"}"
LAST_OF_2025 = (
    b"{" + _HEAD + b',"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null,'
    b'"native_finish_reason":null,"logprobs":null}],' + USAGE + b"}"
)
COMMENT = b": OPENROUTER PROCESSING\n\n"


def stream_of(*events: bytes) -> bytes:
    return (
        COMMENT
        + b"".join(b"data: %b\n\n" % event for event in events[:2])
        + COMMENT
        + b"".join(b"data: %b\n\n" % event for event in events[2:])
    )


STREAM = stream_of(FIRST, SECOND, FINISH, LAST_OF_2026, b"[DONE]")

DOCUMENTED_ERROR = (
    b'{"id":"gen-1790000003-yy","object":"chat.completion.chunk","created":1790000003,"model":"openai/gpt-4o",'
    b'"provider":"OpenAI","error":{"code":502,"message":"Provider disconnected","metadata":'
    b'{"error_type":"provider_unavailable","provider_code":"stream_closed"}},'
    b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error","native_finish_reason":null}]}'
)
RECORDED_ERROR = (
    b'{"id":"gen-1790000004-xx","provider":"Minimax","error":{"code":400,"message":"Token limit reached"},'
    b'"model":"minimax/minimax-m2","object":"chat.completion.chunk","created":1790000004,"choices":[{"index":0,'
    b'"delta":{"role":"assistant","content":""},"finish_reason":null,"native_finish_reason":null,"logprobs":null}],'
    b'"usage":{"prompt_tokens":43,"completion_tokens":10,"total_tokens":53,"cost":0,"is_byok":false,'
    b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"cost_details":{"upstream_inference_cost":null,'
    b'"upstream_inference_prompt_cost":0,"upstream_inference_completions_cost":0},'
    b'"completion_tokens_details":{"reasoning_tokens":11,"image_tokens":0}}}'
)
ERROR_IN_200 = (
    b'{"id":"gen-1790000005-ww","object":"chat.completion","created":1790000005,"model":"openai/gpt-4o",'
    b'"provider":"OpenAI","choices":[{"index":0,"finish_reason":"error","native_finish_reason":null,'
    b'"message":{"role":"assistant","content":"partial"},"error":{"code":502,'
    b'"message":"Provider disconnected mid-stream","metadata":{"error_type":"provider_unavailable"}}}]}'
)
RATE_LIMITED = (
    b'{"error":{"message":"Provider returned error","code":429,"metadata":'
    b'{"raw":"upstream is temporarily rate-limited","provider_name":"Google"}},"user_id":"user_XXXXXXXX"}'
)
NO_CREDITS = (
    b'{"error":{"message":"This request requires more credits, or fewer max_tokens. You requested up to 32000 '
    b'tokens, but can only afford 27342.","code":402,"metadata":{"provider_name":null}},"user_id":"user_XXXXXXXX"}'
)


def route(
    kind: str = "openrouter",
    *,
    capabilities: frozenset[str] = EVERY_CAPABILITY,
    base_url: str = "https://openrouter.example/api/v1",
) -> Route:
    rates = Rates(input=400_000, output=1_600_000)
    return Route(
        id=1,
        model="openai/gpt-4.1-mini",
        provider=Provider(1, kind, kind, base_url, "the-secret"),
        upstream_model="openai/gpt-4.1-mini-2025-04-14",
        priority=0,
        capabilities=capabilities,
        context_length=1_047_576,
        max_output_tokens=32_768,
        price=Price(1, 1, rates),
    )
