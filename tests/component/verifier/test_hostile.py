"""Whatever comes in, the answer is a verdict or a problem of the sender's, never a 5xx, and nobody else waits."""

from __future__ import annotations

import asyncio
import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laurel.credential import multibase
from laurel_verifier import sandbox
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import TestIssuer
from tests.component.verifier.test_verdicts import code, outcomes, pointer_of

URL = "/verifier/v1/credentials/verify"
VECTORS = Path(os.environ.get("LAUREL_VECTORS", Path(__file__).parents[4] / "shared" / "vectors"))


def vectors(folder: str) -> Path:
    found = VECTORS / folder
    if not found.is_dir():
        message = f"no vectors at {found}: set LAUREL_VECTORS"
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    return {"sandbox_seconds": 1.5}


# --- the sandbox ------------------------------------------------------------------------------------------------


def poison(edges: list[tuple[int, int]]) -> dict[str, Any]:
    """A credential of this graph of blank nodes: RDFC-1.0 takes exponential time to tell them apart."""
    stranger = TestIssuer(slug="", seed=b"\x0f" * 32)
    nodes: dict[int, list[str]] = {}
    for start, end in edges:
        nodes.setdefault(start, []).append(f"_:e{end}")
    return {
        "@context": [
            "https://www.w3.org/ns/credentials/v2", {"p": {"@id": "http://example.com/p", "@type": "@id"}},
        ],
        "type": ["VerifiableCredential"],
        "issuer": stranger.did,
        "credentialSubject": [{"id": f"_:e{node}", "p": ends} for node, ends in nodes.items()],
        "proof": {
            "type": "DataIntegrityProof", "cryptosuite": "eddsa-rdfc-2022", "created": "2026-01-01T00:00:00Z",
            "verificationMethod": stranger.signer.verification_method, "proofPurpose": "assertionMethod",
            "proofValue": multibase.encode(bytes(64)),
        },
    }  # fmt: skip


def clique(size: int) -> list[tuple[int, int]]:
    return [(start, end) for start in range(size) for end in range(size)]


async def test_the_official_poison_graph_costs_one_request(verifier: Verifier, one: dict[str, Any]) -> None:
    """w3c-rdf-canon test074: a clique of ten blank nodes that an implementation must refuse."""
    lines = (vectors("w3c-rdf-canon") / "tests/rdfc10/test074-in.nq").read_text().splitlines()
    edges = [(int(line.split()[0][3:]), int(line.split()[2][3:])) for line in lines if line]
    assert len(edges) == 100
    path = f"/c/{one['id'].rpartition('/')[2]}"
    assert (await verifier.client.get(path)).status_code == 200  # the processes are up from here on
    assert (await verifier.verify(one))["verdict"] == "valid"
    poisoned = asyncio.create_task(verifier.client.post(URL, json=poison(edges)))
    await asyncio.sleep(0.1)  # it is being worked on now
    page = await verifier.client.get(path, headers={"Accept": "text/html"})
    assert "tone-good" in page.text
    assert not poisoned.done()  # our own badges did not wait for it
    answer = await poisoned
    assert answer.status_code == 200
    found = answer.json()
    assert found["verdict"] == "invalid"
    assert code(found, "context") == "limit_exceeded"
    assert (await verifier.verify(one))["verdict"] == "valid"  # its process was replaced


async def test_strangers_that_wait_behind_a_poison_are_served_after_it(verifier: Verifier, one: dict[str, Any]) -> None:
    answers = await asyncio.gather(*(verifier.verify(body) for body in (poison(clique(12)), one, one)))
    assert answers[0]["verdict"] == "invalid"
    for found in answers[1:]:
        if found["verdict"] == "could_not_check":  # on a slow machine the poison takes all the time that they have
            assert code(found, "context") == "busy"
            found = await verifier.verify(one)  # as a client that was told to come again
        assert found["verdict"] == "valid"


async def test_too_many_poisons_are_told_to_come_again(
    verifier: Verifier, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tenth of the limit is 0.3 s: each poison has the quick process for 0.2 s, however fast the machine is.
    monkeypatch.setattr(sandbox, "_PATIENCE", 0.1)
    graphs = [poison(clique(11 + number)) for number in range(7)]
    answers = await asyncio.gather(*(verifier.verify(body) for body in graphs))
    verdicts = [found["verdict"] for found in answers]
    assert set(verdicts) <= {"invalid", "could_not_check"}
    busy = [found for found in answers if found["verdict"] == "could_not_check"]
    assert busy
    assert all(code(found, "context") == "busy" for found in busy)
    assert (await verifier.verify(one))["verdict"] == "valid"


async def test_a_caller_that_gives_up_leaves_no_process_behind_that_works_on(verifier: Verifier) -> None:
    """Its answer would go to the next who asks the same process."""
    task = asyncio.create_task(verifier.verify(poison(clique(12))))
    await asyncio.sleep(1.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    stranger = TestIssuer(slug="", seed=b"\x12" * 32, base_url="https://else.example").badge()
    assert (await verifier.verify(stranger))["verdict"] == "valid"


# --- bytes and values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"7", b'"x"', b"{", b"{}", b'{"credential": null}', b'{"credential": []}',
        b'{"credential": {"a": NaN}}', b'{"credential": {"a": 1e999}}', b'{"a":1,"a":2}', b'{"a":"\\ud800"}',
        b'{"a":"\\u0000"}', b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe", b"\xef\xbb\xbf{}",
        b'{"x":"' + b"y" * (2 << 20) + b'"}', b'{"credential": {}, "expected_recipient": 7}',
        b'{"n": ' + b"9" * 5000 + b"}", b'{"credential": "eyJhbGciOiJFZERTQSJ9.e30.x"}',
        b'{"@context": ' + b"[" * 30 + b"]" * 30 + b"}",
    ],
)  # fmt: skip
async def test_bodies(verifier: Verifier, body: bytes) -> None:
    for content_type in ("application/json", "application/vc+ld+json", "text/plain", ""):
        answer = await verifier.client.post(URL, content=body, headers={"Content-Type": content_type})
        assert answer.status_code < 500, (content_type, body[:60])
        if answer.status_code != 200:
            assert answer.headers["content-type"] == "application/problem+json"
        else:
            assert answer.json()["verdict"] in ("invalid", "could_not_check")  # a JWT is not read
    answer = await verifier.client.post("/verify", files={"file": ("x", body)})
    assert answer.status_code in (200, 413, 422)


SPOILS: list[Any] = [
    None, True, 0, -1, 1e300, 2**70, "", "x", "did:web:", "did:key:z", "did:key:" + "z" * 1500, "https://", [], {},
    [[]], [None], {"id": None}, {"type": 7}, {"@id": "x"}, {"@value": 1}, "did:web:127.0.0.1%3A1:a", "_:b0",
    ["a"] * 300, "2026-13-01T00:00:00Z",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        inner = [place for key, one in value.items() for place in places(one, (*path, key))]
    elif isinstance(value, list):
        inner = [place for index, one in enumerate(value) for place in places(one, (*path, index))]
    return [path, *inner] if path else inner


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(document)
    target = made
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return made


BADGE = TestIssuer(slug="", seed=b"\x10" * 32, base_url="https://else.example").badge(
    status={
        "id": "http://127.0.0.1:1/l#7", "type": "BitstringStatusListEntry", "statusPurpose": "revocation",
        "statusListIndex": "7", "statusListCredential": "http://127.0.0.1:1/l",
    }
)  # fmt: skip
PLACES = places(BADGE)
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\x00")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["@context", "@id", "@type", "@value", "@graph", "@list", "id", "type", "proof", "issuer"])
        | st.text(CHARACTERS, max_size=8),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(place=st.sampled_from(PLACES), value=st.sampled_from(SPOILS) | JSON)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_change_of_any_place(verifier: Verifier, place: tuple[Any, ...], value: Any) -> None:
    """One member of a good credential becomes something else: never a 5xx, never valid, and the page can show it."""
    changed = put(BADGE, place, value)
    answer = await verifier.client.post(URL, json=changed)
    assert answer.status_code == 200, answer.text
    if changed != BADGE:
        assert answer.json()["verdict"] != "valid"
    page = await verifier.client.post("/verify", data={"credential": json.dumps(changed)})
    assert page.status_code == 200, (place, value)


@given(document=st.dictionaries(st.sampled_from(list(BADGE)), JSON, max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_json_at_all(verifier: Verifier, document: dict[str, Any]) -> None:
    answer = await verifier.client.post(URL, json={"credential": document})
    assert answer.status_code == 200, answer.text
    assert answer.json()["verdict"] == "invalid"


# --- the official vectors -------------------------------------------------------------------------------------------


async def test_the_official_jcs_vector(verifier: Verifier) -> None:
    """Its signature is good. Its issuer is not the key's controller, and its context is not one that we have."""
    document = json.loads((vectors("w3c-vc-di-eddsa") / "TestVectors/eddsa-jcs-2022/signedJCS.json").read_text())
    found = await verifier.verify(document)
    assert outcomes(found)["signature"] == "passed"
    assert code(found, "issuer") == "not_the_issuers_key"
    assert code(found, "context") == "unknown_context"
    assert code(await verifier.verify({**document, "name": "x"}), "signature") == "bad_signature"


@pytest.mark.parametrize("name", ["signedDataInt.json", "employ/signedDataInt.json"])
async def test_the_official_rdfc_vectors_use_contexts_that_we_do_not_trust(verifier: Verifier, name: str) -> None:
    """What we cannot read we do not call forged: the step says which context is missing."""
    document = json.loads((vectors("w3c-vc-di-eddsa") / f"TestVectors/eddsa-rdfc-2022/{name}").read_text())
    found = await verifier.verify(document)
    assert code(found, "context") == "unknown_context"
    assert pointer_of(found, "context") == "/@context/1"
    assert code(found, "signature") == "unknown_context"
    assert found["verdict"] != "valid"
