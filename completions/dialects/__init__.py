"""The inbound dialects, by address: what the model API's lane serves, and whose words its answers are in."""

from completions.dialects.base import Dialect
from completions.dialects.openai_chat import OpenAIChat

OPENAI_CHAT = OpenAIChat()
DIALECTS: dict[str, Dialect] = {dialect.path: dialect for dialect in (OPENAI_CHAT,)}
