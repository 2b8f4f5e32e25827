"""A Laurel that is up, for the tests of the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("LAUREL_", "OTEL_"))}


def laurel(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "laurel_local.cli", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=170, **options)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A Laurel that is up, with an organisation, a key and an achievement, in a folder with an awkward name."""
    state = tmp_path_factory.mktemp("up") / (
        "a folder, with blanks and a name that is too long for a socket " + "x" * 40
    )
    output = state.parent / "up.json"
    with output.open("wb") as file, (state.parent / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "laurel_local.cli", "up", "--json", "--port", "0", "--state", str(state)],
            env=environment() | {"LAUREL_CONFORMANCE": "1", "LAUREL_TLS": "1"}, stdin=subprocess.DEVNULL, stdout=file,
            stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while not output.read_text().strip().endswith("}"):
            assert process.poll() is None, (state.parent / "up.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield organise(json.loads(output.read_text())["url"], state)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, (state.parent / "up.log").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)


def organise(url: str, state: Path) -> dict[str, Any]:
    secrets = dict(line.split("=", 1) for line in (state / "secrets.env").read_text().splitlines() if line[0] != "#")

    def post(path: str, key: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while True:
            headers = {"Authorization": f"Bearer {key}"}
            answer = httpx.post(url + path, headers=headers, json=body, timeout=30, trust_env=False)
            if answer.status_code != 401 or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    made = post("/issuer/v1/organisations", secrets["LAUREL_OPERATOR_TOKEN"], {"slug": "uni", "name": "Uni"})
    key = made["api_key"]["text"]
    profile = post("/issuer/v1/profiles", key, {"slug": "uni", "name": "Uni", "url": "https://uni.example.org"})
    post(f"/issuer/v1/profiles/{profile['profile_id']}/keys", key)
    achievement = post(
        "/assessment/v1/achievements", key,
        {
            "profile_id": profile["profile_id"], "name": "Data", "description": "Reads data.",
            "criteria": {"narrative": "60 points."}, "policy": {"minimum_score": 60},
        },
    )  # fmt: skip
    return {"url": url, "key": key, "achievement": achievement["achievement_id"], "state": str(state)}
