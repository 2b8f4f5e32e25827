"""`laurel issue bulk`, against a server that remembers: parts, keys, line numbers, and the list of what was refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from laurel_assessment.rows import Defaults
from laurel_local import bulk, client, results_file
from laurel_local.console import Output
from laurel_local.exits import Exit, Failure
from tests.conftest import ROOT

ACHIEVEMENT = "01a20000-0000-7000-8000-000000000001"


class Server:
    """Takes uploads as the assessment service does: one import a key, the same answer for the same key and body."""

    def __init__(self) -> None:
        self.uploads: dict[str, bytes] = {}
        self.requests = 0
        self.in_flight = 0
        self.problem: dict[str, Any] | None = None
        self.rejects: Callable[[str], bool] = lambda line: False

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.requests += 1
            if self.problem is not None:
                return httpx.Response(422, json=self.problem)
            if self.in_flight:
                self.in_flight -= 1
                return httpx.Response(409, json={"detail": "still under way"})
            key, body = request.headers["idempotency-key"], request.read()
            assert self.uploads.setdefault(key, body) == body, "a key stands for one body"
            return httpx.Response(202, json={"import_id": key})
        key = request.url.path.split("/")[5]
        lines = self.uploads[key].decode().splitlines()
        rejected = [n for n, line in enumerate(lines, 1) if self.rejects(line)]
        if request.url.path.endswith("/rejections"):
            error = {"field": "attempt", "code": "conflicting_result", "detail": "decided before"}
            items = [{"line": n, **error, "errors": [error], "row": lines[n - 1]} for n in rejected]
            return httpx.Response(200, json={"items": items, "next": None})
        passed = len(lines) - len(rejected) - (lines[0].startswith("learner"))
        counts = {"passed": passed, "not_passed": 0, "duplicate": 0, "rejected": len(rejected)}
        return httpx.Response(200, json={"status": "done", **counts})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()

    def connected(self: client.Client, url: str, api_key: str = "") -> None:
        self.url = url
        self._http = httpx.AsyncClient(base_url=url, transport=httpx.MockTransport(made.answer))

    monkeypatch.setattr(client.Client, "__init__", connected)
    return made


async def send(file: Path, *, dry_run: bool = False) -> Exit:
    return await bulk.run(
        file, url="http://laurel", api_key="k", achievement=ACHIEVEMENT, course_run="run-1", dry_run=dry_run,
        output=Output(as_json=True),
    )  # fmt: skip


def cohort(file: Path, rows: int, *, bad: tuple[int, ...] = ()) -> Path:
    lines = [f"l{n},{'nobody' if n in bad else f'l{n}@example.org'},{60 + n % 40}" for n in range(rows)]
    file.write_text("\n".join(["learner,email,score", *lines]) + "\n")
    return file


def refused(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


async def test_parts_and_their_keys(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_file, "PART_ROWS", 4)
    file = cohort(tmp_path / "c.csv", 10)
    assert await send(file) is Exit.OK
    assert [body.decode().count("\n") - 1 for body in server.uploads.values()] == [4, 4, 2]
    assert all(body.startswith(b"learner,email,score\n") for body in server.uploads.values())
    assert await send(file) is Exit.OK
    assert (len(server.uploads), server.requests) == (3, 6), "sent again under the same keys"
    cohort(file, 11)
    assert await send(file) is Exit.OK
    assert len(server.uploads) == 4, "the part that changed has another key"


async def test_refused_rows_keep_their_line(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_file, "PART_ROWS", 3)
    server.rejects = lambda line: line.startswith("l6,")
    file = cohort(tmp_path / "c.csv", 9, bad=(1, 4))
    assert await send(file) is Exit.PARTIAL
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["sent"], told["passed"], told["refused"]) == (9, 7, 6, 3)
    assert told["refused_for"] == {"not_an_email": 2, "conflicting_result": 1}
    listed = refused(Path(told["refused_file"]))
    assert [(row["line"], row["field"], row["code"]) for row in listed] == [
        ("3", "email", "not_an_email"), ("6", "email", "not_an_email"), ("8", "attempt", "conflicting_result"),
    ]  # fmt: skip
    assert b"nobody" not in b"".join(server.uploads.values()), "what is known to be wrong is not sent"
    cohort(file, 3)
    assert await send(file) is Exit.OK
    assert (tmp_path / "c.csv.rejected.csv").exists(), "what this run did not write is not its to delete"


async def test_each_file_has_its_own_list(server: Server, tmp_path: Path) -> None:
    assert await send(cohort(tmp_path / "c.csv", 2, bad=(1,))) is Exit.PARTIAL
    (tmp_path / "c.ndjson").write_text('{"learner": "a", "email": "nobody"}\n')
    assert await send(tmp_path / "c.ndjson") is Exit.PARTIAL
    assert len(refused(tmp_path / "c.csv.rejected.csv")) == len(refused(tmp_path / "c.ndjson.rejected.csv")) == 1


async def test_what_is_good_tomorrow_does_not_go_up_under_the_key_of_today(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text(
        "learner,email,completed_at\na,a@example.org,2025-01-01T00:00:00Z\nb,b@example.org,2025-01-09T00:00:00Z\n"
    )
    keys = []
    for day in (2, 10):
        results = results_file.ResultsFile(file, Defaults("http://laurel", ACHIEVEMENT, None))
        (part,) = results.parts(datetime(2025, 1, day, tzinfo=UTC))
        keys.append((results.key(part, "run-1", ACHIEVEMENT), bytes(part.body)))
    assert keys[0][1] != keys[1][1], "one row is in the future on the first day"
    assert keys[0][0] != keys[1][0]


async def test_standard_input_and_pipes(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = io.TextIOWrapper(io.BytesIO(b'{"learner": "a", "email": "a@example.org"}\n{"learner": "b"}\n'))
    monkeypatch.setattr("sys.stdin", given)
    assert await send(Path("-")) is Exit.PARTIAL
    assert [row["line"] for row in refused(tmp_path / "stdin.rejected.csv")] == ["2"]
    assert list(server.uploads.values()) == [b'{"learner": "a", "email": "a@example.org"}\n']


@pytest.mark.parametrize("text", ['{\n "learner": "a"\n}\n', '[{"learner": "a"}]'])
async def test_json_that_is_no_ndjson_is_said_once(server: Server, tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(Failure, match="not NDJSON") as caught:
        await send(tmp_path / "c.json")
    assert (caught.value.code, server.requests) == (Exit.USAGE, 0)


async def test_the_server_is_told_of_in_options(server: Server, tmp_path: Path) -> None:
    error = {"field": "achievement", "code": "unknown_achievement", "detail": "there is no such achievement"}
    server.problem = {"detail": "achievement: there is no such achievement", "errors": [error]}
    with pytest.raises(Failure) as caught:
        await send(cohort(tmp_path / "c.csv", 2))
    assert caught.value.message == "--achievement: there is no such achievement"
    assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_dry_run_asks_for_what_the_real_run_needs(server: Server, tmp_path: Path, dry_run: bool) -> None:
    with pytest.raises(Failure, match="--achievement") as caught:
        await bulk.run(
            cohort(tmp_path / "c.csv", 2), url="http://laurel", api_key="k", achievement=None, course_run=None,
            dry_run=dry_run, output=Output(as_json=True),
        )  # fmt: skip
    assert caught.value.code is Exit.USAGE


async def test_names_are_no_markup(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a[").mkdir()
    file = cohort(tmp_path / "a[" / "b][bold]:smile:.csv", 2)
    await bulk.run(
        file, url="http://laurel", api_key="k", achievement=ACHIEVEMENT, course_run=None, dry_run=True,
        output=Output(as_json=False),
    )  # fmt: skip
    assert str(file) in capsys.readouterr().out.replace("\n", "")


async def test_a_record_over_two_lines_keeps_the_count(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text('learner,email,name\na,a@example.org,"two\nlines"\nb,b@example.org,B\nc,c@example.org,C\n')
    server.rejects = lambda line: line.startswith("c,")
    assert await send(file) is Exit.PARTIAL
    listed = (tmp_path / "c.csv.rejected.csv").read_text()
    # The record of two lines holds a control character in a name, which is refused; C stands on line 5 of the file.
    assert [line.split(",")[0] for line in listed.splitlines() if line[:1].isdigit()] == ["2", "5"]


async def test_an_upload_still_under_way_is_waited_for(server: Server, tmp_path: Path) -> None:
    server.in_flight = 2
    assert await send(cohort(tmp_path / "c.csv", 2)) is Exit.OK
    assert server.requests == 3


async def test_a_dry_run_sends_nothing(server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "cohort.csv"
    file.write_bytes((ROOT / "examples" / "cohort.csv").read_bytes())
    assert await send(file, dry_run=True) is Exit.PARTIAL
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["refused"], told["sent"], server.requests) == (1315, 28, 0, 0)


async def test_ndjson(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cohort.ndjson"
    file.write_bytes((ROOT / "examples" / "cohort.ndjson").read_bytes())
    assert await send(file) is Exit.PARTIAL
    told = json.loads(capsys.readouterr().out)
    lines = file.read_text().splitlines()
    assert (told["rows"], told["refused"], told["sent"]) == (len(lines), 2, len(lines) - 2)
    listed = refused(tmp_path / "cohort.ndjson.rejected.csv")
    assert all(lines[int(row["line"]) - 1].strip() == row["row"] for row in listed)


@pytest.mark.parametrize(
    ("content", "word"),
    [("", "header"), ("name,age\nA,3\n", "unknown_column|known are"), ("learner,score\na,1\n", "email")],
)
async def test_a_header_that_cannot_be_used(server: Server, tmp_path: Path, content: str, word: str) -> None:
    file = tmp_path / "c.csv"
    file.write_text(content)
    with pytest.raises(Failure, match=word) as caught:
        await send(file)
    assert caught.value.code is Exit.USAGE
    assert server.requests == 0


@pytest.mark.parametrize("row", ["=1+1,x", "+1", "@x", "-2", "\tx"])
def test_rows_are_no_formulas(row: str) -> None:
    assert bulk._harmless(row) == "'" + row


def test_options_of_output(capsys: pytest.CaptureFixture[str]) -> None:
    value: dict[str, Any] = {"name": "Ложка"}
    Output(as_json=True).result(value)
    Output(as_json=False).result(value)
    assert json.loads(capsys.readouterr().out) == value


async def test_a_server_that_is_too_busy_is_asked_again_when_it_says_and_nothing_is_lost(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results_file, "PART_ROWS", 4)
    slept: list[float] = []
    real, refusals = server.answer, iter([429, 202, 429, 429, 503, 202, 202])

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and (status := next(refusals)) != 202:
            problem = {"detail": "bulk uploads are not taken in now"}
            return httpx.Response(status, json=problem, headers={"Retry-After": "7"})
        return real(request)

    monkeypatch.setattr(server, "answer", answer)
    monkeypatch.setattr(client.asyncio, "sleep", sleep)

    def connected(self: client.Client, url: str, api_key: str = "") -> None:
        self.url = url
        self._http = httpx.AsyncClient(base_url=url, transport=httpx.MockTransport(answer))

    monkeypatch.setattr(client.Client, "__init__", connected)
    assert await send(cohort(tmp_path / "c.csv", 10)) is Exit.OK
    assert len(server.uploads) == 3
    assert sum(body.decode().count("\n") - 1 for body in server.uploads.values()) == 10
    assert [7.0 <= one <= 8.75 for one in slept] == [True, True, True, False]
    told = capsys.readouterr()
    assert told.err.count("bulk uploads are not taken in now") == 3
    assert json.loads(told.out)["sent"] == 10


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ("5", 5, 6.25), ("0", 1, 1.25), ("9999999", 300, 375), ("", 1, 1.25), ("-3", 1, 1.25),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 1, 1.25),
    ],
)  # fmt: skip
def test_a_retry_after_is_bounded(given: str, least: float, most: float) -> None:
    answer = httpx.Response(429, headers={"Retry-After": given})
    assert least <= client._retry_after(answer) <= most


async def test_other_commands_give_up_after_a_while(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        server, "answer", lambda request: httpx.Response(429, json={"detail": "full"}, headers={"Retry-After": "90"})
    )

    def connected(self: client.Client, url: str, api_key: str = "") -> None:
        self.url = url
        self._http = httpx.AsyncClient(base_url=url, transport=httpx.MockTransport(server.answer))

    monkeypatch.setattr(client.Client, "__init__", connected)
    async with client.Client("http://laurel") as asking:
        with pytest.raises(client.Refused, match="full") as raised:
            await asking.call("GET", "/assessment/v1/results")
    assert (raised.value.status, raised.value.code) == (429, Exit.UNREACHABLE)


@pytest.mark.parametrize(("name", "text"), [
    ("a.ndjson", ""), ("a.ndjson", "\n \n"), ("a.csv", "learner,email,score\n"), ("a.csv", "learner;email;score\n\n"),
])  # fmt: skip
@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_file_without_a_row_is_refused_as_the_api_refuses_it(
    server: Server, tmp_path: Path, name: str, text: str, dry_run: bool
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Failure, match="there is no row in it") as refused:
        await send(tmp_path / name, dry_run=dry_run)
    assert refused.value.code == Exit.USAGE
    assert not server.requests


async def test_semicolons_are_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("learner;email;score\nl1;l1@example.org;87,5\n")
    assert await send(tmp_path / "a.csv") == Exit.OK
    assert [body.decode() for body in server.uploads.values()] == ["learner;email;score\nl1;l1@example.org;87,5\n"]
