"""How many tokens a prompt may have and an answer had, when nobody has counted them. Pure.

The prompt's figure is an upper estimate for the hold: dearer than any tokenizer we know makes of
ordinary text, code and tables. The truth is the provider's usage; what a hold did not cover is
settled as ledger.md says. Constant Python work per message and part, the rest is C.

    text        characters / 2, and one more for every byte UTF-8 needs beyond one per character
                (English has 4 characters per token, code 3, Chinese 1 to 2 tokens per character)
    message     + 8 for its role and frame; + 16 for the request
    tools       their JSON bytes / 2, + 16 each; a response schema its JSON bytes / 2
    image       4,800, the dearest full-size image of the vendors we route to
    audio       wav: bytes / 250 (8 kHz, 8 bit at 32 tokens a second), mp3: bytes / 60 (15 kbit/s)
    file        decoded bytes / 2, at least 4,000 (one page, as text and as picture); a file given
                by URL may be anything: 1,000,000. Whoever holds caps all this at the route's context.
"""

from msgspec import Raw

from completions.chat.request import (
    AssistantMessage,
    AudioPart,
    Chat,
    FilePart,
    ImagePart,
    Message,
    RefusalPart,
    TextPart,
    ToolMessage,
    UserPart,
)

REQUEST_TOKENS = 16
MESSAGE_TOKENS = 8
TOOL_TOKENS = 16
IMAGE_TOKENS = 4_800
FILE_TOKENS_MIN = 4_000
REMOTE_FILE_TOKENS = 1_000_000
AUDIO_BYTES_PER_TOKEN = {"wav": 250, "mp3": 60}


def estimate_prompt_tokens(chat: Chat) -> int:
    """An upper estimate of what the provider will count as `prompt_tokens`."""
    tokens = REQUEST_TOKENS + sum(map(_message_tokens, chat.fields.messages)) + _tool_tokens(chat)
    if chat.fields.response_format:
        tokens += _raw_tokens(chat.raw["response_format"])
    return tokens


def estimate_completion_tokens(text_bytes: int) -> int:
    """What an answer of so many UTF-8 bytes was, delivered without a usage figure: 3.5 bytes per token, rounded up
    (English has 4, Chinese 2 to 3)."""
    return -(-text_bytes * 2 // 7)


def text_tokens(text: str) -> int:
    if text.isascii():
        return (len(text) + 1) // 2
    return (len(text) + 1) // 2 + len(text.encode()) - len(text)


def _message_tokens(message: Message) -> int:
    content = message.content
    if isinstance(content, str):
        tokens = MESSAGE_TOKENS + text_tokens(content)
    else:
        tokens = MESSAGE_TOKENS + sum(map(_part_tokens, content or ()))
    if type(message) is AssistantMessage:
        return tokens + _echo_tokens(message)
    if type(message) is ToolMessage:
        return tokens + text_tokens(message.tool_call_id)
    return tokens


def _echo_tokens(message: AssistantMessage) -> int:
    """Of an earlier answer, beside its content."""
    spoken = (message.refusal, message.reasoning, message.reasoning_content)
    tokens = sum(text_tokens(text) for text in spoken if text)
    for call in message.tool_calls or ():
        tokens += TOOL_TOKENS + sum(map(text_tokens, (call.id, call.function.name, call.function.arguments)))
    return tokens + sum(map(_raw_tokens, (message.reasoning_details, message.function_call)))


def _part_tokens(part: UserPart | RefusalPart) -> int:
    match part:
        case TextPart(text):
            return text_tokens(text)
        case ImagePart():
            return IMAGE_TOKENS
        case AudioPart(audio):
            return _decoded_bytes(audio.data) // AUDIO_BYTES_PER_TOKEN[audio.format] + 1
        case FilePart(file):
            return _file_tokens(file.file_data or "")
        case RefusalPart(refusal):
            return text_tokens(refusal)


def _file_tokens(data: str) -> int:
    if data.startswith(("https://", "http://")):
        return REMOTE_FILE_TOKENS
    return max(FILE_TOKENS_MIN, _decoded_bytes(data) // 2)


def _tool_tokens(chat: Chat) -> int:
    tools = chat.fields.tools
    return len(tools) * TOOL_TOKENS + _raw_tokens(chat.raw["tools"]) if tools else 0


def _raw_tokens(raw: Raw) -> int:
    return (len(raw) + 1) // 2


def _decoded_bytes(base64: str) -> int:
    return len(base64) * 3 // 4
