"""Results on their way in, one or a thousand: load what is known, decide, save together with the events.

One statement a step, however many rows: rules and histories are loaded for the whole batch, decided in memory in the
order of the lines (so that duplicates within a batch are seen as well), and written by one insert. When another
transaction decides one of the same attempts meanwhile, the unique indexes refuse; the caller begins again and sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from laurel import outbox
from laurel.credential.model import identity_hash
from laurel.database import Transaction
from laurel.erasure import alongside
from laurel.events import AssessmentPassed, Recipient, ResultValue
from laurel.ids import credential_id, learner_key, uuid7
from laurel.security import seal
from laurel_assessment import erasure_store, store
from laurel_assessment.domain import (
    Attempt,
    Finding,
    History,
    Rules,
    Settlement,
    Stored,
    content_of,
    salt_of,
    settle,
    written,
)
from laurel_assessment.rows import Glimpse, column_of

SLICE = 100  # rows that are worked on before the loop may turn to something else


@dataclass(frozen=True)
class Keys:
    """The secrets that intake needs, and our own address."""

    id_key: bytes
    contact_key: bytes
    base_url: str


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A row that came in: a checked attempt, or what is wrong with it and where it belongs (`seen`).

    shown: the row as sent, kept if rejected.
    """

    line: int | None
    attempt: Attempt | None
    findings: tuple[Finding, ...] = ()
    shown: str = ""
    seen: Glimpse = Glimpse()
    csv: bool = False


class _Keyed(msgspec.Struct, frozen=True, gc=False):
    """relation: how often the learner was erased before."""

    arrival: Arrival
    attempt: Attempt
    key: bytes
    relation: int


async def take_in(
    tx: Transaction,
    tenant_id: str,
    arrivals: Sequence[Arrival],
    *,
    keys: Keys,
    received_at: datetime,
    now: datetime,
    import_id: str | None = None,
) -> list[store.Recorded]:
    """Settle rows and write them with their events. Returns them in the order given.

    received_at: when the request came, the time of completion of rows that name none. Raises UniqueViolationError when
    somebody else was faster; the whole transaction is then to be tried again.
    """
    learners = {learner for one in arrivals if (learner := (one.attempt or one.seen).learner) is not None}
    pseudonyms = {one: learner_key(keys.id_key, tenant_id=tenant_id, learner=one) for one in learners}
    await alongside(tx, tenant_id)
    erased = await erasure_store.known(tx, pseudonyms.values())
    relations = {one: erased[key] for one, key in pseudonyms.items() if key in erased} if erased else {}
    for learner, found in relations.items():  # who comes back is somebody new (ADR 0016)
        pseudonyms[learner] = learner_key(keys.id_key, tenant_id=tenant_id, learner=learner, relation=found.relation)
    late = {one for one, found in relations.items() if import_id in found.imports}
    wanted = {one.attempt.achievement_id for one in arrivals if one.attempt is not None}
    rules = await store.rules(tx, tenant_id, wanted, base_url=keys.base_url) if wanted else {}
    pairs = {
        (pseudonyms[one.attempt.learner], one.attempt.achievement_id)
        for one in arrivals
        if one.attempt is not None and one.attempt.achievement_id in rules
    }
    # Sorted, so that two transactions that touch the same learners meet in one order and do not deadlock.
    known = await store.histories(tx, sorted(pairs))

    recorded: list[store.Recorded] = []
    events: list[AssessmentPassed] = []
    for place, arrival in enumerate(arrivals, 1):
        if place % SLICE == 0:
            await asyncio.sleep(0)
        if late and (arrival.attempt or arrival.seen).learner in late:
            recorded.append(_of_nobody(arrival))
            continue
        if arrival.attempt is None:
            recorded.append(_rejected(arrival, arrival.findings, pseudonyms.get(arrival.seen.learner or "")))
            continue
        key = pseudonyms[arrival.attempt.learner]
        rule = rules.get(arrival.attempt.achievement_id)
        if rule is None:
            recorded.append(_rejected(arrival, (_UNKNOWN,), key))
            continue
        history = known.setdefault((key, arrival.attempt.achievement_id), History())
        content = content_of(arrival.attempt, key=keys.id_key)
        settlement = settle(arrival.attempt, rule, history, content)
        before = relations.get(arrival.attempt.learner)
        keyed = _Keyed(arrival, arrival.attempt, key, 0 if before is None else before.relation)
        one = _recorded(keyed, rule, settlement, content, tenant_id, keys, received_at)
        recorded.append(one)
        if one.outcome in ("passed", "not_passed"):
            stored = Stored(one.result_id, content, one.outcome == "passed", one.credential_id)
            history.add(arrival.attempt.attempt, stored)
        if one.outcome == "passed":
            events.append(_event(keyed, rule, one, tenant_id, keys, received_at, now))
    in_order = sorted(recorded, key=lambda one: (one.achievement_id or "", one.learner_key or b"", one.attempt or 0))
    await store.record(tx, tenant_id, in_order, import_id=import_id, now=now)
    await outbox.append(tx, events, now=now)
    return recorded


_UNKNOWN = Finding(
    "/achievement", "unknown_achievement", "there is no such achievement; make it first, or name another by its id"
)


_ERASED = Finding("/learner", "learner_erased", "the learner was erased after this was sent; nothing of it is kept")


def _of_nobody(arrival: Arrival) -> store.Recorded:
    """The outcome of a row that was sent before its learner was erased."""
    seen = arrival.attempt or arrival.seen
    return store.Recorded(
        result_id=uuid7(), outcome="rejected", reasons=(f"{_ERASED.code}: {_ERASED.detail}",), line=arrival.line,
        achievement_id=seen.achievement_id, course_run=seen.course_run,
        errors=({"field": _ERASED.field, "code": _ERASED.code, "detail": _ERASED.detail},),
    )  # fmt: skip


def _rejected(arrival: Arrival, findings: Sequence[Finding], key: bytes | None = None) -> store.Recorded:
    attempt = arrival.attempt
    seen = attempt or arrival.seen
    if arrival.csv:
        findings = [column_of(one) for one in findings]
    return store.Recorded(
        result_id=uuid7(), outcome="rejected", reasons=tuple(f"{one.code}: {one.detail}" for one in findings),
        line=arrival.line, achievement_id=seen.achievement_id, learner=seen.learner, learner_key=key,
        course_run=seen.course_run,
        external_id=attempt.external_id if attempt else None,
        errors=tuple({"field": one.field, "code": one.code, "detail": one.detail} for one in findings),
        row_text=arrival.shown,
    )  # fmt: skip


def _recorded(
    keyed: _Keyed,
    rules: Rules,
    settlement: Settlement,
    content: bytes,
    tenant_id: str,
    keys: Keys,
    received_at: datetime,
) -> store.Recorded:
    arrival, attempt, key = keyed.arrival, keyed.attempt, keyed.key
    if settlement.finding is not None:
        return _rejected(arrival, (settlement.finding,), key)
    original = settlement.duplicate_of
    owed = original.credential_id if original is not None else None
    if settlement.award is not None:
        owed = credential_id(
            keys.id_key, tenant_id=tenant_id, achievement_id=attempt.achievement_id, learner=attempt.learner,
            award=settlement.award, relation=keyed.relation,
        )  # fmt: skip
    return store.Recorded(
        uuid7(), settlement.outcome, settlement.reasons, arrival.line, attempt.achievement_id, rules.version,
        rules.policy.version, attempt.learner, key, attempt.attempt, settlement.award, owed,
        original.result_id if original is not None else None, attempt.course_run, attempt.external_id, attempt.score,
        attempt.parts, content, attempt.completed_at or received_at,
    )  # fmt: skip


def _event(
    keyed: _Keyed,
    rules: Rules,
    one: store.Recorded,
    tenant_id: str,
    keys: Keys,
    received_at: datetime,
    now: datetime,
) -> AssessmentPassed:
    attempt = keyed.attempt
    assert one.credential_id is not None
    assert one.award is not None
    contact = {"learner": attempt.learner, "email": attempt.email, "name": attempt.name, "locale": attempt.locale}
    return AssessmentPassed(
        tenant_id=tenant_id, credential_id=one.credential_id, result_id=one.result_id,
        achievement_id=attempt.achievement_id, achievement_version=rules.version, award=one.award,
        course_run=attempt.course_run, recipient=_recipient(attempt, one.credential_id, keys.id_key),
        results=_results(attempt, rules), evidence=attempt.evidence,
        contact=seal(keys.contact_key, msgspec.json.encode(contact), purpose="contact"), locale=attempt.locale,
        achieved_at=attempt.completed_at or received_at, decided_at=now, policy_version=rules.policy.version,
    )  # fmt: skip


def _recipient(attempt: Attempt, owed: str, key: bytes) -> Recipient:
    if attempt.did is not None:
        return Recipient(did=attempt.did)
    salt = salt_of(owed, key=key)
    return Recipient(identity_hash=identity_hash(attempt.email or "", salt), salt=salt)


def _results(attempt: Attempt, rules: Rules) -> tuple[ResultValue, ...]:
    """Only what the achievement describes: a score that nobody asked to show does not become public."""
    values: list[ResultValue] = []
    for described in rules.descriptions:
        points = attempt.score if described.part is None else attempt.parts.get(described.part)
        if points is not None:
            values.append(ResultValue(value=written(points), result_description=described.id))
    return tuple(values)
