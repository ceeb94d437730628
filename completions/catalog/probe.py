"""The test button of a provider: does it answer, and does it take our key? Synchronous, and costs nothing there."""

import time
from typing import NamedTuple

import requests

from common import outbound
from completions.catalog.loader import endpoint
from completions.catalog.models import Provider
from completions.catalog.secrets import SecretUnreadable
from completions.providers.anthropic.adapter import VERSION

TIMEOUT_S = (3.05, 10)
Kind = Provider.Kind
# What each kind answers to whoever may call it, without a call: the key itself, or the list of models.
PATHS = {Kind.OPENROUTER: "/key", Kind.ANTHROPIC: "/v1/models?limit=1", Kind.OPENAI: "/models"}
WORDS = {
    200: "It answers, and takes the key.",
    401: "It answers, and refuses the key.",
    403: "It answers, and the key may not do this.",
    404: "It answers, but not at this address: look at the base URL.",
    429: "It answers, and is too busy with us right now.",
}


class Probe(NamedTuple):
    """`status` is the HTTP status, None without an answer."""

    is_well: bool
    status: int | None
    milliseconds: int
    words: str


def probe(provider: Provider) -> Probe:
    """Never raises for what the provider does; its own words are not shown, they may carry our ids."""
    started_s = time.monotonic()
    try:
        base_url, secret = endpoint(provider)
    except SecretUnreadable as error:
        return Probe(False, None, 0, f"The stored secret cannot be used: {error}.")
    try:
        status = ask(base_url + PATHS[Kind(provider.kind)], provider.kind, secret)
    except requests.RequestException as error:
        return Probe(False, None, elapsed_ms(started_s), f"No answer: {type(error).__name__}.")
    words = WORDS.get(status, f"It answers with status {status}.")
    return Probe(status == 200, status, elapsed_ms(started_s), words)


def ask(url: str, kind: str, secret: str) -> int:
    with outbound.session() as session:
        answer = session.get(
            url, headers=credentials(kind, secret), timeout=TIMEOUT_S, allow_redirects=False, stream=True
        )
        return answer.status_code


def credentials(kind: str, secret: str) -> dict[str, str]:
    if kind == Kind.ANTHROPIC:
        return {"x-api-key": secret, "anthropic-version": VERSION}
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def elapsed_ms(started_s: float) -> int:
    return round((time.monotonic() - started_s) * 1000)
