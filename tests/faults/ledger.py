"""The ledger: what became of all that was accepted, counted from databases, topics and what partners got.

It asks no service and believes no counter. Everything large is streamed in the order of its ids and compared as it
goes by, so that a million results take minutes and little memory.

1. every accepted row has one outcome, the one that its content deserves, every single result the one row that was
   answered, and nothing else has any (outcomes.py);
2. owed = issued = indexed, byte for byte; no reservation is left, no two share a place in a status list;
3. topics, all five: every event of every credential is there, its document the same bytes each time, every last version
   of an achievement or a profile and every API key; and a key's events stand in their order (topics.py; a repeat may
   follow, never a later one before an earlier one);
4. every change of status is a row and every row was asked for (changes.py), and where a credential stands its last row,
   the index and the published list say alike;
5. each subscribed endpoint has one delivery for each event, delivered, and received it at least once under that id;
6. at most one e-mail a credential; what is `sent` arrived once, what is `uncertain` at most once;
7. nothing is on its way any more, and nothing is dead.

A credential whose learner was erased is owed, and then is nowhere but under a tombstone in each of the three services
(erasures.py): empty in the issuer where it had been issued, revoked in the published list, told of to nobody but as
revoked, to everybody who is subscribed to that.
"""

from __future__ import annotations

import collections
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from laurel.credential import status
from laurel.migrate import SERVICES
from tests.faults import changes, erasures, outcomes
from tests.faults.account import Account
from tests.faults.load import Known
from tests.faults.topics import Seen

_KINDS = {"revoked": "credential.revoked", "suspended": "credential.suspended", "active": "credential.reinstated"}


class Ledger:
    """dsns: of an administrator, by service. seen: the topics. book: the partners'. recipients: e-mails by address."""

    def __init__(
        self, dsns: dict[str, str], seen: Seen, book: Path, recipients: collections.Counter[str], known: Known
    ) -> None:
        self._dsns = dsns
        self._seen = seen
        self._book = book
        self._recipients = recipients
        self._known = known
        self._stones = erasures.Tombstones()
        self._erased: set[str] = set()
        self.account = Account()

    async def check(self) -> Account:
        """Everything. Nothing may run any more."""
        self._stones = await erasures.check(self._open, self._known, self.account)
        self._erased = self._stones.ids
        await outcomes.check(self._open, self._known, self._erased, self.account)
        await self._issued()
        await self._order()
        await self._statuses()
        await self._published()
        await self._deliveries()
        await self._emails()
        await self._rest()
        return self.account

    # -- 2 ---------------------------------------------------------------------------------------------------

    async def _issued(self) -> None:
        note, events, passes = self.account.note, dict(self._seen.issued), set(self._seen.passed)
        owed = self._stream(
            "assessment", "SELECT credential_id::text AS id, tenant_id FROM results WHERE outcome = 'passed' "
            "ORDER BY credential_id"
        )  # fmt: skip
        issued = self._stream(
            "issuer", "SELECT credential_id::text AS id, tenant_id, sha256(body) AS hash, status, status_version "
            "FROM credentials ORDER BY credential_id"
        )  # fmt: skip
        indexed = self._stream(
            "verifier", "SELECT credential_id AS id, tenant_id, sha256(document) AS hash, status, status_version "
            'FROM credentials ORDER BY credential_id COLLATE "C"'
        )  # fmt: skip
        async for identity, (owe, made, shown) in together(owed, issued, indexed):
            if len(owe) > 1:
                note("doubled", f"credential {identity} is owed {len(owe)} times")
            if owe and identity not in passes and identity not in self._erased:  # then it need not have left
                note("lost", f"credential {identity} is owed and has no assessment.passed")
            passes.discard(identity)
            digest = events.pop(identity, None)
            if identity in self._erased:
                if not owe:
                    note("doubled", f"credential {identity} is erased and nobody was owed it")
                continue
            if not made:
                note("lost", f"credential {identity} is owed and was not issued")
                continue
            self.account.issued += 1
            if not owe:
                note("doubled", f"credential {identity} was issued and nobody is owed it")
            elif owe[0]["tenant_id"] != made[0]["tenant_id"]:
                note("wrong", f"credential {identity} was issued by another tenant")
            if not shown:
                note("lost", f"credential {identity} is not in the index")
            elif any(shown[0][name] != made[0][name] for name in ("tenant_id", "hash", "status", "status_version")):
                here, there = (
                    ", ".join(str(one[0][name]) for name in ("status", "status_version")) for one in (made, shown)
                )
                note("wrong", f"the index differs from credential {identity} ({here}; {there})")
            if digest is None:
                note("lost", f"credential {identity} has no credential.issued")
            elif digest != made[0]["hash"]:
                note("wrong", f"credential {identity} has another document in its event")
        for identity in sorted(events.keys() | passes):
            note("doubled", f"the topics speak of credential {identity}, which nobody is owed")
        async with self._open("issuer") as connection:
            for purpose in ("revocation", "suspension"):
                shared = await connection.fetchval(
                    f"SELECT count(*) - count(DISTINCT ({purpose}_list, {purpose}_index)) FROM credentials "
                    f"WHERE {purpose}_list IS NOT NULL"
                )
                if shared:
                    note("doubled", f"{shared} credentials share a place in a {purpose} list", shared)
            for table in ("intents", "parked", "status_list_dirt"):
                if left := await connection.fetchval(f"SELECT count(*) FROM {table}"):
                    note("lost", f"{left} rows are left in issuer.{table}", left)

    # -- 3 ---------------------------------------------------------------------------------------------------

    async def _order(self) -> None:
        note, seen = self.account.note, self._seen
        self.account.events, self.account.repeated_events = seen.records, seen.repeated
        for what in seen.out_of_order:
            note("out_of_order", what)
        for what in seen.different:
            note("wrong", what)
        for service, table, name, told in (
            ("assessment", "achievements", "achievement_id", seen.achievements),
            ("issuer", "issuer_profiles", "profile_id", seen.profiles),
        ):
            async with self._open(service) as connection:
                rows = await connection.fetch(f"SELECT {name}::text, version FROM {table}")
            for identity, version in [(row[0], row[1]) for row in rows]:
                if told.get(identity) != version:
                    note("lost", f"{name} {identity} has version {version}, and its topic {told.get(identity)}")
                if version < self._known.versions.get(identity, 0):
                    note("lost", f"{name} {identity} has version {version}, and a later one was answered")
            for identity in sorted(told.keys() - {row[0] for row in rows}):
                note("doubled", f"the topics speak of {name} {identity}, which is none")
        async with self._open("issuer") as connection:
            rows = await connection.fetch("SELECT key_id, revoked_at IS NOT NULL FROM api_keys")
        for key_id, revoked in [(row[0], row[1]) for row in rows]:
            if key_id not in seen.keys or revoked != (seen.keys[key_id] == "revoked"):
                note("lost", f"key {key_id} is {'' if revoked else 'not '}revoked, and its topic says other")
        for key_id in sorted(self._known.ended_keys - {row[0] for row in rows if row[1]}):
            note("lost", f"key {key_id} was revoked, and no row says so")
        for tenant_id in sorted(set(self._known.tenants.values()) ^ seen.organisations):
            note("lost", f"organisation {tenant_id} is known or in its topic, not both")

    # -- 4 ---------------------------------------------------------------------------------------------------

    async def _statuses(self) -> None:
        note, told = self.account.note, dict(self._seen.changed)
        rows = self._stream(
            "issuer", "SELECT credential_id::text AS id, version, status, change FROM status_changes "
            "ORDER BY credential_id, version",
        )  # fmt: skip
        standing = self._stream(
            "issuer", "SELECT credential_id::text AS id, status, status_version FROM credentials "
            "WHERE status <> 'active' OR status_version <> 0 ORDER BY credential_id"
        )  # fmt: skip

        async def with_events() -> AsyncIterator[tuple[str, tuple[list[Any], ...]]]:
            async for identity, (made, stands) in together(rows, standing):
                for row in made:
                    place = identity, row["version"]
                    silent = identity in self._erased and row["version"] != self._seen.erased.get(identity)
                    if told.pop(place, None) != row["status"] and not silent:
                        note("lost", f"no event says that {identity} is {row['status']} in version {row['version']}")
                yield identity, (made, stands)

        await changes.check(with_events(), self._known.asked, self._erased, self.account)
        for place, state in told.items():
            note("doubled", f"an event says that {place[0]} is {state} in version {place[1]}, and no row does")

    async def _published(self) -> None:
        """A bit is set in a list as it is published exactly if a row says so."""
        async with self._open("issuer") as connection:
            for one in await connection.fetch("SELECT list_id, purpose, body FROM status_lists WHERE allocated > 0"):
                states = ["revoked"] if one["purpose"] == "revocation" else ["suspended"]
                rows = await connection.fetch(
                    f"SELECT {one['purpose']}_index AS place FROM credentials "
                    f"WHERE {one['purpose']}_list = $1 AND status = ANY ($2)", one["list_id"], states,
                )  # fmt: skip
                if one["body"] is None:
                    if rows:
                        self.account.note("lost", f"list {one['list_id']} was never published", len(rows))
                    continue
                bits = status.decode_list(json.loads(one["body"])["credentialSubject"]["encodedList"])
                shown = {place for place in range(len(bits) * 8) if bits[place >> 3] & 0x80 >> (place & 7)}
                wanted = {row["place"] for row in rows}
                for place in wanted - shown:
                    self.account.note("lost", f"place {place} of the {one['purpose']} list {one['list_id']} is not set")
                for place in shown - wanted:
                    self.account.note("doubled", f"place {place} of list {one['list_id']} is set and no row says so")

    # -- 5 ---------------------------------------------------------------------------------------------------

    async def _deliveries(self) -> None:
        note = self.account.note
        names = {one.endpoint_id: one.name for one in self._known.endpoints}
        subscribed: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        for endpoint in self._known.endpoints:
            for kind in endpoint.event_types:
                subscribed[endpoint.tenant_id, kind].append(endpoint.name)
        owed: set[tuple[str, str]] = set()
        # Of an erased credential some was told, and some had not left yet; that it is revoked is told in any case.
        for identity, (tenant_id, version) in self._stones.versions.items():
            if version:
                message = f"msg_{identity}_status_{version}"
                owed.update((name, message) for name in subscribed[tenant_id, "credential.revoked"])
        async for row in self._stream("issuer", "SELECT credential_id::text AS id, tenant_id FROM credentials"):
            if row["id"] in self._erased:
                continue
            owed.update((name, f"msg_{row['id']}_issued") for name in subscribed[row["tenant_id"], "credential.issued"])
        async for row in self._stream(
            "issuer", "SELECT credential_id::text AS id, tenant_id, version, status FROM status_changes"
        ):
            if row["id"] in self._erased:
                continue
            message = f"msg_{row['id']}_status_{row['version']}"
            owed.update((name, message) for name in subscribed[row["tenant_id"], _KINDS[row["status"]]])
        received, hashes = self._received()
        self.account.received = sum(received.values())
        left, ended = set(owed), set[tuple[str, str]]()
        async for row in self._stream(
            "notifier", "SELECT d.endpoint_id::text, d.state, m.message_id, sha256(m.body) AS hash "
            "FROM deliveries d JOIN messages m USING (message_no)"
        ):  # fmt: skip
            self.account.deliveries += 1
            place = names.get(row["endpoint_id"], row["endpoint_id"]), row["message_id"]
            if row["message_id"].split("_")[1] in self._erased and place not in owed:
                ended.add(place)
                if row["state"] not in ("delivered", "cancelled"):
                    note("lost", f"{place[1]} for {place[0]} is {row['state']}, and its credential is erased")
                continue
            if place not in left:
                note("doubled", f"{place[1]} for {place[0]} is delivered twice or owed to nobody")
                continue
            left.discard(place)
            if row["state"] != "delivered":
                note("lost", f"{place[1]} for {place[0]} is {row['state']}")
            if place not in received:
                note("lost", f"{place[1]} never reached {place[0]}")
            elif hashes[place[1]] != row["hash"]:
                note("wrong", f"{place[0]} got other bytes as {place[1]}")
        for place in sorted(left):
            note("lost", f"{place[0]} has no delivery of {place[1]}")
        for place in sorted(received.keys() - owed - ended):
            note("doubled", f"{place[0]} received {place[1]}, which nobody owes it")

    def _received(self) -> tuple[collections.Counter[tuple[str, str]], dict[str, bytes]]:
        """How often each endpoint got each webhook-id, and the hash of the bodies under an id."""
        received: collections.Counter[tuple[str, str]] = collections.Counter()
        hashes: dict[str, bytes] = {}
        with self._book.open() as file:
            for line in file:
                name, message, digest = line.split()
                received[name, message] += 1
                if hashes.setdefault(message, bytes.fromhex(digest)) != bytes.fromhex(digest):
                    self.account.note("wrong", f"{message} was sent with two different bodies")
        return received, hashes

    # -- 6 ---------------------------------------------------------------------------------------------------

    async def _emails(self) -> None:
        note = self.account.note
        states: collections.Counter[str] = collections.Counter()
        addresses = self._addresses()
        by_credential: dict[str, str] = {}
        if addresses:
            async for row in self._stream(
                "assessment", "SELECT credential_id::text AS id, learner, import_id::text FROM results "
                "WHERE outcome = 'passed' AND import_id IS NOT NULL"
            ):  # fmt: skip
                if row["learner"] in addresses:
                    by_credential[row["id"]] = f"{row['learner']}@example.org"
        for address, number in self._recipients.items():
            if number > 1:
                note("doubled", f"{number} e-mails went to {address}", number - 1)
        written: set[str] = set()
        async for row in self._stream("notifier", "SELECT credential_id AS id, state FROM emails"):
            states[row["state"]] += 1
            if row["id"] in self._erased:  # whose it was, no row says any more
                if row["state"] not in ("sent", "cancelled"):
                    note("lost", f"the e-mail for credential {row['id']} is {row['state']}, and it is erased")
                continue
            address = by_credential.get(row["id"], "")
            written.add(address)
            if not address:
                note("doubled", f"an e-mail for credential {row['id']}, which has no address")
            arrived = self._recipients[address]
            if row["state"] == "sent" and not arrived:
                note("lost", f"the e-mail for credential {row['id']} is sent and did not arrive")
            elif row["state"] in ("pending", "held", "sending", "failed"):
                note("lost", f"the e-mail for credential {row['id']} is {row['state']}")
            elif row["state"] == "cancelled" and arrived:
                note("wrong", f"the e-mail for credential {row['id']} is cancelled and arrived")
        for address in sorted(set(by_credential.values()) - written):
            note("lost", f"no e-mail is owed to {address}")
        erased = {f"{learner}@example.org" for learner in self._known.erased}
        for address in sorted(self._recipients.keys() - set(by_credential.values()) - erased):
            note("doubled", f"an e-mail went to {address}, who is owed none")
        self.account.emails = dict(sorted(states.items()))

    def _addresses(self) -> set[str]:
        """Learners whose pass has an e-mail address."""
        return {
            learner
            for one in self._known.imports
            if not one.resent and self._known.course_of(one.number).mail_one_in
            for learner in self._known.mailed(one)
        }

    # -- 7 ---------------------------------------------------------------------------------------------------

    async def _rest(self) -> None:
        for service in SERVICES:
            async with self._open(service) as connection:
                if left := await connection.fetchval("SELECT count(*) FROM outbox"):
                    self.account.note("lost", f"{left} events are left in the outbox of {service}", left)
                for row in await connection.fetch("SELECT consumer, code, detail FROM dead_letters"):
                    self.account.note("lost", f"dead letter of {row['consumer']}: {row['code']}: {row['detail'][:200]}")
        async with self._open("assessment") as connection:
            if left := await connection.fetchval(
                "SELECT count(*) FROM import_chunks c JOIN imports i USING (import_id) WHERE i.status = 'processing'"
            ):
                self.account.note("lost", f"{left} chunks of imports are left", left)

    # -- reading ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _open(self, service: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(
            self._dsns[service], server_settings={"search_path": service, "work_mem": "256MB", "jit": "off"}
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def _stream(self, service: str, sql: str) -> AsyncIterator[asyncpg.Record]:
        async with self._open(service) as connection, connection.transaction(readonly=True):
            async for row in connection.cursor(sql, prefetch=5000):
                yield row


async def together(*streams: AsyncIterator[Any]) -> AsyncIterator[tuple[str, tuple[list[Any], ...]]]:
    """Merge streams that are sorted by their `id`: each id with its rows in each stream."""
    heads = [await anext(stream, None) for stream in streams]
    while waiting := [head["id"] for head in heads if head is not None]:
        identity = min(waiting)
        rows: tuple[list[Any], ...] = tuple([] for _ in streams)
        for place, stream in enumerate(streams):
            while heads[place] is not None and heads[place]["id"] == identity:
                rows[place].append(heads[place])
                heads[place] = await anext(stream, None)
        yield identity, rows
