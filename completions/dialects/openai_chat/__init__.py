"""OpenAI's Chat Completions, as the public API has it: `POST /v1/chat/completions`."""

from collections.abc import Mapping

from completions.ask import Ask
from completions.chat.ask import ask_of
from completions.dialects.base import AnswerWriter, Head
from completions.dialects.openai_chat.answers import ChunkWriter, CompletionWriter
from completions.dialects.openai_chat.schema import parse_chat
from completions.errors import GatewayError, InvalidJson, error_bytes


class OpenAIChat:
    """See `Dialect`."""

    path = "/v1/chat/completions"
    name = "openai_chat"

    def credentials(self, headers: Mapping[str, str]) -> str | None:
        return headers.get("HTTP_AUTHORIZATION")

    def parse(self, body: bytes) -> Ask:
        if not body:
            raise InvalidJson("The request body is empty; send a JSON object.")
        return ask_of(parse_chat(body), self.path)

    def writer(self, ask: Ask, head: Head, written: bytes = b"") -> AnswerWriter:
        if ask.stream:
            return ChunkWriter(head, include_usage=ask.content.include_usage, written=written)
        return CompletionWriter(head, written)

    def error(self, error: GatewayError) -> bytes:
        return error_bytes(error)
