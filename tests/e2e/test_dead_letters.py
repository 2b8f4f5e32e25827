"""Dead letters and replays as an operator meets them: `laurel dlq`, `laurel replay`, against a Laurel that runs."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from laurel.bus import Record, connect
from laurel.topics import CREDENTIAL
from tests.e2e.running import environment, laurel

PATIENCE = 60.0
LETTER = f"issuer/{uuid.UUID(int=1)}"


class Operator:
    """Somebody with the state folder, the databases and the bus."""

    def __init__(self, up: dict[str, Any]) -> None:
        self.up = up
        self.known = json.loads((Path(up["state"]) / "state.json").read_text())
        self.headers = {"Authorization": f"Bearer {up['key']}"}

    def sql(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        async def ask() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(self.known["database_url"])
            try:
                return [dict(row) for row in await connection.fetch(query, *arguments)]
            finally:
                await connection.close()

        return asyncio.run(ask())

    def publish(self, *records: Record) -> None:
        async def send() -> None:
            bus = connect(self.known["bus_url"])
            async with bus.producer(client_id="test") as producer:
                await producer.send(records)
            await bus.close()

        asyncio.run(send())

    def call(self, method: str, path: str, **body: Any) -> Any:
        answer = httpx.request(
            method, self.up["url"] + path, headers=self.headers, json=body or None, timeout=60, trust_env=False
        )
        assert answer.is_success, answer.text
        return answer.json()

    def issue(self, learner: str) -> str:
        """A badge that is issued and indexed; its credential id."""
        made = self.call(
            "POST", "/assessment/v1/results", achievement=self.up["achievement"], learner=learner, score=90,
            email=f"{learner}@example.org", course_run="dead",
        )  # fmt: skip
        identifier = str(made["credential_id"])
        self.until(lambda: identifier in self.index())
        return identifier

    def index(self) -> dict[str, str]:
        rows = self.sql("SELECT credential_id, status FROM verifier.credentials")
        return {row["credential_id"]: row["status"] for row in rows}

    def dead(self, service: str, key: str) -> list[dict[str, Any]]:
        return self.sql(f"SELECT id FROM {service}.dead_letters WHERE key = $1 AND state = 'waiting'", key.encode())

    def run(self, *words: str, code: int = 0) -> Any:
        done = laurel(*words, "--state", self.up["state"], "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def until(self, true: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def reconcile(self) -> dict[str, Any]:
        done = laurel(
            "reconcile", "--url", self.up["url"], "--api-key", self.up["key"], "--course-run", "dead", "--json"
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def operator(up: dict[str, Any]) -> Operator:
    return Operator(up)


def test_a_poison_from_the_list_to_its_end(operator: Operator) -> None:
    value = b"\xff\x00 not an event"
    operator.publish(Record(CREDENTIAL.name, b"poison", value, (("h", b"v"),)))
    operator.until(lambda: len(operator.dead("verifier", "poison") + operator.dead("notifier", "poison")) == 2)
    found = operator.run("dlq", "list", "--code", "not_a_cloudevent", "--service", "verifier")
    assert [(one["consumer"], one["code"], one["count"]) for one in found["counts"]] == [
        ("verifier.index", "not_a_cloudevent", 1)
    ]
    (letter,) = found["letters"]
    shown = operator.run("dlq", "show", letter["letter"])
    assert base64.b64decode(shown["value_base64"]) == value
    assert (shown["key"], shown["headers"]) == ("poison", [{"name": "h", "value": "v"}])
    assert shown["redrive_helps"] == "never"
    raw = [sys.executable, "-m", "laurel_local.cli", "dlq", "show", letter["letter"], "--raw"]
    done = subprocess.run([*raw, "--state", operator.up["state"]], env=environment(), capture_output=True, timeout=60)
    assert done.stdout == value
    listed = laurel("dlq", "list", "--service", "verifier", "--state", operator.up["state"]).stdout.splitlines()
    assert letter["letter"] in listed, "alone on its line, to be copied"
    people = laurel("dlq", "show", letter["letter"], "--state", operator.up["state"])
    assert "what to do: Find who writes to the topic" in people.stdout

    dry = operator.run("dlq", "redrive", letter["letter"], "--dry-run")
    assert (dry["matched"], dry["queued"]) == (1, 0)
    again = operator.run("dlq", "redrive", letter["letter"], "--wait", "--by", "night shift", code=4)
    assert again["ended"] == {"queued": 0, "redriven": 0, "died_again": 1, "cancelled": 0}
    operator.run("dlq", "discard", letter["letter"], "--reason", "a stray producer")
    assert operator.run("dlq", "list", "--service", "verifier")["counts"] == []
    (gone,) = operator.run("dlq", "list", "--service", "verifier", "--status", "discarded")["letters"]
    history = operator.run("dlq", "show", gone["letter"])["actions"]
    assert [(one["action"], one["outcome"]) for one in history] == [
        ("redrive", "died_again"), ("discard", "discarded"),
    ]  # fmt: skip
    assert history[0]["asked_by"] == "operator:night shift"
    assert operator.run("dlq", "redrive", letter["letter"], code=1)["matched"] == 0, "a discarded one is not taken"
    status = json.loads(laurel("status", "--state", operator.up["state"], "--json").stdout)
    assert status["stores"]["verifier"]["dead_letters"] == []
    assert len(status["stores"]["notifier"]["dead_letters"]) == 1


def test_what_a_record_says_does_not_steer_the_operators_terminal(operator: Operator) -> None:
    key, name, value = "\x1b[31mred", "\x1b]0;title\x07", b'{"a": "\xc2\x9b2J\xe2\x80\xae", "b": 1}'
    operator.publish(Record(CREDENTIAL.name, key.encode(), value, ((name, b"\x1b[2J\r\n\x9b"),)))
    operator.until(lambda: operator.dead("verifier", key))
    (found,) = operator.run("dlq", "list", "--key", key, "--service", "verifier")["letters"]
    assert found["key"] == key, "JSON is exact"
    shown = operator.run("dlq", "show", found["letter"])
    assert (shown["headers"][0]["name"], shown["value"].encode()) == (name, value)
    listed = laurel("dlq", "list", "--service", "verifier", "--state", operator.up["state"]).stdout
    none = laurel("dlq", "list", "--service", "verifier", "--code", "bad_data", "--state", operator.up["state"]).stdout
    assert none == "no dead letters are waiting of those that were asked for; others: 1\n"
    told = laurel("dlq", "show", found["letter"], "--state", operator.up["state"]).stdout
    for text in (listed, told):
        assert all(line.isprintable() for line in text.splitlines()), text
        assert "\ufffd[31mred" in text
    assert "header \ufffd]0;title\ufffd: \ufffd[2J\ufffd\ufffd\\x9b\n" in told
    assert told.endswith('{\n "a": "\ufffd2J\ufffd",\n "b": 1\n}\n')
    operator.run("dlq", "discard", found["letter"], "--reason", "a stray producer")


def test_a_redrive_that_nobody_has_begun_is_taken_back(operator: Operator) -> None:
    """Of a consumer that runs nowhere, so that it is queued until somebody acts."""
    (made,) = operator.sql(
        'INSERT INTO verifier.dead_letters (tenant_id, consumer, topic, partition, "offset", key, value, headers, '
        "code, detail) SELECT tenant_id, 'verifier.gone', 'laurel.test', 0, 0, 'k', '', '\\x90', 'bad_data', 'x' "
        "FROM verifier.api_keys LIMIT 1 RETURNING id, tenant_id"
    )
    letter = f"verifier/{made['id']}"
    (request,) = operator.run("dlq", "redrive", letter)["requests"].values()
    refused = operator.run("dlq", "discard", letter, "--reason", "x", code=1)["error"]
    assert f"laurel dlq cancel {letter}" in refused["fix"]
    told = laurel("dlq", "show", letter, "--state", operator.up["state"]).stdout
    assert f"queued, request {request}" in told
    done = operator.run("dlq", "cancel", "--request", request, "--by", "night shift")
    assert done == {"cancelled": 1, "begun": 0, "services": {"verifier": 1}}
    assert operator.run("dlq", "cancel", letter, code=1)["cancelled"] == 0
    (action,) = operator.run("dlq", "show", letter)["actions"]
    assert (action["outcome"], action["detail"]) == ("cancelled", "by operator:night shift")
    (entry,) = operator.sql("SELECT * FROM verifier.audit_log WHERE action = 'dead_letters.cancel'")
    assert (entry["tenant_id"], entry["actor"], entry["subject"]) == (
        made["tenant_id"], "operator:night shift", request,
    )  # fmt: skip
    operator.run("dlq", "discard", letter, "--reason", "a consumer that is gone")


def test_an_index_that_lost_rows_is_rebuilt_and_nothing_is_doubled(operator: Operator) -> None:
    badges = [operator.issue(f"learner-{n}") for n in range(6)]
    operator.call("POST", f"/issuer/v1/credentials/{badges[0]}/revoke", reason="x")
    operator.until(lambda: operator.index()[badges[0]] == "revoked")
    complete = operator.index()
    kept = {
        "issuer.credentials": "*", "notifier.messages": "*", "notifier.emails": "*", "assessment.results": "*",
        "bus.offsets": "grp, partition_id, next_offset",
    }  # fmt: skip

    def everywhere() -> dict[str, Any]:
        return {table: operator.sql(f"SELECT {what} FROM {table} ORDER BY 1, 2") for table, what in kept.items()}

    before = everywhere()
    documents = operator.sql("SELECT credential_id, document FROM verifier.credentials ORDER BY 1")
    operator.sql("DELETE FROM verifier.credentials WHERE credential_id = ANY ($1)", badges[:4])
    assert operator.reconcile()["differences"]["issued_not_indexed"]["count"] == 4

    dry = operator.run("replay", "--consumer", "verifier.index", "--dry-run")
    assert dry["types"]["laurel.credential.issued.v1"] >= 6
    assert len(operator.index()) == len(complete) - 4, "a dry run does nothing"
    letters = len(operator.run("dlq", "list", "--consumer", "verifier.index", "--status", "all")["letters"])
    done = operator.run("replay", "--consumer", "verifier.index")
    assert (done["replayed"], done["complete"], done["new_dead_letters"]) == (done["read"], True, 0)
    assert done["read"] == dry["read"]
    assert operator.index() == complete
    assert operator.sql("SELECT credential_id, document FROM verifier.credentials ORDER BY 1") == documents
    assert len(operator.run("dlq", "list", "--consumer", "verifier.index", "--status", "all")["letters"]) == letters
    assert operator.reconcile()["unaccounted"] == 0

    # Whoever gets everything a second time changes nothing, and the groups are where they were.
    for group in ("issuer.issuance", "notifier.deliveries", "verifier.index"):
        assert operator.run("replay", "--consumer", group)["new_dead_letters"] == 0
    assert everywhere() == before
    lag = json.loads(laurel("status", "--state", operator.up["state"], "--json").stdout)["lag"]
    assert set(lag.values()) == {0}


def test_a_status_without_its_issue_dies_and_is_redriven_once_the_issue_is_back(operator: Operator) -> None:
    badge = operator.issue("late")
    revoked_at = datetime.now(UTC).isoformat()
    operator.sql("DELETE FROM verifier.credentials WHERE credential_id = $1", badge)
    operator.call("POST", f"/issuer/v1/credentials/{badge}/revoke", reason="x")

    def mine(status: str) -> list[Any]:
        listed: list[Any] = operator.run("dlq", "list", "--key", badge, "--status", status)["letters"]
        return listed

    operator.until(lambda: operator.dead("verifier", badge))
    assert operator.reconcile()["unaccounted"] == 0, "a dead letter accounts for what is not indexed"
    (letter,) = mine("waiting")
    assert (letter["consumer"], letter["code"]) == ("verifier.index", "unknown_credential")
    too_early = operator.run("dlq", "redrive", "--key", badge, "--wait", code=4)
    assert too_early["ended"]["died_again"] == 1
    operator.run("replay", "--consumer", "verifier.index", "--to", revoked_at)
    assert operator.index()[badge] == "active"
    done = operator.run(
        "dlq", "redrive", "--consumer", "verifier.index", "--wait", "--rate", "50", "--note", "replayed"
    )
    assert done["ended"] == {"queued": 0, "redriven": 1, "died_again": 0, "cancelled": 0}
    assert operator.index()[badge] == "revoked"
    assert mine("waiting") == []
    audited = operator.sql(
        "SELECT actor, subject, details ->> 'queued' AS queued FROM verifier.audit_log "
        "WHERE action = 'dead_letters.redrive' ORDER BY seq"
    )
    # The poison of before has no organisation, and so no chain; what other tests asked for stands before these.
    audited = audited[-2:]
    assert [one["subject"] for one in audited] == [too_early["requests"]["verifier"], done["requests"]["verifier"]]
    assert {one["queued"] for one in audited} == {"1"}
    assert all(one["actor"].startswith("operator:") for one in audited)
    (letter,) = mine("redriven")
    assert (letter["attempts"], letter["state"]) == (2, "redriven")


def test_a_replay_settles_the_letters_that_it_handles(operator: Operator) -> None:
    badge = operator.issue("settled")
    operator.sql("DELETE FROM verifier.credentials WHERE credential_id = $1", badge)
    operator.call("POST", f"/issuer/v1/credentials/{badge}/revoke", reason="x")
    operator.until(lambda: operator.dead("verifier", badge))
    done = operator.run("replay", "--consumer", "verifier.index", "--from", "1h")
    assert (done["settled"], done["new_dead_letters"]) == (1, 0)
    assert operator.index()[badge] == "revoked"
    (letter,) = operator.run("dlq", "list", "--key", badge, "--status", "redriven")["letters"]
    (action,) = operator.run("dlq", "show", letter["letter"])["actions"]
    assert (action["action"], action["outcome"]) == ("replay", "redriven")


def test_what_became_of_every_row_adds_up_and_has_ids(operator: Operator) -> None:
    badge = operator.issue("followed")
    for _ in range(2):
        operator.call(
            "POST", "/assessment/v1/results", achievement=operator.up["achievement"], learner="fails", score=1,
            email="f@example.org", course_run="followed",
        )  # fmt: skip
    there = ("--url", operator.up["url"], "--api-key", operator.up["key"])
    done = laurel("reconcile", *there, "--by", "course-run", "--by", "day", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    lines = [*found["lines"], found["total"]]
    parts = ("issued", "not_passed", "duplicate", "rejected", "dead_lettered", "waiting", "missing")
    assert all(one["accepted"] == sum(one[name] for name in parts) for one in lines)
    assert {one["course_run"] for one in found["lines"]} >= {"dead", "followed"}
    ids = laurel("reconcile", *there, "--ids", "issued").stdout.split()
    assert (len(ids), badge in ids) == (found["total"]["issued"], True)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["replay", "--consumer", "nobody"], "verifier.index"),
        (["replay", "--consumer", "verifier.index", "--offsets", "x"], "laurel.credential/3"),
        (["replay", "--consumer", "verifier.index", "--offsets", "laurel.assessment/0:0..5"], "laurel.credential"),
        (["replay", "--consumer", "verifier.index", "--offsets", "laurel.credential/999:0..5"], "--consumer GROUP"),
        (["replay", "--consumer", "verifier.index", "--from", "soon"], "2h"),
        (["dlq", "redrive"], "--all"),
        (["dlq", "cancel"], "--all"),
        (["dlq", "redrive", LETTER, "--code", "x"], "either"),
        (["dlq", "redrive", LETTER.replace("/", "-")], "issuer/019acf0e"),
        (["dlq", "show", "issuer/17"], "issuer/019acf0e"),
        (["dlq", "list", "--consumer", "nobody.x"], "issuer.issuance"),
        (["dlq", "discard", LETTER, "--reason", " "], "blank"),
        (["dlq", "list", "--service", "nobody"], "assessment"),
        (["dlq", "list", "--code", "nosuchcode"], "laurel dlq reasons"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_command_line_is_said(operator: Operator, words: list[str], word: str) -> None:
    done = laurel(*words, "--state", operator.up["state"], "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["exit"]) == (2, 2)
    assert word in error["detail"] + error["fix"]


def test_nothing_is_there_to_ask(tmp_path: Path) -> None:
    done = laurel("dlq", "list", "--state", str(tmp_path), "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["exit"]) == (2, 2)
    done = laurel("replay", "--consumer", "verifier.index", "--state", str(tmp_path), "--json")
    assert "LAUREL_BUS_URL" in json.loads(done.stdout)["error"]["detail"]
    assert done.returncode == 2
    missing = laurel("dlq", "show", LETTER, "--state", str(tmp_path), "--json")
    assert missing.returncode == 2
