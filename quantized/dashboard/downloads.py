"""Long tables as CSV: written while they are read, a page of rows at a time, so that none is ever whole in memory."""

import csv
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from common.csv_cells import no_formula

ROWS_MAX = 100_000  # of one file; a narrower range gives the rest
PAGE_ROWS = 2_000

Rows = Sequence[Sequence[Any]]


def csv_download(name: str, header: Sequence[str], pages: Iterator[Rows]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(lines(header, pages), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    response["Cache-Control"] = "private, no-store"
    return response


async def lines(header: Sequence[str], pages: Iterator[Rows]) -> AsyncIterator[bytes]:
    """The pages are read in the request's own thread, whose connection the request's end closes."""
    yield encoded([header])
    read = sync_to_async(lambda: next(pages, None))
    rows_left = ROWS_MAX
    while rows_left and (rows := await read()):
        yield encoded(rows[:rows_left])
        rows_left -= len(rows[:rows_left])


def encoded(rows: Rows) -> bytes:
    file = StringIO()
    csv.writer(file, lineterminator="\n").writerows([[no_formula(cell) for cell in row] for row in rows])
    return file.getvalue().encode()


def moment(at: datetime | None) -> str:
    """UTC, which every spreadsheet and program reads alike."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else ""
