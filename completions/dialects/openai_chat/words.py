from completions.chat.request import (
    BIAS_MAX,
    FUNCTION_NAME_CHARS_MAX,
    MESSAGES_MAX,
    METADATA_KEY_CHARS_MAX,
    METADATA_PAIRS_MAX,
    METADATA_VALUE_CHARS_MAX,
    TOOLS_MAX,
    Fields,
)
from completions.decoding import rules_of

FUNCTION_NAME = f"1 to {FUNCTION_NAME_CHARS_MAX} of a-z, A-Z, 0-9, underscore and dash"

# What a value must be, in our words; indexes left out of the path. What is here is said better than the types say it.
RULES = {
    **rules_of(Fields),
    "messages": f"an array of 1 to {MESSAGES_MAX} messages",
    "messages[].content": "a string or a non-empty array of content parts",
    "messages[].content[].type": "a content part's type that this role may send: "
    "'text' ('refusal' for assistant; 'image_url', 'input_audio', 'file' for user)",
    "messages[].content[].image_url.url": "an http(s) URL or a base64 data URL",
    "top_k": "a whole number, 0 or above",
    "stop[]": "a string",
    "seed": "a 64-bit integer",
    "logprobs": "a boolean",
    "logit_bias": f"an object of token ids and numbers between {-BIAS_MAX} and {BIAS_MAX}",
    "response_format": "an object with a 'type'",
    "response_format.json_schema.name": FUNCTION_NAME,
    "tools": f"an array of at most {TOOLS_MAX} tools",
    "tools[].function.name": FUNCTION_NAME,
    "tool_choice": '\'none\', \'auto\', \'required\', or {"type": "function", "function": {"name": ...}}',
    "tool_choice.function.name": FUNCTION_NAME,
    "parallel_tool_calls": "a boolean",
    "reasoning": "an object",
    "metadata": f"an object of at most {METADATA_PAIRS_MAX} pairs, keys of up to {METADATA_KEY_CHARS_MAX} "
    f"and string values of up to {METADATA_VALUE_CHARS_MAX} characters",
    "user": "a string",
    "stream": "a boolean",
    "stream_options": "an object",
    "stream_options.include_usage": "a boolean",
}

# Fields of other APIs that clients send, and what to do instead.
HINTS = {
    "n": "One choice is given per request: send several requests.",
    "best_of": "One choice is given per request.",
    "reasoning_effort": "Use 'reasoning': {\"effort\": ...}.",
    "include_reasoning": "Use 'reasoning': {\"exclude\": ...}.",
    "thinking": "Use 'reasoning': {\"max_tokens\": ...}.",
    "verbosity": "Say it in the messages.",
    "functions": "Use 'tools'.",
    "function_call": "Use 'tool_choice'.",
    "provider": "Use the header X-Quantized-Provider.",
    "models": "Send one 'model'; fail-over between its providers is automatic.",
    "route": "Fail-over between a model's providers is automatic.",
    "transforms": "Prompts are never shortened: leave it out.",
    "plugins": "Use 'web_search_options' for web search.",
    "usage": "Usage is always in the answer; for streams use 'stream_options': {\"include_usage\": true}.",
    "service_tier": "There is one tier: leave it out.",
    "store": "Completions are never stored: leave it out.",
    "prediction": "Predicted outputs are not offered: leave it out.",
    "prompt_cache_key": "Leave it out, or mark parts with 'cache_control'.",
    "prompt_cache_retention": "Leave it out, or mark parts with 'cache_control'.",
    "cache_control": "Mark content parts with 'cache_control' instead.",
    "safety_identifier": "Use 'user'.",
    "session_id": "Use 'user' or 'metadata'.",
    "min_p": "Use 'top_p' or 'top_k'.",
    "top_a": "Use 'top_p' or 'top_k'.",
    "system": "Send a message with the role 'system'.",
    "prompt": "Use 'messages'.",
    "input": "Use 'messages'.",
    "instructions": "Send a message with the role 'system'.",
    "max_output_tokens": "Use 'max_completion_tokens'.",
    "stop_sequences": "Use 'stop'.",
    "extra_body": "Send the fields in it at the top level.",
}
