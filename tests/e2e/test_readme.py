"""The README's blocks are run as they stand, by a new user's shell."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_ports

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A folder like the checkout's: `.venv/bin/laurel` in it, and a Laurel that is up with its state there."""
    (port,) = free_ports(1)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/laurel").symlink_to(Path(sys.executable).parent / "laurel")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAUREL_")}
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [tmp_path / ".venv/bin/laurel", "up", "--port", str(port)],
            cwd=tmp_path, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://localhost:{port}/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except (urllib.error.URLError, ConnectionError):
                pass
            assert process.poll() is None, (tmp_path / "up.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "up.log").read_text()
            time.sleep(0.2)
        yield tmp_path, port
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    assert code == 0, (tmp_path / "up.log").read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
def test_the_first_badge(home: tuple[Path, int]) -> None:
    folder, port = home
    (block,) = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        ["bash", "-c", block.replace("localhost:8080", f"localhost:{port}")],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"passed"' in done.stdout
    assert "valid" in done.stdout
    page = done.stdout.strip().splitlines()[-1]
    with urllib.request.urlopen(page, timeout=10) as answer:
        html = answer.read().decode()
    assert "Data literacy" in html
    assert "Acme Academy" in html


def test_every_link_leads_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.relative_to(ROOT)} links to {target}"


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"`?make ([a-z-]+)", (ROOT / document).read_text(encoding="utf-8")):
            assert target in targets, f"{document} names `make {target}`"
