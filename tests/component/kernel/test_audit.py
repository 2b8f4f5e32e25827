"""The audit log: every tampering shows, the roles that services have cannot tamper, and order holds under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from laurel import audit, telemetry
from laurel.audit import Broken, Head
from laurel.security import Principal
from tests.component.kernel.conftest import Kernel

CALLER = Principal("t1", "key1", frozenset({"audit:read"}), "token1")
ENTRIES = 6


async def fill(kernel: Kernel, tenant: str = "t1", count: int = ENTRIES) -> None:
    for n in range(count):
        with telemetry.request(f"request-{n}"):
            async with kernel.api.transaction([tenant]) as tx:
                await audit.record(
                    tx, tenant, CALLER, "credential.revoke", f"id-{n}", outcome="unchanged",
                    details={"n": n, "where": {"course_run": "ü \u2028 \U0001f393"}, "ids": ["a", "b"], "yes": True},
                )  # fmt: skip


async def chain(kernel: Kernel, tenant: str = "t1") -> list[dict[str, Any]]:
    async with kernel.api.transaction([tenant]) as tx:
        return await audit.entries(tx, tenant)


async def broken_at(kernel: Kernel, tenant: str = "t1") -> int:
    with pytest.raises(Broken) as caught:
        audit.check(await chain(kernel, tenant), tenant_id=tenant)
    return caught.value.seq


@asynccontextmanager
async def tampering(kernel: Kernel) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """As who may do anything, and has switched the triggers off."""
    connection = await asyncpg.connect(kernel.admin_dsn, server_settings={"search_path": kernel.schema})
    try:
        await connection.execute("SET session_replication_role = replica")
        yield connection
    finally:
        await connection.close()


async def test_an_untouched_chain_holds_and_says_all(kernel: Kernel) -> None:
    await fill(kernel)
    found = await chain(kernel)
    end = audit.check(found, tenant_id="t1")
    assert end == Head(ENTRIES, found[-1]["hash"])
    async with kernel.api.transaction(["t1"]) as tx:
        assert await audit.head(tx, "t1") == end
        assert await audit.head(tx, "nobody") == Head(0, "00" * 32)
    first = found[0]
    assert (first["actor"], first["token_id"], first["action"], first["subject"], first["outcome"]) == (
        "api_key:key1", "token1", "credential.revoke", "id-0", "unchanged",
    )  # fmt: skip
    assert first["request_id"] == "request-0"
    assert first["details"]["where"]["course_run"] == "ü \u2028 \U0001f393"
    middle = audit.check(found[:3], tenant_id="t1")
    assert audit.check(found[3:], tenant_id="t1", before=middle) == end, "page by page it is the same"


# What a column may be changed to; every column of the table must be here.
CHANGES: dict[str, str] = {
    "tenant_id": "'t2'", "seq": "99", "at": "at + interval '1 microsecond'", "actor": "'operator'", "token_id": "NULL",
    "action": "'credential.suspend'", "subject": "'id-9'", "outcome": "'done'",
    "details": """jsonb_set(details, '{where,course_run}', '"u"')""", "trace_id": "repeat('a', 32)",
    "request_id": "'request-9'", "previous_hash": "sha256('x')", "hash": "sha256('x')",
}  # fmt: skip


@pytest.mark.parametrize("seq", [1, 3, ENTRIES])
async def test_a_change_of_any_column_of_any_row_is_found(kernel: Kernel, seq: int) -> None:
    await fill(kernel)
    async with tampering(kernel) as admin:
        columns = await admin.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'audit_log'::regclass AND attnum > 0"
        )
        assert {row["attname"] for row in columns} == set(CHANGES)
        await admin.execute("CREATE TABLE kept AS SELECT * FROM audit_log")
        for column, value in CHANGES.items():
            changed = await admin.execute(f"UPDATE audit_log SET {column} = {value} WHERE seq = $1", seq)
            assert changed == "UPDATE 1"
            if seq == ENTRIES and column == "tenant_id":
                # The last entry is gone from its chain, which only who knows the head sees; it breaks the other.
                assert audit.check(await chain(kernel), tenant_id="t1").seq == ENTRIES - 1
                assert await broken_at(kernel, "t2") == 1
            else:
                assert await broken_at(kernel) == seq, column
            await admin.execute(_PUT_BACK)
            assert audit.check(await chain(kernel), tenant_id="t1").seq == ENTRIES, "put back, it holds again"


_PUT_BACK = "DELETE FROM audit_log; INSERT INTO audit_log SELECT * FROM kept"


async def test_a_row_that_is_taken_out_or_put_elsewhere_is_found(kernel: Kernel) -> None:
    await fill(kernel)
    async with tampering(kernel) as admin:
        await admin.execute("CREATE TABLE kept AS SELECT * FROM audit_log")
        for tamper, seq in (
            ("DELETE FROM audit_log WHERE seq = 1", 1),
            ("DELETE FROM audit_log WHERE seq = 4", 4),
            # a gap that is closed again
            ("DELETE FROM audit_log WHERE seq = 4; UPDATE audit_log SET seq = seq - 1 WHERE seq > 4", 4),
            # two that change places
            ("UPDATE audit_log SET seq = -seq WHERE seq IN (2, 3);"
             "UPDATE audit_log SET seq = 5 + seq WHERE seq < 0", 2),
            # one that is put in
            ("UPDATE audit_log SET seq = seq + 100 WHERE seq > 2; UPDATE audit_log SET seq = seq - 99 WHERE seq > 100;"
             "INSERT INTO audit_log SELECT tenant_id, 3, at, actor, token_id, action, subject, outcome, details, "
             "trace_id, request_id, previous_hash, hash FROM audit_log WHERE seq = 2", 3),
            # another tenant's, whole and sound
            ("UPDATE audit_log SET tenant_id = 'tx' WHERE tenant_id = 't1'", 0),
        ):  # fmt: skip
            await admin.execute(tamper)
            if seq:
                assert await broken_at(kernel) == seq, tamper
            else:
                assert await chain(kernel) == []
                assert await broken_at(kernel, "tx") == 1
            await admin.execute(_PUT_BACK)


async def test_what_is_cut_off_shows_to_who_knows_the_head(kernel: Kernel) -> None:
    await fill(kernel)
    head = audit.check(await chain(kernel), tenant_id="t1")
    async with tampering(kernel) as admin:
        await admin.execute("DELETE FROM audit_log WHERE seq > 4")
    left = audit.check(await chain(kernel), tenant_id="t1")
    assert left.seq == 4
    assert left != head
    await fill(kernel, count=2)  # life goes on, and the numbers are the same again
    again = audit.check(await chain(kernel), tenant_id="t1")
    assert (again.seq, again.hash != head.hash) == (head.seq, True)


@pytest.mark.parametrize("role", ["api", "worker"])
async def test_the_services_roles_can_only_add(kernel: Kernel, role: str) -> None:
    await fill(kernel)
    database = kernel.api if role == "api" else kernel.worker
    for statement in (
        "UPDATE audit_log SET outcome = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL", "DROP TABLE audit_log",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(["t1"]) as tx:
                await tx.execute(statement)
    assert audit.check(await chain(kernel), tenant_id="t1").seq == ENTRIES


async def test_the_owner_meets_the_trigger(kernel: Kernel) -> None:
    await fill(kernel)
    owner = await asyncpg.connect(kernel.admin_dsn, server_settings={"search_path": kernel.schema})
    try:
        for statement in ("UPDATE audit_log SET outcome = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await owner.execute(statement)
    finally:
        await owner.close()


async def test_tenants_have_chains_of_their_own(kernel: Kernel) -> None:
    await fill(kernel)
    await fill(kernel, "t2", 2)
    assert audit.check(await chain(kernel, "t2"), tenant_id="t2").seq == 2
    async with kernel.api.transaction(["t2"]) as tx:
        assert await audit.entries(tx, "t1") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with kernel.api.transaction(["t2"]) as tx:
            await audit.record(tx, "t1", CALLER, "x.y", "z")


async def test_an_act_that_is_rolled_back_leaves_no_entry(kernel: Kernel) -> None:
    await fill(kernel, count=1)
    with pytest.raises(RuntimeError):
        async with kernel.api.transaction(["t1"]) as tx:
            await audit.record(tx, "t1", CALLER, "x.y", "z")
            raise RuntimeError
    await fill(kernel, count=1)
    assert audit.check(await chain(kernel), tenant_id="t1").seq == 2


async def test_acts_at_the_same_time_follow_one_another(kernel: Kernel) -> None:
    async def act(n: int) -> None:
        async with kernel.api.transaction(["t1"]) as tx:
            await tx.execute("INSERT INTO effects (tenant_id, id) VALUES ('t1', $1)", f"e{n}")
            await audit.record(tx, "t1", CALLER, "x.y", f"e{n}")

    await asyncio.gather(*(act(n) for n in range(40)))
    found = await chain(kernel)
    assert audit.check(found, tenant_id="t1").seq == 40
    assert {one["subject"] for one in found} == {f"e{n}" for n in range(40)}
