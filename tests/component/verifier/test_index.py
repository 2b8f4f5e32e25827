"""What events lead to: exactly one row with the exact bytes, statuses that only go forward, and who may see what."""

from __future__ import annotations

from typing import Any

import msgspec

from laurel.credential import jose, model
from laurel.credential.lint import lint
from laurel.events import EndorsementIssued
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import (
    BASE_URL,
    NOW,
    TENANT,
    TestIssuer,
    changed,
    credential_id,
    issued,
    to_bytes,
)

OTHER = "019a0000-0000-7000-8000-000000000002"


async def statuses(verifier: Verifier) -> dict[str, tuple[str, int]]:
    rows = await verifier.rows("SELECT credential_id, status, status_version FROM credentials")
    return {row["credential_id"]: (row["status"], row["status_version"]) for row in rows}


async def test_one_row_with_the_exact_bytes_however_often_the_event_comes(
    verifier: Verifier, issuer: TestIssuer
) -> None:
    documents = [issuer.badge(number) for number in (1, 2, 3)]
    events = [issued(document, number) for number, document in enumerate(documents, 1)]
    await verifier.feed(*events, *events)  # doubled in one batch
    await verifier.feed(*events)  # and redelivered later
    rows = await verifier.rows("SELECT credential_id, document FROM credentials ORDER BY credential_id")
    assert [row["document"] for row in rows] == [to_bytes(document) for document in documents]
    assert await verifier.dead_letters() == []


async def test_bytes_are_kept_although_another_encoder_would_write_others(
    verifier: Verifier, issuer: TestIssuer
) -> None:
    raw = to_bytes(issuer.badge()).replace(b'"type":', b'"type" :  ').replace(b"Data Literacy", b"D\\u0061ta Literacy")
    await verifier.feed(issued(issuer.badge(), document=msgspec.Raw(raw)))
    assert [row["document"] for row in await verifier.rows("SELECT document FROM credentials")] == [raw]


async def test_a_credential_in_a_token_is_indexed_as_it_is(verifier: Verifier, issuer: TestIssuer) -> None:
    tokens = {}
    for number in (1, 2):
        unsigned = {name: value for name, value in issuer.badge(number).items() if name != "proof"}
        token = jose.sign_vc_jose(lint(unsigned, issuer=issuer.did), issuer.signer)
        tokens[number] = issued(unsigned, number, document=msgspec.Raw(b'"' + token + b'"'))
    of_another = msgspec.structs.replace(tokens[1], credential_id=credential_id(3))
    broken = msgspec.structs.replace(tokens[2], document=msgspec.Raw(b'"a.b.c"'))
    await verifier.feed(tokens[1], of_another, broken)
    rows = await verifier.rows("SELECT document FROM credentials")
    assert [row["document"] for row in rows] == [bytes(tokens[1].document)]
    assert sorted(await verifier.dead_letters()) == ["bad_document", "id_mismatch"]  # keys of two partitions


async def test_statuses_apply_by_version_and_never_backwards(verifier: Verifier, issuer: TestIssuer) -> None:
    await verifier.feed(issued(issuer.badge()), changed(1, 1, "suspended"), changed(1, 3, "revoked"))
    assert await statuses(verifier) == {credential_id(1): ("revoked", 3)}
    await verifier.feed(changed(1, 2, "active"))  # alone in its batch: only the row can know better
    assert await statuses(verifier) == {credential_id(1): ("revoked", 3)}
    await verifier.feed(changed(1, 2, "active"), changed(1, 3, "revoked"), changed(1, 1, "suspended"))
    assert await statuses(verifier) == {credential_id(1): ("revoked", 3)}
    await verifier.feed(changed(1, 4, "active"))
    assert await statuses(verifier) == {credential_id(1): ("active", 4)}
    await verifier.feed(issued(issuer.badge()))  # its issue, redelivered, resets nothing
    assert await statuses(verifier) == {credential_id(1): ("active", 4)}
    assert await verifier.dead_letters() == []


async def test_a_status_of_nothing_is_a_dead_letter_and_the_rest_goes_on(
    verifier: Verifier, issuer: TestIssuer
) -> None:
    await verifier.feed(issued(issuer.badge()), changed(9, 1, "revoked"), changed(1, 1, "suspended"))
    assert await statuses(verifier) == {credential_id(1): ("suspended", 1)}
    assert await verifier.dead_letters() == ["unknown_credential"]


async def test_another_tenant_cannot_change_a_status(verifier: Verifier, issuer: TestIssuer) -> None:
    await verifier.feed(issued(issuer.badge()), changed(1, 1, "revoked", tenant_id=OTHER))
    assert await statuses(verifier) == {credential_id(1): ("active", 0)}
    assert await verifier.dead_letters() == ["unknown_credential"]


async def test_an_event_that_contradicts_its_document_is_a_dead_letter(verifier: Verifier, issuer: TestIssuer) -> None:
    good = issuer.badge(1)
    await verifier.feed(
        issued(good, 2),  # another id than the document's
        issued(good, 1, issuer="did:web:else.example"),
        issued(good, 3, document=msgspec.Raw(b'{"id": 7}')),
        issued(good, 1),
    )
    assert list(await statuses(verifier)) == [credential_id(1)]
    assert sorted(await verifier.dead_letters()) == ["bad_document", "id_mismatch", "issuer_mismatch"]


async def test_a_credential_never_gets_other_bytes(verifier: Verifier, issuer: TestIssuer) -> None:
    first, second = issuer.badge(), issuer.badge(name="Another name")
    await verifier.feed(issued(first), issued(second), issued(first))
    assert [row["document"] for row in await verifier.rows("SELECT document FROM credentials")] == [to_bytes(first)]
    assert await verifier.dead_letters() == ["document_differs"]
    await verifier.feed(issued(second), issued(first, tenant_id=OTHER))
    assert await verifier.dead_letters() == ["document_differs"] * 3


async def test_issuers_only_grow(verifier: Verifier, issuer: TestIssuer) -> None:
    newer = issuer.published(3, profile={"id": issuer.did, "name": "Newer"})
    await verifier.feed(issuer.published(1), newer, issuer.published(2))
    rows = await verifier.rows("SELECT version, profile FROM known_issuers")
    assert [(row["version"], msgspec.json.decode(row["profile"])["name"]) for row in rows] == [(3, "Newer")]


async def test_a_did_document_of_somebody_else_is_refused(verifier: Verifier, issuer: TestIssuer) -> None:
    await verifier.feed(issuer.published(did_document=TestIssuer(slug="other").did_document()))
    assert await verifier.dead_letters() == ["did_mismatch"]
    assert await verifier.rows("SELECT did FROM known_issuers") == []


async def test_reports_are_a_tenants_own(verifier: Verifier, issuer: TestIssuer) -> None:
    await verifier.feed(
        issuer.published(),
        *(issued(issuer.badge(number), number) for number in (1, 2, 3)),
        issued(issuer.badge(4), 4, course_run="run-2"),
        issued(issuer.badge(5), 5, tenant_id=OTHER),
        changed(2, 1, "revoked"), changed(3, 1, "suspended"), changed(8, 1, "revoked"),
    )  # fmt: skip
    mine, theirs = await verifier.api_key(), await verifier.api_key(OTHER)
    weak = await verifier.api_key(scopes=("results:read",))

    async def get(path: str, key: dict[str, str] | None) -> Any:
        answer = await verifier.client.get(f"/verifier/v1/{path}", headers=key or {})
        return answer.json() if answer.status_code == 200 else answer.status_code

    found = await get("reports/reconcile", mine)
    assert found["service"] == "verifier"
    assert found["counts"] == {"indexed": 4, "active": 2, "suspended": 1, "revoked": 1, "dead_lettered": 1}
    assert (await get("reports/reconcile?course_run=run-2", mine))["counts"]["indexed"] == 1
    assert (await get("reports/reconcile", theirs))["counts"]["indexed"] == 1
    assert await get("reports/credentials?course_run=run-1", mine) == {
        "items": [credential_id(number) for number in (1, 2, 3)], "next": None,
    }  # fmt: skip
    page = await get("reports/credentials?limit=3", mine)
    assert page["next"] == credential_id(3)
    rest = await get(f"reports/credentials?limit=3&after={page['next']}", mine)
    assert rest == {"items": [credential_id(4)], "next": None}
    letters = await get("dead-letters", mine)
    assert [letter["code"] for letter in letters["items"]] == ["unknown_credential"]
    assert (await get("dead-letters", theirs))["items"] == []
    for path in ("reports/reconcile", "reports/credentials", "dead-letters"):
        assert await get(path, None) == 401
        assert await get(path, weak) == 403
    assert await get("reports/credentials?limit=10001", mine) == 422
    assert await get("reports/credentials?course_run=%00", mine) == 422
    assert mine != theirs
    assert TENANT != OTHER


async def test_the_api_role_sees_one_public_row_and_no_more(verifier: Verifier, issuer: TestIssuer) -> None:
    await verifier.feed(issuer.published(), *(issued(issuer.badge(number), number) for number in (1, 2)))
    async with verifier.service.database.transaction(public_id=credential_id(1)) as tx:
        assert await tx.fetchval("SELECT count(*) FROM credentials") == 1
        assert await tx.fetchval("SELECT count(*) FROM known_issuers") == 0
    async with verifier.service.database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM credentials") == 0


async def test_the_docs_tell_the_shape_of_every_answer(verifier: Verifier) -> None:
    paths = (await verifier.client.get("/verifier/v1/openapi.json")).json()["paths"]
    for path, operations in paths.items():
        for operation in operations.values():
            for code, answer in operation["responses"].items():
                if code.startswith("2"):
                    assert all("$ref" in content["schema"] for content in answer["content"].values()), path


async def test_an_endorsement_is_indexed_shown_and_not_counted_as_a_badge(
    verifier: Verifier, issuer: TestIssuer, one: dict[str, Any]
) -> None:
    document = issuer.sign(
        model.build_endorsement(
            id=f"{BASE_URL}/c/{credential_id(7)}", issuer=model.Profile(issuer.did, "Open University", "https://o.example"),
            subject_id="https://elsewhere.example.org/achievements/7", comment="We *teach* by it.", valid_from=NOW,
            name="Endorsement",
        ),
        "endorsement",
    )  # fmt: skip
    event = EndorsementIssued(
        tenant_id=TENANT, credential_id=credential_id(7), name="Endorsement", profile_id="profile-uni",
        subject_id="https://elsewhere.example.org/achievements/7", subject_type="Achievement", issuer=issuer.did,
        issued_at=NOW, document=msgspec.Raw(to_bytes(document)),
    )  # fmt: skip
    await verifier.feed(event, event)
    assert await verifier.dead_letters() == []
    found = await verifier.verify({"credential": document})
    assert (found["verdict"], found["credential_id"]) == ("valid", credential_id(7))
    page = await verifier.client.get(f"/c/{credential_id(7)}", headers={"Accept": "text/html"})
    assert "We *teach* by it." in page.text
    headers = await verifier.api_key()
    counts = (await verifier.client.get("/verifier/v1/reports/reconcile", headers=headers)).json()["counts"]
    assert counts["indexed"] == 1
    listed = (await verifier.client.get("/verifier/v1/reports/credentials", headers=headers)).json()["items"]
    assert listed == [credential_id(1)]
    await verifier.feed(changed(7, 1, "revoked"))
    assert (await verifier.verify({"credential": document}))["verdict"] == "revoked"
