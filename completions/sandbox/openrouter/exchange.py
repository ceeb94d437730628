"""One question with its answer, and what every part of the reply says about it."""

from typing import Any

import msgspec

from completions.sandbox.bill import Bill
from completions.sandbox.cards import Card
from completions.sandbox.conversation import Answer, Question
from completions.sandbox.directives import Directive
from completions.sandbox.steps import Headers

FINGERPRINT = "fp_sandbox"
MARK: Headers = ((b"x-quantized-sandbox", b"true"),)
JSON: Headers = ((b"content-type", b"application/json"), *MARK)
ENCODER = msgspec.json.Encoder()

PROVIDERS = {
    "anthropic": "Anthropic",
    "deepseek": "DeepSeek",
    "google": "Google",
    "meta-llama": "Together",
    "mistralai": "Mistral",
    "moonshotai": "Moonshot AI",
    "openai": "OpenAI",
    "qwen": "Alibaba",
    "x-ai": "xAI",
    "z-ai": "Z.AI",
}
_NATIVE_FINISH = {
    "OpenAI": {"stop": "completed", "tool_calls": "completed", "length": "max_output_tokens"},
    "Anthropic": {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"},
    "Google": {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS"},
}


class Exchange(msgspec.Struct, frozen=True):
    id: str
    created: int
    question: Question
    answer: Answer
    directive: Directive
    card: Card
    bill: Bill

    @property
    def model(self) -> str:
        return self.directive.model or self.question.model

    @property
    def maker(self) -> str:
        return self.question.model.partition("/")[0]

    @property
    def provider(self) -> str:
        return self.directive.provider or PROVIDERS.get(self.maker, "Sandbox")

    @property
    def finish(self) -> str:
        return self.directive.finish or self.answer.finish

    @property
    def native_finish(self) -> str:
        return _NATIVE_FINISH.get(self.provider, {}).get(self.finish, self.finish)

    @property
    def headers(self) -> Headers:
        # The directive may name a provider in any script: headers are ASCII.
        provider = self.provider.encode("ascii", "replace")
        return ((b"x-generation-id", self.id.encode()), (b"x-provider-name", provider))

    def envelope(self, kind: str) -> dict[str, Any]:
        """The keys that the body and every chunk begin with."""
        about = {"model": self.model, "provider": self.provider, "system_fingerprint": FINGERPRINT}
        return {"id": self.id, "object": kind, "created": self.created, **about}
