"""A stranger's address never leads home: every form of ssrf.txt through every door, and nobody is connected to.

Three witnesses: a trap on loopback counts who connects; an audit hook (PEP 578) of the interpreter sees every
connection that anything in this process begins, and lets none out; the client's own lookup is ours, and sends every
name that it does not know to 127.0.0.1. `test_the_trap_catches_each_door` shows that each door does lead to a
connection where it may.
"""

from __future__ import annotations

import asyncio
import copy
import errno
import hashlib
import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import pytest_asyncio

import laurel.http
from laurel.credential import jcs, multibase
from laurel.http import AddressPolicy, GuardedClient
from laurel_verifier.checks import Against
from laurel_verifier.resolution import Issuers, Resolved
from tests.component.verifier.issuing import TestIssuer, issued
from tests.security.conftest import new_database
from tests.security.estate import BASE_URL, PARTNER, Estate, Tenant, call, opened, settle_tenants

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

PUBLIC = "93.184.215.14"
NAMES: dict[str, list[str]] = {
    "public.example": [PUBLIC], "example.com": [PUBLIC], "private10.example": ["10.0.0.1"],
    "private172.example": ["172.16.0.1"], "private192.example": ["192.168.1.1"], "linklocal.example": ["169.254.1.1"],
    "metadata.google.internal": ["169.254.169.254"], "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"], "sixtofour.example": ["2002:7f00:1::"], "ula.example": ["fd00::1"],
    "zone.example": ["fe80::1%lo"], "unspecified.example": ["0.0.0.0"], "localhost": ["127.0.0.1", "::1"],
    "mixed-first.example": ["127.0.0.1", PUBLIC], "mixed-last.example": [PUBLIC, "127.0.0.1"],
    "mixed-six.example": [PUBLIC, "::1"], "mixed-many.example": [PUBLIC, "8.8.8.8", "1.1.1.1", "10.0.0.7"],
}  # fmt: skip
# The first answer is public, every later one is not.
REBINDING = {
    "rebind.example": ["127.0.0.1"], "rebind-metadata.example": ["169.254.169.254"], "rebind-six.example": ["::1"],
}  # fmt: skip


class Trap:
    """Listens on loopback. answer: what it says to whoever comes."""

    def __init__(self) -> None:
        self.accepted = 0
        self.port = 0
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        writer.write(self.answer)
        writer.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Trap]:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


class Watch:
    """Every connection and every lookup that this process begins while it is watched."""

    def __init__(self) -> None:
        self.on = False
        self.dialled: list[str] = []
        self.looked_up: list[str] = []
        self.asked: dict[str, int] = {}
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            address = str(arguments[1][0])
            self.dialled.append(address)
            if not address.startswith("127."):
                raise OSError(errno.ENETUNREACH, "no network in this test")
        elif event == "socket.getaddrinfo" and arguments[0]:
            self.looked_up.append(str(arguments[0]))

    async def resolve(self, host: str, port: int, executor: object) -> list[str]:
        self.asked[host] = self.asked.get(host, 0) + 1
        if host in REBINDING:
            return [PUBLIC] if self.asked[host] == 1 else REBINDING[host]
        return NAMES.get(host, ["127.0.0.1"])

    @contextmanager
    def watching(self) -> Iterator[None]:
        self.dialled.clear()
        self.looked_up.clear()
        self.asked.clear()
        self.on = True
        try:
            yield
        finally:
            self.on = False


WATCH = Watch()


def forms(port: int) -> list[str]:
    """The corpus, decoded."""
    lines = (Path(__file__).parent / "ssrf.txt").read_text(encoding="utf-8").split("\n")
    found = [json.loads(f'"{line}"') for line in lines if line and not line.startswith("#")]
    return [form.replace("{port}", str(port)) for form in found]


def sendable(form: str) -> bool:
    """Whether the form can stand in JSON at all: a lone surrogate or a NUL is refused before anybody looks at it."""
    return "\x00" not in form and not any("\ud800" <= letter <= "\udfff" for letter in form)


# --- what the doors are handed ------------------------------------------------------------------------------

STRANGER = TestIssuer(slug="", seed=b"\x21" * 32)


def signed(document: dict[str, Any]) -> dict[str, Any]:
    """Signed by a did:key that everybody trusts itself, whatever it says: eddsa-jcs-2022 by hand, without our lint."""
    document = {name: value for name, value in document.items() if name != "proof"}
    options = {
        "type": "DataIntegrityProof", "cryptosuite": "eddsa-jcs-2022", "created": "2026-01-01T00:00:00Z",
        "verificationMethod": STRANGER.signer.verification_method, "proofPurpose": "assertionMethod",
    }  # fmt: skip
    config = {"@context": document["@context"], **options}
    digest = b"".join(hashlib.sha256(jcs.canonical(one)).digest() for one in (config, document))
    return {**document, "proof": {**config, "proofValue": multibase.encode(STRANGER.signer.sign(digest))}}


BADGE = STRANGER.badge()


def of_issuer(issuer: str) -> dict[str, Any]:
    """A badge that says that somebody at this address issued it."""
    made = copy.deepcopy(BADGE)
    made["issuer"] = {**made["issuer"], "id": issuer}
    made["proof"]["verificationMethod"] = f"{issuer}#key-1"
    return made


def did_web(form: str) -> str:
    """The did:web of the form's host, as well as that can be said."""
    host = form.partition("://")[2].partition("/")[0] or form
    return f"did:web:{quote(host, safe='.-_')}"


Door = Callable[[Estate, Tenant, Sequence[str]], Awaitable[None]]
DOORS: dict[str, Door] = {}


def door(made: Door) -> Door:
    DOORS[made.__name__] = made
    return made


async def sent(estate: Estate, tenant: Tenant | None, method: str, path: str, **given: Any) -> None:
    headers = {**(tenant.headers if tenant else {}), **given.pop("headers", {})}
    answer = await estate.http.request(method, path, headers=headers, **given)
    assert answer.status_code < 500, (path, given, answer.text)


async def verified(estate: Estate, document: Any) -> None:
    await sent(estate, None, "POST", "/verifier/v1/credentials/verify", json=document)


@door
async def a_new_webhook_endpoint(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    for url in urls:
        await sent(
            estate, tenant, "POST", "/notifier/v1/endpoints", json={"url": url, "event_types": ["credential.issued"]}
        )


@door
async def a_changed_webhook_endpoint(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    for url in urls:
        await sent(estate, tenant, "PATCH", f"/notifier/v1/endpoints/{tenant.owns['endpoint_id']}", json={"url": url})


@door
async def a_webhook_delivery(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    """However the address got into the table, or wherever its name has led since."""
    await estate.sql("notifier", "UPDATE deliveries SET state = 'cancelled' WHERE state = 'pending'")
    for url in filter(sendable, urls):
        made = await call(
            estate,
            tenant,
            "POST",
            "/notifier/v1/endpoints",
            json={"url": PARTNER, "event_types": ["credential.issued"]},
        )
        await estate.sql("notifier", "UPDATE endpoints SET url = $1 WHERE endpoint_id = $2", url, made["endpoint_id"])
        await call(estate, tenant, "POST", f"/notifier/v1/endpoints/{made['endpoint_id']}/test")
    worker = next(one for one in estate.services["notifier"].workers if one.name == "webhooks")
    stop = asyncio.Event()
    running = asyncio.ensure_future(worker.run(stop))
    waiting = "SELECT count(*) AS n FROM deliveries WHERE state = 'pending' AND attempt_count = 0"
    while (await estate.sql("notifier", waiting))[0]["n"]:
        assert not running.done(), running.exception()
        await asyncio.sleep(0.05)
    stop.set()
    await running
    await estate.sql("notifier", "UPDATE deliveries SET state = 'cancelled' WHERE state = 'pending'")


@door
async def an_address_in_the_verify_api(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    for url in urls:
        await verified(estate, {"url": url})
        form = {"url": (None, url.encode("utf-8", "surrogatepass"))}
        await sent(estate, None, "POST", "/verifier/v1/credentials/verify", files=form)


@door
async def an_address_in_the_verify_form(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    for url in filter(sendable, urls):
        await sent(estate, None, "POST", "/verify", data={"url": url})
        await sent(estate, None, "GET", "/verify", params={"url": url})


@door
async def an_address_in_a_batch(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    lines = [json.dumps(line).encode() for url in urls for line in (url, {"url": url}, {"credential": url})]
    headers = {"content-type": "application/x-ndjson"}
    await sent(
        estate, None, "POST", "/verifier/v1/credentials/verify/batch", content=b"\n".join(lines), headers=headers
    )


@door
async def the_did_of_an_issuer(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    for url in urls:
        await verified(estate, of_issuer(did_web(url)))


@door
async def the_url_of_an_issuer(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    for url in urls:
        await verified(estate, of_issuer(url))


@door
async def a_status_list(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    for url in urls:
        entry = {
            "id": f"{url}#1", "type": "BitstringStatusListEntry", "statusPurpose": "revocation", "statusListIndex": "1",
            "statusListCredential": url,
        }  # fmt: skip
        await verified(estate, signed({**BADGE, "credentialStatus": entry}))


@door
async def a_revocation_list(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    for url in urls:
        await verified(estate, signed({**BADGE, "credentialStatus": {"id": url, "type": "1EdTechRevocationList"}}))


@door
async def the_issuer_of_an_endorsement(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    for url in urls:
        endorsements = [
            {
                **of_issuer(issuer), "id": f"urn:uuid:{uuid.uuid4()}", "name": "E",
                "type": ["VerifiableCredential", "EndorsementCredential"],
                "credentialSubject": {
                    "id": BADGE["credentialSubject"]["achievement"]["id"], "type": ["EndorsementSubject"],
                    "endorsementComment": "x",
                },
            }
            for issuer in (url, did_web(url))
        ]  # fmt: skip
        await verified(estate, signed({**BADGE, "endorsement": endorsements}))


@door
async def the_url_of_a_key(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    """Of an issuer whose document, found at a public address a moment ago, lists keys that are elsewhere."""
    settings: Any = estate.settings["verifier"]
    async with GuardedClient(AddressPolicy(settings.networks)) as client:
        issuers = Issuers(estate.services["verifier"].database, client, base_url=BASE_URL, allow_http=False)
        for number, four in enumerate(chunks(urls)):
            name = f"https://public.example/issuers/{number}"
            document = {"id": name, "assertionMethod": list(four)}
            found = Resolved(document, name, Against(kind="issuer", id=name, source="fetched", at="now"))
            issuers._foreign.put(name, found, 600.0)
            await issuers.resolve(name, four)


@door
async def a_key_of_another_signer(estate: Estate, tenant: Tenant, urls: Sequence[str]) -> None:
    """A second proof beside the issuer's, whose key is at an address."""
    for url in urls:
        made = signed(BADGE)
        other = {**made["proof"], "verificationMethod": f"{url}#key-1"}
        await verified(estate, {**made, "proof": [made["proof"], other]})


def chunks(urls: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many at a time as the verifier looks at."""
    for place in range(0, len(urls), 4):
        yield urls[place : place + 4]


# Doors that connect to nobody: an endpoint's name is looked up, and of a batch nothing is fetched.
NEVER = ("a_new_webhook_endpoint", "a_changed_webhook_endpoint", "an_address_in_a_batch")


# --- the tests ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def watched_estate(dsn: str, **changes: Any) -> AsyncIterator[tuple[Estate, Tenant]]:
    before = laurel.http._ask_system
    laurel.http._ask_system = WATCH.resolve  # type: ignore[assignment]
    try:
        async with opened(await new_database(dsn), endpoints_per_tenant=100_000, **changes) as estate:
            (tenant,) = await settle_tenants(estate, "alpha")
            yield estate, tenant
    finally:
        laurel.http._ask_system = before


@pytest.fixture(autouse=True)
def no_name_is_looked_up() -> None:
    """Instead of the folder's: the watched estates have an answer to every name."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict(postgres_dsn: str) -> AsyncIterator[tuple[Estate, Tenant]]:
    async with watched_estate(postgres_dsn) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lenient(postgres_dsn: str) -> AsyncIterator[tuple[Estate, Tenant]]:
    """Whose operator allows loopback: only there can a door be seen to lead anywhere."""
    async with watched_estate(postgres_dsn, allow_networks="127.0.0.0/8") as made:
        yield made


async def test_there_are_enough_forms_and_none_is_there_twice() -> None:
    found = forms(8443)
    assert len(found) == len(set(found)) >= 200


@pytest.mark.parametrize("name", DOORS)
async def test_no_form_leads_home_through_any_door(strict: tuple[Estate, Tenant], name: str) -> None:
    async with Trap().open() as trap:
        with WATCH.watching():
            await DOORS[name](*strict, forms(trap.port))
            await DOORS[name](*strict, [form for form in forms(trap.port) if "rebind" in form])
        assert trap.accepted == 0
        # A name that rebinds is public at first: that address was checked, and is the one that is dialled.
        assert set(WATCH.dialled) <= {PUBLIC}
        assert WATCH.looked_up == []


@pytest.mark.parametrize("name", [one for one in DOORS if one not in NEVER])
async def test_the_trap_catches_each_door(lenient: tuple[Estate, Tenant], name: str) -> None:
    async with Trap().open() as trap:
        with WATCH.watching():
            await DOORS[name](*lenient, [f"https://127.0.0.1:{trap.port}/"])
        assert trap.accepted > 0
        assert set(WATCH.dialled) == {"127.0.0.1"}


async def test_an_endpoint_by_name_is_looked_up_and_refused(strict: tuple[Estate, Tenant]) -> None:
    with WATCH.watching():
        await a_new_webhook_endpoint(*strict, ["https://own.example/"])
    assert WATCH.asked == {"own.example": 1}
    found = await strict[0].sql("notifier", "SELECT 1 FROM endpoints WHERE url LIKE '%own.example%'")
    assert found == []


async def test_a_redirect_is_never_followed(lenient: tuple[Estate, Tenant]) -> None:
    """Not even to where the operator allows, to another scheme, or without a host."""
    async with Trap().open() as first, Trap().open() as second:
        for place in (
            f"http://127.0.0.1:{second.port}/",
            f"//127.0.0.1:{second.port}/",
            "file:///etc/passwd",
            "/again",
        ):
            for status in (301, 302, 303, 307, 308):
                first.accepted = 0
                first.answer = b"HTTP/1.1 %d x\r\nLocation: %b\r\nRefresh: 0; url=%b\r\nContent-Length: 0\r\n\r\n" % (
                    status, place.encode(), place.encode(),
                )  # fmt: skip
                url = f"http://127.0.0.1:{first.port}/"
                await an_address_in_the_verify_form(*lenient, [url])
                await verified(lenient[0], {"url": url})
                assert (first.accepted, second.accepted) == (2, 0), (status, place)
        await a_webhook_delivery(*lenient, [url])
        assert (first.accepted, second.accepted) == (3, 0)


async def test_what_a_credential_only_mentions_is_never_fetched(lenient: tuple[Estate, Tenant]) -> None:
    """Contexts, schemas, evidence, pictures, refresh services, terms: not where the operator allows it, either."""
    estate, tenant = lenient
    async with Trap().open() as trap:
        url = f"http://127.0.0.1:{trap.port}/x"
        subject = copy.deepcopy(BADGE["credentialSubject"])
        subject["achievement"] |= {"image": {"id": url, "type": "Image"}, "criteria": {"id": url, "narrative": "x"}}
        mentions = {
            "credentialSchema": [{"id": url, "type": "1EdTechJsonSchemaValidator2019"}],
            "termsOfUse": [{"type": "x", "id": url}],
            "refreshService": {"id": url, "type": "1EdTechCredentialRefresh"}, "image": {"id": url, "type": "Image"},
            "evidence": [{"id": url, "type": ["Evidence"]}], "credentialSubject": subject,
            "issuer": {**BADGE["issuer"], "image": {"id": url, "type": "Image"}, "url": url},
        }  # fmt: skip
        with WATCH.watching():
            await verified(estate, signed({**BADGE, **mentions}))
            await verified(estate, signed({**BADGE, "@context": [*BADGE["@context"], url]}))
            await sent(estate, None, "POST", "/verify", data={"credential": json.dumps(signed({**BADGE, **mentions}))})
            await sent(
                estate, tenant, "POST", "/issuer/v1/profiles",
                json={"slug": "mentions", "name": "M", "url": url, "image": url},
            )  # fmt: skip
            await sent(
                estate, tenant, "POST", "/assessment/v1/achievements",
                json={"name": "M", "description": "M", "criteria": {"id": url}, "policy": {"minimum_score": 1},
                "image": url},
            )  # fmt: skip
        assert trap.accepted == 0
        assert WATCH.dialled == WATCH.looked_up == []


async def test_the_picture_of_a_badge_comes_from_our_own_origin_alone(strict: tuple[Estate, Tenant]) -> None:
    """The one client that may reach any network dials our own host only, whatever an indexed badge names."""
    estate, _ = strict
    async with Trap().open() as trap:
        urls = [
            f"https://127.0.0.1:{trap.port}/achievements/1/image?v=1",
            f"{BASE_URL}@127.0.0.1:{trap.port}/achievements/1?v=1",
            f"{BASE_URL}.127.0.0.1/achievements/1?v=1", f"{BASE_URL}/achievements/../../x?v=1",
            f"{BASE_URL}/achievements/\\@127.0.0.1:{trap.port}/?v=1",
            f"{BASE_URL}/achievements//127.0.0.1:{trap.port}/?v=1",
        ]  # fmt: skip
        issuer = TestIssuer("pictures", base_url=BASE_URL)
        events = []
        for number, url in enumerate(urls, start=7000):
            made = issuer.badge(number)
            made["credentialSubject"]["achievement"]["image"] = {"id": url, "type": "Image"}
            events.append(issued(made, number))
        await estate_feed(estate, issuer.published(), *events)
        with WATCH.watching():
            for number in range(7000, 7000 + len(urls)):
                path = f"/c/00000000-0000-8000-8000-{number:012d}"
                for suffix in ("badge.png", "badge.svg", "image", ""):
                    answer = await estate.http.get(f"{path}/{suffix}".rstrip("/"))
                    assert answer.status_code in (200, 404), answer.text
        assert trap.accepted == 0
        assert set(WATCH.asked) <= {urlsplit(BASE_URL).hostname}


async def estate_feed(estate: Estate, *events: Any) -> None:
    """Through the bus into the services."""
    from tests.component.verifier.conftest import Verifier

    verifier = Verifier(estate.services["verifier"], estate.http, estate.bus, estate.settings["verifier"], None)  # type: ignore[arg-type]
    await verifier.publish(*events)
    await estate.settle()
