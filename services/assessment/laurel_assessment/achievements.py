"""Achievements: what an author may write, what is wrong with it, and the Open Badges 3.0 object it becomes. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from laurel.credential.contexts import CREDENTIALS_V2, OPEN_BADGES
from laurel.credential.lint import LintError
from laurel.credential.lint import lint as credential_lint
from laurel.credential.lint_achievement import decimal, is_term, vocabulary
from laurel.credential.model import Achievement, Profile, Recipient, build_open_badge
from laurel.credential.multikey import decode_public
from laurel.credential.securing import MOST, SECURINGS, problem, ways
from laurel.credential.status import UNDEFINED, status_entry
from laurel.credential.text import is_web_url, shows_nothing
from laurel_assessment.domain import Finding, Policy, ResultDescription
from laurel_assessment.images import BadImage, Image, from_data_uri

# Bytes of JSON, with the messages of its status. A credential may have twice as many: the other half has room for the
# largest profile that the issuer takes (64 kB) and for the largest result.
MAX_DOCUMENT = 128 * 1024
CONTEXTS = (CREDENTIALS_V2, OPEN_BADGES)

Line = Annotated[str, Field(min_length=1, max_length=255)]
Url = Annotated[str, Field(min_length=1, max_length=2000)]
Text = Annotated[str, Field(min_length=1, max_length=10_000)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CriteriaInput(_Input):
    """How it is earned: in words (Markdown), or at a URL, or both."""

    narrative: Text | None = None
    id: Url | None = Field(default=None, description="URL of a page that says how it is earned.")


class AlignmentInput(_Input):
    """A skill, competency or credential elsewhere (CTDL, ESCO, CASE, …) that this achievement stands for."""

    targetName: Line  # noqa: N815 - the standard's name
    targetUrl: Url  # noqa: N815
    targetDescription: Text | None = None  # noqa: N815
    targetFramework: Line | None = Field(default=None, examples=["ESCO"])  # noqa: N815
    targetCode: Line | None = None  # noqa: N815
    targetType: Line | None = Field(default=None, examples=["ceasn:Competency", "CFItem"])  # noqa: N815


class ResultDescriptionInput(_Input):
    """A kind of result that credentials show: the score, or a part. What none describes stays private."""

    name: Line
    resultType: Line = Field(default="Percent", examples=["Percent"])  # noqa: N815
    part: Line | None = Field(default=None, description="The part of a result whose points this shows.")
    valueMin: Line | None = None  # noqa: N815
    valueMax: Line | None = None  # noqa: N815
    requiredValue: Line | None = None  # noqa: N815


class PolicyInput(_Input):
    """When a result is a pass. Nothing said: every result passes."""

    minimum_score: Number | None = None
    required_parts: dict[str, Number] = Field(default_factory=dict, max_length=100)
    max_attempts: Annotated[int, Field(ge=1, le=1000)] | None = None


class StatusMessageInput(_Input):
    """A message that the issuer can let hold of a credential later, and the value that stands for it."""

    status: Annotated[str, Field(pattern=r"^0x(0|[1-9a-f][0-9a-f]?)$", examples=["0x1"])]
    message: Line


class AchievementInput(_Input):
    """What an author says of an achievement."""

    profile_id: Line | None = Field(default=None, description="The issuer profile that awards it.")
    name: Line
    description: Text
    criteria: CriteriaInput
    image: Annotated[str, Field(max_length=900_000)] | None = Field(
        default=None, description="data:image/png;base64,… or data:image/svg+xml;base64,…, at most 512 kB."
    )
    image_caption: Line | None = Field(default=None, description="What the image shows, for those who do not see it.")
    tags: Annotated[list[Line], Field(max_length=50)] = []
    alignment: Annotated[list[AlignmentInput], Field(max_length=100)] = []
    achievement_type: Line | None = Field(default=None, examples=["MicroCredential"])
    result_descriptions: Annotated[list[ResultDescriptionInput], Field(max_length=50)] = []
    language: Annotated[str, Field(max_length=20)] | None = Field(default=None, examples=["en", "pt-BR"])
    validity_days: Annotated[int, Field(ge=1, le=36_525)] | None = None
    status_purposes: Annotated[
        list[Literal["revocation", "suspension", "refresh", "message"]], Field(min_length=1, max_length=4)
    ] = ["revocation"]
    status_messages: Annotated[list[StatusMessageInput], Field(max_length=256)] = Field(
        default=[], description="For the purpose message: what can be told of a credential; 0x0 is told at first."
    )
    status_reference: Url | None = Field(default=None, description="URL of a page about the messages.")
    securing: Annotated[list[str], Field(max_length=MOST + 2)] | None = Field(
        default=None,
        description="How its credentials are secured; left out: as the issuer profile says. "
        f"{', '.join(SECURINGS)}; several proofs make a proof set, or a chain where proof-chain stands before "
        "them; a token (vc-jwt, vc+jwt) stands alone.",
        examples=[["eddsa-rdfc-2022"]],
    )
    credential_type: Literal["OpenBadgeCredential", "AchievementCredential"] | None = Field(
        default=None, description="The two mean the same; left out: as the issuer profile says."
    )
    repeatable: bool = False
    policy: PolicyInput = PolicyInput()


# --- lint ---------------------------------------------------------------------------------------------------

# The schema's pattern for inLanguage.
_LANGUAGE = re.compile(r"[a-z]{2,4}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?").fullmatch
_MARKUP = re.compile(r"</?[A-Za-z][A-Za-z0-9-]*(\s[^<>]*)?/?>|<!--|<!\[CDATA\[|<\?")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LEFT_BY_PROGRAMS = frozenset({"undefined", "null", "none", "nan", "[object object]", "todo", "n/a"})


def lint(given: AchievementInput) -> tuple[list[Finding], Image | None]:
    """Everything that would make a poor or invalid credential, and the image if it is a good one."""
    findings: list[Finding] = []
    content = given.model_dump(exclude_none=True, exclude={"image"})
    for place, text in _texts(content, ""):
        findings += _text_findings(place, text)
    if given.criteria.narrative is None and given.criteria.id is None:
        detail = "say how it is earned: criteria.narrative, or criteria.id (a URL), or both"
        findings.append(Finding("/criteria", "missing", detail))
    urls = [("/criteria/id", given.criteria.id)]
    urls.append(("/status_reference", given.status_reference))
    urls += [(f"/alignment/{n}/targetUrl", one.targetUrl) for n, one in enumerate(given.alignment)]
    for place, url in urls:
        if url is not None and not is_web_url(url):
            findings.append(Finding(place, "not_a_url", f"{url[:80]!r} is not an absolute http(s) URL"))
    if given.language is not None and _LANGUAGE(given.language) is None:
        findings.append(Finding("/language", "not_a_language", "send a language tag such as en, pt-BR or zh-Hant"))
    findings += _term("/achievement_type", "achievementType", given.achievement_type)
    for n, alignment in enumerate(given.alignment):
        findings += _term(f"/alignment/{n}/targetType", "targetType", alignment.targetType)
    shown: set[str | None] = set()
    for n, described in enumerate(given.result_descriptions):
        findings += _term(f"/result_descriptions/{n}/resultType", "resultType", described.resultType)
        if described.resultType == "Status":
            detail = "results bring points and no status word; name another type, such as Percent or RawScore"
            findings.append(Finding(f"/result_descriptions/{n}/resultType", "status_not_sent", detail))
        if described.part in shown:
            what = "the score" if described.part is None else f"the part {described.part!r}"
            findings.append(Finding(f"/result_descriptions/{n}/part", "duplicate", f"{what} is described twice"))
        shown.add(described.part)
        lowest, highest = decimal(described.valueMin), decimal(described.valueMax)
        if lowest is not None and highest is not None and lowest > highest:
            findings.append(Finding(f"/result_descriptions/{n}/valueMin", "bad_range", "valueMin is above valueMax"))
    if len(set(given.status_purposes)) != len(given.status_purposes) or "revocation" not in given.status_purposes:
        detail = 'send ["revocation"], and behind it what else it needs of suspension, refresh, message, each once'
        findings.append(Finding("/status_purposes", "bad_purposes", detail))
    findings += _message_findings(given)
    if given.securing is not None and (wrong := problem(given.securing)):
        findings.append(Finding("/securing", "bad_securing", wrong))
    if len({tag.casefold() for tag in given.tags}) != len(given.tags):
        findings.append(Finding("/tags", "duplicate", "a tag stands twice"))
    image = None
    if given.image is not None:
        try:
            image = from_data_uri(given.image)
        except BadImage as error:
            findings.append(Finding("/image", error.code, error.detail))
    elif given.image_caption is not None:
        findings.append(Finding("/image_caption", "no_image", "there is a caption and no image"))
    return findings, image


def _message_findings(given: AchievementInput) -> Iterator[Finding]:
    """Bitstring Status List 1.0 §2.1 statusMessage: a credential tells at its issue what it may come to say."""
    if "message" not in given.status_purposes:
        if given.status_messages or given.status_reference is not None:
            place = "/status_messages" if given.status_messages else "/status_reference"
            yield Finding(place, "no_purpose", 'add "message" to status_purposes, or take this away')
        return
    values = [one.status for one in given.status_messages]
    if "0x0" not in values:
        yield Finding("/status_messages", "missing", "give at least a message for 0x0, which holds from the beginning")
    for n, one in enumerate(given.status_messages):
        if one.status in values[:n]:
            yield Finding(f"/status_messages/{n}/status", "duplicate", f"{one.status} has a message already")


def messages_of(given: AchievementInput) -> tuple[str, ...]:
    """The messages by their values from 0 on; a value between them without one is `undefined`."""
    named = {int(one.status, 16): one.message for one in given.status_messages}
    return tuple(named.get(value, UNDEFINED) for value in range(max(named, default=-1) + 1))


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            step = str(name).replace("~", "~0").replace("/", "~1")
            yield f"{place}/{step}", str(name)
            yield from _texts(one, f"{place}/{step}")
    elif isinstance(value, list):
        for n, one in enumerate(value):
            yield from _texts(one, f"{place}/{n}")


def _text_findings(place: str, text: str) -> Iterator[Finding]:
    if shows_nothing(text):
        yield Finding(place, "blank", "there is nothing to be seen: nothing but blanks and invisible characters")
    elif text != text.strip():
        yield Finding(place, "outer_blanks", "take away the blanks around it")
    if not unicodedata.is_normalized("NFC", text):
        yield Finding(
            place, "not_nfc", "write it in Unicode normalization form C, so that equal texts have equal bytes"
        )
    if _CONTROL.search(text):
        yield Finding(place, "bad_string", "control characters and lone surrogates are not allowed")
    if text.strip().lower() in _LEFT_BY_PROGRAMS or "[object Object]" in text:
        yield Finding(place, "placeholder", f"{text[:40]!r} looks like what a program leaves where it had no value")
    markup = _MARKUP.search(text)
    if markup is not None:
        yield Finding(place, "markup", f"HTML is shown as it stands, not run: take away {markup[0][:40]!r}")


def _term(place: str, name: str, term: str | None) -> list[Finding]:
    if term is None or is_term(name, term):
        return []
    detail = f"{term[:40]!r} is no such term; known are {', '.join(vocabulary(name))}, or your own as ext:<name>"
    return [Finding(place, "unknown_term", detail)]


# --- what it becomes ----------------------------------------------------------------------------------------


def document_of(given: AchievementInput, *, url: str, version: int, image: Image | None) -> dict[str, Any]:
    """The Open Badges 3.0 Achievement object (§B.1.1) as it stands in credentials. url: its id."""
    document: dict[str, Any] = {
        "id": url,
        "type": ["Achievement"],
        "name": given.name,
        "description": given.description,
    }
    document["criteria"] = given.criteria.model_dump(exclude_none=True)
    if given.achievement_type is not None:
        document["achievementType"] = given.achievement_type
    if image is not None:
        # A version of the achievement keeps its own image for ever: the digest is part of the address.
        document["image"] = {"id": f"{url}/image?v={image.digest}", "type": "Image"}
        if given.image_caption is not None:
            document["image"]["caption"] = given.image_caption
    if given.tags:
        document["tag"] = list(given.tags)
    if given.alignment:
        document["alignment"] = [
            {"type": ["Alignment"], **one.model_dump(exclude_none=True)} for one in given.alignment
        ]
    if given.result_descriptions:
        document["resultDescription"] = [
            {
                "id": _description_id(url, n), "type": ["ResultDescription"],
                **one.model_dump(exclude_none=True, exclude={"part"}),
            }
            for n, one in enumerate(given.result_descriptions, 1)
        ]  # fmt: skip
    if given.language is not None:
        document["inLanguage"] = given.language
    document["version"] = str(version)
    return document


# The names of a document's properties where ours differ.
_OURS = {
    "tag": "tags", "achievementType": "achievement_type", "inLanguage": "language",
    "resultDescription": "result_descriptions",
}  # fmt: skip
_PLACE = "/credentialSubject/achievement"
_ENTRY = "/credentialStatus"


def trial(
    document: dict[str, Any],
    messages: Sequence[str] = (),
    reference: str | None = None,
    *,
    issuer: str | None = None,
) -> list[Finding]:
    """What the lint before signing would refuse in every credential of this achievement: said to its author now.

    issuer: the id of who will issue it; None: not known.
    """
    entry = status_entry("https://example.org/status", 0, "message", messages, reference) if messages else None
    if len(json.dumps([document, entry], ensure_ascii=False).encode()) > MAX_DOCUMENT:
        return [Finding("", "too_large", f"all of it together may have {MAX_DOCUMENT} bytes; link to long texts")]
    credential = build_open_badge(
        id="urn:uuid:00000000-0000-8000-8000-000000000000",
        issuer=Profile(id=issuer or "did:web:nobody.example", name="Nobody"),
        achievement=Achievement(id=document["id"], name=document["name"], description=document["description"]),
        recipient=Recipient(id="did:example:nobody"),
        valid_from=datetime(2020, 1, 1, tzinfo=UTC),
        status=entry,
    )
    credential["credentialSubject"]["achievement"] = document
    try:
        credential_lint(credential)
    except LintError as refused:
        # The name of the achievement is also the credential's: what is wrong with it is told once.
        return list(
            dict.fromkeys(
                Finding(_ours(one.pointer), one.rule.replace("-", "_"), f"{one.message}; {one.fix} ({one.clause})")
                for one in refused.findings
                if one.level == "error"
            )
        )
    return []


def key_finding(given: AchievementInput, issuer: str) -> Finding | None:
    """Why an issuer whose id is its only key (did:key) could never sign it as it asks; None: it can. issuer: the id."""
    if given.securing is None or not issuer.startswith("did:key:"):
        return None
    kind = decode_public(issuer.removeprefix("did:key:")).type
    if all(way.key_type == kind for way in ways(given.securing)):
        return None
    fitting = ", ".join(name for name, way in SECURINGS.items() if way.key_type == kind)
    detail = f"the issuer's id is a key of {kind}; name ways that take it ({fitting}), or an issuer of another identity"
    return Finding("/securing", "another_key", detail)


def _ours(pointer: str) -> str:
    if not pointer:
        return ""
    if pointer.startswith(_ENTRY):
        return "/status_reference" if pointer.startswith(f"{_ENTRY}/statusReference") else "/status_messages"
    if pointer == f"{_PLACE}/image/caption":
        return "/image_caption"
    first, *rest = pointer.removeprefix(_PLACE).lstrip("/").split("/")
    return "/" + "/".join([_OURS.get(first, first), *rest])


def _description_id(url: str, n: int) -> str:
    return f"{url}#result-{n}"


def descriptions_of(definition: Mapping[str, Any], *, url: str) -> tuple[ResultDescription, ...]:
    """Which value goes where in credentials. definition: AchievementInput as it was stored.

    One of the type Status, which was taken once, shows nothing: a result has no status word to put there.
    """
    return tuple(
        ResultDescription(
            _description_id(url, n), one.get("part"), decimal(one.get("valueMin")), decimal(one.get("valueMax"))
        )
        for n, one in enumerate(definition.get("result_descriptions", []), 1)
        if one.get("resultType") != "Status"
    )


def policy_of(given: PolicyInput, version: int) -> Policy:
    """The policy as a rule."""
    return Policy(version, given.minimum_score, dict(given.required_parts), given.max_attempts)
