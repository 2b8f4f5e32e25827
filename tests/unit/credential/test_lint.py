from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from laurel.credential import lint, proofs, schema, status
from tests.unit.credential.samples import CREATED, DID, LIST_URL, PNG, SIGNER, badge, signed_badge, status_list

KEY = SIGNER.public_key_multibase

Change = Callable[[dict[str, Any]], object]


A = "/credentialSubject/achievement"


def svg(inner: str) -> str:
    content = f'<svg xmlns="http://www.w3.org/2000/svg">{inner}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(content.encode()).decode()


def subject(document: dict[str, Any]) -> dict[str, Any]:
    return document["credentialSubject"]  # type: ignore[no-any-return]


def achievement(document: dict[str, Any]) -> dict[str, Any]:
    return subject(document)["achievement"]  # type: ignore[no-any-return]


def test_the_sample_is_clean() -> None:
    linted = lint.lint(badge(), issuer=DID)
    assert linted.findings == ()
    assert linted.issuer == DID
    assert linted.document() == badge()
    assert lint.lint(status_list(1), profile="statuslist", issuer=DID).findings == ()


OPEN_BADGE: list[tuple[str, Change, str]] = [
    ("plain-json", lambda d: d.update(name=float("nan")), "/name"),
    ("plain-json", lambda d: d.update(name={1: "x"}), "/name"),
    ("plain-json", lambda d: d.update(name="\ud83d"), "/name"),
    ("plain-json", lambda d: d.update(name=b"x"), "/name"),
    ("plain-json", lambda d: d.update(name=("x",)), "/name"),
    ("size", lambda d: d.update(description="x" * 300_000), ""),
    ("no-proof", lambda d: d.update(proof=signed_badge()["proof"]), "/proof"),
    ("context-order", lambda d: d["@context"].reverse(), "/@context/0"),
    ("context-order", lambda d: d["@context"].insert(1, d["@context"].pop()), "/@context/1"),
    ("context-order", lambda d: d["@context"].append({"x": "urn:x:y"}), "/@context"),
    ("context-order", lambda d: d["@context"].append("https://evil.example/"), "/@context/3"),
    ("context-order", lambda d: d["@context"].append(d["@context"][0]), "/@context/3"),
    ("safe-expansion", lambda d: achievement(d).update(colour="blue"), "/credentialSubject/achievement/colour"),
    ("safe-expansion", lambda d: d["type"].append("Nonsense"), "/type/2"),
    ("safe-expansion", lambda d: d.update({"schema:name": "x"}), "/schema:name"),
    ("safe-expansion", lambda d: d.update(evidence=[{"id": "https://x.example/a b"}]), "/evidence/0/id"),
    ("safe-expansion", lambda d: d.update(evidence=[{"id": "https://x.example/%zz"}]), "/evidence/0/id"),
    (
        "safe-expansion",
        lambda d: d["issuer"].update(image={"id": "https://x.example/%", "type": "Image"}),
        "/issuer/image/id",
    ),
    ("absolute-ids", lambda d: d.update(id="badge-1"), "/id"),
    ("absolute-ids", lambda d: d.pop("id"), "/id"),
    ("absolute-ids", lambda d: achievement(d).update(id="http://"), "/credentialSubject/achievement/id"),
    ("absolute-ids", lambda d: d["evidence"][0].update(id="ftp://x.example/y"), "/evidence/0/id"),
    ("absolute-ids", lambda d: subject(d).update(id="did:web"), "/credentialSubject/id"),
    ("absolute-ids", lambda d: d.update(issuer="https://user:secret@x.example/"), "/issuer"),
    ("absolute-ids", lambda d: d["issuer"].pop("id"), "/issuer"),
    ("issuer-key", lambda d: d["issuer"].update(id="did:web:evil.example"), "/issuer"),
    ("dates", lambda d: d.update(validFrom="2026-05-04T12:30:00"), "/validFrom"),
    ("dates", lambda d: d.pop("validFrom"), "/validFrom"),
    ("dates", lambda d: d.update(awardedDate="2026-02-29T00:00:00Z"), "/awardedDate"),
    ("dates", lambda d: d.update(awardedDate="2026-05-04"), "/awardedDate"),
    ("dates", lambda d: d.update(validUntil="2026-05-04T12:29:59Z"), "/validUntil"),
    (
        "dates",
        lambda d: subject(d).update(activityStartDate="2026-05-05T00:00:00Z"),
        "/credentialSubject/activityEndDate",
    ),
    ("clean-text", lambda d: d.update(name="Cafe\u0301"), "/name"),
    ("clean-text", lambda d: d.update(name="a\u202eb"), "/name"),
    ("clean-text", lambda d: d.update(name="a\x00b"), "/name"),
    ("clean-text", lambda d: d["issuer"].update(name="undefined"), "/issuer/name"),
    ("clean-text", lambda d: d.update(name="Null"), "/name"),
    ("clean-text", lambda d: achievement(d)["tag"].append("[object Object]"), "/credentialSubject/achievement/tag/2"),
    ("clean-text", lambda d: d.update(description="Dear {{ learner }}"), "/description"),
    ("clean-text", lambda d: d.update(description="<b>bold</b>"), "/description"),
    (
        "clean-text",
        lambda d: achievement(d)["criteria"].update(narrative="ok <script>alert(1)</script>"),
        "/credentialSubject/achievement/criteria/narrative",
    ),
    ("no-empty-values", lambda d: d.update(description=""), "/description"),
    ("no-empty-values", lambda d: d.update(description=" \t"), "/description"),
    ("no-empty-values", lambda d: achievement(d).update(tag=[]), "/credentialSubject/achievement/tag"),
    ("no-empty-values", lambda d: d.update(validUntil=None), "/validUntil"),
    ("status-entries", lambda d: d["credentialStatus"].update(type="StatusList2021Entry"), "/credentialStatus/type"),
    ("status-entries", lambda d: d["credentialStatus"].update(statusListIndex=5), "/credentialStatus/statusListIndex"),
    (
        "status-entries",
        lambda d: d["credentialStatus"].update(statusListIndex="-1"),
        "/credentialStatus/statusListIndex",
    ),
    (
        "status-entries",
        lambda d: d["credentialStatus"].update(statusListIndex="007"),
        "/credentialStatus/statusListIndex",
    ),
    (
        "status-entries",
        lambda d: d["credentialStatus"].update(statusListCredential="urn:x:y"),
        "/credentialStatus/statusListCredential",
    ),
    ("status-entries", lambda d: d["credentialStatus"].update(id=LIST_URL), "/credentialStatus/id"),
    ("status-entries", lambda d: d["credentialStatus"].pop("statusPurpose"), "/credentialStatus/statusPurpose"),
    ("status-entries", lambda d: d.update(credentialStatus=[d["credentialStatus"]] * 2), "/credentialStatus/1"),
    (
        "status-entries",
        lambda d: d.update(
            credentialStatus=[d["credentialStatus"], {**d["credentialStatus"], "statusPurpose": "suspension"}]
        ),
        "/credentialStatus/1",
    ),
    ("status-entries", lambda d: d.update(credentialStatus="https://x.example/"), "/credentialStatus"),
    ("open-badge-type", lambda d: d["type"].remove("OpenBadgeCredential"), "/type"),
    ("open-badge-type", lambda d: d["type"].remove("VerifiableCredential"), "/type"),
    (
        "open-badge-schema",
        lambda d: achievement(d).update(achievementType="Medal"),
        "/credentialSubject/achievement/achievementType",
    ),
    (
        "open-badge-schema",
        lambda d: subject(d)["identifier"][0].update(name="Ada"),
        "/credentialSubject/identifier/0",
    ),
    (
        "open-badge-schema",
        lambda d: achievement(d)["alignment"][1].pop("targetName"),
        "/credentialSubject/achievement/alignment/1",
    ),
    ("credential-schema", lambda d: d.pop("credentialSchema"), "/credentialSchema"),
    ("credential-schema", lambda d: d["credentialSchema"][0].update(type="JsonSchema"), "/credentialSchema"),
    ("achievement-complete", lambda d: achievement(d).pop("name"), "/credentialSubject/achievement/name"),
    ("achievement-complete", lambda d: achievement(d).pop("description"), "/credentialSubject/achievement/description"),
    ("achievement-complete", lambda d: achievement(d).pop("criteria"), "/credentialSubject/achievement/criteria"),
    ("achievement-complete", lambda d: achievement(d)["criteria"].clear(), "/credentialSubject/achievement/criteria"),
    ("achievement-complete", lambda d: subject(d).pop("achievement"), "/credentialSubject"),
    ("recipient", lambda d: subject(d).pop("identifier"), "/credentialSubject"),
    ("recipient", lambda d: subject(d).update(id="did:key:z6Mk"), "/credentialSubject/id"),
    (
        "recipient",
        lambda d: subject(d)["identifier"][0].update(hashed=False, identityHash="ada@example.org"),
        "/credentialSubject/identifier/0/hashed",
    ),
    (
        "recipient",
        lambda d: subject(d)["identifier"][0].update(identityHash="sha256$abc"),
        "/credentialSubject/identifier/0/identityHash",
    ),
    ("images", lambda d: d["issuer"].update(image={"id": "urn:x:logo", "type": "Image"}), "/issuer/image/id"),
    ("images", lambda d: d["issuer"].update(image={"id": svg("<script/>"), "type": "Image"}), "/issuer/image/id"),
    (
        "images",
        lambda d: achievement(d).update(image={"id": svg('<g onload="x()"/>'), "type": "Image"}),
        f"{A}/image/id",
    ),
    (
        "images",
        lambda d: achievement(d)["image"].update(id="data:image/gif;base64,R0lGODlhAQABAAAAACw="),
        "/credentialSubject/achievement/image/id",
    ),
    (
        "images",
        lambda d: achievement(d)["image"].update(id="data:image/png;base64," + base64.b64encode(b"no png").decode()),
        "/credentialSubject/achievement/image/id",
    ),
    (
        "alignments",
        lambda d: achievement(d)["alignment"][0].update(targetUrl="esco/1"),
        "/credentialSubject/achievement/alignment/0/targetUrl",
    ),
    ("languages", lambda d: achievement(d).update(inLanguage="english"), "/credentialSubject/achievement/inLanguage"),
    (
        "results",
        lambda d: subject(d)["result"][0].update(resultDescription="urn:x:other"),
        "/credentialSubject/result/0/resultDescription",
    ),
    ("results", lambda d: subject(d)["result"][0].update(value="101"), "/credentialSubject/result/0/value"),
    ("results", lambda d: subject(d)["result"][0].update(value="-1"), "/credentialSubject/result/0/value"),
    (
        "results",
        lambda d: achievement(d)["resultDescription"][0].update(allowedValue=["A", "B"]),
        "/credentialSubject/result/0/value",
    ),
]


@pytest.mark.parametrize(
    ("rule", "change", "pointer"), OPEN_BADGE, ids=[f"{number}-{case[0]}" for number, case in enumerate(OPEN_BADGE)]
)
def test_each_rule_finds_its_flaw(rule: str, change: Change, pointer: str) -> None:
    document = badge()
    change(document)
    with pytest.raises(lint.LintError) as refused:
        lint.lint(document, issuer=DID)
    found = [finding for finding in refused.value.findings if finding.rule == rule and finding.level == "error"]
    assert pointer in {finding.pointer for finding in found}, refused.value.findings
    assert all(finding.clause and finding.message for finding in found)


STATUS_LIST: list[tuple[str, Change, str]] = [
    ("status-list", lambda d: d["type"].pop(), "/type"),
    ("status-list", lambda d: d.update(id="urn:x:list"), "/id"),
    ("status-list", lambda d: subject(d).update(type="BitstringStatusListEntry"), "/credentialSubject/type"),
    ("status-list", lambda d: subject(d).pop("statusPurpose"), "/credentialSubject/statusPurpose"),
    ("status-list", lambda d: subject(d).update(ttl=0), "/credentialSubject/ttl"),
    ("status-list", lambda d: subject(d).update(ttl=1.5), "/credentialSubject/ttl"),
    (
        "status-list",
        lambda d: subject(d).update(encodedList=subject(d)["encodedList"][1:]),
        "/credentialSubject/encodedList",
    ),
    (
        "status-list",
        lambda d: subject(d).update(encodedList="uH4sIAAAAAAAC_wMAAAAAAAAAAAA"),
        "/credentialSubject/encodedList",
    ),
    ("status-list", lambda d: d.update(credentialSubject=[subject(d)] * 2), "/credentialSubject"),
    ("issuer-key", lambda d: d.update(issuer="did:web:evil.example"), "/issuer"),
    ("context-order", lambda d: d.update({"@context": ["https://www.w3.org/ns/did/v1"]}), "/@context/0"),
    ("safe-expansion", lambda d: subject(d).update(colour="blue"), "/credentialSubject/colour"),
    ("dates", lambda d: d.update(validUntil="2020-01-01T00:00:00Z"), "/validUntil"),
    ("no-proof", lambda d: d.update(proof={}), "/proof"),
]


@pytest.mark.parametrize(
    ("rule", "change", "pointer"), STATUS_LIST, ids=[f"{number}-{case[0]}" for number, case in enumerate(STATUS_LIST)]
)
def test_status_lists_are_held_to_their_own_rules(rule: str, change: Change, pointer: str) -> None:
    document = status_list(7)
    change(document)
    with pytest.raises(lint.LintError) as refused:
        lint.lint(document, profile="statuslist", issuer=DID)
    assert (rule, pointer) in {(finding.rule, finding.pointer) for finding in refused.value.findings}


def test_every_rule_has_a_flaw_above() -> None:
    assert {case[0] for case in OPEN_BADGE} == set(lint.rules("openbadge"))
    assert {"status-list"} == set(lint.rules("statuslist")) - set(lint.rules("openbadge"))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(issuer=d["issuer"]["id"]),
        lambda d: d.update(validUntil="2027-05-04T14:30:00.5+02:00"),
        lambda d: d.update(name="Größe < 5 & x > 3"),
        lambda d: d.update(name="Nullsummenspiele verstehen"),
        lambda d: d.update(name="شهادة \u200fفي البيانات"),
        lambda d: subject(d).update(id="did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"),
        lambda d: d.update(id="urn:uuid:7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        lambda d: achievement(d).update(inLanguage="zh-Hant-TW"),
        lambda d: achievement(d)["image"].update(id="https://x.example/a.svg"),
        lambda d: d.update(
            credentialStatus=[d["credentialStatus"], status.status_entry(LIST_URL + "/s", 5, "suspension")]
        ),
        lambda d: subject(d)["result"][0].pop("resultDescription"),
        lambda d: subject(d).update(image={"id": PNG, "type": "Image"}),
    ],
)
def test_what_is_right_passes(change: Change) -> None:
    document = badge()
    change(document)
    assert lint.lint(document, issuer=DID).findings == ()


def test_doubtful_is_a_warning_and_passes() -> None:
    document = badge()
    identity = subject(document)["identifier"][0]
    identity["identityHash"] = "md5$" + "0" * 32
    del identity["salt"]
    del document["name"]
    findings = lint.lint(document, issuer=DID).findings
    assert {finding.level for finding in findings} == {"warning"}
    assert {finding.rule for finding in findings} == {"recipient", "achievement-complete"}


@pytest.mark.parametrize("document", [None, [], "x", {}, {"@context": 5}, {"issuer": 5}, {"credentialSubject": [1]}])
@pytest.mark.parametrize("profile", ["openbadge", "statuslist"])
def test_anything_else_is_refused_by_name(document: Any, profile: lint.Profile) -> None:
    with pytest.raises(lint.LintError):
        lint.lint(document, profile=profile)


def test_deep_documents_are_refused() -> None:
    document: dict[str, Any] = badge()
    for _ in range(5000):
        document = {"a": document}
    with pytest.raises(lint.LintError, match="levels"):
        lint.lint(document)


def test_the_error_tells_the_operator_where() -> None:
    document = badge()
    del achievement(document)["criteria"]
    with pytest.raises(lint.LintError, match="/credentialSubject/achievement") as refused:
        lint.lint(document, issuer=DID)
    assert "more" in str(refused.value) or len(refused.value.findings) == 1


def test_the_schema_is_compiled_once() -> None:
    schema.accepts.cache_clear()
    for _ in range(3):
        schema.open_badge_findings(json.loads(json.dumps(badge())))
    assert schema.accepts.cache_info().misses == 1


@pytest.mark.parametrize("identifier", ["https://x.example/%zz", "https://x.example/a[b", "https://x.example/\ue000"])
def test_whatever_passes_can_be_signed(identifier: str) -> None:
    """Oddities that only the RDF parser knows are found by the lint, not by the signer."""
    document = badge()
    document["evidence"][0]["id"] = identifier
    try:
        linted = lint.lint(document, issuer=DID)
    except lint.LintError:
        return
    assert identifier.encode() in linted.canonical_nquads
    assert proofs.verify_proof(signed := proofs.sign(linted, SIGNER, CREATED), signed["proof"], KEY).ok
