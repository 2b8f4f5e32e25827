"""One organisation and its learners in the midst of deaths: what is asked for, and what must have come of it.

Wave after wave: an import with passes, a failure, a duplicate and a row that is refused; single results; a revocation
and a suspension; a learner who is erased; a new version of the achievement and of the profile; API keys and access
tokens (access.py); results that must wait for the key of their issuer; records on the bus that are to be refused; on
demand, letters that are redriven (letters.py). Whatever is not answered is sent again, as clients do.
"""

from __future__ import annotations

import asyncio
import collections
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from laurel import envelope
from laurel.bus import Record
from laurel.credential import status
from laurel.events import CredentialIssued
from laurel.migrate import SERVICES
from laurel.topics import route
from tests.e2e.cluster import OPERATOR
from tests.faults import access, letters
from tests.faults.mortal import Mortals

SETTLE_S = 90.0
_EVENTS = ["credential.issued", "credential.revoked", "credential.suspended"]


@dataclass
class Cohort:
    """Everything of one trial."""

    laurel: Mortals
    number: int
    bulk: bool = False  # imports are spooled in more than one chunk
    busy: bool = False  # the partner refuses the first try of each message; the time until the next one passes at once
    letters: bool = False  # passes that die at each of three consumers, and are redriven
    waves: int = 0
    key: str = ""
    tenant_id: str = ""
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    mailed: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    suspended: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    redriven: collections.defaultdict[str, set[str]] = field(default_factory=lambda: collections.defaultdict(set))
    ended_keys: set[str] = field(default_factory=set)
    poison: int = 0
    imports: list[str] = field(default_factory=list)
    _profile: dict[str, Any] = field(default_factory=dict)
    _achievement: dict[str, Any] = field(default_factory=dict)

    # -- what is asked for -------------------------------------------------------------------------------------------

    async def call(self, method: str, path: str, *expected: int, **options: Any) -> Any:
        answer = await self.laurel.insist(method, path, key=options.pop("key", self.key), **options)
        assert answer.status_code in expected, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        return answer.json() if answer.content else None

    async def found(self) -> None:
        """The organisation, before anything dies."""
        name = f"school-{self.number}"
        made = await self.call(
            "POST", "/issuer/v1/organisations", 201, key=OPERATOR, json={"slug": name, "name": f"School {self.number}"}
        )
        self.key, self.tenant_id = made["api_key"]["text"], made["tenant_id"]
        self._profile = await self._new_profile(name)
        await self.call("POST", f"/issuer/v1/profiles/{self._profile['profile_id']}/keys", 201)
        # 401: the service has not heard of the key yet.
        self._achievement = await self._new_achievement(self._profile, status_purposes=["revocation", "suspension"])
        endpoint = await self.call(
            "POST", "/notifier/v1/endpoints", 201, again=(401,),
            json={"url": f"{self.laurel.partners.url}/{name}", "event_types": _EVENTS},
        )  # fmt: skip
        self.laurel.partners.secrets[name] = endpoint["secret"]
        if self.busy:
            self.laurel.partners.busy.add(name)
        await self.call("GET", "/verifier/v1/reports/reconcile", 200, again=(401,))

    async def _new_profile(self, slug: str) -> Any:
        body = {"slug": slug, "name": f"Faculty {slug}", "url": "https://university.example.org"}
        return await self.call("POST", "/issuer/v1/profiles", 201, json=body)

    async def _new_achievement(self, profile: dict[str, Any], **more: Any) -> Any:
        body = {
            "profile_id": profile["profile_id"], "name": "Data literacy", "description": "Questions data.",
            "criteria": {"narrative": "60 points or more."}, "policy": {"minimum_score": 60, "max_attempts": 3}, **more,
        }  # fmt: skip
        return await self.call("POST", "/assessment/v1/achievements", 201, again=(401, 422), json=body)

    async def wave(self) -> None:
        """Ask for some of everything."""
        self.waves += 1
        name = f"{self.number}-{self.waves}"
        async with asyncio.TaskGroup() as group:
            group.create_task(self._import(name))
            group.create_task(self._singles(name))
            group.create_task(self._late(name))
            group.create_task(self._erase(name))
            group.create_task(self._run_the_place(name))
            group.create_task(access.use_keys(self, name))
            group.create_task(self._poison())
            for dying in letters.TABLES if self.letters else ():
                group.create_task(letters.die_and_redrive(self, dying, name))

    def _email(self, learner: str) -> str:
        self.mailed.add(f"{learner}@example.org")
        return f"{learner}@example.org"

    async def _import(self, name: str) -> None:
        learners = [f"i{name}-{n}" for n in range(6)]
        rows = [f'{{"learner":"{one}","email":"{self._email(one)}","score":{80}}}' for one in learners]
        rows.append(rows[0])
        rows.append(f'{{"learner":"f{name}","email":"f{name}@example.org","score":10}}')
        rows.append(f'{{"learner":"r{name}","email":"no-address","score":90}}')
        refused = 1
        if self.bulk:
            rows += ["{}"] * 1000  # one chunk's worth
            refused += 1000
        self.outcomes.update(passed=6, duplicate=1, not_passed=1, rejected=refused)
        path = f"/assessment/v1/results/imports?achievement={self._achievement['achievement_id']}&course_run=run"
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"import-{name}"}
        while True:
            answer = await self.laurel.insist(
                "POST", path, key=self.key, content="\n".join(rows).encode(), headers=headers
            )
            if answer.status_code != 409:
                break
            # Its first try broke off. It is over when nothing was heard of it for long; nobody wants to wait so long.
            await self.laurel.rows(
                "UPDATE assessment.imports SET heard_at = now() - interval '1 hour' "
                "WHERE tenant_id = $1 AND status = 'receiving'",
                self.tenant_id,
            )  # fmt: skip
            await asyncio.sleep(0.5)
        assert answer.status_code == 202, answer.text
        self.imports.append(answer.json()["import_id"])

    async def _singles(self, name: str) -> None:
        """Three single results; two of the credentials change their status when they are issued."""
        issued = []
        for n in range(3):
            learner = f"s{name}-{n}"
            who = {"did": f"did:example:{learner}"} if n == 2 else {"email": self._email(learner)}
            self.outcomes["passed"] += 1
            issued.append(await self.result(learner, score=90, **who))
        for credential_id, verb, changed in (
            (issued[0], "revoke", self.revoked),
            (issued[1], "suspend", self.suspended),
        ):
            changed.add(credential_id)
            await self.call(
                "POST", f"/issuer/v1/credentials/{credential_id}/{verb}", 200, again=(404,), json={"reason": "a test"}
            )

    async def result(self, learner: str, achievement: dict[str, Any] | None = None, /, **more: Any) -> str:
        """A single result; the id of the credential that it leads to."""
        name = (achievement or self._achievement)["achievement_id"]
        body = {"achievement": name, "learner": learner, "course_run": "run", **more}
        answer = await self.call(
            "POST", "/assessment/v1/results", 201, again=(409,), json=body, headers={"Idempotency-Key": learner}
        )
        return str(answer["credential_id"])

    async def _late(self, name: str) -> None:
        """A result whose issuer has no key yet: it is parked, and the first key makes another kind needed, too."""
        profile = None
        for letter in "abcdefgh":  # a slug whose profile was made before the answer was lost is taken
            answer = await self.laurel.insist(
                "POST", "/issuer/v1/profiles", key=self.key,
                json={"slug": f"late-{name}-{letter}", "name": "Late", "url": "https://late.example.org"},
            )  # fmt: skip
            if answer.status_code == 201:
                profile = answer.json()
                break
        assert profile is not None
        achievement = await self._new_achievement(profile, securing=["eddsa-rdfc-2022", "ecdsa-rdfc-2019"])
        learner = f"l{name}"
        self.outcomes["passed"] += 1
        owed = await self.result(learner, achievement, score=70, email=self._email(learner))

        async def parked() -> bool:
            return bool(await self.laurel.rows("SELECT 1 FROM issuer.parked WHERE credential_id = $1", uuid.UUID(owed)))

        await self.until("parked", parked)
        await self.call("POST", f"/issuer/v1/profiles/{profile['profile_id']}/keys", 201)

    async def _erase(self, name: str) -> None:
        """A learner is erased at once: the credential is issued by then, or on its way, or not begun."""
        learner = f"e{name}"
        self.outcomes["passed"] += 1
        self.erased.add(await self.result(learner, score=75, did=f"did:example:{learner}"))
        await self.call("POST", "/assessment/v1/learners/erase", 202, json={"learner": learner})

    async def _run_the_place(self, name: str) -> None:
        """Facts that every service keeps a replica of."""
        achievement, profile = self._achievement["achievement_id"], self._profile["profile_id"]
        edition = {
            "profile_id": profile, "name": f"Data literacy {name}", "description": "Questions data.",
            "criteria": {"narrative": "60 points."}, "policy": {"minimum_score": 60, "max_attempts": 3},
            "status_purposes": ["revocation", "suspension"],
        }  # fmt: skip
        await self.call("PUT", f"/assessment/v1/achievements/{achievement}", 200, json=edition)
        changed = {"name": f"Faculty {name}", "url": "https://university.example.org"}
        await self.call("PUT", f"/issuer/v1/profiles/{profile}", 200, json=changed)

    async def _poison(self) -> None:
        """An event whose document and contact are nobody's, and bytes that are no event."""
        event = CredentialIssued(
            tenant_id=self.tenant_id, credential_id=str(uuid.uuid4()), result_id="r", achievement_id="a",
            achievement_name="A", profile_id="p", issuer="did:example:nobody", contact="not sealed",
            issued_at=datetime.now(UTC), valid_from=datetime.now(UTC), document=msgspec.Raw(b'{"id":"x","issuer":"y"}'),
        )  # fmt: skip
        topic, key = route(event)
        headers = envelope.headers(
            event_id=str(uuid.uuid4()), event_type=event.type, source="/laurel/test", time=datetime.now(UTC),
            traceparent=None,
        )  # fmt: skip
        await self.laurel.put_on_bus(Record(topic, key, envelope.encode_data(event), headers))
        self.poison += 1
        await self.laurel.put_on_bus(Record("laurel.assessment", uuid.uuid4().bytes, b"{", ()))
        self.laurel.buried_nameless += 1

    # -- until nothing moves -----------------------------------------------------------------------------------------

    async def until(self, what: str, reached: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is so. Raises AssertionError after SETTLE_S, with the services' last words."""
        deadline = time.monotonic() + SETTLE_S
        while not await reached():
            assert time.monotonic() < deadline, f"never reached: {what}\n" + "\n".join(
                f"--- {service}\n{self.laurel.tail(service)}" for service in SERVICES
            )
            await asyncio.sleep(0.1)

    async def remaining(self) -> dict[str, int]:
        """What is still on its way, by name; empty when nothing is."""
        found = await self._in_databases()
        if not found and (waiting := await self.laurel.lag()):
            found["bus"] = waiting
        # Once more: what came off the bus since the first look had left no trace in a database then.
        return found or await self._in_databases()

    async def _in_databases(self) -> dict[str, int]:
        if self.busy:
            await self.laurel.rows(
                "UPDATE notifier.deliveries SET next_attempt_at = now() "
                "WHERE tenant_id = $1 AND state = 'pending' AND next_attempt_at > now()",
                self.tenant_id,
            )
        (row,) = await self.laurel.rows(REMAINING, self.tenant_id)
        return {name: number for name, number in row.items() if number}

    async def settled(self) -> None:
        """Wait until everything has gone its way."""
        last: dict[str, int] = {}

        async def nothing() -> bool:
            nonlocal last
            last = await self.remaining()
            return not last

        try:
            await self.until("nothing is on its way", nothing)
        except AssertionError as error:
            raise AssertionError(f"still on its way: {last}\n{error}") from None

    # -- what must have come of it -----------------------------------------------------------------------------------

    async def check(self) -> collections.Counter[str]:
        """Every promise, by the databases, the partner and the mail server; the services are not asked. Counts."""
        rows, tenant = self.laurel.rows, self.tenant_id
        found = await rows("SELECT outcome, count(*) FROM assessment.results WHERE tenant_id = $1 GROUP BY 1", tenant)
        assert {row[0]: row[1] for row in found} == dict(self.outcomes), "each result has one outcome"
        done = await rows(
            "SELECT import_id::text FROM assessment.imports WHERE tenant_id = $1 AND status = 'done'", tenant
        )
        assert sorted(row[0] for row in done) == sorted(self.imports), "each import was taken once"

        owed = {
            row[0]
            for row in await rows(
                "SELECT credential_id::text FROM assessment.results WHERE tenant_id = $1 AND outcome = 'passed'", tenant
            )
        } - self.erased
        issued = await rows(
            "SELECT credential_id::text, body, status, status_version, revocation_list, revocation_index, "
            "suspension_list, suspension_index FROM issuer.credentials WHERE tenant_id = $1", tenant,
        )  # fmt: skip
        indexed = await rows(
            "SELECT credential_id, document, status, status_version FROM verifier.credentials WHERE tenant_id = $1",
            tenant,
        )
        await self._check_lists(issued)
        await self._check_erased()
        issued = [row for row in issued if row["credential_id"] not in self.erased]
        assert {row[0] for row in issued} == owed, "each passed result is one credential"
        assert {tuple(row)[:4] for row in issued} == {tuple(row) for row in indexed}, "the index has the same bytes"
        statuses = {row["credential_id"]: row["status"] for row in issued if row["status"] != "active"}
        wanted = dict.fromkeys(self.revoked, "revoked") | dict.fromkeys(self.suspended, "suspended")
        assert statuses == wanted, "each change of status is kept"
        others = [uuid.UUID(one) for one in self.erased]
        changes = await rows(
            "SELECT credential_id FROM issuer.status_changes WHERE tenant_id = $1 AND credential_id <> ALL ($2)",
            tenant, others,
        )  # fmt: skip
        assert len(changes) == len(wanted), "each change of status was made once"

        messages = await rows(
            "SELECT message_id, credential_id, event_type FROM notifier.messages WHERE tenant_id = $1 "
            "AND credential_id <> ALL ($2)", tenant, list(self.erased),
        )  # fmt: skip
        told = {(row[1], row[2]) for row in messages}
        assert told == (
            {(one, "credential.issued") for one in owed}
            | {(one, "credential.revoked") for one in self.revoked}
            | {(one, "credential.suspended") for one in self.suspended}
        )
        assert len(messages) == len(told), "one message an event"
        (delivered,) = await rows(
            "SELECT count(*), count(*) FILTER (WHERE state = 'delivered') "
            "FROM notifier.deliveries d JOIN notifier.messages m USING (message_no) WHERE d.tenant_id = $1 "
            "AND m.credential_id <> ALL ($2)",
            tenant, list(self.erased),
        )  # fmt: skip
        all_of_them = (len(messages), len(messages))
        assert tuple(delivered) == all_of_them, f"one delivery a message, and each has arrived: {tuple(delivered)}"
        received = [
            one
            for one in self.laurel.partners.received[f"school-{self.number}"]
            if one[1]["data"]["credential_id"] not in self.erased
        ]
        assert {message_id for message_id, _ in received} == {row[0] for row in messages}, "the partner got each"
        assert self.laurel.partners.bad_signatures == 0

        uncertain = await self._check_mails()
        await letters.check(self)
        await access.check(self)
        (row,) = await rows("SELECT count(*) FROM issuer.dead_letters WHERE tenant_id = ''")
        assert row[0] == self.laurel.buried_nameless
        return collections.Counter(
            results=sum(self.outcomes.values()), credentials=len(owed), messages=len(messages),
            webhooks_again=len(received) - len(messages), mails=len(self.mailed), mails_uncertain=uncertain,
            redriven=sum(len(one) for one in self.redriven.values()), keys_ended=len(self.ended_keys),
        )  # fmt: skip

    async def _check_lists(self, issued: list[Any]) -> None:
        wanted: dict[str, set[int]] = {}
        for purpose, standing in (("revocation", self.revoked | self.erased), ("suspension", self.suspended)):
            places = [(row[f"{purpose}_list"], row[f"{purpose}_index"]) for row in issued if row[f"{purpose}_list"]]
            assert len(set(places)) == len(places), "no two credentials share a place in a list"
            for row in issued:
                if row[f"{purpose}_list"]:
                    bits = wanted.setdefault(str(row[f"{purpose}_list"]), set())
                    bits |= {row[f"{purpose}_index"]} if row["credential_id"] in standing else set()
        lists = await self.laurel.rows(
            "SELECT list_id::text, body FROM issuer.status_lists WHERE tenant_id = $1 AND version > 0", self.tenant_id
        )
        shown = {}
        for list_id, body in lists:
            shown[list_id] = places_set(body)
        assert {name: bits for name, bits in shown.items() if name in wanted} == wanted, "lists say what rows say"

    async def _check_erased(self) -> None:
        """A tombstone in each service, and nothing of what it stands for."""
        erased, rows = list(self.erased), self.laurel.rows
        for service in ("issuer", "notifier", "verifier"):
            stones = await rows(
                f"SELECT credential_id FROM {service}.erased_credentials WHERE tenant_id = $1", self.tenant_id
            )
            assert {row[0] for row in stones} == self.erased, service
        left = await rows(
            "SELECT credential_id::text FROM issuer.credentials WHERE credential_id::text = ANY ($1) "
            "AND (body <> '' OR status <> 'revoked') "
            "UNION ALL SELECT credential_id FROM verifier.credentials WHERE credential_id = ANY ($1) "
            "UNION ALL SELECT credential_id FROM notifier.messages WHERE credential_id = ANY ($1) "
            "AND event_type <> 'credential.revoked' AND body <> ''", erased,
        )  # fmt: skip
        assert left == [], "something of an erased credential is there"

    async def _check_mails(self) -> int:
        mails = await self.laurel.rows(
            "SELECT credential_id, state FROM notifier.emails WHERE tenant_id = $1", self.tenant_id
        )
        states = collections.Counter(row["state"] for row in mails)
        assert sum(states.values()) == len(self.mailed)
        assert set(states) <= {"sent", "uncertain", "cancelled"}, states
        assert {row["credential_id"] for row in mails if row["state"] == "cancelled"} <= self.revoked
        recipients = self.laurel.mailbox.recipients
        received = {address: recipients[address] for address in self.mailed if recipients[address]}
        assert all(times == 1 for times in received.values()), f"a mail came twice: {received}"
        assert states["sent"] <= len(received) <= states["sent"] + states["uncertain"]
        return states["uncertain"]


def places_set(body: bytes) -> set[int]:
    """The indexes of a published list that are not 0."""
    bits = status.decode_list(msgspec.json.decode(body)["credentialSubject"]["encodedList"])
    telling = (place for place, byte in enumerate(bits) if byte)
    return {n for place in telling for n in range(place * 8, place * 8 + 8) if status.lookup(bits, n)}


# How far the index is with a credential, in the issuer's count: it keeps the version of each kind of change.
INDEXED_VERSION = "greatest(v.status_version, v.refresh_version, v.message_version)"

# What of a tenant ($1) is still on its way, and what of anybody's is still in an outbox.
REMAINING = f"""
SELECT {", ".join(f"(SELECT count(*) FROM {one}.outbox) AS {one}_outbox" for one in SERVICES)},
    {
    ", ".join(
        f"(SELECT count(*) FROM {one}.dead_letters WHERE tenant_id = $1 AND state = 'queued') AS {one}_queued"
        for one in SERVICES
    )
},
    (SELECT count(*) FROM assessment.imports WHERE tenant_id = $1 AND status = 'processing') AS imports,
    (SELECT count(*) FROM assessment.results r WHERE tenant_id = $1 AND outcome = 'passed' AND NOT EXISTS
        (SELECT FROM issuer.credentials c WHERE c.credential_id = r.credential_id) AND NOT EXISTS
        (SELECT FROM issuer.erased_credentials e WHERE e.credential_id = r.credential_id::text)) AS not_issued,
    (SELECT count(*) FROM issuer.credentials c WHERE tenant_id = $1 AND erased_at IS NULL AND NOT EXISTS
        (SELECT FROM verifier.credentials v WHERE v.credential_id = c.credential_id::text
            AND {INDEXED_VERSION} = c.status_version)) AS not_indexed,
    (SELECT count(*) FROM issuer.intents WHERE tenant_id = $1) AS intents,
    (SELECT count(*) FROM issuer.parked WHERE tenant_id = $1) AS parked,
    (SELECT count(*) FROM issuer.status_list_dirt WHERE tenant_id = $1) AS dirty_lists,
    (SELECT count(*) FROM notifier.deliveries WHERE tenant_id = $1 AND state NOT IN ('delivered', 'cancelled'))
        AS undelivered,
    (SELECT count(*) FROM issuer.erased_credentials e WHERE tenant_id = $1 AND (NOT EXISTS
        (SELECT FROM verifier.erased_credentials v WHERE v.credential_id = e.credential_id) OR NOT EXISTS
        (SELECT FROM notifier.erased_credentials n WHERE n.credential_id = e.credential_id))) AS not_erased,
    (SELECT count(*) FROM notifier.emails WHERE tenant_id = $1 AND state IN ('pending', 'sending')) AS unsent
"""
