"""The state folder: everything that `laurel up` keeps between runs, owned by one process at a time."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from laurel_local.exits import Exit, Failure

SECRET_NAMES = ("LAUREL_ID_KEY", "LAUREL_CONTACT_KEY", "LAUREL_KEK", "LAUREL_OPERATOR_TOKEN")


def default_folder() -> Path:
    """$LAUREL_STATE, else .laurel in the current folder."""
    return Path(os.environ.get("LAUREL_STATE") or ".laurel")


def new_secrets() -> dict[str, str]:
    """Fresh values of every secret that an installation needs, by the names of their settings."""
    keys = {name: base64.b64encode(secrets.token_bytes(32)).decode() for name in SECRET_NAMES[:3]}
    return {**keys, "LAUREL_OPERATOR_TOKEN": secrets.token_urlsafe(32)}


class State:
    """A state folder: secrets.env, state.json, laurel.log, postgres/, and what the demo keeps and receives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.log_file = self.folder / "laurel.log"
        self.secrets_file = self.folder / "secrets.env"

    def prepare(self) -> None:
        """Make the folder. Raises Failure when that is not possible."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "not writable for this user")
        except OSError as error:
            raise Failure(
                f"the state folder {self.folder} cannot be used: {error.strerror}",
                fix="choose another with --state DIR or LAUREL_STATE, or give this user the folder",
                code=Exit.USAGE,
            ) from None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Own the folder while the block runs. Raises Failure when another process does."""
        with _named(self.folder / "lock"):
            lock = (self.folder / "lock").open("a+", encoding="utf-8")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read().strip() or "unknown"
                raise Failure(
                    f"another laurel (process {owner}) runs on the state folder {self.folder}",
                    fix="stop it, or use another folder with --state DIR",
                    code=Exit.USAGE,
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def secrets(self) -> dict[str, str]:
        """The installation's secrets; made on the first call, readable for the owner alone."""
        if not self.secrets_file.exists():
            text = "# Keep this file: without LAUREL_KEK the signing keys are lost; a new LAUREL_ID_KEY changes ids.\n"
            text += "".join(f"{name}={value}\n" for name, value in new_secrets().items())
            _write_private(self.secrets_file, text)
        values = dict(
            line.split("=", 1)
            for line in self.secrets_file.read_text(encoding="utf-8").splitlines()
            if "=" in line and not line.startswith("#")
        )
        missing = [name for name in SECRET_NAMES if not values.get(name)]
        if missing:
            raise Failure(
                f"{self.secrets_file} lacks {', '.join(missing)}",
                fix="restore the file from a backup, or start a new state folder with --state DIR",
                code=Exit.USAGE,
            )
        return values

    def read(self, name: str) -> dict[str, Any]:
        """A JSON document of the folder; {} where there is none."""
        try:
            with _named(self.folder / name):
                value = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except ValueError:
            raise Failure(
                f"{self.folder / name} is not JSON", fix="restore it, or delete it to start anew", code=Exit.USAGE
            ) from None
        if not isinstance(value, dict):
            raise Failure(f"{self.folder / name} is not a JSON object", fix="delete it to start anew", code=Exit.USAGE)
        return value

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Replace a JSON document of the folder, whole or not at all."""
        _write_private(self.folder / name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """A file of the folder that cannot be used is said by name. One that is not there is the caller's to judge."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise Failure(
            f"{path} cannot be used: {error.strerror}",
            fix=f"give this user the file (it belongs to laurel's state folder {path.parent}), or use another --state",
            code=Exit.USAGE,
        ) from None


def open_log(path: Path) -> int:
    """A descriptor that appends to a log which its owner alone may read: where the folder may be crossed, others can
    guess its name."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with contextlib.suppress(PermissionError):  # somebody else's, who lets us write
        os.fchmod(descriptor, 0o600)  # of a version before, it is open to all
    return descriptor


def _write_private(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
