"""The signing pool: the same bytes in a thread and in processes, and nothing signed that must not be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from laurel.credential import proofs
from laurel.credential.keys import Ed25519Signer
from laurel.credential.securing import DEFAULT
from laurel.events import AssessmentPassed, Recipient
from laurel.security import seal
from laurel_issuer.domain import Inconsistent, IssuerProfile, StatusPlace
from laurel_issuer.keyring import KEY_PURPOSE, SealedKey
from laurel_issuer.signing import CHUNK, Group, Item, Made, Refused, Signers

KEK = bytes(range(32))
DID = "did:web:badges.example.org:issuers:physics"
NOW = datetime(2026, 3, 1, 9, 30, 15, tzinfo=UTC)
SIGNER = Ed25519Signer(bytes(range(32, 64)), f"{DID}#key-1")
KEY = SealedKey("k", f"{DID}#key-1", SIGNER.public_key_multibase, seal(KEK, bytes(range(32, 64)), purpose=KEY_PURPOSE))
DEFINITION = {
    "id": "https://badges.example.org/achievements/1",
    "type": ["Achievement"],
    "name": "Thermodynamics",
    "description": "Heat, work and entropy.",
    "criteria": {"narrative": "Pass the examination."},
}


def group(**changes: Any) -> Group:
    issuer = IssuerProfile(DID, "Department of Physics", "https://physics.example.org/")
    fields = {
        "definition": msgspec.json.encode(DEFINITION),
        "validity_days": None,
        "issuer": issuer,
        "securing": DEFAULT,
        "keys": (KEY,),
    }
    return Group(**{**fields, **changes})


def item(number: int, **changes: Any) -> Item:
    passed = AssessmentPassed(
        tenant_id="t", credential_id=f"c{number}", result_id="r", achievement_id="a", achievement_version=1, award=1,
        recipient=changes.pop("recipient", Recipient(identity_hash="sha256$" + f"{number:064x}", salt="s")),
        achieved_at=NOW, decided_at=NOW,
    )  # fmt: skip
    place = StatusPlace("https://badges.example.org/status/1", number, "revocation")
    url = f"https://badges.example.org/c/{number}"
    return Item(f"c{number}", url, NOW, msgspec.json.encode(passed), (place,))


async def test_a_thread_and_a_process_give_the_same_bytes_in_order() -> None:
    items = [item(number) for number in range(70)]
    async with Signers(KEK, processes=0) as here, Signers(KEK, processes=1) as there:
        made = await here.make([(group(), items)])
        assert made == await there.make([(group(), items)])
    assert [one.credential_id for one in made] == [one.credential_id for one in items]
    for one in made:
        assert isinstance(one, Made)
        document = json.loads(one.body)
        assert proofs.verify_proof(document, document["proof"], KEY.public_key_multibase).ok


async def test_what_lint_refuses_is_not_signed_and_its_values_are_not_told() -> None:
    bad = item(1, recipient=Recipient(identity_hash="private value", salt="s"))
    async with Signers(KEK, processes=0) as signers:
        good, refused = await signers.make([(group(), [item(0), bad])])
    assert isinstance(good, Made)
    assert isinstance(refused, Refused)
    assert refused.code == "lint_failed"
    assert "private value" not in refused.detail


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sealed_seed": seal(bytes(32), bytes(32), purpose=KEY_PURPOSE)}, "LAUREL_KEK"),
        ({"sealed_seed": seal(KEK, bytes(32), purpose="something else")}, "LAUREL_KEK"),
        ({"sealed_seed": seal(KEK, bytes(32), purpose=KEY_PURPOSE)}, "does not belong to its public key"),
        ({"verification_method": "did:web:elsewhere.example#key-1"}, "cannot sign"),
    ],
)
@pytest.mark.parametrize("processes", [0, 1])
async def test_a_key_that_is_not_what_it_should_be_stops_loudly(
    processes: int, changes: dict[str, str], message: str
) -> None:
    fields = {name: getattr(KEY, name) for name in KEY.__slots__}
    async with Signers(KEK, processes=processes) as signers:
        with pytest.raises(Inconsistent, match=message):
            await signers.make([(group(keys=(SealedKey(**{**fields, **changes}),)), [item(0)])])


async def test_the_loop_goes_on_while_processes_sign() -> None:
    beats = 0
    done = asyncio.Event()

    async def beat() -> None:
        nonlocal beats
        while not done.is_set():
            beats += 1
            await asyncio.sleep(0.001)

    async with Signers(KEK, processes=1) as signers:
        await signers.make([(group(), [item(0)])])  # the process is up
        beating = asyncio.create_task(beat())
        await signers.make([(group(), [item(number) for number in range(4000)])])
        done.set()
        await beating
        assert beats > 3 * 4000 / CHUNK  # a loop that stands still for each chunk comes to one beat between two
        pool: Any = signers._pool
        assert os.getpid() not in pool._processes


_PARENT = """
import asyncio, sys
from laurel.credential.keys import Ed25519Signer
from laurel_issuer.keyring import KEY_PURPOSE, SealedKey
from laurel_issuer.signing import Signers
from tests.unit.issuer.test_signing import KEK, group, item

async def main():
    async with Signers(KEK, processes=1) as signers:
        await signers.make([(group(), [item(0)])])
        print(*signers._pool._processes, flush=True)
        await asyncio.sleep(60)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_killed_parent_leaves_no_process_behind(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    root = Path(__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)  # it lives
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 20
    while _lives(child):
        assert time.monotonic() < deadline, "the signing process outlived its parent"
        time.sleep(0.05)


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie is dead; whoever adopted it has not looked yet
