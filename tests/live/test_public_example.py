"""The public API document's own example, reproduced field by field."""

import httpx

from tests.kit.live import Server
from tests.kit.tenants import Tenant

REQUEST = {
    "model": "openai/gpt-4.1-mini",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "max_tokens": 128,
    "temperature": 0.7,
}


def test_the_response_is_the_documents(gateway: Server, alice: Tenant):
    response = httpx.post(f"{gateway.base_url}/chat/completions", headers=alice.headers, json=REQUEST)
    body = response.json()
    assert response.status_code == 200
    assert body.pop("id").startswith("gen-")
    assert isinstance(body.pop("created"), int)
    assert body.pop("system_fingerprint") == "fp_sandbox"
    assert body == {
        "object": "chat.completion",
        "model": "openai/gpt-4.1-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The capital of France is Paris.", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 25,
            "completion_tokens": 8,
            "total_tokens": 33,
            "credits_used": 2400,
            "credits_remaining": 997600,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
    }
