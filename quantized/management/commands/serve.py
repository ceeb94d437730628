import contextlib
import math
import os
import signal
import socket
import tempfile
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from quantized.server import MARGIN_S, Server, Supervisor

BACKLOG_CONNECTIONS = 2048
# Longer than the 60 s proxies usually keep an idle connection, so that it is never us who hangs up first.
KEEP_ALIVE_S = 75


class Command(BaseCommand):
    help = "Serve the API and the pages. The production web server; several workers share one port."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
        parser.add_argument("--workers", type=int, default=1, help="processes (1)")

    def handle(self, *args: Any, host: str, port: int, workers: int, **options: Any) -> None:
        if workers < 1:
            raise CommandError(f"--workers must be at least 1, not {workers}")
        # Where the workers of this port tell each other what they counted.
        metrics = tempfile.TemporaryDirectory(prefix="quantized-metrics-", ignore_cleanup_errors=True)
        with listening_socket(host, port) as listener, metrics as directory:
            # Workers read their settings anew; without Redis each grants its share of a rate limit.
            os.environ.setdefault("SERVER_PROCESSES", str(workers))
            os.environ["METRICS_DIR"] = directory
            config = configuration(workers)
            if not (run_one(config, listener) if workers == 1 else run_several(config, listener)):
                raise CommandError("the server could not start, see above")


def configuration(workers: int) -> uvicorn.Config:
    """No proxy headers: the client's address is not taken from whoever claims it. Logging is Django's."""
    return uvicorn.Config(
        "quantized.asgi:application",
        workers=workers,
        loop="uvloop",
        http="quantized.asgi:Protocol",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        backlog=BACKLOG_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.SHUTDOWN_GRACE_S) + MARGIN_S,
    )


def listening_socket(host: str, port: int) -> socket.socket:
    """Bound before anything else starts, so that a taken port costs a line and not a start-up."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        raise CommandError(f"cannot listen on {host}:{port}: {error}") from error
    return listener


def run_one(config: uvicorn.Config, listener: socket.socket) -> bool:
    """When all is drained, uvicorn raises the signal that stopped it once more: that is a good end, not a crash."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    server = Server(config)
    with contextlib.suppress(KeyboardInterrupt, SystemExit):  # SystemExit is how a failed start is told
        server.run(sockets=[listener])
    return server.started


def run_several(config: uvicorn.Config, listener: socket.socket) -> bool:
    supervisor = Supervisor(config, sockets=[listener])
    supervisor.run()
    return not any(process.exitcode == uvicorn.config.STARTUP_FAILURE for process in supervisor.processes)
