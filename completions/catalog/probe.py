"""The test button of a provider: does it answer, and does it take our key? Synchronous, and costs nothing there."""

import time
from typing import NamedTuple

import requests

from common import outbound
from completions.catalog.loader import NoBaseURL, endpoint
from completions.catalog.models import Provider
from completions.catalog.secrets import SecretUnreadable
from completions.providers import kinds
from completions.providers.record import Headers

TIMEOUT_S = (3.05, 10)
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
    kind = kinds.KINDS.get(provider.kind)
    if kind is None:
        return Probe(False, None, 0, f"{provider.kind!r} is no kind of provider.")
    try:
        base_url, secret = endpoint(provider)
    except SecretUnreadable as error:
        return Probe(False, None, 0, f"The stored secret cannot be used: {error}.")
    except NoBaseURL as error:
        return Probe(False, None, 0, f"It cannot be asked: {error}.")
    try:
        status = ask(base_url + kind.probe_path, kind.credentials(secret))
    except requests.RequestException as error:
        return Probe(False, None, elapsed_ms(started_s), f"No answer: {type(error).__name__}.")
    words = WORDS.get(status, f"It answers with status {status}.")
    return Probe(status == 200, status, elapsed_ms(started_s), words)


def ask(url: str, credentials: Headers) -> int:
    with outbound.session() as session:
        answer = session.get(url, headers=credentials, timeout=TIMEOUT_S, allow_redirects=False, stream=True)
        return answer.status_code


def elapsed_ms(started_s: float) -> int:
    return round((time.monotonic() - started_s) * 1000)
