"""Rows of what is being issued and was issued: reservations and credentials. Everything set-based."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg
import msgspec

from laurel import envelope
from laurel.credential import securing
from laurel.credential.multikey import KeyType
from laurel.database import Transaction, affected, as_table, insert_new
from laurel.erasure import buried
from laurel.errors import NotNow
from laurel.events import AssessmentPassed
from laurel.ids import uuid7
from laurel_issuer.domain import Inconsistent, Prerequisites, kinds_to_make, waits_for
from laurel_issuer.standing import entry_sizes, place_key, places_from

Row = asyncpg.Record
Place = tuple[str, int]  # a status list's id, and the index in it


@dataclass(frozen=True, slots=True)
class Terms:
    """What a reservation is made with: where we are reached, how full a list gets, how its places are spread."""

    base_url: str
    list_entries: int
    index_key: bytes


class Intent(msgspec.Struct, frozen=True, gc=False):
    """A reservation: everything a credential follows from. passed: the stored event's JSON.

    securing: how it is secured (credential/securing.py); key_ids: the key of each way.
    """

    credential_id: str
    tenant_id: str
    document_url: str
    profile_id: str
    profile_version: int
    securing: tuple[str, ...]
    key_ids: tuple[str, ...]
    achievement_id: str
    achievement_version: int
    course_run: str | None
    revocation: Place
    suspension: Place | None
    created: datetime
    passed: bytes
    refresh: Place | None = None
    message: Place | None = None

    @property
    def places(self) -> dict[str, Place]:
        """Its places in status lists by their purpose, in the order of its entries."""
        places = {"revocation": self.revocation}
        for purpose, place in (("suspension", self.suspension), ("refresh", self.refresh), ("message", self.message)):
            if place is not None:
                places[purpose] = place
        return places

    @property
    def key_id(self) -> str:
        """The key of the first way."""
        return self.key_ids[0]


@dataclass(slots=True)
class Reservation:
    """What `reserve` found and made, by credential id. foreign: another tenant has a credential of that id.

    erased: their learner was erased; nothing is made for them.

    to_make: by profile, the kinds of keys that it needs now for the first time. Make them and reserve again.
    """

    intents: dict[str, Intent] = field(default_factory=dict)
    issued: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    waiting: dict[str, str] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    to_make: dict[str, set[KeyType]] = field(default_factory=dict)


_KINDS = ", ".join(f"('{one.name}', '{one.key_type}')" for one in securing.SECURINGS.values())
# The profile that issues version `a` of an achievement: the one it names, or the tenant's first where it names none;
# and `ways`, how the credential is secured. Where it names a profile that is not there, or asks for a key that an
# issuer whose id is its key can never have, the newest version that can be issued corrects it.
PROFILE_OF_A = f"""
    SELECT p.profile_id, p.version, p.identity, p.securing, coalesce(n.securing, p.securing) AS ways
    FROM achievements n
    JOIN LATERAL (
        SELECT * FROM issuer_profiles
        WHERE tenant_id = n.tenant_id AND (n.profile_id IS NULL OR profile_id = n.profile_id)
        ORDER BY created_at, profile_id LIMIT 1
    ) p ON true
    WHERE n.achievement_id = a.achievement_id AND n.tenant_id = a.tenant_id AND n.version >= a.version
    ORDER BY p.identity <> 'did:key' OR NOT EXISTS (
        SELECT FROM (VALUES {_KINDS}) AS t (name, kind)
        WHERE t.name = ANY (coalesce(n.securing, p.securing))
            AND NOT EXISTS (SELECT FROM signing_keys k WHERE k.profile_id = p.profile_id AND k.key_type = t.kind)
    ) DESC, n.version = a.version DESC, n.version DESC LIMIT 1
"""  # noqa: S608 - names of ours


# --- step 1: reserve ----------------------------------------------------------------------------------------


async def reserve(tx: Transaction, passed: dict[str, AssessmentPassed], *, terms: Terms, now: datetime) -> Reservation:
    """Reserve what the events are owed; an event that comes again finds what was reserved for it.

    passed: by credential id. Rows that wait for something are not reserved. Commit before anything is signed.
    """
    found = Reservation()
    ids = list(passed)
    found.erased = {name for name, tenant_id in await buried(tx, ids) if tenant_id == passed[name].tenant_id}
    for row in await tx.fetch("SELECT credential_id, tenant_id FROM credentials WHERE credential_id = ANY ($1)", ids):
        credential_id = str(row["credential_id"])
        own = row["tenant_id"] == passed[credential_id].tenant_id
        (found.issued if own else found.foreign).add(credential_id)
    await _take_up(tx, ids, passed, found)
    if found.intents:
        await _drop_compromised(tx, found)
    fresh = {one: event for one, event in passed.items() if not _settled(found, one)}
    if not fresh:
        return found
    known = await _prerequisites(tx, fresh.values())
    reasons = {key: waits_for(prerequisites) for key, prerequisites in known.items()}
    ready: dict[str, tuple[AssessmentPassed, Prerequisites]] = {}
    for credential_id, event in fresh.items():
        key = event.tenant_id, event.achievement_id, event.achievement_version
        prerequisites, reason = known[key], reasons[key]
        if reason is None:
            ready[credential_id] = (event, prerequisites)
        else:
            found.waiting[credential_id] = reason
            if prerequisites.profile_id is not None and (kinds := kinds_to_make(prerequisites)):
                found.to_make.setdefault(prerequisites.profile_id, set()).update(kinds)
    made = await _allocate(tx, ready, terms, now)
    if await _insert(tx, made) == len(made):
        found.intents.update((intent.credential_id, intent) for intent in made)
    else:  # another member has reserved some of them in this very moment, or even finished them
        await _take_up(tx, list(ready), passed, found)
        found.issued.update(one for one in ready if not _settled(found, one))
    return found


def _settled(found: Reservation, credential_id: str) -> bool:
    return any(credential_id in one for one in (found.intents, found.issued, found.erased, found.foreign))


async def _take_up(
    tx: Transaction, ids: Sequence[str], passed: dict[str, AssessmentPassed], found: Reservation
) -> None:
    for row in await tx.fetch("SELECT * FROM intents WHERE credential_id = ANY ($1)", ids):
        intent = _intent(row)
        if intent.tenant_id != passed[intent.credential_id].tenant_id:
            found.foreign.add(intent.credential_id)
        elif intent.credential_id not in found.issued and intent.credential_id not in found.erased:
            found.intents[intent.credential_id] = intent


async def _drop_compromised(tx: Transaction, found: Reservation) -> None:
    """Nothing signed with a compromised key was ever stored: such a reservation is made anew."""
    for row in await tx.fetch(
        "DELETE FROM intents i USING signing_keys k WHERE i.credential_id = ANY ($1) AND k.state = 'compromised' "
        "AND k.profile_id = i.profile_id AND (k.key_id = i.key_id OR k.key_id = ANY (i.key_ids)) "
        "RETURNING i.credential_id",
        list(found.intents),
    ):
        del found.intents[str(row["credential_id"])]


def _intent(row: Row) -> Intent:
    places = {
        purpose: (str(row[f"{purpose}_list"]), row[f"{purpose}_index"])
        for purpose in ("suspension", "refresh", "message")
        if row[f"{purpose}_list"] is not None
    }
    return Intent(
        credential_id=str(row["credential_id"]), tenant_id=row["tenant_id"], document_url=row["document_url"],
        profile_id=row["profile_id"], profile_version=row["profile_version"],
        securing=tuple(row["securing"]), key_ids=tuple(row["key_ids"] or (row["key_id"],)),
        achievement_id=row["achievement_id"], achievement_version=row["achievement_version"],
        course_run=row["course_run"], revocation=(str(row["revocation_list"]), row["revocation_index"]),
        suspension=places.get("suspension"), refresh=places.get("refresh"), message=places.get("message"),
        created=row["created_at"], passed=row["passed"],
    )  # fmt: skip


async def _prerequisites(
    tx: Transaction, events: Iterable[AssessmentPassed]
) -> dict[tuple[str, str, int], Prerequisites]:
    """What there is for each (tenant, achievement, version)."""
    wanted = sorted({(one.tenant_id, one.achievement_id, one.achievement_version) for one in events})
    tenants, achievements, versions = zip(*wanted, strict=True)
    rows = await tx.fetch(
        f"""
        SELECT w.tenant_id, w.achievement_id AS wanted_id, w.version AS wanted_version, a.achievement_id,
               a.status_purposes, a.status_messages, p.ways, p.profile_id, p.version AS profile_version,
               p.identity, p.securing AS profile_securing, k.active, k.made
        FROM unnest($1::text[], $2::text[], $3::int[]) AS w (tenant_id, achievement_id, version)
        LEFT JOIN achievements a
            ON a.achievement_id = w.achievement_id AND a.version = w.version AND a.tenant_id = w.tenant_id
        LEFT JOIN LATERAL ({PROFILE_OF_A}) p ON a.achievement_id IS NOT NULL
        LEFT JOIN LATERAL (
            SELECT array_agg(key_type || ' ' || key_id) FILTER (WHERE state = 'active') AS active,
                   array_agg(DISTINCT key_type) AS made
            FROM signing_keys WHERE profile_id = p.profile_id
        ) k ON p.profile_id IS NOT NULL
        """,  # noqa: S608 - a constant of ours
        tenants, achievements, versions,
    )  # fmt: skip
    return {
        (row["tenant_id"], row["wanted_id"], row["wanted_version"]): Prerequisites(
            achievement_id=row["achievement_id"], profile_id=row["profile_id"],
            profile_version=row["profile_version"],
            securing=tuple(row["ways"] or securing.DEFAULT),
            profile_securing=tuple(row["profile_securing"] or securing.DEFAULT),
            keys=dict(one.split(" ", 1) for one in row["active"] or ()), kinds_made=frozenset(row["made"] or ()),
            new_kinds=row["identity"] != "did:key",
            status_purposes=tuple(row["status_purposes"] or ("revocation",)),
            status_messages=tuple(row["status_messages"] or ()),
        )
        for row in rows
    }  # fmt: skip


async def _allocate(
    tx: Transaction, ready: dict[str, tuple[AssessmentPassed, Prerequisites]], terms: Terms, now: datetime
) -> list[Intent]:
    wanted: dict[tuple[str, str, int, str], list[str]] = {}  # (profile, purpose, size, tenant) → credential ids
    for credential_id, (event, known) in ready.items():
        assert known.profile_id is not None
        for purpose, size in entry_sizes(known.status_purposes, known.status_messages).items():
            wanted.setdefault((known.profile_id, purpose, size, event.tenant_id), []).append(credential_id)
    places: dict[tuple[str, str], Place] = {}
    for (profile_id, purpose, size, tenant_id), ids in sorted(wanted.items()):  # sorted: locks are taken in one order
        taken = await take_places(tx, tenant_id, profile_id, purpose, size, len(ids), terms, now)
        places.update(((purpose, credential_id), place) for credential_id, place in zip(ids, taken, strict=True))
    intents = []
    for credential_id, (event, known) in ready.items():
        assert known.profile_id is not None
        assert known.profile_version is not None
        intents.append(
            Intent(
                credential_id=credential_id, tenant_id=event.tenant_id,
                document_url=f"{terms.base_url}/c/{credential_id}", profile_id=known.profile_id,
                profile_version=known.profile_version, securing=known.securing, key_ids=known.key_ids,
                achievement_id=event.achievement_id, achievement_version=event.achievement_version,
                course_run=event.course_run,
                revocation=places["revocation", credential_id], suspension=places.get(("suspension", credential_id)),
                refresh=places.get(("refresh", credential_id)), message=places.get(("message", credential_id)),
                created=now, passed=envelope.encode_data(event),
            )
        )  # fmt: skip
    return intents


async def take_places(
    tx: Transaction, tenant_id: str, profile_id: str, purpose: str, size: int, count: int, terms: Terms, now: datetime
) -> list[Place]:
    """The next `count` places of a profile's lists with entries of `size` bits; a full one is followed by a new one."""
    # One at a time per profile and purpose; the lock ends with this short transaction.
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", f"places:{profile_id}:{purpose}")
    taken: list[Place] = []
    while len(taken) < count:
        row = await tx.fetchrow(
            "SELECT list_id, allocated, capacity FROM status_lists "
            "WHERE profile_id = $1 AND purpose = $2 AND size = $3 AND allocated < capacity",
            profile_id, purpose, size,
        )  # fmt: skip
        if row is None:
            list_id = uuid7(int(now.timestamp() * 1000))
            await tx.execute(
                "INSERT INTO status_lists (list_id, tenant_id, profile_id, purpose, size, url, capacity, created_at) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                list_id, tenant_id, profile_id, purpose, size, f"{terms.base_url}/status/{list_id}",
                terms.list_entries, now,
            )  # fmt: skip
            continue
        free = min(count - len(taken), row["capacity"] - row["allocated"])
        await tx.execute("UPDATE status_lists SET allocated = allocated + $2 WHERE list_id = $1", row["list_id"], free)
        list_id = str(row["list_id"])
        key = place_key(terms.index_key, list_id)
        taken.extend((list_id, index) for index in places_from(row["allocated"], free, key))
    return taken


_PLACES = (
    "revocation_list uuid, revocation_index int, suspension_list uuid, suspension_index int, refresh_list uuid, "
    "refresh_index int, message_list uuid, message_index int"
)
_INTENT = (
    "credential_id uuid, tenant_id text, document_url text, profile_id text, profile_version int, key_id text, "
    f"achievement_id text, achievement_version int, course_run text, {_PLACES}, created_at timestamptz, passed bytea, "
    "securing words, key_ids words"
)
_CREDENTIAL = (
    "credential_id uuid, tenant_id text, result_id text, achievement_id text, achievement_version int, "
    f"profile_id text, key_id text, course_run text, {_PLACES}, issued_at timestamptz, valid_until timestamptz, "
    "body bytea"
)


async def _insert(tx: Transaction, intents: Sequence[Intent]) -> int:
    """How many of them are new."""
    if not intents:
        return 0
    given = as_table(
        _INTENT,
        (
            (
                one.credential_id, one.tenant_id, one.document_url, one.profile_id, one.profile_version,
                one.key_id, one.achievement_id, one.achievement_version, one.course_run, *_place_columns(one),
                one.created, one.passed, " ".join(one.securing), " ".join(one.key_ids),
            )
            for one in intents
        ),
    )  # fmt: skip
    written = await insert_new(
        tx,
        tx.execute,
        f"INSERT INTO intents ({given.names}) SELECT {given.names} FROM {given.table} "  # noqa: S608 - names of ours
        "ON CONFLICT (credential_id) DO NOTHING",
        *given.arguments,
    )
    return affected(written)


def _place_columns(intent: Intent) -> tuple[str | int | None, ...]:
    return (
        *intent.revocation,
        *(intent.suspension or (None, None)),
        *(intent.refresh or (None, None)),
        *(intent.message or (None, None)),
    )


async def materials(tx: Transaction, intents: Iterable[Intent]) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
    """What intents refer to: versions of achievements and issuers, keys (sealed), status lists."""
    held = list(intents)
    achievements = sorted({(one.achievement_id, one.achievement_version) for one in held})
    issuers = sorted({(one.profile_id, one.profile_version) for one in held})
    lists = {list_id for one in held for list_id, _ in one.places.values()}
    return (
        await tx.fetch(
            "SELECT achievement_id, version, definition, validity_days, status_messages, status_reference, "
            "credential_type FROM achievements "
            "JOIN unnest($1::text[], $2::int[]) AS w (achievement_id, version) USING (achievement_id, version)",
            [one[0] for one in achievements], [one[1] for one in achievements],
        ),
        await tx.fetch(
            "SELECT profile_id, version, issuer, credential_type FROM issuer_versions "
            "JOIN unnest($1::text[], $2::int[]) AS w (profile_id, version) USING (profile_id, version)",
            [one[0] for one in issuers], [one[1] for one in issuers],
        ),
        await tx.fetch(
            "SELECT key_id, verification_method, public_key_multibase, sealed_seed, key_type, ended_at, state "
            "FROM signing_keys WHERE key_id = ANY ($1)",
            sorted({key_id for one in held for key_id in one.key_ids}),
        ),
        await tx.fetch("SELECT list_id, url, version FROM status_lists WHERE list_id = ANY ($1)", sorted(lists)),
    )  # fmt: skip


# --- step 6: finish -----------------------------------------------------------------------------------------


async def require_usable_keys(tx: Transaction, key_ids: Iterable[str]) -> None:
    """Hold the keys until the end of the transaction. Raises NotNow when one was found compromised meanwhile."""
    wanted = set(key_ids)
    rows = await tx.fetch(
        "SELECT key_id FROM signing_keys WHERE key_id = ANY ($1) AND state <> 'compromised' ORDER BY key_id FOR SHARE",
        sorted(wanted),
    )
    if lost := wanted - {row["key_id"] for row in rows}:
        raise NotNow(f"signing keys {', '.join(sorted(lost))} were compromised while they were signing")


async def finish(tx: Transaction, made: Sequence[tuple[Intent, AssessmentPassed, datetime | None, bytes]]) -> set[str]:
    """Store credentials; those that are stored already stay as they are. The ids that are new. Raises Inconsistent."""
    if not made:
        return set()
    given = as_table(
        _CREDENTIAL,
        (
            (
                one.credential_id, one.tenant_id, passed.result_id, one.achievement_id, one.achievement_version,
                one.profile_id, one.key_id, one.course_run, *_place_columns(one), one.created, valid_until, body,
            )
            for one, passed, valid_until, body in made
        ),
    )  # fmt: skip
    rows = await insert_new(
        tx,
        tx.fetch,
        # No unique key is named: two members that store the same credential at once meet at its places as well as at
        # its id, and only keys that the clause covers let the later one wait and step aside.
        f"INSERT INTO credentials ({given.names}) SELECT {given.names} FROM {given.table} "  # noqa: S608 - names of ours
        "ON CONFLICT DO NOTHING RETURNING credential_id",
        *given.arguments,
    )
    new = {str(row["credential_id"]) for row in rows}
    await require_stored(tx, {one.credential_id for one, *_ in made} - new)
    return new


async def require_stored(tx: Transaction, credential_ids: set[str]) -> None:
    """What stepped aside in `finish` was stored by another member. Raises Inconsistent when it was not."""
    if not credential_ids:
        return
    rows = await tx.fetch("SELECT credential_id FROM credentials WHERE credential_id = ANY ($1)", list(credential_ids))
    if lost := credential_ids - {str(row["credential_id"]) for row in rows}:
        raise Inconsistent(f"a place in a status list was given twice: to {', '.join(sorted(lost))} and before")


async def forget_intents(tx: Transaction, credential_ids: Iterable[str]) -> None:
    """Reservations that ended as a credential or as a dead letter."""
    await tx.execute("DELETE FROM intents WHERE credential_id = ANY ($1)", list(credential_ids))
