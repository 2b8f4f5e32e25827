"""What a fault run is loaded with: seeded results of several courses and tenants, whose outcomes it knows.

Also revocations, suspensions, erasures (erasures.py), editions of achievements and profiles and API keys all the while,
and probes: single passes that are followed to the public page and to the partner's endpoint, by which recovery is
measured.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
import asyncpg

from laurel.database import UNAVAILABLE
from laurel.paths import service_for
from tests.e2e.cluster import OPERATOR
from tests.faults.changes import Asked
from tests.faults.erasures import Erased, Erasing, spared
from tests.faults.rig import Rig

ISSUED, REVOKED, SUSPENDED, REINSTATED = (
    "credential.issued", "credential.revoked", "credential.suspended", "credential.reinstated",
)  # fmt: skip
ALL = (ISSUED, REVOKED, SUSPENDED, REINSTATED)
AHEAD = 2500  # passes that may be on their way before the next import is sent
UPLOADS = 4
RESEND_ONE_IN = 12
EDITION_EVERY_S = 2.0
UNREACHABLE = (aiohttp.ClientError, *UNAVAILABLE, asyncpg.PostgresError)


class Endpoint(NamedTuple):
    """A partner's endpoint: `name` is in its URL and in the partners' book."""

    name: str
    endpoint_id: str
    tenant_id: str
    event_types: tuple[str, ...]


@dataclass(frozen=True)
class Course:
    tenant: str
    achievement_id: str
    run: str
    mail_one_in: int  # so many passes have one with an e-mail address; 0: none
    profile_id: str = ""


@dataclass(frozen=True)
class Import:
    """An accepted upload: its rows are `rows(seed, number, …)`; resent: they were settled before, in another one."""

    import_id: str
    tenant_id: str
    number: int
    resent: bool


class Single(NamedTuple):
    """A single result, as a client would name it; sent again, it is the same."""

    tenant_id: str
    achievement_id: str
    learner: str
    attempt: int = 1


class Answered(NamedTuple):
    """What we were told of a single result."""

    result_id: str
    sent: Single
    outcome: str
    credential_id: str


@dataclass
class Known:
    """What the run knows by itself: what it was answered, and what it asked for."""

    seed: int
    rows: int
    courses: list[Course] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    tenants: dict[str, str] = field(default_factory=dict)
    endpoints: list[Endpoint] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    sent: collections.Counter[Single] = field(default_factory=collections.Counter)
    """How often each single result was sent in: under so many idempotency keys, answered or not."""
    singles: list[Answered] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    """Changes of status, in the order in which they were asked for: each when the one before it was answered."""
    versions: dict[str, int] = field(default_factory=dict)
    """Achievement or profile → the last version that we were told of."""
    ended_keys: set[str] = field(default_factory=set)
    """Ids of API keys that were made and revoked."""
    erased: dict[str, Erased] = field(default_factory=dict)
    """learner → the erasure"""

    def course_of(self, number: int) -> Course:
        return self.courses[number % len(self.courses)]

    def expected(self, accepted: Import) -> list[str]:
        """The outcome of each line."""
        outcomes = [
            outcome for _, outcome in rows(self.seed, accepted.number, self.rows, self.course_of(accepted.number))
        ]
        if not accepted.resent:
            return outcomes
        return ["rejected" if outcome == "rejected" else "duplicate" for outcome in outcomes]

    def learner_of_each(self, accepted: Import) -> list[str]:
        """The learner of each line."""
        lines = rows(self.seed, accepted.number, self.rows, self.course_of(accepted.number))
        return [json.loads(line)["learner"] for line, _ in lines]

    def learners(self, accepted: Import) -> list[str]:
        """All its learners, those more often who have passed."""
        lines = rows(self.seed, accepted.number, self.rows, self.course_of(accepted.number))
        return [json.loads(line)["learner"] for line, outcome in lines if outcome in ("passed", "duplicate")] + [
            *dict.fromkeys(self.learner_of_each(accepted))
        ]

    def mailed(self, accepted: Import) -> list[str]:
        """The learners whose pass has an e-mail address."""
        lines = rows(self.seed, accepted.number, self.rows, self.course_of(accepted.number))
        return [json.loads(line)["learner"] for line, outcome in lines if outcome == "passed" and b'"email"' in line]


def rows(seed: int, number: int, count: int, course: Course) -> Iterator[tuple[bytes, str]]:
    """The lines of import `number` and the outcome of each: about a third passes."""
    rng = random.Random(f"{seed}:{number}")
    passed: list[str] = []
    failed: list[str] = []
    sent: list[bytes] = []
    for line in range(count):
        draw = rng.random()
        learner = f"i{number}-{line}"
        if draw < 0.06 and sent:
            yield rng.choice(sent), "duplicate"
            continue
        if draw < 0.09:
            row = {"learner": learner, "email": "not-an-address", "score": 90}
            yield _line(row), "rejected"
            continue
        if draw < 0.12 and failed:
            # A second attempt, passed; the learner then has the achievement.
            learner = failed.pop(rng.randrange(len(failed)))
            row = {"learner": learner, "did": f"did:example:{learner}", "score": 70, "attempt": 2}
            yield _line(row), "passed"
            continue
        if draw < 0.14 and passed:
            row = {"learner": rng.choice(passed), "score": 95, "attempt": 3}
            yield _line({**row, "did": f"did:example:{row['learner']}"}), "duplicate"
            continue
        if draw < 0.15 and passed:
            row = {"learner": rng.choice(passed), "score": 61}  # the same attempt with another score
            yield _line({**row, "did": f"did:example:{row['learner']}"}), "rejected"
            continue
        score = rng.choice((80, 90, 100)) if rng.random() < 0.34 else rng.randrange(10, 60)
        row = {"learner": learner, "score": score, "name": f"Learner {line}"}
        if score >= 60 and course.mail_one_in and rng.randrange(course.mail_one_in) == 0:
            row["email"] = f"{learner}@example.org"
        else:
            row["did"] = f"did:example:{learner}"
        text = _line(row)
        sent.append(text)
        if score >= 60:
            if "did" in row:
                passed.append(learner)
            yield text, "passed"
        else:
            failed.append(learner)
            yield text, "not_passed"


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"


def _achievement(profile_id: str, name: str) -> dict[str, Any]:
    return {
        "profile_id": profile_id, "name": name, "description": "Knows it.",
        "criteria": {"narrative": "60 points or more."}, "policy": {"minimum_score": 60, "max_attempts": 3},
        "status_purposes": ["revocation", "suspension"],
    }  # fmt: skip


class Load:
    """Everything that is asked of the installation."""

    def __init__(self, rig: Rig, known: Known) -> None:
        self._rig = rig
        self.known = known
        self._stop = asyncio.Event()
        self._next = 0
        self._done: list[Import] = []
        self._open: dict[str, Import] = {}
        self.results = 0
        self.pace_per_s = 0.0  # results a second; 0: as many as go
        self.retried: collections.Counter[str] = collections.Counter()
        """Why something had to be asked again: statuses, and names of errors."""

    # -- asking ----------------------------------------------------------------------------------------------

    async def ask(
        self, method: str, path: str, key: str, *, body: Any = None, content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        """Once. Raises one of UNREACHABLE."""
        service = service_for(path.partition("?")[0])
        assert service is not None, path
        url = f"http://127.0.0.1:{self._rig.cluster.ports[service]}{path}"
        sent = {"Authorization": f"Bearer {key}", "Accept": "application/json", **(headers or {})}
        data = json.dumps(body).encode() if body is not None else content
        if body is not None:
            sent["Content-Type"] = "application/json"
        async with self._rig.http.request(method, url, data=data, headers=sent) as answer:
            text = await answer.read()
            return answer.status, json.loads(text) if text else None

    async def insist(
        self, method: str, path: str, key: str, expected: tuple[int, ...], asked: Asked | None = None, **options: Any
    ) -> Any:
        """Until it is answered as expected. A refusal that is no "not now" is our mistake and is raised.

        asked: where the tries are counted.
        """
        while True:
            if asked is not None:
                asked.tries += 1
            try:
                status, answer = await self.ask(method, path, key, **options)
            except UNREACHABLE as error:
                self.retried[type(error).__name__] += 1
                await asyncio.sleep(0.2)
                continue
            except ValueError:
                raise AssertionError(f"{method} {path}: no JSON was answered") from None
            if status in expected:
                return answer
            if status in (401, 408, 409, 429) or status >= 500:
                self.retried[str(status)] += 1
                await asyncio.sleep(0.3)
                continue
            raise AssertionError(f"{method} {path}: {status} {answer}")

    # -- the stage -------------------------------------------------------------------------------------------

    async def organise(self) -> None:
        """Tenants, profiles, achievements, endpoints. No faults yet."""
        await self._tenant("north", courses=4, mail=0, endpoints=[ALL, (REVOKED, SUSPENDED, REINSTATED)])
        await self._tenant("south", courses=2, mail=6, endpoints=[(ISSUED, REVOKED)])
        await self._tenant("east", courses=1, mail=0, endpoints=[(ISSUED,), ALL])
        await self._tenant("probe", courses=1, mail=0, endpoints=[(ISSUED,)])
        self._probe_course = self.known.courses.pop()
        random.Random(self.known.seed).shuffle(self.known.courses)

    async def _tenant(self, slug: str, *, courses: int, mail: int, endpoints: list[tuple[str, ...]]) -> None:
        made = await self.insist(
            "POST", "/issuer/v1/organisations", OPERATOR, (201,), body={"slug": slug, "name": slug.title()}
        )
        key, tenant_id = made["api_key"]["text"], made["tenant_id"]
        self.known.keys[slug], self.known.tenants[slug] = key, tenant_id
        profile = await self.insist(
            "POST", "/issuer/v1/profiles", key, (201,),
            body={"slug": slug, "name": slug.title(), "url": f"https://{slug}.example.org"},
        )  # fmt: skip
        await self.insist("POST", f"/issuer/v1/profiles/{profile['profile_id']}/keys", key, (201,))
        for number in range(courses):
            body = _achievement(profile["profile_id"], f"Course {number} of {slug}")
            achievement = await self.insist("POST", "/assessment/v1/achievements", key, (201,), body=body)
            course = Course(slug, achievement["achievement_id"], f"{slug}-{number}", mail, profile["profile_id"])
            self.known.courses.append(course)
        for number, types in enumerate(endpoints):
            name = f"{slug}-{number}"
            url = f"http://127.0.0.1:{self._rig.links['partner'].port}/hook/{name}"
            endpoint = await self.insist(
                "POST", "/notifier/v1/endpoints", key, (201,), body={"url": url, "event_types": list(types)}
            )
            await self._rig.partner("PUT", f"/secret/{name}", endpoint["secret"])
            self.known.endpoints.append(Endpoint(name, endpoint["endpoint_id"], tenant_id, types))

    # -- results in bulk -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send imports, change statuses, publish editions until `stop`; then end what has begun."""
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(UPLOADS):
                group.create_task(self._imports())
            group.create_task(self._statuses())
            group.create_task(Erasing(self).run(self._stop))
            group.create_task(self._editions())

    def stop(self) -> None:
        self._stop.set()

    async def _imports(self) -> None:
        while not self._stop.is_set():
            if self.pace_per_s and self.results > self.pace_per_s * (time.monotonic() - self._started):
                await asyncio.sleep(0.2)
                continue
            await self._import()

    async def _import(self) -> None:
        number, self._next = self._next, self._next + 1
        resent = number % RESEND_ONE_IN == RESEND_ONE_IN - 1 and bool(self._done)
        source = random.Random(f"{self.known.seed}:{number}:again").choice(self._done).number if resent else number
        course = self.known.course_of(source)
        key = self.known.keys[course.tenant]
        content = b"".join(line for line, _ in rows(self.known.seed, source, self.known.rows, course))
        self.results += self.known.rows
        answer = await self.insist(
            "POST", f"/assessment/v1/results/imports?achievement={course.achievement_id}&course_run={course.run}", key,
            (202,), content=content,
            headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": f"import-{number}"},
        )  # fmt: skip
        accepted = Import(answer["import_id"], self.known.tenants[course.tenant], source, resent)
        self.known.imports.append(accepted)
        while not self._stop.is_set() and not await self.settled(accepted):
            await asyncio.sleep(0.3)
        if not resent and not spared(number):
            self._done.append(accepted)
        while not self._stop.is_set() and await self._behind() > AHEAD:
            await asyncio.sleep(0.5)

    async def settled(self, accepted: Import) -> bool:
        """Whether all its rows are surely decided."""
        try:
            found = await self._rig.fetch(
                "SELECT status FROM assessment.imports WHERE import_id = $1", accepted.import_id
            )
        except UNREACHABLE:
            return False
        return bool(found) and found[0]["status"] == "done"

    async def _behind(self) -> int:
        """Passes whose credential no partner has yet."""
        try:
            owed = await self._rig.fetch(
                "SELECT (SELECT coalesce(sum(passed), 0)::bigint FROM assessment.imports) - (SELECT count(*) "
                "FROM notifier.erased_credentials e WHERE NOT EXISTS (SELECT FROM notifier.messages m "
                "JOIN notifier.deliveries d USING (message_no) WHERE m.message_id = 'msg_' || e.credential_id || "
                "'_issued' AND d.state = 'delivered')) AS n"
            )
            _, stats = await self._rig.partner("GET", "/stats")
        except UNREACHABLE:
            return AHEAD + 1
        return int(owed[0]["n"]) - int(json.loads(stats)["issued"])

    async def single(self, slug: str, achievement_id: str, learner: str, key: str, **who: str) -> str:
        """A single pass, under an idempotency key; its credential's id."""
        sent = Single(self.known.tenants[slug], achievement_id, learner)
        self.known.sent[sent] += 1
        body = {"achievement": achievement_id, "learner": learner, "score": 99, **who}
        result = await self.insist(
            "POST", "/assessment/v1/results", self.known.keys[slug], (200, 201), body=body,
            headers={"Idempotency-Key": key},
        )  # fmt: skip
        self.known.singles.append(Answered(result["result_id"], sent, result["outcome"], result["credential_id"]))
        return str(result["credential_id"])

    # -- statuses --------------------------------------------------------------------------------------------

    async def _statuses(self) -> None:
        rng = random.Random(f"{self.known.seed}:statuses")
        tenants = {tenant_id: self.known.keys[slug] for slug, tenant_id in self.known.tenants.items()}
        while not self._stop.is_set():
            await asyncio.sleep(0.3)
            tenant_id = rng.choice(sorted(tenants))
            try:
                picked = await self._rig.fetch(
                    "SELECT credential_id::text FROM issuer.credentials WHERE tenant_id = $2 AND seq > "
                    "(SELECT coalesce(max(seq), 0) FROM issuer.credentials WHERE tenant_id = $2) * $1::float8 "
                    "ORDER BY seq LIMIT $3",
                    rng.random(), tenant_id, rng.choice((1, 1, 4)),
                )  # fmt: skip
            except UNREACHABLE:
                continue
            action = rng.choices(("suspend", "reinstate", "revoke"), (5, 4, 2))[0]
            if picked:
                await self._change(tenants[tenant_id], action, [row["credential_id"] for row in picked])

    async def _change(self, key: str, action: str, ids: list[str]) -> None:
        asked = Asked(action, tuple(ids))
        self.known.asked.append(asked)
        body: dict[str, Any] = {"reason": "one" if len(ids) == 1 else "many"}
        path, expected = f"/issuer/v1/credentials/{ids[0]}/{action}", (200, 409)  # 409: it is revoked
        if len(ids) > 1:
            body |= {"action": action, "where": {"credential_ids": ids}}
            path, expected = "/issuer/v1/credentials/status", (200,)
        asked.answer = await self.insist("POST", path, key, expected, asked, body=body)

    # -- editions --------------------------------------------------------------------------------------------

    async def _editions(self) -> None:
        """Now a new version of an achievement, now one of a profile, now an API key that is made and revoked."""
        rng = random.Random(f"{self.known.seed}:editions")
        number = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EDITION_EVERY_S):
                    await self._stop.wait()
                    return
            number += 1
            course = rng.choice(self.known.courses)
            key, name = self.known.keys[course.tenant], f"Edition {number} of {course.tenant}"
            if number % 3 == 0:
                body: dict[str, Any] = {"label": name, "scopes": ["reports:read"]}
                key_id = (await self.insist("POST", "/issuer/v1/api-keys", key, (201,), body=body))["key_id"]
                await self.insist("DELETE", f"/issuer/v1/api-keys/{key_id}", key, (204,))
                self.known.ended_keys.add(key_id)
                continue
            if number % 3 == 1:
                identity, path = course.achievement_id, f"/assessment/v1/achievements/{course.achievement_id}"
                body = _achievement(course.profile_id, name)
            else:
                identity, path = course.profile_id, f"/issuer/v1/profiles/{course.profile_id}"
                body = {"name": name, "url": f"https://{course.tenant}.example.org"}
            self.known.versions[identity] = (await self.insist("PUT", path, key, (200,), body=body))["version"]

    # -- probes ----------------------------------------------------------------------------------------------

    async def probe(self, limit_s: float) -> dict[str, float]:
        """Seconds from now until a new pass is `accepted`, can be read in `public`, and is `delivered` to the partner.

        What did not happen within limit_s is not there.
        """
        times: dict[str, float] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._probe(times, time.monotonic())
        return times

    async def _probe(self, times: dict[str, float], began: float) -> None:
        course = self._probe_course
        key = self.known.keys["probe"]
        learner = f"probe-{uuid.uuid4().hex}"
        credential_id = await self.single(
            "probe", course.achievement_id, learner, learner, did=f"did:example:{learner}"
        )
        times["accepted"] = time.monotonic() - began
        while len(times) < 3:
            await asyncio.sleep(0.1)
            with contextlib.suppress(*UNREACHABLE):
                if "public" not in times:
                    status, document = await self.ask("GET", f"/c/{credential_id}", key)
                    if status == 200 and document["id"].endswith(credential_id):
                        times["public"] = time.monotonic() - began
            with contextlib.suppress(*UNREACHABLE):
                if "delivered" not in times:
                    status, _ = await self._rig.partner("GET", f"/seen/msg_{credential_id}_issued")
                    if status == 200:
                        times["delivered"] = time.monotonic() - began
