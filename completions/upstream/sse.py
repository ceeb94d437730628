"""Server-sent events: bytes in any cut → the data of whole events. Pure.

Follows the WHATWG standard (https://html.spec.whatwg.org/multipage/server-sent-events.html, section
"Interpreting an event stream") for what providers' streams use: data, comments, the three line ends,
the byte order mark. `event`, `id` and `retry` are read over. An unfinished event at the end is none.
"""

EVENT_BYTES_MAX = 32 * 1024 * 1024  # an event may carry a whole picture or sound in base64

_BOM = b"\xef\xbb\xbf"
_CR, _LF = b"\r", b"\n"
_PREFIX, _END = b"data: ", b"\n\n"


class EventTooLarge(Exception):
    """A line or an event has grown beyond EVENT_BYTES_MAX."""


class SSEDecoder:
    """Feed it what arrives. `comments` counts the comment lines seen: the provider is alive."""

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self.comments = 0
        self._event_bytes_max = event_bytes_max
        self._pieces: list[bytes] = []  # of a line whose end has not come yet
        self._pieces_bytes = 0
        self._data: list[bytes] = []  # lines of an event whose end has not come yet
        self._data_bytes = 0
        self._is_first_line = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that this chunk completes."""
        if self._is_one_event(chunk):
            return [chunk[len(_PREFIX) : -len(_END)]]
        lines = self._lines(chunk)
        return [data for line in lines if (data := self._line(line)) is not None]

    def _is_one_event(self, chunk: bytes) -> bool:
        """The common case: one chunk, one event, one line."""
        return (
            chunk.startswith(_PREFIX)
            and chunk.endswith(_END)
            and not (self._is_first_line or self._pieces or self._data or self._after_cr or _CR in chunk)
            and chunk.count(_LF) == len(_END)
            and len(chunk) <= self._event_bytes_max
        )

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes; the rest waits for the next one."""
        *lines, rest = self._with_line_feeds(chunk).split(_LF)
        if lines:
            lines[0] = b"".join((*self._pieces, lines[0]))
            self._pieces, self._pieces_bytes = [], 0
        if rest:
            self._pieces.append(rest)
            self._pieces_bytes += len(rest)
        self._check_size(self._pieces_bytes)
        return lines

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """CR and CRLF become LF, also when a chunk ends between the two."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(_LF)
            self._after_cr = False
        if _CR not in chunk:
            return chunk
        self._after_cr = chunk.endswith(_CR)
        return chunk.replace(b"\r\n", _LF).replace(_CR, _LF)

    def _line(self, line: bytes) -> bytes | None:
        if self._is_first_line:
            line = line.removeprefix(_BOM)
            self._is_first_line = False
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(value)
            self._check_size(self._data_bytes)
        elif not name:
            self.comments += 1
        return None

    def _dispatch(self) -> bytes | None:
        if not self._data:
            return None
        data = _LF.join(self._data)
        self._data, self._data_bytes = [], 0
        return data

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._event_bytes_max:
            raise EventTooLarge(f"an event is larger than {self._event_bytes_max} bytes")
