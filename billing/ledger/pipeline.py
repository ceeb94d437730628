"""Many statements in one flush, over libpq's own pipeline.

psycopg's pipeline writes each statement to the socket by itself and closes with a round trip of its own: for a batch
of the ledger fourteen writes, each of which wakes the server, and three answers to wait for. Here the statements of
one `run` leave together, and their answers are all that is waited for. Everything else on the connection is psycopg's.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.waiting import READY_R, WAIT_R, WAIT_RW

from billing.ledger.batch import Row, Statement

BEGIN, COMMIT = Statement("BEGIN", ()), Statement("COMMIT", ())

Connection = psycopg.AsyncConnection[tuple[object, ...]]


class Flusher:
    """One connection, whose statements are prepared when they are first met. Nothing else may use it during a `run`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._pgconn = connection.pgconn
        self._transformer = Transformer(connection)
        self._prepared: dict[str, bytes] = {}
        # No name is used twice: a run that failed may have prepared a statement under its name.
        self._names = (b"ledger_%d" % number for number in count())

    async def run(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """The rows of each statement, in one round trip.

        Raises the psycopg.Error of the first statement that failed, after which none was executed; psycopg.DataError,
        with nothing sent, for a parameter with a NUL.
        """
        encoded = [[_text(param) for param in statement.params] for statement in statements]
        new = {sql: next(self._names) for sql in dict.fromkeys(s.sql for s in statements) if sql not in self._prepared}
        self._pgconn.enter_pipeline_mode()
        try:
            # Into libpq's buffer, without I/O.
            for sql, name in new.items():
                self._pgconn.send_prepare(name, _numbered(sql))
            names = self._prepared | new
            for statement, params in zip(statements, encoded, strict=True):
                self._pgconn.send_query_prepared(names[statement.sql], params)
            self._pgconn.pipeline_sync()
            results = await self.connection.wait(_exchange(self._pgconn))
        finally:
            if self._pgconn.status == pq.ConnStatus.OK:
                self._pgconn.exit_pipeline_mode()
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(result, self.connection.info.encoding)
        self._prepared = names
        return [self._rows(result) for result in results[len(new) :]]

    def _rows(self, result: pq.abc.PGresult) -> list[Row]:
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)


def _exchange(pgconn: pq.abc.PGconn) -> PQGen[list[pq.abc.PGresult]]:
    """Send what is queued, reading meanwhile: a server that cannot write its answers would not read on."""
    results: list[pq.abc.PGresult] = []
    while True:
        ready = yield WAIT_RW if pgconn.flush() else WAIT_R
        if not ready & READY_R:
            continue
        try:
            pgconn.consume_input()
        except psycopg.OperationalError:
            if any(result.status == pq.ExecStatus.FATAL_ERROR for result in results):
                return results  # what ended the connection says more than that it has ended
            raise
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:  # between two statements
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                return results
            results.append(result)


def _numbered(sql: str) -> bytes:
    """The same statement with PostgreSQL's own names for its parameters."""
    first, *others = sql.split("%s")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))).encode()


def _text(param: Any) -> bytes:
    """PostgreSQL's text for what our statements take: JSON, numbers, and arrays of ids and texts."""
    text = f"{{{','.join(map(_element, param))}}}" if isinstance(param, list) else str(param)
    if "\0" in text:
        raise psycopg.DataError("PostgreSQL's text has no NUL")
    return text.encode()


def _element(value: object) -> str:
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
