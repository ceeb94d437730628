"""`make profile`: where our server's time goes under load. Flame graphs under var/profile/, and a table of functions.

py-spy reads the process from outside: on Linux that needs root, or kernel.yama.ptrace_scope=0.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from threading import Thread

import uvloop

from benchmarks import load
from benchmarks.contenders import BODY, STREAM_BODY, ask
from benchmarks.report import number, say
from benchmarks.stack import running_stack
from quantized.devstack.places import VAR

DIRECTORY = VAR / "profile"
IN_FLIGHT = 32
RATE_PER_S = 500
TOP = 40
LEAD_S = 1.0  # py-spy needs a moment to begin


def main() -> None:
    seconds = number("SECONDS", 10)
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with running_stack("profile") as stack:
        stack.prepare()
        tenant = stack.open_tenant()
        server = stack.start_ours()
        for name, body in (("whole", BODY), ("stream", STREAM_BODY)):
            request = ask(server.port, *tenant.headers, body=body)._replace(expected=b"")
            for form, suffix in (("raw", "txt"), ("flamegraph", "svg"), ("speedscope", "json")):
                path = DIRECTORY / f"{name}.{suffix}"
                record(server.pid, request, form, path, seconds)
            say(f"\n{name}: share of samples in a function itself, and in it or below\n")
            for line in top((DIRECTORY / f"{name}.txt").read_text()):
                say(line)
    say(f"\nFlame graphs and speedscope files: {DIRECTORY}")


def record(pid: int, request: load.Request, form: str, path: Path, seconds: int) -> None:
    command = [str(Path(sys.executable).parent / "py-spy"), "record", "--pid", str(pid), "--format", form]
    command += ["--output", str(path), "--duration", str(seconds), "--rate", str(RATE_PER_S), "--nonblocking"]
    told: list[subprocess.CompletedProcess[str]] = []
    spy = Thread(target=lambda: told.append(subprocess.run(command, check=False, capture_output=True, text=True)))
    spy.start()
    uvloop.run(load.closed(request, IN_FLIGHT, seconds + LEAD_S))
    spy.join()
    if told[0].returncode != 0:
        raise SystemExit(f"py-spy failed: {told[0].stderr.strip()}")


def top(folded: str) -> list[str]:
    """From lines of `outermost;...;innermost count`."""
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, samples = line.rpartition(" ")
        functions = [frame.rpartition(":")[0] for frame in stack.split(";")]
        own[functions[-1]] += int(samples)
        for function in set(functions):
            below[function] += int(samples)
    total = own.total() or 1
    rows = [f"{own[name] / total:7.1%} {below[name] / total:7.1%}  {name}" for name, _ in own.most_common(TOP)]
    widest = [f"{own[name] / total:7.1%} {share / total:7.1%}  {name}" for name, share in below.most_common(TOP)]
    return ["   self   total", *rows, "", "   self   total", *widest]


if __name__ == "__main__":
    main()
