"""`python -m quantized.devstack run` or `smoke`; the Makefile is the usual way in."""

import os
import signal
import sys

from quantized.devstack.errors import StackError
from quantized.devstack.places import VAR
from quantized.devstack.processes import free_port
from quantized.devstack.report import say
from quantized.devstack.run import serve, smoke

USAGE = "usage: python -m quantized.devstack run|smoke"
PORT_DEFAULT = 8000


def main(arguments: list[str]) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # one way to stop, whoever asks (a script's & ignores SIGINT)
    try:
        return command(arguments)
    except StackError as error:
        return complain(str(error))
    except PermissionError as error:
        return complain(f"{error.filename} cannot be used: run as the user it belongs to, or remove {VAR}")
    except KeyboardInterrupt:
        say("\nStopped.")
        return 0 if arguments == ["run"] else 130


def complain(line: str) -> int:
    print(f"quantized: {line}", file=sys.stderr)
    return 1


def command(arguments: list[str]) -> int:
    if arguments == ["run"]:
        serve(VAR, chosen_port() or PORT_DEFAULT)
    elif arguments == ["smoke"]:
        smoke(VAR / "smoke", chosen_port() or free_port())
    else:
        raise StackError(USAGE)
    return 0


def chosen_port() -> int | None:
    text = os.environ.get("PORT", "")
    if text and not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise StackError(f"PORT must be a number between 1 and 65535, not {text!r}")
    return int(text) if text else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
