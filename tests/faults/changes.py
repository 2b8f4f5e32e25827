"""Changes of status: what was asked for, and whether that alone explains what stands in the issuer.

Requests follow one another, and each is sent until it is answered. A try whose answer was lost may still take effect,
once, at any later time. So the rows of a credential must be what the answered tries lead to, in their order, with such
strays anywhere between.
"""

from __future__ import annotations

import collections
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.faults.account import Account

TARGETS = {"suspend": "suspended", "reinstate": "active", "revoke": "revoked"}
_STATES = tuple(TARGETS.values())


@dataclass
class Asked:
    """One request: `action` for these credentials, sent `tries` times. answer: the body, None: there was none.

    Of one credential it tells what became of it (`changed`, `version`, `status`), or is a problem document when it was
    refused; of several it counts (`matched`, `changed`, `unchanged`, `refused_total`).
    """

    action: str
    ids: tuple[str, ...]
    tries: int = 0
    answer: dict[str, Any] | None = None

    @property
    def target(self) -> str:
        return TARGETS[self.action]

    @property
    def told(self) -> tuple[int, str] | None:
        """The version and status that we were told the only credential has from then on."""
        if len(self.ids) > 1 or self.answer is None or not self.answer.get("changed"):
            return None
        return self.answer["version"], self.answer["status"]


class _State(NamedTuple):
    """So many rows are explained, and of each status so many tries may still take effect."""

    rows: int
    strays: tuple[int, ...]


def explained(asked: Sequence[Asked], statuses: Sequence[str], *, erased: bool = False) -> bool:
    """Whether these requests, which all name one credential, lead to these statuses, version by version.

    erased: the credential may have been revoked once without a request, because its learner was erased.
    """
    states = _strayed({_State(0, tuple(int(erased and one == "revoked") for one in _STATES))}, statuses)
    for one in asked:
        lost = one.tries - (one.answer is not None)
        place = _STATES.index(one.target)
        states = _strayed({state._replace(strays=_plus(state.strays, place, lost)) for state in states}, statuses)
        if one.answer is not None:
            states = {after for state in states if (after := _answered(state, one, statuses)) is not None}
    return any(state.rows == len(statuses) for state in _strayed(states, statuses))


def _plus(strays: tuple[int, ...], place: int, number: int) -> tuple[int, ...]:
    return (*strays[:place], strays[place] + number, *strays[place + 1 :])


def _strayed(states: set[_State], statuses: Sequence[str]) -> set[_State]:
    """These, and where strays that take effect now lead. One that changes nothing need not be looked at."""
    reached, new = set(states), set(states)
    while new:
        new = {
            _State(state.rows + 1, _plus(state.strays, place, -1))
            for state in new
            if state.rows < len(statuses)
            for place in [_STATES.index(statuses[state.rows])]
            if state.strays[place] and effect(_current(state.rows, statuses), _STATES[place]) == "changed"
        } - reached
        reached |= new
    return reached


def _answered(state: _State, one: Asked, statuses: Sequence[str]) -> _State | None:
    """After the try that was answered; None: it would have led elsewhere, or was answered otherwise."""
    became = effect(_current(state.rows, statuses), one.target)
    rows = state.rows + (became == "changed")
    if rows > len(statuses) or (became == "changed" and statuses[state.rows] != one.target):
        return None
    if len(one.ids) == 1 and one.answer is not None:
        said = {True: "changed", False: "unchanged", None: "refused"}[one.answer.get("changed")]
        if said != became or (said != "refused" and one.answer["version"] != rows):
            return None
    return state._replace(rows=rows)


def _current(rows: int, statuses: Sequence[str]) -> str:
    return statuses[rows - 1] if rows else "active"


def effect(current: str, target: str) -> str:
    """changed, unchanged, or refused: what is revoked stays so."""
    if current == target:
        return "unchanged"
    return "refused" if current == "revoked" else "changed"


def straight(asked: Sequence[Asked]) -> tuple[list[str], list[str]]:
    """The statuses that these requests lead to, and the effect of each, where each was sent once."""
    statuses: list[str] = []
    effects: list[str] = []
    for one in asked:
        effects.append(effect(_current(len(statuses), statuses), one.target))
        if effects[-1] == "changed":
            statuses.append(one.target)
    return statuses, effects


# --- what must be there ---------------------------------------------------------------------------------------------


async def check(
    merged: AsyncIterator[tuple[str, tuple[list[Any], ...]]],
    asked: Sequence[Asked],
    erased: set[str],
    account: Account,
) -> None:
    """Every row was asked for, every answered change is a row, and where a credential stands its rows say.

    merged: by credential, its rows of status_changes by version, and its row of credentials where that is no new one's.
    """
    by_id: dict[str, list[Asked]] = collections.defaultdict(list)
    for one in asked:
        for identity in one.ids:
            by_id[identity].append(one)
    effects: collections.Counter[tuple[int, str]] = collections.Counter()
    unsure: set[int] = set()  # requests whose effects tries that strayed may have had a part in
    left = set(by_id)
    async for identity, (rows, standing) in merged:
        left.discard(identity)
        account.status_changes += len(rows)
        _one(identity, rows, by_id.get(identity, []), identity in erased, account.note)
        last = (rows[-1]["status"], rows[-1]["version"]) if rows else ("active", 0)
        stands = (standing[0]["status"], standing[0]["status_version"]) if standing else ("active", 0)
        if stands != last:
            account.note("wrong", f"credential {identity} stands at {stands}, and its last change is {last}")
    for identity in sorted(left):
        _one(identity, [], by_id[identity], identity in erased, account.note)
    for identity, requests in by_id.items():
        if identity in erased or any(one.tries > 1 or one.answer is None for one in requests):
            unsure.update(id(one) for one in requests)
        for one, became in zip(requests, straight(requests)[1], strict=True):
            effects[id(one), became] += 1
    for one in asked:
        _counts(one, effects, id(one) in unsure, account.note)


def _one(identity: str, rows: list[Any], asked: list[Asked], erased: bool, note: Callable[[str, str], None]) -> None:
    """The changes of one credential. One sort of offence is told of it, the plainest."""
    versions = [row["version"] for row in rows]
    statuses = [row["status"] if row["change"] == "status" else row["change"] for row in rows]
    stored = dict(zip(versions, statuses, strict=True))
    told = [one.told for one in asked if one.told is not None]
    fine = True

    def tell(kind: str, what: str) -> None:
        nonlocal fine
        fine = False
        note(kind, what)

    for version, state in told:
        if version not in stored:
            tell("lost", f"we were told that {identity} is {state} in version {version}, and no row says so")
        elif stored[version] != state:
            tell("wrong", f"version {version} of {identity} is {stored[version]}, which is not what was answered")
    tries = collections.Counter({"revoked": int(erased)})
    for one in asked:
        tries[one.target] += one.tries
    for version, state in stored.items():
        tries[state] -= 1
        if tries[state] < 0:
            tell("doubled", f"version {version} of {identity} is {state}, and nobody asked for that")
    if versions != list(range(1, len(versions) + 1)):
        tell("lost", f"{identity} has the versions {versions}, not 1 to {len(versions)}")
    if fine and not explained(asked, statuses, erased=erased):
        few = len(statuses) < len(straight(asked)[0])
        requests = [(one.action, one.tries) for one in asked]
        tell("lost" if few else "wrong", f"{identity} became {statuses}, which {requests} does not lead to")


def _counts(
    one: Asked, effects: collections.Counter[tuple[int, str]], unsure: bool, note: Callable[[str, str], None]
) -> None:
    """What a change of several credentials was answered: how many of them changed."""
    if one.answer is None or len(one.ids) == 1:
        return
    names = {"changed": "changed", "unchanged": "unchanged", "refused": "refused_total"}
    answered = {became: one.answer[name] for became, name in names.items()}
    found = {became: effects[id(one), became] for became in names}
    if one.answer["matched"] != len(one.ids) or sum(answered.values()) != len(one.ids):
        note("wrong", f"to {one.action} {', '.join(one.ids)} was answered as {one.answer}")
    elif not unsure and answered != found:
        note("wrong", f"to {one.action} {', '.join(one.ids)} was answered with {answered}, and came to {found}")
