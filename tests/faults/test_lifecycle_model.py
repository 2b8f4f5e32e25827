"""The life of credentials against a simple model: whatever is done in whatever order, the four services agree with it.

Results come in (also again, also for an achievement that can be earned many times: that is how a credential is issued
anew), credentials are revoked, suspended, reinstated and offered a refresh, keys are rotated, achievements and profiles
change, every event comes again, and all workers die and come back. The services are the real ones, on a real PostgreSQL
and its bus, in one process. Learners are erased, and come back as somebody new.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from laurel.bus import Bus, Record, connect
from laurel.migrate import SERVICES, migrate_all
from laurel.process import ROLES, ensure_topics, load_settings, run_parts
from laurel_local.gateway import Gateway
from laurel_local.up import open_service, settings_class
from tests.conftest import private_postgres
from tests.e2e.cluster import OPERATOR
from tests.faults.cohort import INDEXED_VERSION, REMAINING, places_set
from tests.faults.mortal import GROUPS, Partners

T = TypeVar("T")
EVENTS = ["credential.issued", "credential.revoked", "credential.suspended", "credential.reinstated"]
NEXT = {"revoke": "revoked", "suspend": "suspended", "reinstate": "active"}


class World:
    """Four services in one process, and the loop that they run in; its time passes only while a step runs."""

    def __init__(self, dsn: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.numbers = itertools.count(1)
        self.dsn = dsn
        self._stack = AsyncExitStack()
        self._alive = AsyncExitStack()
        self._parts: list[asyncio.Task[None]] = []
        self._values: dict[str, Any] = {}
        self.bus: Bus
        self.http: httpx.AsyncClient
        self.admin: asyncpg.Connection
        self.partners: Partners

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        async def limited() -> T:
            async with asyncio.timeout(120):
                return await work

        return self.loop.run_until_complete(limited())

    async def open(self) -> None:
        await migrate_all(self.dsn)
        self.bus = connect(self.dsn)
        self._stack.push_async_callback(self.bus.close)
        await ensure_topics(self.bus)
        self.admin = await asyncpg.connect(self.dsn)
        self._stack.push_async_callback(self.admin.close)
        self.partners = await self._stack.enter_async_context(Partners().open())
        self._values = {
            "bus_url": self.dsn, "database_url": self.dsn, "public_url": "https://badges.example.org", "signers": 0,
            "operator_token": OPERATOR, "allow_networks": "127.0.0.0/8", "database_pool": 4,
            **{name: base64.b64encode(os.urandom(32)).decode() for name in ("id_key", "contact_key", "kek")},
        }  # fmt: skip
        await self.start()

    async def start(self) -> None:
        """APIs, relays, consumers and workers of all services, made anew."""
        self._alive = AsyncExitStack()
        apis = {}
        for name in SERVICES:
            made = load_settings(settings_class(name), **self._values)
            service = await self._alive.enter_async_context(open_service(name, made, self.bus))
            apis[name] = service.api
            roles = [one for one in ROLES if one != "api"]
            running = run_parts(service, self.bus, made, roles=roles, stop=asyncio.Event())
            self._parts.append(self.loop.create_task(running))
        transport = httpx.ASGITransport(app=Gateway(apis, extra={}))
        client = httpx.AsyncClient(transport=transport, base_url="https://badges.example.org")
        self.http = await self._alive.enter_async_context(client)

    async def kill(self) -> None:
        """End them in the middle of whatever they do: nothing is finished, nothing is committed any more."""
        for part in self._parts:
            part.cancel()
        await asyncio.gather(*self._parts, return_exceptions=True)
        self._parts.clear()
        await self._alive.aclose()

    async def close(self) -> None:
        await self.kill()
        await self._stack.aclose()

    async def settled(self, tenant_id: str) -> None:
        """Wait until nothing of the tenant is on its way."""
        deadline = self.loop.time() + 90
        while True:
            for part in self._parts:
                if part.done():
                    part.result()
            waiting = await self._waiting(tenant_id) or await self._lag() or await self._waiting(tenant_id)
            if not waiting:
                return
            assert self.loop.time() < deadline, f"still on its way: {waiting}"
            await asyncio.sleep(0.02)

    async def _waiting(self, tenant_id: str) -> dict[str, int]:
        row = await self.admin.fetchrow(REMAINING, tenant_id)
        assert row is not None
        return {name: number for name, number in row.items() if number}

    async def _lag(self) -> dict[str, int]:
        lags = {group: sum((await self.bus.lag(group, [topic])).values()) for group, topic in GROUPS.items()}
        return {group: number for group, number in lags.items() if number}


@dataclass
class Owed:
    """A credential, as the model has it. methods: the keys that may have signed it; body: its bytes, once seen."""

    name: str
    methods: set[str]
    status: str = "active"
    refresh: bool = False
    version: int = 0
    told: list[str] = field(default_factory=lambda: ["credential.issued"])
    body: bytes | None = None
    erased: bool = False


class Lifecycle(RuleBasedStateMachine):
    """One organisation."""

    world: World

    @initialize()
    def found(self) -> None:
        self.number = next(self.world.numbers)
        self.owed: dict[str, Owed] = {}
        self.attempts: dict[tuple[bool, int], dict[int, int]] = {}  # (repeatable, learner) → attempt → score
        self.earned: dict[tuple[bool, int], str] = {}
        self.learners: dict[str, int] = {}  # credential → learner
        self.never_issued: set[str] = set()  # their learner was erased while they were on their way
        self.editions = {True: 1, False: 1}
        self.outcomes = {"passed": 0, "not_passed": 0, "duplicate": 0, "rejected": 0}
        self.unsettled = False
        self.world.do(self._found())

    async def _found(self) -> None:
        name = f"model-{self.number}"
        made = await self._call("POST", "/issuer/v1/organisations", 201, {"slug": name, "name": name}, key=OPERATOR)
        self.key, self.tenant_id = made["api_key"]["text"], made["tenant_id"]
        body = {"slug": name, "name": "School", "url": "https://school.example.org"}
        self.profile = (await self._call("POST", "/issuer/v1/profiles", 201, body))["profile_id"]
        await self._rotate()
        self.achievements = {
            repeatable: (await self._call("POST", "/assessment/v1/achievements", 201, self._edition(repeatable)))[
                "achievement_id"
            ]
            for repeatable in (False, True)
        }
        endpoint = await self._call(
            "POST", "/notifier/v1/endpoints", 201, {"url": f"{self.world.partners.url}/{name}", "event_types": EVENTS}
        )
        self.world.partners.secrets[name] = endpoint["secret"]

    async def _call(self, method: str, path: str, expected: int, body: Any = None, *, key: str = "") -> Any:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        while True:
            answer = await self.world.http.request(method, path, json=body, headers=headers)
            if answer.status_code != 401:  # then this service has not heard of the key yet
                break
            await asyncio.sleep(0.02)
        assert answer.status_code == expected, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def _edition(self, repeatable: bool) -> dict[str, Any]:
        return {
            "profile_id": self.profile, "name": f"Edition {self.editions[repeatable]}", "description": "Knows things.",
            "criteria": {"narrative": "60 points."}, "policy": {"minimum_score": 60}, "repeatable": repeatable,
            "status_purposes": ["revocation", "suspension", "refresh"],
        }  # fmt: skip

    async def _rotate(self) -> None:
        made = await self._call("POST", f"/issuer/v1/profiles/{self.profile}/keys", 201)
        self.method = made["verification_method"]

    # -- what may happen -----------------------------------------------------------------------------------------------

    @rule(
        repeatable=st.booleans(), learner=st.integers(0, 2), attempt=st.integers(1, 3), score=st.sampled_from([40, 80])
    )
    def result_comes_in(self, repeatable: bool, learner: int, attempt: int, score: int) -> None:
        """A pass issues; an attempt that is known is a duplicate, or a conflict when it says something else."""
        who = (repeatable, learner)
        before = self.attempts.setdefault(who, {})
        body = {
            "achievement": self.achievements[repeatable], "learner": f"learner-{learner}", "attempt": attempt,
            "did": f"did:example:{learner}", "score": score,
        }  # fmt: skip
        if attempt in before and before[attempt] != score:
            self.world.do(self._call("POST", "/assessment/v1/results", 409, body))
            return
        earned_already = score >= 60 and not repeatable and who in self.earned
        duplicate = attempt in before or earned_already
        answer = self.world.do(self._call("POST", "/assessment/v1/results", 200 if duplicate else 201, body))
        outcome = "duplicate" if duplicate else "passed" if score >= 60 else "not_passed"
        assert answer["outcome"] == outcome
        self.outcomes[outcome] += 1
        if earned_already:
            assert answer["credential_id"] == self.earned[who], "it is told which credential the learner has"
        if duplicate:
            return
        before[attempt] = score
        if outcome == "passed":
            assert answer["credential_id"] not in self.owed
            self.earned.setdefault(who, answer["credential_id"])
            name = f"Edition {self.editions[repeatable]}"
            self.owed[answer["credential_id"]] = Owed(name, {self.method})
            self.learners[answer["credential_id"]] = learner
            self.unsettled = True

    @precondition(lambda self: any(not one.erased for one in self.owed.values()))
    @rule(data=st.data(), verb=st.sampled_from(["revoke", "suspend", "reinstate", "refresh"]))
    def status_changes(self, data: st.DataObject, verb: str) -> None:
        """active ⇄ suspended → revoked, which is final; so is the offer of a refresh."""
        self.everything_is_as_the_model_says()  # what is not issued yet has no status
        self.status_changes_of(
            data.draw(st.sampled_from(sorted(name for name, one in self.owed.items() if not one.erased))), verb
        )

    def status_changes_of(self, credential_id: str, verb: str) -> None:
        one = self.owed[credential_id]
        path = f"/issuer/v1/credentials/{credential_id}/{verb}"
        if verb != "refresh" and one.status == "revoked" and verb != "revoke":
            self.world.do(self._call("POST", path, 409, {"reason": "a test"}))
            return
        answer = self.world.do(self._call("POST", path, 200, {"reason": "a test"}))
        changes = not one.refresh if verb == "refresh" else one.status != NEXT[verb]
        assert answer["changed"] is changes
        if changes:
            one.version += 1
            if verb == "refresh":
                one.refresh = True
            else:
                one.status = NEXT[verb]
                one.told.append({"active": "credential.reinstated"}.get(one.status, f"credential.{one.status}"))
            self.unsettled = True
        assert answer["version"] == one.version

    @rule(learner=st.integers(0, 2), settled=st.booleans())
    def learner_is_erased(self, learner: int, settled: bool) -> None:
        """Every credential is revoked and emptied, or never issued; who comes back has no past and gets other ids."""
        if settled:
            self.everything_is_as_the_model_says()
        theirs = [name for name, who in self.learners.items() if who == learner and not self.owed[name].erased]
        answer = self.world.do(
            self._call("POST", "/assessment/v1/learners/erase", 202, {"learner": f"learner-{learner}"})
        )
        if theirs:
            assert answer["credentials"] == len(theirs)
        for name in theirs:
            one = self.owed[name]
            one.erased = True
            if settled or one.body is not None:
                if one.status != "revoked":
                    one.status, one.version = "revoked", one.version + 1
                    one.told.append("credential.revoked")
            else:
                self.never_issued.add(name)  # or it was: which of both, the databases say
        for repeatable in (False, True):
            self.attempts.pop((repeatable, learner), None)
            self.earned.pop((repeatable, learner), None)
        self.unsettled = True

    @rule()
    def key_rotates(self) -> None:
        """What is on its way is signed with the old key or the new one; what is issued stays as it is."""
        self.world.do(self._rotate())
        for one in self.owed.values():
            if one.body is None:
                one.methods.add(self.method)
        self.unsettled = True

    @rule(repeatable=st.booleans())
    def achievement_changes(self, repeatable: bool) -> None:
        """Passes from now on earn the new edition."""
        self.editions[repeatable] += 1
        path = f"/assessment/v1/achievements/{self.achievements[repeatable]}"
        self.world.do(self._call("PUT", path, 200, self._edition(repeatable)))

    @rule(name=st.sampled_from(["School", "Academy"]))
    def profile_changes(self, name: str) -> None:
        """No credential that was issued says anything else than before."""
        body = {"name": name, "url": "https://school.example.org"}
        self.world.do(self._call("PUT", f"/issuer/v1/profiles/{self.profile}", 200, body))

    @precondition(lambda self: self.owed)
    @rule()
    def every_event_comes_again(self) -> None:
        """All that the bus has of these credentials, in its order: as after a relay that died, or from a replay."""
        self.world.do(self._replay())
        self.unsettled = True

    async def _replay(self) -> None:
        rows = await self.world.admin.fetch(
            "SELECT p.topic, m.key, m.value, m.headers "
            "FROM bus.messages m JOIN bus.partitions p ON p.id = m.partition_id "
            'WHERE m.key = ANY ($1) ORDER BY p.id, m."offset"',
            [one.encode() for one in self.owed],
        )
        headers = [tuple(map(tuple, msgspec.msgpack.decode(row["headers"]))) for row in rows]
        async with self.world.bus.producer(client_id="replay") as producer:
            await producer.send(
                [Record(row["topic"], row["key"], row["value"], head) for row, head in zip(rows, headers, strict=True)]
            )

    @rule()
    def everybody_dies_and_comes_back(self) -> None:
        """With whatever was on its way."""
        self.world.do(self.world.kill())
        self.world.do(self.world.admin.execute("UPDATE notifier.deliveries SET lease_until = now()"))  # leases end
        self.world.do(self.world.start())

    # -- what must hold ------------------------------------------------------------------------------------------------

    @rule()
    def everything_is_as_the_model_says(self) -> None:
        self.world.do(self._compare())

    def teardown(self) -> None:
        if hasattr(self, "tenant_id"):
            self.everything_is_as_the_model_says()

    async def _compare(self) -> None:
        if self.unsettled:
            await self.world.settled(self.tenant_id)
            self.unsettled = False
        fetch, tenant = self.world.admin.fetch, self.tenant_id
        counted = await fetch(
            "SELECT outcome, count(*) FROM assessment.results WHERE tenant_id = $1 GROUP BY 1", tenant
        )
        assert {row[0]: row[1] for row in counted} == {name: n for name, n in self.outcomes.items() if n}
        rows = await fetch(
            "SELECT credential_id::text, body, status, status_version, refresh, erased_at, revocation_list, "
            "revocation_index, suspension_list, suspension_index, refresh_list, refresh_index "
            "FROM issuer.credentials WHERE tenant_id = $1",
            tenant,
        )
        issued = {row["credential_id"] for row in rows}
        assert issued | self.never_issued == set(self.owed)
        for name in issued & self.never_issued:  # it was issued before the erasure came to the issuer
            one = self.owed[name]
            one.status, one.version = "revoked", one.version + 1
            self.never_issued.discard(name)
        for row in rows:
            one, body = self.owed[row["credential_id"]], bytes(row["body"])
            assert (row["erased_at"] is not None) == one.erased
            if one.erased:
                assert body == b"", "nothing of it is left"
                assert (row["status"], row["status_version"], row["refresh"]) == (one.status, one.version, one.refresh)
                continue
            assert one.body in (None, body), "its bytes never change"
            if one.body is None:
                document = msgspec.json.decode(body)
                assert document["credentialSubject"]["achievement"]["name"] == one.name, "the version passed"
                assert document["proof"]["verificationMethod"] in one.methods
                one.body = body
            assert (row["status"], row["status_version"], row["refresh"]) == (one.status, one.version, one.refresh)
        indexed = await fetch(
            f"SELECT credential_id, document, status, refresh, {INDEXED_VERSION} FROM verifier.credentials v "
            "WHERE tenant_id = $1",
            tenant,
        )
        assert {tuple(row) for row in indexed} == {
            (name, one.body, one.status, one.refresh, one.version) for name, one in self.owed.items() if not one.erased
        }
        await self._compare_erased()
        await self._compare_lists(rows)
        received: dict[str, dict[str, str]] = {}  # credential → message → event
        for message_id, event in self.world.partners.received[f"model-{self.number}"]:
            received.setdefault(event["data"]["credential_id"], {})[message_id] = event["type"]
        for name, one in self.owed.items():
            heard = sorted(received.pop(name, {}).values())
            if one.erased:  # what had not left when the erasure came is told no more, but that it is revoked
                assert not Counter(heard) - Counter([*one.told, "credential.revoked"]), name
                assert one.status == "active" or name in self.never_issued or "credential.revoked" in heard, name
            else:
                assert heard == sorted(one.told), "a partner hears of everything, under one webhook-id each"
        assert not received
        for service in SERVICES:
            assert not await fetch(f"SELECT code, detail FROM {service}.dead_letters")

    async def _compare_erased(self) -> None:
        """Tombstones in three services, and no row that says who an erased learner was."""
        fetch, tenant = self.world.admin.fetch, self.tenant_id
        erased = {name for name, one in self.owed.items() if one.erased}
        for service in ("issuer", "notifier", "verifier"):
            stones = await fetch(f"SELECT credential_id FROM {service}.erased_credentials WHERE tenant_id = $1", tenant)
            assert {row[0] for row in stones} == erased, service
        known = await fetch(
            "SELECT DISTINCT learner FROM assessment.results WHERE tenant_id = $1 AND learner IS NOT NULL", tenant
        )
        assert {row[0] for row in known} == {f"learner-{who}" for (_, who), tries in self.attempts.items() if tries}
        bodies = await fetch(
            "SELECT credential_id, body FROM notifier.messages WHERE tenant_id = $1 AND credential_id = ANY ($2)",
            tenant, list(erased),
        )  # fmt: skip
        assert not [row for row in bodies if b"learner-" in row["body"] or b"did:example" in row["body"]]

    async def _compare_lists(self, rows: list[Any]) -> None:
        lists = await self.world.admin.fetch(
            "SELECT list_id, purpose, body FROM issuer.status_lists WHERE tenant_id = $1", self.tenant_id
        )
        for published in lists:
            purpose = published["purpose"]
            standing = {"revocation": "revoked", "suspension": "suspended"}.get(purpose)
            wanted = {
                row[f"{purpose}_index"]
                for row in rows
                if row[f"{purpose}_list"] == published["list_id"]
                and (row["refresh"] if standing is None else row["status"] == standing)
            }
            assert places_set(published["body"]) == wanted, purpose


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with private_postgres() as server:
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        made = World(server.get_uri())
        made.do(made.open())
        yield made
        made.do(made.close())
        made.loop.close()


def test_whatever_changes_last_the_services_agree_with_the_model(world: World) -> None:
    """The changes that leave no other behind them: few random lives end with one."""
    machine = type("Machine", (Lifecycle,), {"world": world})()
    machine.found()
    for attempt, verbs in enumerate(([], ["refresh"], ["suspend", "reinstate"], ["revoke", "refresh"]), 1):
        before = set(machine.owed)
        machine.result_comes_in(repeatable=True, learner=attempt % 3, attempt=attempt, score=80)
        (credential_id,) = machine.owed.keys() - before
        for verb in ["", *verbs]:
            if verb:
                machine.status_changes_of(credential_id, verb)
            machine.everything_is_as_the_model_says()
    machine.every_event_comes_again()
    machine.everybody_dies_and_comes_back()
    machine.teardown()


@pytest.mark.timeout(900)
def test_whatever_happens_in_whatever_order_the_services_agree_with_the_model(world: World) -> None:
    machine = type("Machine", (Lifecycle,), {"world": world})
    examples = int(os.environ.get("LAUREL_MODEL_EXAMPLES", "10"))
    plan = settings(
        max_examples=examples, stateful_step_count=20, suppress_health_check=list(HealthCheck), database=None,
        phases=[Phase.generate],  # a step takes a second: twenty of them are read sooner than they are shrunk
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=plan)
