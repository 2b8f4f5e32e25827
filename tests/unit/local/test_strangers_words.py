"""What `laurel` prints of strangers' words, and what it says to a server or a word that is none of ours."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from laurel_local import erase, keys, status
from laurel_local.client import Client
from laurel_local.console import Output, report_failure
from laurel_local.exits import Exit, Failure
from laurel_local.state import State
from tests.unit.local.test_keys import client

HOSTILE = "a\x1b[31m\x9b2J\x07\u202eb\x7f\r\u2028\U000e0001c"


def nothing_acts(text: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in text)


async def test_no_word_of_a_server_reaches_the_terminal_as_more_than_text(capsys: pytest.CaptureFixture[str]) -> None:
    key = {
        "key_id": HOSTILE, "label": HOSTILE, "scopes": [HOSTILE], "revoked_at": HOSTILE, "expires_at": HOSTILE,
        "last_used_at": HOSTILE, "secrets": [{"until": HOSTILE}],
    }  # fmt: skip
    for as_json in (False, True):
        output = Output(as_json=as_json)
        await keys.listed(client(lambda _: httpx.Response(200, json={"items": [key], "next": None})), output)
        output.note(HOSTILE)
        refused = httpx.Response(422, json={"detail": HOSTILE, "errors": [{"field": HOSTILE, "detail": HOSTILE + "!"}]})
        with pytest.raises(Failure) as said:
            await keys.revoked(client(lambda _, answer=refused: answer), HOSTILE, output)
        report_failure(said.value, as_json=as_json)
        report_failure(Failure(f"{HOSTILE}.csv: no such file", fix=HOSTILE), as_json=as_json)
        out, err = capsys.readouterr()
        assert "31m" in out + err
        assert nothing_acts(out), out
        assert nothing_acts(err), err


def test_json_for_a_machine_loses_nothing_by_that(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).result({HOSTILE: [HOSTILE, "schön \N{SEEDLING}"]})
    said = capsys.readouterr().out
    assert json.loads(said) == {HOSTILE: [HOSTILE, "schön \N{SEEDLING}"]}
    assert nothing_acts(said)
    assert "schön \N{SEEDLING}" in said


Use = Callable[[Client, Output], Awaitable[Any]]
USES: dict[str, Use] = {
    "keys list": keys.listed,
    "keys create": lambda asked, output: keys.created(asked, "x", [], None, output),
    "erase": lambda asked, output: erase.run(asked, "l", yes=True, patience_s=0.1, output=output),
}


@pytest.mark.parametrize("content", [b'{"a":1}', b"{}", b"[]", b"null", b'"x"', b"<html>", b"\xff", b"[" * 200_000])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_a_server_that_is_no_laurel_is_told_apart(use: Use, content: bytes) -> None:
    with pytest.raises(Failure) as said:
        await use(client(lambda _: httpx.Response(200, content=content)), Output(as_json=False))
    assert said.value.code is Exit.USAGE
    assert "is it the address of a Laurel?" in said.value.fix


Answer = Callable[[httpx.Request], httpx.Response]
STRANGE: dict[str, Answer] = {
    "elsewhere": lambda _: httpx.Response(301, headers={"location": "https://laurel/"}),
    "another 404": lambda _: httpx.Response(404, content=b"<html>"),
    "nothing": lambda _: httpx.Response(204),
    "no gzip": lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"x")),
    "no secret of ours": lambda _: httpx.Response(201, json={"key_id": "x", "text": HOSTILE, "previous_until": None}),
    "the same page for ever": lambda _: httpx.Response(200, json={"items": [], "next": "x"}),
    "an error that is deep": lambda _: httpx.Response(404, content=b"[" * 200_000),
    "errors that are none": lambda _: httpx.Response(
        400, json={"detail": "no", "errors": 3}, headers={"content-type": "application/problem+json"}
    ),
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_whatever_is_answered_ends_with_what_is_wrong(
    use: Use, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(Failure) as said:
            await use(client(answer), Output(as_json=False))
    assert said.value.code is Exit.USAGE
    report_failure(said.value, as_json=False)
    out, err = capsys.readouterr()
    assert nothing_acts(out + err)


async def test_a_key_whose_end_nobody_confirms_is_not_reported_as_ended() -> None:
    for answer in (httpx.Response(200, json={"ok": True}), httpx.Response(302, headers={"location": "https://x/"})):
        with pytest.raises(Failure):
            await keys.revoked(client(lambda _, said=answer: said), "0123456789ab", Output(as_json=False))


@pytest.mark.parametrize("url", ["x", "\udcff", "http://x:99999", "ftp://x", "http://", "//x", "http://[::1"])
async def test_what_is_no_address_is_named_wherever_it_is_given(url: str, tmp_path: Path) -> None:
    with pytest.raises(Failure) as first:
        Client(url)
    with pytest.raises(Failure) as second:
        await status.run(State(tmp_path), url, Output(as_json=True))
    assert (first.value.code, second.value.code) == (Exit.USAGE, Exit.USAGE)
    assert "is not a URL" in first.value.message
    assert "is not a URL" in second.value.message


@pytest.mark.parametrize(
    "words",
    [
        ["erase", "--learner", "\udcff", "--yes"], ["keys", "create", "\udcff", "--scope", "keys:read"],
        ["keys", "create", "x", "--scope", "\udcff"], ["reconcile", "--course-run", "\udcff"],
        ["audit", "verify", "--database", "postgresql://\udcff/x"], ["status", "--url", "http://\udcff"],
    ],
)  # fmt: skip
def test_a_word_that_is_no_text_is_named(words: list[str], tmp_path: Path) -> None:
    """The option's place in the code is not asked: whatever fails to encode it does so at the program's edge."""
    ours = {"LAUREL_URL": "http://127.0.0.1:9", "LAUREL_API_KEY": "k", "LAUREL_STATE": str(tmp_path)}
    command = [sys.executable, "-c", "from laurel_local.entry import main; main()", *words]
    ended = subprocess.run(command, capture_output=True, env={**os.environ, **ours}, text=True)
    assert ended.returncode == Exit.USAGE, ended.stderr
    assert "no UTF-8" in ended.stderr or "not a URL" in ended.stderr
