"""What `laurel keys` says of keys that end, and of one whose secret could not be printed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from laurel.security import new_api_key
from laurel_local.client import Client
from laurel_local.console import Output, Stream
from laurel_local.exits import Exit, Failure
from laurel_local.keys import created, listed

ENDED = "2026-01-02T00:00:00Z"


def client(answer: Any) -> Client:
    made = Client("http://laurel")
    made._http = httpx.AsyncClient(base_url="http://laurel", transport=httpx.MockTransport(answer))
    return made


async def test_a_revoked_key_has_no_secret_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    key = {
        "key_id": "0123456789ab", "label": "x", "scopes": ["keys:read"], "revoked_at": ENDED, "expires_at": None,
        "last_used_at": None, "secrets": [{"until": None}],
    }  # fmt: skip

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"items": [] if request.url.path.endswith("use") else [key], "next": None})

    await listed(client(answer), Output(as_json=False))
    said = capsys.readouterr().out
    assert (said.count(ENDED), "for ever" in said) == (2, False)


@pytest.mark.parametrize("as_json", [True, False])
async def test_a_key_that_could_not_be_printed_is_named(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"key_id": "0123456789ab", "text": new_api_key(key_id="0123456789ab").text}
    with open("/dev/full", "w") as full:  # noqa: ASYNC230
        monkeypatch.setattr("sys.stdout", Stream(full, needed=True))
        with pytest.raises(Failure) as lost:
            await created(client(lambda _: httpx.Response(201, json=made)), "x", [], None, Output(as_json=as_json))
        monkeypatch.undo()
        with pytest.raises(OSError):
            full.close()
    assert (lost.value.code, "0123456789ab exists" in lost.value.message) == (Exit.OUTPUT, True)
    assert "laurel keys rotate 0123456789ab" in lost.value.fix
    assert "laurel keys revoke 0123456789ab" in lost.value.fix
