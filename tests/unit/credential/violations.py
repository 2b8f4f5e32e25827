"""Documents that violate one rule of `lint` each: `case(rule, place, change)` changes a sample that is clean."""

# ruff: noqa: E501 - tables of values

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from laurel.credential import contexts, lint, status
from laurel.credential.multibase import base64url_encode
from tests.unit.credential.samples import (
    ACHIEVEMENT,
    BASE,
    DID,
    LIST_URL,
    NOW,
    RESULT_DESCRIPTION,
    SIGNER,
    badge,
    endorsement,
    signed_badge,
    status_list,
)

Change = Callable[[dict[str, Any]], object]
SAMPLES: dict[lint.Profile, Callable[[], dict[str, Any]]] = {
    "openbadge": badge,
    "endorsement": endorsement,
    "statuslist": lambda: status_list(7),
}
METHOD = SIGNER.verification_method

S, A, I = "/credentialSubject", "/credentialSubject/achievement", "/credentialSubject/identifier/0"  # noqa: E741
D, E = f"{A}/resultDescription/0", "/credentialStatus"


class Case(NamedTuple):
    """A change of the sample of `profile` after which exactly `rule` finds something, at `place`."""

    rule: str
    place: str
    change: Change
    profile: lint.Profile = "openbadge"
    keys: tuple[lint.SigningKey, ...] = ()

    def document(self) -> dict[str, Any]:
        document = copy.deepcopy(SAMPLES[self.profile]())
        self.change(document)
        return document


def sub(document: dict[str, Any]) -> dict[str, Any]:
    return document["credentialSubject"]  # type: ignore[no-any-return]


def ach(document: dict[str, Any]) -> dict[str, Any]:
    return sub(document)["achievement"]  # type: ignore[no-any-return]


def described(document: dict[str, Any]) -> dict[str, Any]:
    return ach(document)["resultDescription"][0]  # type: ignore[no-any-return]


def entry(document: dict[str, Any]) -> dict[str, Any]:
    return document["credentialStatus"]  # type: ignore[no-any-return]


def second(**changes: Any) -> Change:
    """Another status entry beside the first."""
    other = {**status.status_entry(f"{BASE}/status/8", 5, "suspension"), **changes}
    return lambda d: d.update(credentialStatus=[entry(d), other])


def svg(inner: str) -> str:
    content = f'<svg xmlns="http://www.w3.org/2000/svg">{inner}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(content.encode()).decode()


def jws(header: str, payload: str, signature: str = "c2ln") -> str:
    return f"{base64url_encode(header.encode())}.{base64url_encode(payload.encode())}.{signature}"


def rubric(d: dict[str, Any]) -> object:
    """The grade is given in levels."""
    names = ("low", "high")
    levels = [{"id": f"urn:x:{one}", "type": ["RubricCriterionLevel"], "name": one} for one in names]
    described(d).update(resultType="RubricCriterionLevel", rubricCriterionLevel=levels)
    return sub(d)["result"][0].update(achievedLevel="urn:x:high")


def messages(count: int) -> list[dict[str, str]]:
    return [{"status": hex(number), "message": f"message {number}"} for number in range(count)]


def embedded(about: str) -> dict[str, Any]:
    inner = endorsement()
    inner["credentialSubject"]["id"] = about
    inner["credentialSubject"]["endorsementComment"] = "Well made."
    return inner


CASES: list[Case] = [
    Case("plain-json", "/name", lambda d: d.update(name=float("nan"))),
    Case("plain-json", "/name", lambda d: d.update(name={1: "x"})),
    Case("plain-json", "/name", lambda d: d.update(name="\ud83d")),
    Case("plain-json", "/name", lambda d: d.update(name=b"x")),
    Case("plain-json", "/name", lambda d: d.update(name=("x",))),
    Case("size", "", lambda d: d.update(evidence=[{"id": f"https://lms.example/{n}", "type": ["Evidence"], "narrative": "x" * 9000} for n in range(30)])),
    Case("complexity", "", lambda d: ach(d).update(tag=[f"t{n}" for n in range(5001)])),
    Case("no-proof", "/proof", lambda d: d.update(proof=signed_badge()["proof"])),
    Case("no-proof", "/proof", lambda d: d.update(proof=signed_badge()["proof"]), "statuslist"),
    Case("context-order", "/@context/0", lambda d: d["@context"].reverse()),
    Case("context-order", "/@context/1", lambda d: d["@context"].insert(1, d["@context"].pop())),
    Case("context-order", "/@context/3", lambda d: d["@context"].append(d["@context"][0])),
    Case("context-order", "/@context/0", lambda d: d.update({"@context": ["https://www.w3.org/ns/did/v1"]}), "statuslist"),
    Case("context-pinned", "/@context/3", lambda d: d["@context"].append("https://evil.example/")),
    Case("context-pinned", "/@context/3", lambda d: d["@context"].append({"x": "urn:x:y"})),
    Case("context-pinned", f"{A}/@context", lambda d: ach(d).update({"@context": "https://evil.example/"})),
    Case("context-pinned", f"{A}/@context/0", lambda d: ach(d).update({"@context": [{"name": "https://x.example/"}]})),
    Case("described-once", f"{A}/creator/id", lambda d: ach(d)["creator"].update(name="Somebody")),
    Case("no-empty-values", "/description", lambda d: d.update(description="")),
    Case("no-empty-values", "/description", lambda d: d.update(description=" \t")),
    Case("no-empty-values", f"{A}/tag", lambda d: ach(d).update(tag=[])),
    Case("no-empty-values", "/validUntil", lambda d: d.update(validUntil=None)),
    Case("credential-id", "/id", lambda d: d.update(id="badge-1")),
    Case("credential-id", "/id", lambda d: d.pop("id")),
    Case("credential-id", "/id", lambda d: d.pop("id"), "endorsement"),
    Case("absolute-ids", f"{A}/id", lambda d: ach(d).update(id="http://")),
    Case("absolute-ids", "/evidence/0/id", lambda d: d["evidence"][0].update(id="ftp://x.example/y")),
    Case("absolute-ids", "/evidence/0/id", lambda d: d["evidence"][0].update(id="https://x.example/%zz")),
    Case("absolute-ids", f"{S}/id", lambda d: sub(d).update(id="did:web")),
    Case("absolute-ids", f"{A}/criteria/id", lambda d: ach(d)["criteria"].update(id="/criteria")),
    Case("https-urls", "/issuer/url", lambda d: d["issuer"].update(url="http://open.example/")),
    Case("https-urls", "/issuer/image/id", lambda d: d["issuer"]["image"].update(id="HTTP://open.example/logo.svg")),
    Case("issuer-id", "/issuer", lambda d: d["issuer"].pop("id")),
    Case("issuer-id", "/issuer/id", lambda d: d["issuer"].update(id="https://user:secret@x.example/")),
    Case("issuer-id", "/issuer/id", lambda d: d["issuer"].update(id="http://x.example/")),
    Case("issuer-id", "/issuer/id", lambda d: d["issuer"].update(id="did:example:x")),
    Case("issuer-id", "/issuer/id", lambda d: d["issuer"].update(id="did:key:z6Mk")),
    Case("issuer-id", "/issuer/id", lambda d: d["issuer"].update(id=METHOD)),
    Case("issuer-profile", "/issuer", lambda d: d.update(issuer=DID)),
    Case("issuer-profile", "/issuer/name", lambda d: d["issuer"].pop("name")),
    Case("contacts", "/issuer/url", lambda d: d["issuer"].update(url="open.example")),
    Case("contacts", "/issuer/email", lambda d: d["issuer"].update(email="badges at open.example")),
    Case("contacts", "/issuer/phone", lambda d: d["issuer"].update(phone="call us")),
    Case("contacts", "/issuer/address/addressCountryCode", lambda d: d["issuer"].update(address={"type": ["Address"], "addressCountryCode": "Greece"})),
    Case("contacts", "/issuer/address/geo/latitude", lambda d: d["issuer"].update(address={"type": ["Address"], "geo": {"type": "GeoCoordinates", "latitude": 91, "longitude": 8.5}})),
    Case("issuer-key", "/issuer", lambda d: d["issuer"].update(id="did:web:evil.example")),
    Case("issuer-key", "/issuer", lambda d: None, keys=(lint.SigningKey("did:web:evil.example#key-1"),)),
    Case("issuer-key", "/issuer", lambda d: None, keys=(lint.SigningKey(DID),)),
    Case("issuer-key", "/issuer", lambda d: d.update(issuer="did:web:evil.example"), "statuslist"),
    Case("key-active", "/issuer", lambda d: None, keys=(lint.SigningKey(METHOD), lint.SigningKey(f"{DID}#key-0", compromised=True))),
    Case("key-active", "/issuer", lambda d: None, keys=(lint.SigningKey(METHOD, active_until=NOW - timedelta(minutes=6)),)),
    Case("timestamps", "/validFrom", lambda d: d.update(validFrom="2026-05-04T12:30:00")),
    Case("timestamps", "/validFrom", lambda d: d.pop("validFrom")),
    Case("timestamps", "/awardedDate", lambda d: d.update(awardedDate="2026-02-29T00:00:00Z")),
    Case("timestamps", "/awardedDate", lambda d: d.update(awardedDate="2026-05-04")),
    # XML Schema allows these; too few programs read them.
    Case("timestamps", "/awardedDate", lambda d: d.update(awardedDate="2026-05-03T24:00:00Z")),
    Case("timestamps", "/validFrom", lambda d: d.update(validFrom="2026-05-04T12:30:00.0000000000001Z")),
    Case("timestamps", "/validUntil", lambda d: d.update(validUntil="10000-01-01T00:00:00Z")),
    Case("periods", "/validUntil", lambda d: d.update(validUntil="2026-05-04T12:29:59Z")),
    Case("periods", f"{S}/activityEndDate", lambda d: sub(d).update(activityStartDate="2026-05-05T00:00:00Z")),
    Case("periods", "/validUntil", lambda d: d.update(validUntil="2020-01-01T00:00:00Z"), "statuslist"),
    Case("plausible-years", "/awardedDate", lambda d: d.update(awardedDate="0001-01-01T00:00:00Z")),
    Case("plausible-years", "/awardedDate", lambda d: d.update(awardedDate="1970-01-01T00:00:00Z")),
    Case("plausible-years", "/validUntil", lambda d: d.update(validUntil="9999-12-31T23:59:59Z")),
    Case("awarded-date", "/awardedDate", lambda d: d.update(awardedDate="2026-05-06T00:00:00Z")),
    Case("text-normal-form", "/name", lambda d: d.update(name="Cafe\u0301")),
    Case("text-normal-form", f"{A}/humanCode", lambda d: ach(d).update(humanCode="A\u030a")),
    Case("text-characters", "/name", lambda d: d.update(name="a\u202eb")),
    Case("text-characters", "/name", lambda d: d.update(name="a\x00b")),
    Case("text-characters", "/name", lambda d: d.update(name="Gr\ufffd\ufffdsse")),
    Case("text-leftovers", "/issuer/name", lambda d: d["issuer"].update(name="undefined")),
    Case("text-leftovers", "/name", lambda d: d.update(name="Null")),
    Case("text-leftovers", f"{A}/tag/2", lambda d: ach(d)["tag"].append("[object Object]")),
    Case("text-leftovers", "/description", lambda d: d.update(description="Dear {{ learner }}")),
    Case("text-leftovers", f"{S}/result/0/value", lambda d: (sub(d)["result"][0].update(value="NaN"), [described(d).pop(name) for name in ("valueMin", "valueMax")])),
    Case("text-markup", "/description", lambda d: d.update(description="<b>bold</b>")),
    Case("text-markup", "/description", lambda d: d.update(description="see <https://x.example/>")),
    Case("text-markup", f"{A}/criteria/narrative", lambda d: ach(d)["criteria"].update(narrative="ok <script>alert(1)</script>")),
    Case("text-markup", f"{A}/criteria/narrative", lambda d: ach(d)["criteria"].update(narrative="ok <img/src=x onerror=y>")),
    Case("text-markup", f"{A}/criteria/narrative", lambda d: ach(d)["criteria"].update(narrative="ok <!-- hidden -->")),
    Case("markdown-links", f"{A}/criteria/narrative", lambda d: ach(d)["criteria"].update(narrative="[click](javascript:alert(1))")),
    Case("markdown-links", f"{A}/criteria/narrative", lambda d: ach(d)["criteria"].update(narrative="![x]( data:image/png;base64,AAAA)")),
    Case("markdown-links", f"{A}/criteria/narrative", lambda d: ach(d)["criteria"].update(narrative="see [it][1]\n\n[1]: vbscript:x")),
    Case("markdown-links", f"{A}/criteria/narrative", lambda d: ach(d)["criteria"].update(narrative="<javascript:alert(1)>")),
    Case("markdown-links", f"{S}/endorsementComment", lambda d: sub(d).update(endorsementComment="[here](/beside)"), "endorsement"),
    Case("text-length", "/name", lambda d: d.update(name="x" * 1001)),
    Case("text-length", "/description", lambda d: d.update(description="x" * 10_001)),
    Case("text-blanks", "/name", lambda d: d.update(name="Data Literacy ")),
    Case("status-entries", f"{E}/type", lambda d: entry(d).update(type="StatusList2021Entry")),
    Case("status-entries", f"{E}/statusListIndex", lambda d: entry(d).update(statusListIndex=5)),
    Case("status-entries", f"{E}/statusListIndex", lambda d: entry(d).update(statusListIndex="-1")),
    Case("status-entries", f"{E}/statusListIndex", lambda d: entry(d).update(statusListIndex="007")),
    Case("status-entries", f"{E}/statusListCredential", lambda d: entry(d).update(statusListCredential="urn:x:y")),
    Case("status-entries", f"{E}/id", lambda d: entry(d).update(id=LIST_URL)),
    Case("status-entries", f"{E}/statusPurpose", lambda d: entry(d).pop("statusPurpose")),
    Case("status-entries", E, lambda d: d.update(credentialStatus="https://x.example/")),
    Case("status-unique", f"{E}/1", lambda d: d.update(credentialStatus=[entry(d)] * 2)),
    Case("status-unique", f"{E}/1", second(statusPurpose="revocation")),
    Case("status-unique", f"{E}/1", second(statusListCredential=LIST_URL, statusListIndex="94567")),
    Case("status-unique", f"{E}/1", second(id=f"{LIST_URL}#94567")),
    Case("status-purpose", f"{E}/1/statusPurpose", second(statusPurpose="expulsion")),
    Case("status-message", f"{E}/1/statusMessage", second(statusPurpose="message", statusSize=2)),
    Case("status-message", f"{E}/1/statusMessage", second(statusPurpose="message")),
    Case("status-message", f"{E}/1/statusMessage", second(statusPurpose="message", statusSize=2, statusMessage=messages(3))),
    Case("status-message", f"{E}/1/statusMessage", second(statusPurpose="message", statusMessage=[{"status": "1", "message": "x"}])),
    Case("status-message", f"{E}/1/statusSize", second(statusPurpose="message", statusSize=0, statusMessage=messages(2))),
    Case("status-message", f"{E}/1/statusReference", second(statusPurpose="message", statusMessage=messages(2), statusReference="urn:x:y")),
    Case("credential-types", "/type", lambda d: d["type"].remove("OpenBadgeCredential")),
    Case("credential-types", "/type", lambda d: d["type"].remove("VerifiableCredential")),
    Case("credential-types", "/type/2", lambda d: d["type"].append("OpenBadgeCredential")),
    Case("credential-types", "/type", lambda d: d["type"].remove("EndorsementCredential"), "endorsement"),
    Case("credential-name", "/name", lambda d: d.pop("name")),
    Case("credential-schema", "/credentialSchema", lambda d: d.pop("credentialSchema")),
    Case("credential-schema", "/credentialSchema", lambda d: d["credentialSchema"][0].update(id="https://x.example/schema.json")),
    Case("credential-schema", "/credentialSchema", lambda d: d["credentialSchema"][0].update(id=contexts.OPEN_BADGES_SCHEMA), "endorsement"),
    Case("achievement-complete", f"{A}/name", lambda d: ach(d).pop("name")),
    Case("achievement-complete", f"{A}/description", lambda d: ach(d).pop("description")),
    Case("achievement-complete", S, lambda d: (sub(d).pop("achievement"), sub(d).pop("result"))),
    Case("criteria", f"{A}/criteria", lambda d: ach(d).pop("criteria")),
    Case("criteria", f"{A}/criteria", lambda d: ach(d).update(criteria={"type": "Criteria"})),
    Case("criteria", f"{A}/criteria/id", lambda d: ach(d)["criteria"].update(id="urn:isbn:0451450523")),
    Case("vocabularies", f"{A}/achievementType", lambda d: ach(d).update(achievementType="Medal")),
    Case("vocabularies", f"{A}/achievementType", lambda d: ach(d).update(achievementType="ext:Grand Medal")),
    Case("vocabularies", f"{A}/alignment/0/targetType", lambda d: ach(d)["alignment"][0].update(targetType="ESCO")),
    Case("vocabularies", f"{D}/resultType", lambda d: described(d).update(resultType="Marks")),
    Case("vocabularies", f"{I}/identityType", lambda d: sub(d)["identifier"][0].update(identityType="email")),
    Case("alignments", f"{A}/alignment/0/targetUrl", lambda d: ach(d)["alignment"][0].update(targetUrl="esco/1")),
    Case("alignments", f"{A}/alignment/1/targetName", lambda d: ach(d)["alignment"][1].pop("targetName")),
    Case("languages", f"{A}/inLanguage", lambda d: ach(d).update(inLanguage="english")),
    Case("images", "/issuer/image/id", lambda d: d["issuer"].update(image={"id": "urn:x:logo", "type": "Image"})),
    Case("images", "/issuer/image/id", lambda d: d["issuer"].update(image={"id": svg("<script/>"), "type": "Image"})),
    Case("images", f"{A}/image/id", lambda d: ach(d)["image"].update(id=svg('<g onload="x()"/>'))),
    Case("images", f"{A}/image/id", lambda d: ach(d)["image"].update(id="data:image/gif;base64,R0lGODlhAQABAAAAACw=")),
    Case("images", f"{A}/image/id", lambda d: ach(d)["image"].update(id="data:image/png;base64," + base64.b64encode(b"no png").decode())),
    Case("images", f"{A}/image/id", lambda d: ach(d)["image"].update(id=ach(d)["image"]["id"][:-12])),
    Case("images", f"{A}/image/id", lambda d: ach(d)["image"].update(id="https://x.example/%")),
    Case("image-caption", f"{A}/image/caption", lambda d: ach(d)["image"].pop("caption")),
    Case("credits", f"{S}/creditsEarned", lambda d: sub(d).update(creditsEarned=3)),
    Case("credits", f"{A}/creditsAvailable", lambda d: (ach(d).update(creditsAvailable=-1), sub(d).pop("creditsEarned"))),
    Case("described-results", f"{A}/resultDescription/1/id", lambda d: ach(d)["resultDescription"].append(described(d))),
    Case("described-results", f"{D}/rubricCriterionLevel/0/id", lambda d: (rubric(d), described(d)["rubricCriterionLevel"][0].update(id=RESULT_DESCRIPTION))),
    Case("described-results", f"{D}/valueMin", lambda d: (described(d).update(valueMin="100", valueMax="0"), sub(d).pop("result"))),
    Case("required-results", f"{D}/requiredValue", lambda d: described(d).update(requiredValue="101")),
    Case("required-results", f"{D}/requiredValue", lambda d: described(d).update(requiredValue="E", allowedValue=["93", "D"])),
    Case("required-results", f"{D}/requiredLevel", lambda d: (rubric(d), described(d).update(requiredLevel="urn:x:middle"))),
    Case("result-references", f"{S}/result/0/resultDescription", lambda d: sub(d)["result"][0].update(resultDescription="urn:x:other")),
    Case("result-references", f"{S}/result/0/achievedLevel", lambda d: (rubric(d), sub(d)["result"][0].update(achievedLevel="urn:x:middle"))),
    Case("result-values", f"{S}/result/0/value", lambda d: sub(d)["result"][0].update(value="101")),
    Case("result-values", f"{S}/result/0/value", lambda d: sub(d)["result"][0].update(value="-1")),
    Case("result-values", f"{S}/result/0/value", lambda d: sub(d)["result"][0].update(value="nearly all")),
    Case("result-values", f"{S}/result/0/value", lambda d: described(d).update(allowedValue=["A", "B"])),
    Case("result-content", f"{S}/result/0", lambda d: sub(d)["result"][0].pop("value")),
    Case("result-content", f"{S}/result/0/status", lambda d: described(d).update(resultType="Status")),
    Case("recipient", S, lambda d: sub(d).pop("identifier")),
    Case("recipient", f"{S}/id", lambda d: sub(d).update(id="did:key:z6Mk")),
    Case("recipient", f"{S}/id", lambda d: sub(d).update(id="mailto:ada@example.org")),
    Case("self-awarded", f"{S}/id", lambda d: sub(d).update(id=DID)),
    Case("identity-hash", f"{I}/hashed", lambda d: sub(d)["identifier"][0].update(hashed=False, identityHash="ada@example.org")),
    Case("identity-hash", f"{I}/identityHash", lambda d: sub(d)["identifier"][0].update(identityHash="ada@example.org")),
    Case("identity-hash", f"{I}/identityHash", lambda d: sub(d)["identifier"][0].update(identityHash="sha256$abc")),
    Case("identity-salt", f"{I}/identityHash", lambda d: sub(d)["identifier"][0].update(identityHash="md5$" + "0" * 32)),
    Case("identity-salt", f"{I}/salt", lambda d: sub(d)["identifier"][0].pop("salt")),
    Case("evidence", "/evidence/0/id", lambda d: d["evidence"][0].update(id="urn:uuid:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e60")),
    Case("evidence", "/evidence/0/id", lambda d: d["evidence"][0].update(id="data:text/html;base64,PGI+")),
    Case("evidence", "/evidence/0", lambda d: d.update(evidence=[{"type": ["Evidence"], "genre": "Essay"}])),
    Case("endorsement-complete", f"{S}/id", lambda d: sub(d).pop("id"), "endorsement"),
    Case("endorsement-complete", f"{S}/type", lambda d: sub(d).update(type=["Achievement"]), "endorsement"),
    Case("endorsement-complete", f"{S}/endorsementComment", lambda d: sub(d).pop("endorsementComment"), "endorsement"),
    Case("endorsement-complete", "/credentialSubject", lambda d: d.pop("credentialSubject"), "endorsement"),
    Case("endorsement-target", f"{A}/endorsement/0/credentialSubject/id", lambda d: ach(d).update(endorsement=[embedded("https://x.example/other")])),
    Case("endorsement-jwt", "/endorsementJwt/0", lambda d: d.update(endorsementJwt=["a.b.c"])),
    Case("endorsement-jwt", "/endorsementJwt/0", lambda d: d.update(endorsementJwt=[jws('{"alg":"none"}', "{}")])),
    Case("endorsement-jwt", "/endorsementJwt/0", lambda d: d.update(endorsementJwt=[jws('{"alg":"ES256"}', "[1]")])),
    Case("status-list", "/type", lambda d: d["type"].pop(), "statuslist"),
    Case("status-list", "/id", lambda d: d.update(id="urn:x:list"), "statuslist"),
    Case("status-list", "/credentialSubject/type", lambda d: sub(d).update(type="BitstringStatusListEntry"), "statuslist"),
    Case("status-list", f"{S}/statusPurpose", lambda d: sub(d).pop("statusPurpose"), "statuslist"),
    Case("status-list", f"{S}/ttl", lambda d: sub(d).update(ttl=0), "statuslist"),
    Case("status-list", f"{S}/ttl", lambda d: sub(d).update(ttl=1.5), "statuslist"),
    Case("status-list", S, lambda d: d.update(credentialSubject=[sub(d), {**sub(d), "id": f"{LIST_URL}#other"}]), "statuslist"),
    Case("status-bits", f"{S}/encodedList", lambda d: sub(d).update(encodedList=sub(d)["encodedList"][1:]), "statuslist"),
    Case("status-bits", f"{S}/encodedList", lambda d: sub(d).update(encodedList="uH4sIAAAAAAAC_wMAAAAAAAAAAAA"), "statuslist"),
    Case("safe-expansion", f"{A}/colour", lambda d: ach(d).update(colour="blue")),
    Case("safe-expansion", "/type/2", lambda d: d["type"].append("Nonsense")),
    Case("safe-expansion", "/schema:name", lambda d: d.update({"schema:name": "x"})),
    Case("safe-expansion", f"{S}/colour", lambda d: sub(d).update(colour="blue"), "statuslist"),
    Case("open-badge-schema", f"{I}", lambda d: sub(d)["identifier"][0].update(name="Ada")),
    Case("open-badge-schema", f"{S}/result/0/status", lambda d: sub(d)["result"][0].update(status="Passed")),
    Case("open-badge-schema", "/name", lambda d: d.pop("name"), "endorsement"),
]  # fmt: skip

RIGHT: list[Change] = [
    lambda d: d.update(validUntil="2027-05-04T14:30:00.5+02:00"),
    lambda d: d.update(name="Größe < 5 & x > 3"),
    lambda d: d.update(name="Nullsummenspiele verstehen"),
    lambda d: d.update(name="شهادة \u200fفي البيانات"),
    lambda d: sub(d).update(id="did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"),
    lambda d: d.update(id="urn:uuid:7c9e6679-7425-40de-944b-e07fc1f90ae7"),
    lambda d: d["type"].__setitem__(1, "AchievementCredential"),
    lambda d: ach(d).update(inLanguage="zh-Hant-TW"),
    lambda d: ach(d)["image"].update(id="https://x.example/a.svg"),
    lambda d: d["issuer"].update(url="http://localhost:54321/", image={"id": "http://127.0.0.1/a.png", "type": "Image"}),
    lambda d: d["issuer"].update(phone="+49 (89) 289-01 ext. 7", email="badges+x@sub.open.example"),
    second(),
    second(statusPurpose="message", statusSize=2, statusMessage=messages(4), statusReference=["https://x.example/codes"]),
    second(statusPurpose="message", statusMessage=messages(2)),
    second(**status.status_entry(f"{BASE}/status/9", 5, "message", ["valid", "renewed", "lapsed"], "https://x.example/")),
    lambda d: sub(d)["result"][0].pop("resultDescription"),
    lambda d: (described(d).update(allowedValue=["None", "Some"], resultType="LetterGrade"), sub(d)["result"][0].update(value="None")),
    lambda d: described(d).update(requiredValue="60"),
    lambda d: (rubric(d), described(d).update(requiredLevel="urn:x:low")),
    lambda d: sub(d).update(image={"id": "https://x.example/a.png", "type": "Image"}),
    lambda d: ach(d)["criteria"].update(narrative="See <https://x.example/a>, [this](https://x.example/b(c)) and <mailto:a@x.example>; a < b > c."),
    lambda d: ach(d)["criteria"].update(narrative="# Parts\n\n[Note]: bring a pen\n\n1. a[0] (x)\n2. *all* of `it`"),
    lambda d: d.update(endorsementJwt=[jws('{"alg":"ES256"}', '{"iss":"did:web:x.example"}')]),
    lambda d: ach(d).update(endorsement=[embedded(ACHIEVEMENT.id)]),
    lambda d: d["evidence"][0].update(id="data:text/plain;charset=utf-8,done"),
]  # fmt: skip
