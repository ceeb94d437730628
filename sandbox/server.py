"""The sandbox on a socket: in the foreground for `manage.py sandbox`, in a thread for tests.

uvicorn does not hand out a connection's transport, which faults such as a connection that dies
need; a subclass of its protocol puts it into the scope's extensions.
"""

import socket
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.app import Config, Sandbox, make_app
from sandbox.calls import Call
from sandbox.wire import TRANSPORT

START_TIMEOUT_S = 10
STOP_TIMEOUT_S = 10
GRACE_S = 1  # for answers that take their time although nobody waits for them any more
KEEPALIVE_S = 75
BACKLOG = 4096


class SandboxProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]


class Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready."""

    def __init__(self, app: Sandbox, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=SandboxProtocol,
                ws="none",
                loop="uvloop",
                lifespan="off",
                log_config=None,
                timeout_keep_alive=KEEPALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
                server_header=False,
            )
        )
        self._listener = listener
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Calls under way are cut: some of them were told never to end."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """To be told to stop is a regular end: uvicorn would raise the signal again after it."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()

    def serve_until_stopped(self) -> None:
        self.run(sockets=[self._listener])


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises OSError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class SandboxServer:
    """The sandbox in a thread of this process, for tests: `with SandboxServer() as upstream: ...`."""

    def __init__(self, config: Config | None = None, *, port: int = 0) -> None:
        self.app = make_app(config)
        self._ready = threading.Event()
        self._listener = listen("127.0.0.1", port)
        self.origin = url(self._listener)
        self.base_url = f"{self.origin}/api/v1"
        self._server = Server(self.app, self._listener, self._ready.set)
        self._thread = threading.Thread(target=self._server.serve_until_stopped, name="sandbox", daemon=True)

    def __enter__(self) -> "SandboxServer":
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S):
            raise RuntimeError("the sandbox did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)

    @property
    def calls(self) -> list[Call]:
        """Oldest first."""
        return self.app.journal.calls

    @property
    def counters(self) -> dict[str, int]:
        return self.app.journal.counters()

    def reset(self) -> None:
        self.app.journal.reset()
        self.app.default = self.app.config.default

    def set_default(self, directive: str) -> None:
        self.app.default = directive

    def wait_until(self, condition: Callable[[list[Call]], bool], timeout_s: float = 5) -> list[Call]:
        """The calls as soon as they are as wanted; TimeoutError if they never are."""
        deadline = time.monotonic() + timeout_s
        while not condition(self.calls):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the sandbox's calls stayed {[call.view() for call in self.calls]}")
            time.sleep(0.005)
        return self.calls
