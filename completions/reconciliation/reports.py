"""What providers tell of whole days: the shape that both reports are read into, and one bounded GET."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import requests
from urllib3.exceptions import HTTPError

from common import outbound

Session = requests.Session

TIMEOUT_S = (3.05, 30)
PAGE_BYTES_MAX = 8 * 1024 * 1024


class ReportFailed(Exception):
    """The report could not be had, in one line."""


class Day(msgspec.Struct):
    """One model on one day. Searches are apart where the provider bills them apart."""

    cost_usd: Decimal = Decimal(0)
    search_usd: Decimal = Decimal(0)
    prompt_tokens: int = 0
    completion_tokens: int = 0


Report = dict[tuple[date, str], Day]  # by day and the provider's name of the model; "" is what belongs to none


@contextmanager
def reading(headers: dict[str, str]) -> Iterator[requests.Session]:
    """A connection for one report. Whatever goes wrong with it is a ReportFailed."""
    with outbound.session() as session:
        session.headers.update(headers)
        try:
            yield session
        except (requests.RequestException, HTTPError, OSError) as error:
            raise ReportFailed(f"{type(error).__name__}") from error
        except (ValueError, KeyError, TypeError, ArithmeticError, AttributeError) as error:
            raise ReportFailed(f"a report that cannot be read: {type(error).__name__}: {error}") from error


def get_page(session: requests.Session, url: str, params: Sequence[tuple[str, str]]) -> dict[str, Any]:
    with session.get(url, params=list(params), timeout=TIMEOUT_S, allow_redirects=False, stream=True) as answer:
        body = answer.raw.read(PAGE_BYTES_MAX, decode_content=True)
        if answer.status_code != 200:
            raise ReportFailed(f"status {answer.status_code}")
    page: dict[str, Any] = json.loads(body, parse_float=Decimal)
    return page


def usd(value: Any) -> Decimal:
    """A figure of a report, as a number or as text."""
    amount = Decimal(value)
    if not amount.is_finite():
        raise ReportFailed("a cost that is none")
    return amount
