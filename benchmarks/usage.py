"""What processes have used so far, from /proc: CPU and peak memory of a whole tree."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PPID, UTIME, CUTIME_END = 1, 11, 15  # fields of stat after the command's name


def tree(pid: int) -> list[int]:
    """The process and all its descendants that live."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[PPID]), []).append(int(entry.name))
    return list(_descent(pid, parents))


def _descent(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _descent(child, children)


def cpu_s(pid: int) -> float:
    """User and system time of a tree, threads and ended children included. Ticks: 10 ms."""
    ticks = sum(sum(map(int, fields[UTIME:CUTIME_END])) for member in tree(pid) if (fields := _stat(member)))
    return ticks / TICKS_PER_S


def peak_bytes(pid: int) -> int:
    return _status_bytes(pid, "VmHWM:")


def resident_bytes(pid: int) -> int:
    return _status_bytes(pid, "VmRSS:")


def _status_bytes(pid: int, name: str) -> int:
    """Summed over the tree: what processes share is counted for each."""
    found = 0
    for member in tree(pid):
        try:
            lines = (PROC / str(member) / "status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    return found


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may hold spaces and parentheses; none if it has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system
