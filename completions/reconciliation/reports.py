"""What providers tell of whole days: their reports, asked by bounded GETs with `requests`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from common import outbound
from completions.providers.record import DayReports, Headers, Report, Unreadable

TIMEOUT_S = (3.05, 30)
PAGE_BYTES_MAX = 8 * 1024 * 1024


class ReportFailed(Exception):
    """The report could not be had, in one line."""


def fetch(reports: DayReports, base_url: str, credentials: Headers, days: Sequence[date]) -> Report:
    """What a provider says of these days, oldest first. Raises ReportFailed."""
    with reading(credentials) as session:
        dialogue = reports.read(days)
        try:
            inquiry = next(dialogue)
            while True:
                inquiry = dialogue.send(get_page(session, base_url + inquiry.path, inquiry.params))
        except StopIteration as end:
            report: Report = end.value
            return report


@contextmanager
def reading(credentials: Headers) -> Iterator[requests.Session]:
    """A connection for one report. Whatever goes wrong with it is a ReportFailed."""
    with outbound.session() as session:
        session.headers.update(credentials)
        try:
            yield session
        except Unreadable as error:
            raise ReportFailed(str(error)) from error
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
