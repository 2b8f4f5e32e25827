"""What the ledger makes of changes of status: what was asked for explains them, or an offence is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.faults.account import Account
from tests.faults.changes import Asked, check, explained

A, B = "00000000-0000-7000-8000-00000000000a", "00000000-0000-7000-8000-00000000000b"


def asked(action: str, version: int | None = None, *, changed: bool = True, tries: int = 1) -> Asked:
    """Of A alone. version None: it was refused."""
    one = Asked(action, (A,), tries)
    one.answer = {"code": "revoked_is_final"} if version is None else {"changed": changed, "version": version}
    one.answer |= {"status": one.target}
    return one


def of_both(action: str, changed: int, unchanged: int = 0, refused: int = 0, *, tries: int = 1) -> Asked:
    counts = {"matched": 2, "changed": changed, "unchanged": unchanged, "refused_total": refused}
    return Asked(action, (A, B), tries, counts)


@pytest.mark.parametrize(
    ("requests", "statuses"),
    [
        ([], []),
        ([asked("suspend", 1), asked("reinstate", 2), asked("revoke", 3), asked("suspend")],
         ["suspended", "active", "revoked"]),
        ([asked("reinstate", 0, changed=False)], []),
        # The first try changed it, and its answer was lost.
        ([asked("suspend", 1, changed=False, tries=2)], ["suspended"]),
        # The first try took effect when the next request had been answered.
        ([asked("suspend", 1, tries=2), asked("reinstate", 2)], ["suspended", "active", "suspended"]),
        ([Asked("revoke", (A,), 1)], ["revoked"]),
        ([Asked("revoke", (A,), 1)], []),
        ([of_both("suspend", 2), asked("suspend", 1, changed=False)], ["suspended"]),
    ],
)  # fmt: skip
def test_what_the_requests_may_lead_to(requests: list[Asked], statuses: list[str]) -> None:
    assert explained(requests, statuses)


@pytest.mark.parametrize(
    ("requests", "statuses"),
    [
        ([], ["suspended"]),
        ([asked("suspend", 1)], []),
        ([of_both("suspend", 2)], []),
        ([of_both("suspend", 2, tries=3)], []),
        ([asked("suspend", 1)], ["suspended", "active"]),
        ([asked("suspend", 1), asked("reinstate", 2)], ["active", "suspended"]),
        ([asked("suspend", 1), asked("reinstate", 2)], ["suspended", "active", "suspended"]),
        ([asked("suspend", 2)], ["suspended"]),
        ([asked("suspend", 1, changed=False)], ["suspended"]),
        ([asked("revoke", 1), asked("suspend")], ["revoked", "suspended"]),
        ([asked("revoke")], []),
    ],
)
def test_what_they_can_not_lead_to(requests: list[Asked], statuses: list[str]) -> None:
    assert not explained(requests, statuses)


def test_an_erasure_revokes_once_without_a_request() -> None:
    assert explained([asked("suspend", 1)], ["suspended", "revoked"], erased=True)
    assert explained([asked("suspend")], ["revoked"], erased=True)
    assert not explained([asked("suspend", 1)], ["suspended", "revoked"])
    assert not explained([], ["suspended"], erased=True)


def account(requests: list[Asked], rows: dict[str, list[tuple[int, str]]], **standing: tuple[int, str]) -> list[str]:
    """What the ledger says. standing: by letter; else as the last row says."""
    ids = {A: "a", B: "b"}

    async def merged() -> AsyncIterator[tuple[str, tuple[list[Any], ...]]]:
        for identity, name in ids.items():
            changes = [{"version": v, "status": s, "change": "status"} for v, s in rows.get(name, [])]
            if stands := standing.get(name, next(reversed(rows.get(name, [])), None)):
                yield identity, (changes, [{"status_version": stands[0], "status": stands[1]}])

    made = Account()
    asyncio.run(check(merged(), requests, set(), made))
    return [one.replace(A, "A").replace(B, "B") for one in made.offenders]


def test_a_true_account_has_no_offence() -> None:
    requests = [asked("suspend", 1), of_both("revoke", 2), asked("reinstate"), of_both("suspend", 0, 0, 2)]
    assert account(requests, {"a": [(1, "suspended"), (2, "revoked")], "b": [(1, "revoked")]}) == []
    assert account([], {}) == []


@pytest.mark.parametrize(
    ("requests", "rows", "said"),
    [
        ([], {"a": [(1, "suspended")]}, "doubled: version 1 of A is suspended, and nobody asked for that"),
        ([asked("suspend", 1)], {"a": [(1, "suspended"), (2, "suspended")]},
         "doubled: version 2 of A is suspended, and nobody asked for that"),
        ([asked("suspend", 1)], {},
         "lost: we were told that A is suspended in version 1, and no row says so"),
        ([asked("suspend", 1), asked("reinstate", 2)], {"a": [(2, "active")]},
         "lost: A has the versions [2], not 1 to 1"),
        ([of_both("suspend", 2)], {"a": [(1, "suspended")]},
         "lost: B became [], which [('suspend', 1)] does not lead to"),
        ([of_both("suspend", 2, tries=2)], {"a": [(1, "suspended")]},
         "lost: B became [], which [('suspend', 2)] does not lead to"),
        ([asked("suspend", 1)], {"a": [(1, "revoked")]},
         "wrong: version 1 of A is revoked, which is not what was answered"),
        ([of_both("suspend", 1, 1)], {"a": [(1, "suspended")], "b": [(1, "suspended")]},
         "wrong: to suspend A, B was answered with {'changed': 1, 'unchanged': 1, 'refused': 0}, and came to "
         "{'changed': 2, 'unchanged': 0, 'refused': 0}"),
        ([of_both("suspend", 1)], {"a": [(1, "suspended")], "b": [(1, "suspended")]}, "wrong: to suspend A, B was"),
    ],
)  # fmt: skip
def test_an_offence_is_told(requests: list[Asked], rows: dict[str, list[tuple[int, str]]], said: str) -> None:
    found = account(requests, rows)
    assert any(one.startswith(said) for one in found), found


def test_a_credential_must_stand_where_its_last_change_left_it() -> None:
    rows = {"a": [(1, "suspended")]}
    for stands in ((1, "active"), (2, "suspended"), (0, "active")):
        found = account([asked("suspend", 1)], rows, a=stands)
        assert len(found) == 1, found
        assert found[0].startswith("wrong: credential A stands at "), found
    assert account([], {}, a=(0, "revoked")), "without any change"
