"""How many credentials a second one core verifies and looks up: over HTTP, one by one and in batches.

    python -m tests.benchmarks.bench_verify [--n 3000] [--seconds 4] [--json]

A private PostgreSQL, the verifier's API as a process of its own (one worker, one sandbox process a lane), and a client
in another process. "own" are credentials of its index, handed in as JSON; "foreign" are those
of a did:key issuer, which are expanded, canonicalised and checked in the sandbox. "plain" is what one would write with
PyLD (URDNA2015, contexts bundled) and cryptography, in process, for one proof and nothing else.

Figures named …_per_s are requests (or lines) per second of processor time of the verifier's processes, all of them
together: what one core does, whatever else runs on the machine. …_wall_per_s is by the clock of this run, and
…_postgres_us what PostgreSQL computed for each. ed25519_verify_per_s says how fast the machine is at the time.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pyld import jsonld as pyld

from laurel.credential import did, lint, multibase, proof_bytes
from laurel.credential.keys import Ed25519Signer
from laurel.database import Database
from laurel.events import AssessmentPassed, CredentialIssued, IssuerProfilePublished
from laurel.migrate import migrate
from laurel.settings import with_role
from laurel_issuer.domain import IssuerProfile, build_credential, varying, varying_paths
from laurel_verifier import store
from tests.benchmarks import bench_sign, processes
from tests.benchmarks.bench_sign import BASE, DEFINITION, DID, NOW, SIGNER
from tests.conftest import free_ports

TENANT = "019a0000-0000-7000-8000-000000000001"
VERIFY = "/verifier/v1/credentials/verify"
CONNECTIONS = 16
_WARM = 300  # requests before anything is counted

_KEY = Ed25519Signer(hashlib.sha256(b"somebody else").digest(), "x:y#z").public_key_multibase
FOREIGN = Ed25519Signer(hashlib.sha256(b"somebody else").digest(), f"{did.did_key(_KEY)}#{_KEY}")
FOREIGN_BASE = "https://else.example"

# --- what is verified -----------------------------------------------------------------------------------------------


def _signed(count: int, issuer: IssuerProfile, signer: Ed25519Signer, base: str, *, status: bool) -> list[bytes]:
    decoder = msgspec.json.Decoder(AssessmentPassed)
    definition = json.loads(json.dumps(DEFINITION).replace(BASE, base))
    made, template = [], None
    for event, rest in bench_sign.events(count):
        passed = decoder.decode(event)
        rest["document_url"] = rest["document_url"].replace(BASE, base)
        rest["places"] = rest["places"] if status else ()
        found = varying(passed, **rest)
        if template is None:
            document = build_credential(passed, definition=definition, issuer=issuer, **rest)
            template = lint.lint_template(document, varying_paths(found.shape), issuer=issuer.did)
        made.append(proof_bytes.sign_bytes(template.linted(found.values), signer, NOW))
    return made


def own(count: int) -> list[bytes]:
    """Credentials of an issuer of ours."""
    return _signed(count, bench_sign.ISSUER, SIGNER, BASE, status=True)


def foreign(count: int) -> list[bytes]:
    """Credentials of a did:key issuer, without a status that would have to be asked for."""
    issuer = IssuerProfile(FOREIGN.verification_method.partition("#")[0], "Somebody else", "https://else.example/")
    return _signed(count, issuer, FOREIGN, FOREIGN_BASE, status=False)


def _id_of(document: bytes) -> str:
    return str(msgspec.json.decode(document)["id"]).rpartition("/")[2]


async def _index(dsn: str, documents: list[bytes]) -> None:
    listed = did.build_did_document(DID, [did.DidKey("key-1", SIGNER.public_key_multibase)])
    published = IssuerProfilePublished(
        tenant_id=TENANT, profile_id="p", slug="physics", version=1, did=DID, profile={"name": "Department of Physics"},
        did_document=listed, published_at=NOW,
    )  # fmt: skip
    async with Database(with_role(dsn, "laurel_verifier_worker"), schema="verifier") as database:
        async with database.transaction() as tx:
            await store.remember_issuer(tx, published)
        for start in range(0, len(documents), 500):
            issued = [
                CredentialIssued(
                    tenant_id=TENANT, credential_id=_id_of(one), result_id=_id_of(one), achievement_id="a",
                    achievement_name="Thermodynamics", profile_id="p", issuer=DID, course_run="run-1", issued_at=NOW,
                    valid_from=NOW, document=msgspec.Raw(one),
                )
                for one in documents[start : start + 500]
            ]  # fmt: skip
            async with database.transaction() as tx:
                await store.index(tx, issued)


# --- processes ------------------------------------------------------------------------------------------------------


@contextmanager
def _verifier(dsn: str) -> Iterator[tuple[int, int]]:
    """(pid, port) of the verifier's API."""
    (port,) = free_ports(1)
    secret = base64.b64encode(bytes(32)).decode()
    environment = {
        **os.environ, "LAUREL_BUS_URL": dsn, "LAUREL_DATABASE_URL": dsn, "LAUREL_PUBLIC_URL": BASE,
        "LAUREL_ID_KEY": secret, "LAUREL_CONTACT_KEY": secret, "LAUREL_PORT": str(port), "LAUREL_TRACE_RATIO": "0.01",
        "LAUREL_SANDBOX_PROCESSES": "1", "LAUREL_SANDBOX_SECONDS": "20",
    }  # fmt: skip
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "laurel_verifier", "--role", "api"], env=environment, stdout=log, stderr=log
        )
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(log.read().decode()[-2000:])
                time.sleep(0.1)
            yield process.pid, port
        finally:
            process.terminate()
            process.wait(20)


# --- the client, in a process of its own ------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """Keep-alive HTTP/1.1, one request at a time; answers are counted and not looked into, but for a needle."""

    def __init__(self, needle: bytes, on_answer: Callable[[_Connection], None]) -> None:
        self._needle = needle
        self._on_answer = on_answer
        self._buffer = bytearray()
        self._transport: Any = None
        self.failed = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> None:
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        place = self._buffer.find(b"content-length: ", 0, end) + 16
        length = int(self._buffer[place : self._buffer.find(b"\r\n", place)])
        if len(self._buffer) >= end + 4 + length:
            right = self._buffer.startswith(b"HTTP/1.1 200") and self._needle in self._buffer
            self.failed += not right
            self._buffer.clear()
            self._on_answer(self)


async def _closed(port: int, requests: list[bytes], needle: bytes, seconds: float, start: int) -> int:
    """As many as are answered within the time, a few at any time."""
    loop = asyncio.get_running_loop()
    over, done, number = loop.time() + seconds, 0, start
    ended = loop.create_future()
    open_connections: list[_Connection] = []

    def answered(connection: _Connection) -> None:
        nonlocal done, number
        done += 1
        if loop.time() >= over:
            open_connections.remove(connection)
            if not open_connections and not ended.done():
                ended.set_result(None)
            return
        number += 1
        connection.send(requests[number % len(requests)])

    made = [
        (await loop.create_connection(lambda: _Connection(needle, answered), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    open_connections.extend(made)
    for connection in made:
        number += 1
        connection.send(requests[number % len(requests)])
    await ended
    assert not sum(one.failed for one in made), f"{sum(one.failed for one in made)} answers were not as expected"
    return done


async def _paced(port: int, requests: list[bytes], needle: bytes, rate: float, seconds: float) -> list[float]:
    """Milliseconds from when each request was due: so that one that waits for its turn counts as slow."""
    loop = asyncio.get_running_loop()
    free: asyncio.Queue[_Connection] = asyncio.Queue()
    took: list[float] = []
    due_at: dict[_Connection, float] = {}

    def answered(connection: _Connection) -> None:
        took.append((loop.time() - due_at[connection]) * 1000)
        free.put_nowait(connection)

    for _ in range(4 * CONNECTIONS):
        free.put_nowait((await loop.create_connection(lambda: _Connection(needle, answered), "127.0.0.1", port))[1])
    begin = loop.time()
    total = int(rate * seconds)
    for number in range(total):
        due = begin + number / rate
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        connection = await free.get()
        due_at[connection] = due
        connection.send(requests[number % len(requests)])
    while len(took) < total:
        await asyncio.sleep(0.01)
    return took


async def _batch(port: int, documents: list[bytes], needle: bytes) -> int:
    """All of them in one request, read while they are sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    length = sum(len(one) + 1 for one in documents)
    head = f"POST {VERIFY}/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: {length}"
    writer.write(f"{head}\r\n\r\n".encode())

    async def send() -> None:
        for start in range(0, len(documents), 50):
            writer.write(b"".join(one + b"\n" for one in documents[start : start + 50]))
            await writer.drain()

    sending = asyncio.create_task(send())
    right = 0
    while data := await reader.readline():
        right += needle in data
    await sending
    writer.close()
    assert right == len(documents), f"{right} of {len(documents)}"
    return right


def _client(work: str, arguments: tuple[Any, ...], pipe: Any) -> None:
    pipe.send(asyncio.run({"closed": _closed, "paced": _paced, "batch": _batch}[work](*arguments)))


def _in_another_process(work: str, *arguments: Any) -> Any:
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_client, args=(work, arguments, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


# --- the baseline -----------------------------------------------------------------------------------------------------


def plain(document: bytes, public_key: str = _KEY) -> bool:
    """One eddsa-rdfc-2022 proof, by what is at hand: no schema, no status, no guard, no report."""
    credential = json.loads(document)
    proof = credential.pop("proof")
    signature = multibase.decode(proof.pop("proofValue"), max_length=200)
    how = {"algorithm": "URDNA2015", "format": "application/n-quads", "documentLoader": bench_sign._load}
    options = {"@context": credential["@context"], **proof}
    hashes = [hashlib.sha256(pyld.normalize(one, how).encode()).digest() for one in (options, credential)]
    key = Ed25519PublicKey.from_public_bytes(multibase.ed25519_public_decode(public_key))
    key.verify(signature, b"".join(hashes))
    return True


def _plain_per_s(documents: list[bytes]) -> float:
    for one in documents[:5]:
        plain(one)
    best = 0.0
    for part in range(4):
        some = documents[part * 20 : part * 20 + 20]
        start = time.process_time()
        for one in some:
            assert plain(one)
        best = max(best, len(some) / (time.process_time() - start))
    return best


# --- figures ----------------------------------------------------------------------------------------------------------


class _Measured:
    """One figure: what a client does, held against what the processes computed meanwhile."""

    def __init__(self, verifier: int, postgres: int) -> None:
        self._roots = (verifier, postgres)

    def run(self, name: str, work: str, *arguments: Any) -> dict[str, float]:
        before, start = [processes.tree_seconds(one) for one in self._roots], time.monotonic()
        done = _in_another_process(work, *arguments)
        seconds = time.monotonic() - start
        used, postgres = (processes.tree_seconds(one) - was for one, was in zip(self._roots, before, strict=True))
        return {
            f"{name}_per_s": done / max(used, 0.01),
            f"{name}_wall_per_s": done / seconds,
            f"{name}_postgres_us": postgres / done * 1e6,
        }


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n".encode()


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def measure(count: int = 3000, seconds: float = 4.0) -> dict[str, Any]:
    """The figures. count: credentials that are indexed. seconds: for each figure."""
    from tests.conftest import private_postgres

    ours, others = own(count), foreign(max(200, count // 5))
    lookups = [_get(f"/verifier/v1/credentials/{_id_of(one)}") for one in ours]
    own_requests, foreign_requests = ([_post(VERIFY, one) for one in some] for some in (ours, others))
    valid = b'"verdict":"valid"'
    figures: dict[str, Any] = {}
    with private_postgres() as server:
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        dsn = asyncio.run(_prepared(server.get_uri(), ours))
        postmaster = int((Path(server.pgdata) / "postmaster.pid").read_text().split()[0])
        with _verifier(dsn) as (pid, port):
            measured = _Measured(pid, postmaster)
            for requests, needle in ((lookups, b'"document":'), (own_requests, valid), (foreign_requests, valid)):
                _in_another_process("closed", port, requests[:_WARM], needle, 1.0, 0)
            figures |= measured.run("lookup", "closed", port, lookups, b'"document":', seconds, 0)
            rate = figures["lookup_wall_per_s"] / 2
            took = sorted(_in_another_process("paced", port, lookups, b'"document":', rate, seconds))
            figures |= {"lookup_half_load_per_s": rate, "lookup_p50_ms": took[len(took) // 2]}
            figures["lookup_p99_ms"] = took[len(took) * 99 // 100]
            figures |= measured.run("verify_own", "closed", port, own_requests, valid, seconds, 0)
            figures |= measured.run("verify_foreign", "closed", port, foreign_requests, valid, seconds, 0)
            figures |= measured.run("verify_batch_own", "batch", port, ours, valid)
            figures |= measured.run("verify_batch_foreign", "batch", port, others, valid)
    figures["verify_plain_per_s"] = _plain_per_s(others)
    figures["ed25519_verify_per_s"] = bench_sign.per_second(
        bench_sign.singly(bench_sign.verify_alone), bench_sign.events(1500)
    )
    figures["bytes"] = len(ours[0])
    return figures


async def _prepared(superuser_dsn: str, documents: list[bytes]) -> str:
    admin = await asyncpg.connect(superuser_dsn)
    await admin.execute("CREATE DATABASE bench_verify")
    await admin.close()
    dsn = urlunsplit(urlsplit(superuser_dsn)._replace(path="/bench_verify"))
    await migrate(dsn, "verifier")
    await _index(dsn, documents)
    return dsn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.n, arguments.seconds)
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"CPython {platform.python_version()} on {platform.machine()}; credentials of {figures.pop('bytes')} bytes")
    print(f"{datetime.now(UTC):%Y-%m-%d}; plain: {figures['verify_plain_per_s']:,.0f} /s")
    for name, value in figures.items():
        print(f"{name:36} {value:10,.1f}")


if __name__ == "__main__":
    main()
