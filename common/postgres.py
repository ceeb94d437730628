"""What all that speak to PostgreSQL over psycopg's own connections have in common."""

import os
import socket
from contextlib import suppress
from typing import Any

import psycopg


class DatabaseUnavailable(Exception):
    """The database cannot be reached, or did not answer in time. Whether the statement was executed is not known."""


def cut(connection: psycopg.AsyncConnection[Any]) -> None:
    """End a connection under whoever waits for it; nothing happens to one that is closed.

    Cancelling that wait instead would let psycopg ask the hanging server to cancel, and wait for that.
    """
    with suppress(OSError, psycopg.OperationalError), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
