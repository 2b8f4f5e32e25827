"""What an erasure leaves of dead letters; those under other keys go by the statement of docs/privacy.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from laurel.bus import Message
from laurel.database import Transaction
from laurel.dead_letter_store import Which
from laurel.dead_letters import forget
from laurel.envelope import Delivered
from laurel.errors import Reject
from laurel.topics import CREDENTIAL
from tests.component.kernel.conftest import Kernel
from tests.component.kernel.test_engine import effects, message, store
from tests.component.kernel.test_redrive import ask, kill, redriver, rows, work

PAGE = Path(__file__).parents[3] / "docs" / "privacy.md"
ERASED = "0199aaaa-0000-8000-8000-000000000001"
LEARNER = b"alice@learner.example"
LEFT = """
    SELECT id, key, value, headers, detail, state FROM dead_letters WHERE "offset" < 4 ORDER BY "offset"
"""


def statement(service: str) -> str:
    """The one block of SQL on the page, with the service and the credential that an operator would put in."""
    (found,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found).replace("SERVICE", service).replace("CREDENTIAL", ERASED)


async def test_letters_under_other_keys_are_emptied_by_the_documented_statement(kernel: Kernel) -> None:
    own = replace(message(ERASED, 0), key=ERASED.encode())
    named = replace(message(ERASED, 1), key=LEARNER)  # the event of the credential, under a key that is a learner's
    header = replace(message("e2", 2), headers=(*message("e2", 2).headers, ("about", ERASED.encode())))
    strange = Message(CREDENTIAL.name, 0, 3, b"k", b"\xff" + LEARNER + ERASED.encode(), (), 0)  # and of no tenant
    others = [message("e4", 4), replace(message("e5", 5), key=b"k")]
    assert ERASED.encode() in named.value
    await kill(kernel, own, named, header, strange, *others)
    await ask(kernel)

    async with kernel.worker.transaction() as tx:
        await forget(tx, [(ERASED, "t1")])
    first, *missed = await rows(kernel, LEFT)
    assert (first["value"], first["state"]) == (b"", "discarded")
    assert {row["state"] for row in missed} == {"queued"}, "an erasure goes by keys: else the page needs no statement"

    async with kernel.worker.transaction() as tx:
        emptied = await tx.fetch(statement(kernel.schema))
        assert [row["id"] for row in emptied] == sorted(row["id"] for row in missed)
        assert await tx.fetch(statement(kernel.schema)) == [], "again: nothing is left to do"
    after = await rows(kernel, LEFT)
    assert [{**row, "id": first["id"]} for row in after] == [first] * 4, "as the erasure leaves a letter"
    acts = await rows(kernel, "SELECT outcome FROM dead_letter_actions ORDER BY id")
    assert [row["outcome"] for row in acts] == ["discarded"] * 4 + [None] * 2

    await work(kernel, redriver(kernel, store))
    assert await effects(kernel) == {"e4": 1, "e5": 1}, "nothing of it is redriven, and the others are"
    assert len(await rows(kernel, "SELECT FROM dead_letters WHERE state = 'discarded'")) == 4


async def test_a_letter_without_a_value_is_emptied_of_its_headers_too(kernel: Kernel) -> None:
    """A tombstone, or what a stranger wrote under the credential's key: no value, and a name in a header."""
    told = replace(message(ERASED, 0), key=ERASED.encode(), value=b"", headers=(("about", LEARNER),))
    bare = replace(message(ERASED, 1), key=ERASED.encode(), value=b"", headers=())
    await kill(kernel, told, bare)
    async with kernel.worker.transaction() as tx:
        await forget(tx, [(ERASED, "t1")])
    assert [(row["value"], row["headers"], row["state"]) for row in await rows(kernel, LEFT)] == [
        (b"", b"\x90", "discarded")
    ] * 2


async def test_what_an_earlier_redrive_said_is_emptied_and_nothing_is_redriven(kernel: Kernel) -> None:
    """A consumer's words may quote the record: under the credential's key, and under one of a stranger."""
    records = [replace(message(ERASED, 0), key=ERASED.encode()), replace(message(ERASED, 1), key=LEARNER)]
    await kill(kernel, *records)

    async def quote(_: Transaction, events: Sequence[Delivered]) -> None:
        raise Reject(events[0], "made_up", f"nobody understands {events[0].event!r}")

    await ask(kernel)
    await work(kernel, redriver(kernel, quote))
    said = "SELECT detail, outcome FROM dead_letter_actions ORDER BY letter_id"
    assert all(row["outcome"] == "died_again" and "nobody" in row["detail"] for row in await rows(kernel, said))

    async with kernel.worker.transaction() as tx:
        await forget(tx, [(ERASED, "t1")])
        await tx.fetch(statement(kernel.schema))
    assert [(row["detail"], row["outcome"]) for row in await rows(kernel, said)] == [(None, "died_again")] * 2
    assert {row["event_type"] for row in await rows(kernel, "SELECT event_type FROM dead_letters")} == {None}

    await ask(kernel, Which())
    assert {row["state"] for row in await rows(kernel, LEFT)} == {"discarded"}
    assert len(await rows(kernel, said)) == 2
