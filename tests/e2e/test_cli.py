"""The `laurel` command at its edges: exit codes, --json, no traceback; and a bulk upload killed in the middle."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from laurel_local.exits import MEANINGS, Exit
from tests.e2e.running import environment, laurel

ROWS = 25_000


def test_help_lists_the_commands_and_the_exit_codes() -> None:
    done = laurel("--help")
    assert done.returncode == 0
    for word in ("up", "demo", "serve", "migrate", "issue", "verify", "reconcile", "status", "doctor"):
        assert f" {word} " in done.stdout
    assert all(str(int(code)) in done.stdout for code in MEANINGS)
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["nonsense"], 2, "nonsense"),
        (["demo", "--learners", "0"], 2, "learners"),
        (["serve", "nobody"], 2, "assessment, issuer"),
        (["serve", "issuer"], 2, "LAUREL_BUS_URL"),
        (["migrate"], 2, "LAUREL_ADMIN_DATABASE_URL"),
        (["migrate", "--database", "postgresql://postgres@127.0.0.1:1/laurel"], 3, "cannot be reached"),
        (["migrate", "--database", "nonsense"], 2, "postgresql://host:5432/database"),
        (["migrate", "--database", "postgres://[::1/x"], 2, "postgresql://host:5432/database"),
        (["migrate", "--database", "postgres://localhost:1/x?sslmode=zz"], 2, "sslmode"),
        (["topics", "--bus", "amqp://x"], 2, "amqp"),
        (["verify", "no-such-file.json"], 2, "no-such-file.json"),
        (["verify", "http://127.0.0.1:1/x"], 3, "cannot be fetched"),
        (["reconcile", "--url", "http://127.0.0.1:1"], 3, "does not answer"),
        (["reconcile", "--url", "ftp://x"], 2, "https://"),
        (["issue", "bulk", "no-such-file.csv", "--url", "http://127.0.0.1:1"], 2, "no-such-file.csv"),
        (["verify", "ftp://example.org/x"], 2, "https://"),
        (["verify", "HTTP://[::1"], 2, "not a URL"),
        (["verify", "HTTP://127.0.0.1:1/x"], 3, "cannot be fetched"),
        (["verify"], 2, "Missing argument"),
        (["up", "--bus", "foo://x"], 2, "foo"),
        (["demo", "--bus", "foo://x", "--exit"], 2, "foo"),
        (["up", "--port", "nine"], 2, "--port"),
        (["reconcile", "--url", "http://127.0.0.1:1", "--api-key", "Ключ"], 2, "--api-key"),
        (["status"], 2, "laurel up"),
        (["audit", "verify", "--database", "garbage"], 2, "postgresql://host:5432/database"),
        (["audit", "export", "-", "--url", "http://127.0.0.1:1"], 3, "does not answer"),
    ],
)  # fmt: skip
def test_errors_are_messages_with_a_code(arguments: list[str], code: int, word: str, tmp_path: Path) -> None:
    done = laurel(*arguments, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert word in said
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert not (tmp_path / ".laurel" / "postgres").exists(), "refused before anything is made"
    if arguments[0] != "serve" and "-" not in arguments:  # which have no --json
        as_json = laurel(*arguments, "--json", cwd=tmp_path)
        assert (as_json.returncode, json.loads(as_json.stdout)["error"]["exit"]) == (code, code)


def test_the_version() -> None:
    done = laurel("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "laurel")


@pytest.mark.parametrize("to", [">&-", ">/dev/full", "| true"])
@pytest.mark.parametrize("arguments", ["secrets", "secrets --json", "doctor", "--help"])
def test_an_answer_that_cannot_be_written_has_a_code_of_its_own(arguments: str, to: str, tmp_path: Path) -> None:
    command = f"set -o pipefail; {sys.executable} -m laurel_local.cli {arguments} {to}"
    done = subprocess.run(
        ["bash", "-c", command], env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    # `true` may be gone before or after the answer is written: that is the shell's affair.
    assert done.returncode in (
        {0, 1, 74} if to == "| true" and arguments == "doctor" else {0, 74} if to == "| true" else {74}
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_stream_that_cannot_hold_every_letter(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "laurel_local.cli", "verify", "[/Ложка😀].json"]
    ascii_only = {**environment(), "PYTHONIOENCODING": "ascii"}
    for more in ([], ["--json"]):
        done = subprocess.run(
            [*command, *more], env=ascii_only, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["error"]["detail"].startswith("[/Ложка😀].json")


def test_a_state_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in ("state.json", "lock", "laurel.log"):
        state = tmp_path / f"of {name}"
        (state / name).mkdir(parents=True)  # root may read everything else
        done = laurel("up", "--port", "0", "--state", str(state), "--json")
        error = json.loads(done.stdout)["error"]
        assert done.returncode == 2, name
        assert str(state / name) in error["detail"]
    done = laurel("doctor", "--state", str(tmp_path / "of state.json"), "--json")
    found = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert found["port"]["word"] == "wrong"
    assert "mvn" in found, "it goes on"


def test_secrets_are_new_each_time_and_fit_an_environment_file() -> None:
    first, second = laurel("secrets").stdout, laurel("secrets").stdout
    names = [line.split("=", 1)[0] for line in first.splitlines()]
    assert names == ["LAUREL_ID_KEY", "LAUREL_CONTACT_KEY", "LAUREL_KEK", "LAUREL_OPERATOR_TOKEN"]
    assert not set(first.splitlines()) & set(second.splitlines())


def test_doctor_says_what_it_finds(tmp_path: Path) -> None:
    done = laurel("doctor", "--json", "--state", str(tmp_path))
    found = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert done.returncode == (1 if any(one["word"] == "wrong" for one in found.values()) else 0)
    assert {"python", "packages", "postgres", "state", "disk", "port", "java", "mvn"} <= set(found)
    assert found["postgres"]["word"] == "ok"
    (tmp_path / "secrets.env").write_text("")
    (tmp_path / "secrets.env").chmod(0o644)
    worse = laurel("doctor", "--json", "--state", str(tmp_path))
    (secret,) = [one for one in json.loads(worse.stdout)["findings"] if one["check"] == "secrets"]
    assert worse.returncode == 1
    assert secret["fix"].startswith("chmod 600")


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = laurel("up", "--port", port, "--state", str(tmp_path / "state"), "--json")
    assert done.returncode == 2
    assert f"port {port} is taken" in json.loads(done.stdout)["error"]["detail"]


# --- with a Laurel that is up -------------------------------------------------------------------------------


def bulk(up: dict[str, Any], file: Path, run: str, *more: str) -> list[str]:
    return [
        "issue", "bulk", str(file), "--url", up["url"], "--api-key", up["key"], "--achievement", up["achievement"],
        "--course-run", run, "--json", *more,
    ]  # fmt: skip


def account(up: dict[str, Any], run: str) -> dict[str, Any]:
    done = laurel("reconcile", "--url", up["url"], "--api-key", up["key"], "--course-run", run, "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "exit": done.returncode}


@pytest.mark.timeout(420)
def test_a_bulk_upload_killed_in_the_middle_is_sent_again_and_doubles_nothing(
    up: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "cohort.csv"
    rows = [f"k{n},k{n}@example.org,{90 if n % 250 == 0 else 10}" for n in range(ROWS)]
    file.write_text("\n".join(["learner,email,score", *rows]) + "\n")
    passing = len([row for row in rows if row.endswith(",90")])
    headers = {"Authorization": f"Bearer {up['key']}"}

    process = subprocess.Popen(
        [sys.executable, "-m", "laurel_local.cli", *bulk(up, file, "killed")],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    imports: list[dict[str, Any]] = []
    while not imports:  # the first part has arrived, the second has not
        assert process.poll() is None, process.communicate()
        answer = httpx.get(up["url"] + "/assessment/v1/results/imports", headers=headers, timeout=60, trust_env=False)
        imports = [one for one in answer.json()["items"] if one["status"] != "receiving"]
    process.kill()
    process.communicate()
    assert [one["rows"] for one in imports] == [20_000]

    again = laurel(*bulk(up, file, "killed"))
    assert again.returncode == 0, again.stdout + again.stderr
    told = json.loads(again.stdout)
    assert imports[0]["import_id"] in told["imports"], "what had arrived is recognised"
    assert len(told["imports"]) == 2
    assert (told["rows"], told["sent"], told["passed"], told["duplicate"]) == (ROWS, ROWS, passing, 0)

    deadline = time.monotonic() + 60
    while (found := account(up, "killed"))["unaccounted"]:
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert found["exit"] == 0
    assert (found["accepted"], found["issued"], found["indexed"]) == (ROWS, passing, passing)
    assert (found["duplicate"], found["rejected"]) == (0, 0)


def test_refused_rows_end_in_a_file_and_code_4(up: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "few.csv"
    file.write_text("learner,email,score\na,a@example.org,70\nb,nobody,70\na,a@example.org,75\n")
    done = laurel(*bulk(up, file, "few"))
    told = json.loads(done.stdout)
    assert done.returncode == 4
    assert (told["rows"], told["passed"], told["refused"]) == (3, 1, 2)
    assert told["refused_for"] == {"not_an_email": 1, "conflicting_result": 1}
    lines = [line.split(",")[0] for line in (tmp_path / "few.csv.rejected.csv").read_text().splitlines()]
    assert lines == ["line", "3", "4"], "by their line in the file, whoever refused them"


@pytest.mark.parametrize("path", ["credentials/issue", "credentials/verify", "presentations/verify"])
def test_without_its_flags_nothing_answers_for_conformance(up: dict[str, Any], path: str) -> None:
    """Variables with such names are in the environment of this Laurel: they are nobody's."""
    answer = httpx.post(f"{up['url']}/conformance/{path}", json={"credential": {}}, trust_env=False)
    assert answer.status_code == 404
    assert up["url"].startswith("http://")


def test_a_wrong_key_is_said(up: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "few.csv"
    file.write_text("learner,email,score\na,a@example.org,70\n")
    done = laurel(*bulk({**up, "key": "laurel_x"}, file, "few"))
    assert done.returncode == 2
    assert "--api-key" in json.loads(done.stdout)["error"]["fix"]
