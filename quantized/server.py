"""uvicorn's server with another end: whoever asked before it stopped gets an answer, or is told why not.

uvicorn alone would reset connections it has not accepted yet, close resting ones under a request on
its way, and cancel what outlasts its patience with a bare 500 or the middle of a stream. Here, from
SIGTERM on:

    at once              no new connections; those the kernel has already made are taken
    for a second         resting connections stay: what arrives on them is answered, and is the last
    SHUTDOWN_GRACE_S     calls may end; then the gateway ends them, which settles them and tells their clients
    two seconds more     what has still not been answered (bodies half sent, pages) is told a 503
"""

import asyncio
import socket

import uvicorn
from uvicorn.supervisors import Multiprocess, multiprocess

REST_S = 1.0
LAST_ANSWERS_S = 1.0
LOOK_EVERY_S = 0.05
MARGIN_S = 10  # uvicorn's own patience is longer than all of this takes


class Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        listeners = [listener.dup() for listener in sockets or []]  # uvicorn closes its own before it waits
        ending = asyncio.create_task(self._end(listeners))
        await super().shutdown(sockets)
        await ending

    async def _end(self, listeners: list[socket.socket]) -> None:
        for listener in listeners:
            await self._take_the_last(listener)
        await self._all_gone(REST_S)
        if (runtime := self.lifespan.state.get("runtime")) is not None:
            await runtime.end_calls(REST_S)
        await self._all_gone(LAST_ANSWERS_S)
        for connection in list(self.server_state.connections):
            connection.give_up()  # type: ignore[union-attr]

    async def _all_gone(self, patience_s: float) -> None:
        """Connections tell nobody when they end; uvicorn looks after them in the same way."""
        for _ in range(round(patience_s / LOOK_EVERY_S)):
            if not self.server_state.connections:
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _take_the_last(self, listener: socket.socket) -> None:
        """The connections that wait to be accepted: closing the socket would reset them, requests and all."""
        loop = asyncio.get_running_loop()
        with listener:
            listener.setblocking(False)
            while (connection := accepted(listener)) is not None:
                _, protocol = await loop.connect_accepted_socket(self._protocol, connection)
                protocol.shutdown()  # type: ignore[attr-defined]

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def accepted(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except (BlockingIOError, ConnectionAbortedError):
        return None


class Worker(multiprocess.Process):
    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = Server(config=self.config)
        return self._server


class Supervisor(Multiprocess):
    """uvicorn's: it replaces workers that die, and gives up if they cannot even start."""

    def terminate_all(self) -> None:
        """Its own hold on the port goes first: it would take connections that nobody ever serves."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


multiprocess.Process = Worker  # type: ignore[misc]  # the supervisor names the class of its processes in no other place
