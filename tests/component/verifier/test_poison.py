"""Poison: small documents that take for ever, or all the memory. Each costs itself and one process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from laurel import telemetry
from laurel_verifier.sandbox import Job, Lane, Sandbox, SandboxBusy, SandboxFault, SandboxLimit
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import NOW, TestIssuer
from tests.component.verifier.test_endorsements import badge, endorsement
from tests.component.verifier.test_hostile import clique, poison

Edges = list[tuple[int, int]]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process groups of the workers that were started."""
    started: list[int] = []
    real = Lane._start

    async def start(self: Lane) -> asyncio.subprocess.Process:
        process = await real(self)
        started.append(process.pid)
        return process

    monkeypatch.setattr(Lane, "_start", start)
    return started


STRANGER = TestIssuer(slug="", seed=b"\x11" * 32, base_url="https://else.example")
KEY = TestIssuer(slug="", seed=b"\x0f" * 32).signer.public_key_multibase  # of `poison`


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    return {"sandbox_seconds": 6.0, "sandbox_processes": 3}


def both_ways(edges: Iterable[tuple[int, int]]) -> Edges:
    return [edge for start, end in edges for edge in ((start, end), (end, start))]


def bipartite(size: int) -> Edges:
    """Every node of one half is tied to every node of the other."""
    return both_ways((start, size + end) for start in range(size) for end in range(size))


def cube(dimensions: int) -> Edges:
    """A hypercube: from every node it looks the same."""
    return [(node, node ^ (1 << bit)) for node in range(1 << dimensions) for bit in range(dimensions)]


def killed() -> float:
    reasons = ("time", "died")
    counts = [
        telemetry.REGISTRY.get_sample_value("laurel_sandbox_killed_total", {"reason": reason}) for reason in reasons
    ]
    return sum(count or 0.0 for count in counts)


def refused_by_limit(found: dict[str, Any]) -> dict[str, Any]:
    """The step "context" of a document that was too much."""
    assert found["verdict"] == "invalid", found
    check: dict[str, Any] = next(one for one in found["checks"] if one["step"] == "context")
    assert (check["outcome"], check["code"], check["pointer"]) == ("failed", "limit_exceeded", "")
    assert check["clause"].startswith("VC Data Integrity 1.0 §4.6")
    assert check["problem"]["type"] == "urn:laurel:problem:limit_exceeded"
    signature = next(one for one in found["checks"] if one["step"] == "signature")
    assert (signature["outcome"], signature["code"]) == ("not_checked", "not_reached")
    return check


async def test_every_poison_costs_itself_alone(verifier: Verifier, one: dict[str, Any]) -> None:
    """Cliques take memory faster than time, the others time."""
    poisons = [poison(edges) for edges in (bipartite(6), cube(5), clique(12))]
    good = [one, STRANGER.badge(), one, badge(endorsement()), one]
    before = killed()
    answers = await asyncio.gather(*(verifier.verify(document) for document in [*poisons, *good]))
    for found in answers[: len(poisons)]:
        refused_by_limit(found)
    assert [found["verdict"] for found in answers[len(poisons) :]] == ["valid"] * len(good)
    assert killed() - before == len(poisons)


async def test_eight_proofs_are_one_limit(verifier: Verifier) -> None:
    document = poison(cube(5))
    proof = document["proof"]
    document["proof"] = [{**proof, "id": f"urn:uuid:00000000-0000-4000-8000-00000000000{n}"} for n in range(8)]
    before = killed()
    refused_by_limit(await verifier.verify(document))
    assert killed() - before == 1


async def test_memory_is_a_limit_of_its_own() -> None:
    """With all the time in the world, a clique dies of its size, and the process after it does not."""
    good = Job(json.dumps(STRANGER.badge()).encode(), (STRANGER.signer.public_key_multibase,), True, NOW)
    before = killed()
    async with Sandbox(processes=1, seconds=120.0, memory=400 << 20) as sandbox:
        assert (await sandbox.examine(good)).proofs[0].ok
        for size in (12, 13):
            with pytest.raises(SandboxLimit, match="memory"):
                await sandbox.examine(Job(json.dumps(poison(clique(size))).encode(), (KEY,), False, NOW))
        assert (await sandbox.examine(good)).proofs[0].ok
    assert killed() - before == 2


async def test_a_poison_costs_a_fork_and_no_new_interpreter(running: list[int]) -> None:
    good = Job(json.dumps(STRANGER.badge()).encode(), (STRANGER.signer.public_key_multibase,), True, NOW)
    async with Sandbox(processes=1, seconds=1.0, memory=1 << 30) as sandbox:
        for size in (6, 7, 8):
            with pytest.raises(SandboxLimit, match="1 s"):
                await sandbox.examine(Job(json.dumps(poison(bipartite(size))).encode(), (KEY,), False, NOW))
            assert (await sandbox.examine(good)).proofs[0].ok
    assert len(running) == 2  # one for each lane


async def test_a_poison_is_remembered_for_whoever_sends_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = Lane.exchange

    async def exchange(self: Lane, frame: bytes, deadline: float) -> bytes:
        asked.append(frame)
        return await real(self, frame, deadline)

    monkeypatch.setattr(Lane, "exchange", exchange)
    document = json.dumps(poison(bipartite(6))).encode()
    async with Sandbox(processes=1, seconds=1.0, memory=1 << 30) as sandbox:
        for later in range(3):
            with pytest.raises(SandboxLimit, match="1 s"):
                await sandbox.examine(Job(document, (KEY,), False, NOW + timedelta(seconds=later)))
        assert len(asked) == 2  # the quick lane, the slow lane, and never again
        # Nothing is canonicalised for a proof whose key is not known: that is another piece of work.
        assert not (await sandbox.examine(Job(document, ("",), False, NOW))).proofs[0].ok


async def test_a_worker_that_somebody_else_kills_is_no_fault_of_the_document(running: list[int]) -> None:
    good = Job(json.dumps(STRANGER.badge()).encode(), (STRANGER.signer.public_key_multibase,), True, NOW)
    async with Sandbox(processes=1, seconds=10.0, memory=1 << 30) as sandbox:
        assert (await sandbox.examine(good)).proofs[0].ok
        os.killpg(running[0], signal.SIGKILL)
        with pytest.raises(SandboxBusy):
            await sandbox.examine(good)
        assert (await sandbox.examine(good)).proofs[0].ok
    assert len(running) == 2


async def test_nothing_is_left_behind(running: list[int]) -> None:
    async with Sandbox(processes=1, seconds=20.0, memory=1 << 30) as sandbox:
        task = asyncio.create_task(sandbox.examine(Job(json.dumps(poison(bipartite(6))).encode(), (KEY,), False, NOW)))
        while len(running) < 2:
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for group in running:
        with pytest.raises(ProcessLookupError):
            while True:  # whoever adopted a killed child may still have to bury it
                os.killpg(group, 0)
                await asyncio.sleep(0.05)


async def test_a_check_that_breaks_down_says_so() -> None:
    """A mistake of ours is none of the document's, and costs neither time nor memory."""
    before = killed()
    async with Sandbox(processes=1, seconds=10.0, memory=1 << 30) as sandbox:
        for _ in range(2):
            with pytest.raises(SandboxFault, match=r"JSONDecodeError.*mistake of Laurel's"):
                await sandbox.examine(Job(b"{", (), False, NOW))
        good = Job(json.dumps(STRANGER.badge()).encode(), (STRANGER.signer.public_key_multibase,), True, NOW)
        assert (await sandbox.examine(good)).proofs[0].ok
    assert killed() == before


async def test_a_crowd_of_poisons_takes_no_process_from_good_documents() -> None:
    """More poisons than all the waiting of a good document would be enough for, were there one lane for all."""
    graphs = [poison(edges) for edges in (bipartite(6), cube(5)) * 4]
    good = Job(json.dumps(STRANGER.badge()).encode(), (STRANGER.signer.public_key_multibase,), True, NOW)
    async with Sandbox(processes=2, seconds=15.0, memory=1 << 30) as sandbox:
        crowd = [
            asyncio.create_task(sandbox.examine(Job(json.dumps(graph).encode(), (KEY,), False, NOW)))
            for graph in graphs
        ]
        found = await asyncio.gather(*(asyncio.create_task(sandbox.examine(good)) for _ in range(6)))
        waiting = [task for task in crowd if not task.done()]
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
    assert [one.proofs[0].ok for one in found] == [True] * 6
    assert waiting  # they were served while poisons were still being worked on
