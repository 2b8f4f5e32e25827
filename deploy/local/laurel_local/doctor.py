"""`laurel doctor`: can Laurel run on this machine? Each finding comes with its fix."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.text import Text

from laurel_local.console import Output
from laurel_local.embedded import binaries
from laurel_local.exits import Exit, Failure
from laurel_local.state import State
from laurel_local.up import DEFAULT_PORT

LEAST_PYTHON = (3, 11)
SUPPORTED_PYTHONS = ((3, 11), (3, 12), (3, 13))  # as pyproject.toml declares; a test holds the two together
LEAST_FREE_GB = 2.0
LEAST_JAVA = 17
_SUPPORTED = "supported: " + ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED_PYTHONS)

Word = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One check. note: something that is not needed for `laurel up` is missing; wrong: `laurel up` will fail."""

    check: str
    word: Word
    detail: str
    fix: str = ""


def examine(state: State) -> Iterator[Finding]:
    """All checks, in the order in which a start would meet them. A check that fails itself is a finding."""
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "python": lambda: [_python()],
        "packages": lambda: [_packages()],
        "postgres": lambda: [_postgres()],
        "state": lambda: _folder(state),
        "port": lambda: [_port(state)],
        "java": lambda: [_java()],
        "mvn": lambda: [_tool("mvn", "Maven", "needed for `make kafka` only, once", "install Maven")],
    }
    for name, check in checks.items():
        try:
            yield from check()
        except Failure as failure:
            yield Finding(name, "wrong", failure.message, failure.fix)
        except OSError as error:
            what = f"{error.filename}: " if error.filename is not None else ""
            fix = "give this user the file, or choose another state folder with --state DIR"
            yield Finding(name, "wrong", f"{what}{error.strerror or error}", fix)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < LEAST_PYTHON:
        return Finding("python", "wrong", f"Python {version}", "install Python 3.11 or newer, then `make install`")
    if sys.version_info[:2] not in SUPPORTED_PYTHONS:
        return Finding("python", "note", f"Python {version}: {_SUPPORTED}", "where something fails, take one of these")
    return Finding("python", "ok", f"Python {version} ({_SUPPORTED})")


def _packages() -> Finding:
    """What the lock says against what is installed, where the lock can be seen (a clone)."""
    lock = Path(__file__).resolve().parents[3] / "requirements.lock"
    if not lock.exists():
        return Finding("packages", "ok", "installed without a clone; there is no lock to compare with")
    wanted = dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock.read_text(), re.MULTILINE))
    differing = []
    for name, version in wanted.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # A package for another platform is in the lock with a marker and not here.
            if not re.search(rf"^{re.escape(name)}==\S+ *;", lock.read_text(), re.MULTILINE):
                differing.append(f"{name} is missing")
        else:
            if installed != version:
                differing.append(f"{name} is {installed}, not {version}")
    if differing:
        detail = "; ".join(differing[:5]) + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        return Finding("packages", "wrong", detail, "run `make install` (after `make clean` if it says nothing)")
    return Finding("packages", "ok", f"{len(wanted)} packages as in requirements.lock")


def _postgres() -> Finding:
    try:
        program = binaries() / "postgres"
        done = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except Failure as failure:
        return Finding("postgres", "wrong", failure.message, failure.fix)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            "postgres",
            "wrong",
            f"its wheel does not run here: {error}",
            "use your own PostgreSQL 18 with `laurel serve`",
        )
    detail = done.stdout.strip()
    if os.geteuid() == 0:
        detail += "; started by root, it will run as `postgres` or `nobody`, and folders on the way get o+x"
    return Finding("postgres", "ok", detail)


def _folder(state: State) -> Iterator[Finding]:
    folder = state.folder
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "state", "wrong", f"{existing} is not writable", "choose another with --state DIR or LAUREL_STATE"
        )
        return
    yield Finding("state", "ok", str(folder) + ("" if folder.exists() else " (will be made)"))
    free = shutil.disk_usage(existing).free / 1e9
    if free < LEAST_FREE_GB:
        yield Finding(
            "disk",
            "wrong",
            f"{free:.1f} GB free at {existing}",
            f"free {LEAST_FREE_GB:.0f} GB, or choose another --state",
        )
    else:
        yield Finding("disk", "ok", f"{free:.0f} GB free")
    secrets = state.secrets_file
    if secrets.exists():
        mode = stat.S_IMODE(secrets.stat().st_mode)
        if mode & 0o077:
            yield Finding(
                "secrets", "wrong", f"{secrets} has mode {mode:o}: others can read it", f"chmod 600 {secrets}"
            )
        else:
            yield Finding("secrets", "ok", f"{secrets.name} is readable for its owner alone")


def _port(state: State) -> Finding:
    kept = state.read("state.json").get("port")
    port = kept if isinstance(kept, int) else DEFAULT_PORT
    try:
        with socket.create_server(("127.0.0.1", port)):
            return Finding("port", "ok", f"{port} is free")
    except OSError:
        if isinstance(kept, int):
            detail, fix = f"{port} is taken: by this Laurel, if it runs", "else free it, or use --port N"
        else:
            detail, fix = f"{port} is taken; `laurel up` will take the next free one", "or name one with --port N"
        return Finding("port", "note", detail, fix)


def _java() -> Finding:
    found = _tool("java", "Java", "needed for `make kafka` only", f"install Java {LEAST_JAVA} or newer")
    if found.word != "ok":
        return found
    try:
        done = subprocess.run([found.detail, "-version"], capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("java", "note", f"{found.detail} does not run: {error}", f"install Java {LEAST_JAVA} or newer")
    said = (done.stderr or done.stdout).strip()
    version = java_version(said)
    if version is not None and version < LEAST_JAVA:
        detail = f"{found.detail} is Java {version}; `make kafka` needs {LEAST_JAVA} or newer"
        return Finding("java", "note", detail, f"install Java {LEAST_JAVA} or newer")
    return Finding("java", "ok", f"{found.detail}: {said.splitlines()[0] if said else 'version unknown'}")


def java_version(said: str) -> int | None:
    """The main version in what `java -version` says: 1.8.0_392 is 8, 21.0.2 is 21."""
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else None


def _tool(program: str, name: str, why: str, fix: str) -> Finding:
    found = shutil.which(program)
    if found is None:
        return Finding(program, "note", f"{name} is not installed; {why}", fix)
    return Finding(program, "ok", found)


async def run(state: State, output: Output) -> Exit:
    """`laurel doctor`: NO when something will keep `laurel up` from running."""
    found = list(examine(state))
    output.result({"findings": [asdict(one) for one in found]})
    if not output.as_json:
        colours = {"ok": "green", "note": "yellow", "wrong": "red"}
        for one in found:
            output.out.print(Text.assemble((f"{one.word:<5}", colours[one.word]), f" {one.check}: {one.detail}"))
            if one.fix:
                output.out.print(f"      fix: {one.fix}")
    return Exit.NO if any(one.word == "wrong" for one in found) else Exit.OK
