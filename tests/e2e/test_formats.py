"""A badge in every format, by every kind of issuer id, from a result to the verifier's answer, on the embedded bus."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from laurel.credential import securing
from tests.conftest import private_postgres
from tests.e2e.cluster import OPERATOR, Cluster, cluster

BASE_URL = "https://badges.example.org"
WAYS = [
    *([name] for name in securing.SECURINGS),
    ["eddsa-rdfc-2022", "ecdsa-rdfc-2019:P-384", "ecdsa-jcs-2019"],
    ["proof-chain", "eddsa-rdfc-2022", "ecdsa-jcs-2019:P-384", "ecdsa-rdfc-2019"],
]
MEDIA_TYPES = {"data-integrity": "application/vc", "vc-jwt": "text/plain", "vc+jwt": "application/vc+jwt"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with private_postgres() as postgres:
        yield postgres.get_uri()


@pytest.fixture
async def laurel(server: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    name = f"formats_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(server)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    dsn = server.replace("/postgres?", f"/{name}?")
    async with cluster(postgres_dsn=dsn, bus_url=dsn, logs=tmp_path) as running:
        yield running


async def profile(laurel: Cluster, slug: str, **fields: Any) -> str:
    body = {"slug": slug, "name": "University", "url": "https://university.example.org", **fields}
    made = await laurel.call("POST", "/issuer/v1/profiles", 201, json=body)
    if made["identity"] != "did:key":
        await laurel.call("POST", f"/issuer/v1/profiles/{made['profile_id']}/keys", 201)
    return str(made["profile_id"])


async def achievement(laurel: Cluster, profile_id: str, **fields: Any) -> str:
    body = {
        "profile_id": profile_id, "name": "Data literacy", "description": "Questions data.",
        "criteria": {"narrative": "60 points or more in the final test."}, **fields,
    }  # fmt: skip
    made = await laurel.call("POST", "/assessment/v1/achievements", 201, json=body)
    return str(made["achievement_id"])


@pytest.mark.timeout(300)
async def test_every_format_and_identity_verifies_is_delivered_and_can_be_revoked(laurel: Cluster) -> None:
    made = await laurel.call(
        "POST", "/issuer/v1/organisations", 201, key=OPERATOR, json={"slug": "uni", "name": "University"}
    )
    laurel.api_key = made["api_key"]["text"]
    endpoint = await laurel.call(
        "POST", "/notifier/v1/endpoints", 201, json={"url": laurel.sink.url, "event_types": ["credential.issued"]}
    )
    laurel.sink.secret = endpoint["secret"]
    uni = await profile(laurel, "uni")
    web = await profile(laurel, "web", identity="https", securing=["eddsa-jcs-2022"])
    key = await profile(laurel, "key", identity="did:key", securing=["vc-jwt:ES256"])

    wanted: dict[str, tuple[str, list[str]]] = {}  # credential id → issuer's id begins with, ways
    for number, (profile_id, issuer, fields) in enumerate(
        [(uni, "did:web:", {"securing": names}) for names in WAYS]
        + [(uni, "did:web:", {"credential_type": "AchievementCredential"})]
        + [(web, "https://badges.example.org/issuers/web", {}), (web, "https://", {"securing": ["vc-jwt"]})]
        + [(key, "did:key:", {})]
    ):
        name = await achievement(laurel, profile_id, **fields)
        result = await laurel.call(
            "POST", "/assessment/v1/results", 201,
            json={"achievement": name, "learner": f"l{number}", "email": f"l{number}@example.org", "score": 80},
        )  # fmt: skip
        default = {uni: ["eddsa-rdfc-2022"], web: ["eddsa-jcs-2022"], key: ["vc-jwt:ES256"]}[profile_id]
        wanted[result["credential_id"]] = (issuer, list(fields.get("securing", default)))

    async def indexed() -> bool:
        rows = await laurel.database("SELECT count(*) FROM verifier.credentials")
        return int(rows[0][0]) == len(wanted)

    async def delivered() -> bool:
        return len(laurel.sink.received) == len(wanted)

    await laurel.until("all are indexed", indexed, 90)
    await laurel.until("all are delivered", delivered, 90)
    assert laurel.sink.bad_signatures == 0
    sent = {event["data"]["credential_id"]: event["data"]["credential"] for _, event, _ in laurel.sink.received}
    assert await laurel.database("SELECT count(*) AS n FROM verifier.dead_letters") == [(0,)]

    for credential_id, (issuer, names) in wanted.items():
        (way, *_) = securing.ways(names)
        media_type = MEDIA_TYPES[way.form]
        answer = await laurel.request("GET", f"/c/{credential_id}", headers={"Accept": media_type})
        assert answer.headers["content-type"].startswith(media_type)
        credential: Any = answer.json() if way.form == "data-integrity" else answer.text
        assert sent[credential_id] == credential
        shown = await laurel.call("GET", f"/issuer/v1/credentials/{credential_id}", 200)
        assert shown["document"] == credential
        found = await laurel.call("POST", "/verifier/v1/credentials/verify", 200, json={"credential": credential})
        assert found["verdict"] == "valid", (names, json.dumps(found, indent=1))
        assert found["credential_id"] == credential_id
        assert found["issuer"].startswith(issuer)
        page = await laurel.request("GET", f"/c/{credential_id}", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "Data literacy" in page.text

    # An endorsement goes the same way, and is counted nowhere as a badge.
    endorsed = await laurel.call(
        "POST", "/issuer/v1/endorsements", 201,
        json={
            "profile_id": web, "subject": {"id": f"{BASE_URL}/c/{credential_id}", "type": "Credential"},
            "endorsement_comment": "We saw the examination.",
        },
    )  # fmt: skip

    async def shown() -> bool:
        answer = await laurel.request("GET", f"/c/{endorsed['credential_id']}", headers={"Accept": "application/vc"})
        return answer.status_code == 200 and bool(answer.json() == endorsed["document"])

    await laurel.until("the endorsement is indexed", shown, 30)
    body = {"credential": endorsed["document"]}
    found = await laurel.call("POST", "/verifier/v1/credentials/verify", 200, json=body)
    assert (found["verdict"], found["credential_id"]) == ("valid", endorsed["credential_id"])

    reason = {"reason": "The examination was held twice."}
    for credential_id, (_, names) in wanted.items():
        await laurel.call("POST", f"/issuer/v1/credentials/{credential_id}/revoke", 200, json=reason)

        async def revoked(document: Any = sent[credential_id]) -> bool:
            found = await laurel.call("POST", "/verifier/v1/credentials/verify", 200, json={"credential": document})
            return bool(found["verdict"] == "revoked")

        await laurel.until(f"{names} is revoked", revoked, 30)

    counts = await laurel.call("GET", "/issuer/v1/reports/reconcile", 200)
    assert (counts["counts"]["issued"], counts["counts"]["revoked"]) == (len(wanted), len(wanted))
    ids = [
        set((await laurel.call("GET", f"/{service}/v1/reports/credentials", 200))["items"])
        for service in ("assessment", "issuer", "verifier")
    ]
    assert ids[0] == ids[1] == ids[2] == set(wanted)
