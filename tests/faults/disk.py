"""A disk of its own for a state folder, which can be filled: an ext4 image over a loop device. Needs root on Linux."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path


class Disk:
    """size: bytes; the image grows as it is written."""

    def __init__(self, image: Path, folder: Path, size: int) -> None:
        self._image = image
        self._folder = folder
        self._size = size
        self._ballast = folder / "ballast"

    def mount(self) -> str | None:
        """Mount it on the folder. None: done; else why that is not possible here."""
        if os.geteuid() != 0:
            return "only root can mount a disk of its own for a state folder"
        if shutil.which("mkfs.ext4") is None:
            return "mkfs.ext4 is missing"
        with self._image.open("wb") as file:
            file.truncate(self._size)
        for command in (["mkfs.ext4", "-q", "-m", "0", str(self._image)],
                        ["mount", "-o", "loop", str(self._image), str(self._folder)]):  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            if done.returncode:
                return f"{command[0]} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
        self._folder.chmod(0o711)
        return None

    def unmount(self) -> None:
        """Without regard to who still uses it."""
        subprocess.run(["umount", "-l", str(self._folder)], capture_output=True, timeout=60)
        self._image.unlink(missing_ok=True)

    def fill(self) -> int:
        """Take all that is left; the bytes taken."""
        taken = 0
        with self._ballast.open("wb") as file:
            step = 1 << 30
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), taken, step)
                    taken += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
        return taken

    def clear(self) -> None:
        """Give it back."""
        self._ballast.unlink(missing_ok=True)
