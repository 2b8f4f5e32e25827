"""Processor time and memory of running processes, read from /proc: whatever else the machine does leaves them be."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """The fields of proc(5) stat, from the third on ("state"); None when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # as Path, it would take twice as long
            return file.read().decode(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def all_children() -> dict[int, list[int]]:
    """The children of every process there is: a walk through /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (fields := _stat(int(name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(name))
    return children


def tree(*roots: int, children: dict[int, list[int]] | None = None) -> list[int]:
    """The processes and all their descendants. children: where a walk is to serve for several trees."""
    if children is None:
        children = all_children()
    found, waiting = [], list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these and of their children that have ended."""
    total = 0
    for pid in pids:
        if (fields := _stat(pid)) is not None:
            total += sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return total / _TICKS


def tree_seconds(root: int) -> float:
    """`cpu_seconds` of a process and all its descendants."""
    return cpu_seconds(tree(root))


def rss_mb(pid: int, line: str = "VmRSS") -> float:
    """Resident memory in MiB; 0 when the process is gone. line: of /proc/PID/status."""
    try:
        for found in Path(f"/proc/{pid}/status").read_text().splitlines():
            if found.startswith(f"{line}:"):
                return int(found.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0.0


class Held(NamedTuple):
    """What a process holds: resident memory in MiB, the part of it that is no file's, open files, threads."""

    rss_mb: float
    own_mb: float
    files: int
    threads: int


def holds(pid: int) -> Held | None:
    """None when the process is gone."""
    try:
        files = len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = _stat(pid)
    return Held(rss_mb(pid), rss_mb(pid, "RssAnon"), files, int(fields[17])) if fields is not None else None


def command(pid: int) -> str:
    """Its command line; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
