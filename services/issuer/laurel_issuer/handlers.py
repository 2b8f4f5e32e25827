"""What the issuer does with events: passed assessments become credentials, achievements are remembered.

    laurel.assessment  → Issuance            1 reserve, 2 build, 3 lint, 4 sign, 5 check (prepare), 6 finish (save)
    laurel.achievement → save_achievements   a replica of every version

Step by step, and what a death in between leaves behind:
 1. reserve: one short transaction stores each intent: credential id, places in status lists, key, time, content. What
    lacks its achievement, profile or key is not reserved but parked in step 6, and the partition goes on. A key of a
    kind that a profile needs for the first time is made here.
    Died after it: the event comes again and finds the same intent, so it leads to the same bytes.
 2. to 5.: build, lint, sign, check, in processes (signing.py). Pure functions of the intent; nothing is stored.
    A status list that is new is published first, so that no credential ever names a list that is not there.
 6. finish: credentials, their events, parked and refused events in one transaction. Only a credential that was not
    stored before leaves an event, so a redelivery doubles nothing.
    What belongs to a learner who was erased is revoked and emptied here first (store_erasure.py), and what is erased
    is not issued: not even where its pass comes after the erasure, or was signed when the erasure came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from laurel import outbox, telemetry
from laurel.crash_points import reach
from laurel.credential import securing
from laurel.database import Database, Transaction
from laurel.dead_letters import DeadLetter, bury
from laurel.envelope import Delivered
from laurel.erasure import alone, alongside, buried
from laurel.errors import NotNow, Reject
from laurel.events import AchievementPublished, AchievementRetired, AssessmentPassed, CredentialIssued, LearnerErased
from laurel.service import Saving
from laurel.topics import ISSUANCE_GROUP
from laurel_issuer import store, store_erasure, store_issuance, store_parked
from laurel_issuer.domain import Inconsistent, IssuerProfile, StatusPlace, valid_until
from laurel_issuer.keyring import KeyMaker, SealedKey
from laurel_issuer.signing import Group, Item, Made, Signers
from laurel_issuer.status_lists import Publisher
from laurel_issuer.store_issuance import Intent, Row, Terms

GROUP = ISSUANCE_GROUP

Rows = Sequence[Row]

_passed_decoder = msgspec.json.Decoder(AssessmentPassed)


class Signed(msgspec.Struct, frozen=True, gc=False):
    """A credential on its way to the store, with what its event says."""

    intent: Intent
    passed: AssessmentPassed
    body: bytes
    achievement_name: str
    issuer: str
    valid_until: datetime | None
    traceparent: str | None


@dataclass(slots=True)
class Prepared:
    """A batch after step 5."""

    signed: list[Signed] = field(default_factory=list)
    waiting: list[tuple[Delivered, str]] = field(default_factory=list)
    refused: list[DeadLetter] = field(default_factory=list)
    unfit: set[str] = field(default_factory=set)  # reserved, and refused by lint
    settled_before: set[str] = field(default_factory=set)  # issued or erased
    erased: list[LearnerErased] = field(default_factory=list)


class Issuance:
    """The handler of laurel.assessment."""

    def __init__(
        self,
        database: Database,
        signers: Signers,
        publisher: Publisher,
        *,
        keys: KeyMaker,
        terms: Terms,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._signers = signers
        self._keys = keys
        self._publisher = publisher
        self._terms = terms
        self._clock = clock

    async def prepare(self, events: Sequence[Delivered]) -> Prepared:
        """Steps 1 to 5. Raises NotNow, Inconsistent."""
        prepared = Prepared()
        wanted = _wanted(events, prepared)
        passed = {one: event for one, (_, event) in wanted.items()}
        now = self._clock().replace(microsecond=0)  # credentials tell time in seconds
        async with self._database.transaction() as tx:
            reserved = await store_issuance.reserve(tx, passed, terms=self._terms, now=now)  # 1
            reach("issuance.reserving")
        reach("issuance.reserved")
        if reserved.to_make:
            for profile_id, kinds in sorted(reserved.to_make.items()):
                await self._keys.make_missing(profile_id, kinds)
            reach("issuance.keys_made")
            async with self._database.transaction() as tx:
                reserved = await store_issuance.reserve(tx, passed, terms=self._terms, now=now)  # 1, what is left of it
        prepared.settled_before = reserved.issued | reserved.erased
        prepared.waiting = [(wanted[one][0], reason) for one, reason in reserved.waiting.items()]
        prepared.refused += [
            DeadLetter.of(wanted[one][0], "foreign_credential_id", "another organisation has a credential with this id")
            for one in sorted(reserved.foreign)
        ]
        if reserved.intents:
            delivered = {one: wanted[one][0] for one in reserved.intents}
            await self._sign(list(reserved.intents.values()), delivered, prepared)
        return prepared

    async def _sign(self, intents: Sequence[Intent], events: dict[str, Delivered], prepared: Prepared) -> None:
        async with self._database.transaction() as tx:
            materials = _Materials(*await store_issuance.materials(tx, intents))
        for list_id in materials.unpublished_lists():
            await self._publisher.publish(list_id, only_first=True)
        by_id = {intent.credential_id: intent for intent in intents}
        for result in await self._signers.make(materials.work(intents)):  # 2 3 4 5
            delivered = events[result.credential_id]
            if not isinstance(result, Made):
                prepared.unfit.add(result.credential_id)
                prepared.refused.append(DeadLetter.of(delivered, result.code, result.detail))
                continue
            intent = by_id[result.credential_id]
            definition, validity_days = materials.achievement(intent)
            prepared.signed.append(
                Signed(
                    intent=intent,
                    passed=_passed_decoder.decode(intent.passed),
                    body=result.body,
                    achievement_name=str(definition.get("name", "")),
                    issuer=materials.issuer(intent).did,
                    valid_until=valid_until(intent.created, validity_days),
                    traceparent=delivered.traceparent,
                )
            )

    async def save(self, tx: Transaction, prepared: Prepared) -> None:
        """Step 6. Raises NotNow when a key was compromised meanwhile: the batch is then reserved anew."""
        if prepared.erased:
            await alone(tx)
            await store_erasure.erase(tx, prepared.erased, now=self._clock())
            reach("issuance.erasing")
        else:
            await alongside(tx)
        gone = await _erased_since(tx, prepared)
        # Sorted: members that hold some of the same events wait for one another instead of locking crosswise.
        signed = sorted(
            (one for one in prepared.signed if one.intent.credential_id not in gone),
            key=lambda one: one.intent.credential_id,
        )
        if signed:
            await store_issuance.require_usable_keys(tx, {key for one in signed for key in one.intent.key_ids})
        new = await store_issuance.finish(  # 6
            tx, [(one.intent, one.passed, one.valid_until, one.body) for one in signed]
        )
        reach("issuance.finishing")
        await outbox.append(
            tx,
            [outbox.Outgoing(_issued(one), one.traceparent) for one in signed if one.intent.credential_id in new],
        )
        settled = {one.intent.credential_id for one in signed} | prepared.settled_before | prepared.unfit | gone
        if settled:
            await store_issuance.forget_intents(tx, settled)
            await store_parked.unpark(tx, settled)
        waiting = [one for one in prepared.waiting if _credential_of(one[0]) not in gone]
        await store_parked.park(tx, waiting, self._clock())
        refused = [one for one in prepared.refused if one.message.key.decode(errors="replace") not in gone]
        await bury(tx, GROUP, refused)
        telemetry.count("laurel_credentials_issued_total", len(new))
        if refused:
            telemetry.count("laurel_dead_letters_total", len(refused), group=GROUP)


async def _erased_since(tx: Transaction, prepared: Prepared) -> set[str]:
    """Credentials of this batch whose learner was erased after they were reserved or parked."""
    tenants = {one.intent.credential_id: one.intent.tenant_id for one in prepared.signed}
    tenants |= {_credential_of(one): one.event.tenant_id for one, _ in prepared.waiting}
    letters = (one for one in prepared.refused if one.event_type == AssessmentPassed.type)
    tenants |= {one.message.key.decode(errors="replace"): one.tenant_id for one in letters}
    return {name for name, tenant_id in await buried(tx, tenants) if tenants[name] == tenant_id}


def _wanted(events: Sequence[Delivered], prepared: Prepared) -> dict[str, tuple[Delivered, AssessmentPassed]]:
    """The passes by credential id, each once; what has no usable id is refused. Erasures go before their passes."""
    wanted: dict[str, tuple[Delivered, AssessmentPassed]] = {}
    for delivered in events:
        event = delivered.event
        if not isinstance(event, AssessmentPassed | LearnerErased):
            prepared.refused.append(
                DeadLetter.of(delivered, "wrong_type", "laurel.assessment carries passed assessments and erasures")
            )
        elif not _is_uuid(event.credential_id):
            prepared.refused.append(
                DeadLetter.of(delivered, "bad_credential_id", "credential_id is not a UUID in lower case")
            )
        elif isinstance(event, LearnerErased):
            prepared.erased.append(event)
        else:
            wanted.setdefault(event.credential_id, (delivered, event))
    erased = {(one.tenant_id, one.credential_id) for one in prepared.erased}
    return {name: one for name, one in wanted.items() if (one[1].tenant_id, name) not in erased}


def _credential_of(delivered: Delivered) -> str:
    event = delivered.event
    assert isinstance(event, AssessmentPassed)
    return event.credential_id


_is_uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def _issued(one: Signed) -> CredentialIssued:
    intent, passed = one.intent, one.passed
    return CredentialIssued(
        tenant_id=intent.tenant_id,
        credential_id=intent.credential_id,
        result_id=passed.result_id,
        achievement_id=intent.achievement_id,
        achievement_name=one.achievement_name,
        profile_id=intent.profile_id,
        issuer=one.issuer,
        course_run=intent.course_run,
        contact=passed.contact,
        locale=passed.locale,
        issued_at=intent.created,
        valid_from=intent.created,
        valid_until=one.valid_until,
        document=msgspec.Raw(one.body),
    )


class _Materials:
    """What the intents of a batch refer to, ready to be handed to the signing processes.

    Raises NotNow when a key was compromised since it was reserved: it is reserved anew.
    """

    def __init__(self, achievements: Rows, issuers: Rows, keys: Rows, lists: Rows) -> None:
        self._achievements = {(row["achievement_id"], row["version"]): row for row in achievements}
        self._names = {key: msgspec.json.decode(row["definition"]) for key, row in self._achievements.items()}
        self._types = {(row["profile_id"], row["version"]): row["credential_type"] for row in issuers}
        self._issuers = {
            (row["profile_id"], row["version"]): msgspec.json.decode(row["issuer"], type=IssuerProfile)
            for row in issuers
        }
        if lost := [row["key_id"] for row in keys if row["state"] == "compromised"]:
            raise NotNow(f"signing keys {', '.join(lost)} were compromised after they were reserved")
        self._keys = {
            row["key_id"]: SealedKey(
                row["key_id"], row["verification_method"], row["public_key_multibase"], row["sealed_seed"],
                row["key_type"], row["ended_at"],
            )
            for row in keys
        }  # fmt: skip
        self._lists = {str(row["list_id"]): row for row in lists}

    def unpublished_lists(self) -> list[UUID]:
        """Lists that have no version yet."""
        return [row["list_id"] for row in self._lists.values() if row["version"] == 0]

    def achievement(self, intent: Intent) -> tuple[dict[str, Any], int | None]:
        """The definition and the validity that the intent pins."""
        key = intent.achievement_id, intent.achievement_version
        return self._names[key], self._achievements[key]["validity_days"]

    def issuer(self, intent: Intent) -> IssuerProfile:
        """The issuer as the intent pins it."""
        return self._issuers[intent.profile_id, intent.profile_version]

    def work(self, intents: Sequence[Intent]) -> list[tuple[Group, list[Item]]]:
        """The intents, grouped by what they share. Raises Inconsistent when something they refer to is gone."""
        groups: dict[tuple[object, ...], tuple[Group, list[Item]]] = {}
        for intent in intents:
            common = (
                intent.achievement_id, intent.achievement_version, intent.profile_id, intent.profile_version,
                intent.securing, intent.key_ids,
            )  # fmt: skip
            try:
                group = groups.get(common)
                if group is None:
                    group = groups[common] = (self._shared(intent), [])
                group[1].append(self._item(intent))
            except KeyError as error:
                raise Inconsistent(
                    f"the intent of {intent.credential_id} refers to {error}, which is not stored"
                ) from error
        return list(groups.values())

    def _shared(self, intent: Intent) -> Group:
        achievement = self._achievements[intent.achievement_id, intent.achievement_version]
        profile = intent.profile_id, intent.profile_version
        return Group(
            achievement["definition"],
            achievement["validity_days"],
            self._issuers[profile],
            intent.securing,
            tuple(self._keys[one] for one in intent.key_ids),
            achievement["credential_type"] or self._types[profile],
        )

    def _item(self, intent: Intent) -> Item:
        places = [
            StatusPlace(self._lists[list_id]["url"], index, purpose)
            for purpose, (list_id, index) in intent.places.items()
        ]
        if intent.message is not None:
            row = self._achievements[intent.achievement_id, intent.achievement_version]
            messages = tuple(row["status_messages"])
            places[-1] = replace(places[-1], messages=messages, reference=row["status_reference"])
        return Item(intent.credential_id, intent.document_url, intent.created, intent.passed, tuple(places))


async def _save_achievements(tx: Transaction, events: Sequence[Delivered]) -> None:
    for delivered in events:
        match delivered.event:
            case AchievementPublished() as published:
                if published.securing is not None and (wrong := securing.problem(published.securing)):
                    raise Reject(delivered, "bad_securing", wrong)
                await store.keep_achievement(tx, published)
            case AchievementRetired() as retired:
                await store.retire_achievement(tx, retired)


def achievements_handler() -> Saving:
    """The handler of laurel.achievement."""
    return Saving(_save_achievements)
