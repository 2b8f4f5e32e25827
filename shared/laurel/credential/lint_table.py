"""The table of `lint`: each rule with its name, its level, the clause that it enforces, what it asks, and the fix.

Rules run in this order; `plain-json` alone runs before the others, which rely on it. docs/lint.md is made from here.
"""

# ruff: noqa: E501 - a table

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from laurel.credential import lint_achievement as achievement
from laurel.credential import lint_open_badge as badge
from laurel.credential import lint_rules as document
from laurel.credential import lint_status as status
from laurel.credential import lint_text as text
from laurel.credential.lint_rules import Check, Finding, Level, Subject
from laurel.credential.text import pointer

Profile = Literal["openbadge", "endorsement", "statuslist", "vcdm"]

_BADGE: frozenset[Profile] = frozenset({"openbadge"})
_ENDORSEMENT: frozenset[Profile] = frozenset({"endorsement"})
_BADGES: frozenset[Profile] = _BADGE | _ENDORSEMENT
_STATUS_LIST: frozenset[Profile] = frozenset({"statuslist"})
_OURS: frozenset[Profile] = _BADGES | _STATUS_LIST
_ALL: frozenset[Profile] = _OURS | {"vcdm"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. asks, fix: sentences for whoever wrote the document. profiles: the documents that are held to it.

    unmasked: the message may hold parts of the value outside of quotation marks.
    """

    name: str
    level: Level
    profiles: frozenset[Profile]
    clause: str
    asks: str
    fix: str
    check: Check
    unmasked: bool = False

    def __call__(self, subject: Subject) -> Iterator[Finding]:
        for path, message in self.check(subject):
            yield Finding(self.name, self.level, pointer(path), message, self.clause, self.fix)


RULES: tuple[Rule, ...] = (
    # -- the document as a whole
    Rule("plain-json", "error", _ALL, "RFC 7493 §2",
         "The document is one JSON object: text keys, finite numbers, no lone surrogates, at most 32 levels.",
         "write plain JSON values and nest less", document.plain_json),
    Rule("size", "error", _ALL, "Laurel",
         "The document has at most 262,144 bytes.",
         "link images and long texts instead of embedding them", document.size),
    Rule("complexity", "error", _OURS, 'Laurel; RDF Dataset Canonicalization 1.0, "Dataset Poisoning"',
         "The document has at most 5,000 values; canonicalisation costs with each.",
         "split it, or link to lists of alignments and evidence", document.complexity),
    Rule("no-proof", "error", _ALL, 'VC Data Integrity 1.0 §4.2 "Add Proof"',
         "The document has no proof yet.",
         "lint and sign the document without its proof", document.no_proof),
    Rule("context-order", "error", _OURS, 'VC Data Model 2.0 §4.3 "Contexts"; Open Badges 3.0, AchievementCredential @context',
         "@context is a list of different URLs: the VC 2.0 context first, that of Open Badges 3.0 second.",
         'begin with "https://www.w3.org/ns/credentials/v2" and "https://purl.imsglobal.org/spec/ob/v3p0/context-3.0.3.json", each URL once', document.context_order),
    Rule("context-pinned", "error", _OURS, 'VC Data Model 2.0 §5.3 "Integrity of Related Resources"; VC Data Integrity 1.0 §4.6 "Context Validation"',
         "Every context, at whatever place, is one that Laurel bundles and pins by SHA-256; none is written out in the document.",
         "use a bundled context, and put extensions into the terms of the Open Badges extensions context", document.context_pinned),
    Rule("described-once", "warning", _BADGES, "Laurel; VC Data Integrity 1.0 §4.6; RDF 1.1 Concepts §3",
         "What has an id is described at one place; elsewhere it is named by id and type. Of two descriptions one could be cut away and the signature would hold.",
         "keep one description, and only id and type elsewhere", document.described_once),
    Rule("no-empty-values", "error", _OURS, "Laurel; JSON-LD 1.1 §9",
         "No value is null, empty or blank: processors drop such values, or show nothing.",
         "leave the property out", document.no_empty_values),
    # -- identifiers
    Rule("credential-id", "error", _OURS, 'VC Data Model 2.0 §4.4 "Identifiers"; Open Badges 3.0, AchievementCredential id',
         "The credential has an id: an absolute URL, URN or DID.",
         "give it a URL of yours, or urn:uuid: and a UUID", document.credential_id),
    Rule("absolute-ids", "error", _OURS, 'VC Data Model 2.0 §4.4 "Identifiers"',
         "Every other id is an absolute URL, URN or DID, too.",
         "write it in full, with its scheme", document.absolute_ids),
    Rule("https-urls", "warning", _OURS, "Laurel; Open Badges 3.0, Image and Profile url (accessible via HTTP)",
         "Images, home pages and status lists are loaded over TLS.",
         "use https", document.https_urls),
    # -- issuer and key
    Rule("issuer-id", "error", _OURS, 'VC Data Model 2.0 §4.7 "Issuer"; Open Badges 3.0, Profile id',
         "The issuer's id is a did:web, a did:key or an https URL: what verifiers can find its keys by.",
         "use the DID of the issuer profile", document.issuer_id),
    Rule("issuer-profile", "warning", _BADGES, "Open Badges 3.0, Profile",
         "The issuer is described, at least by its name.",
         "put a Profile with a name instead of the id alone", badge.issuer_profile),
    Rule("contacts", "error", _BADGES, "Open Badges 3.0, Profile and Address (ISO 3166-1 alpha-2, WGS84)",
         "Home pages, e-mail addresses, telephone numbers, country codes and positions have their form.",
         "correct it or leave it out", badge.contacts),
    Rule("issuer-key", "error", _ALL, 'VC Data Model 2.0 §4.7 "Issuer"; Controlled Identifiers 1.0 §3.3',
         "The keys that will sign are verification methods of the issuer.",
         "sign with a key of this issuer", document.issuer_key),
    Rule("key-active", "error", _ALL, 'Controlled Identifiers 1.0 §2.2 "Verification Methods" (expires, revoked); Laurel',
         "The keys that will sign are active: not compromised, and not retired before the date of the credential.",
         "sign with the active key; make one if there is none", document.key_active),
    # -- times
    Rule("timestamps", "error", _OURS, 'VC Data Model 2.0 §4.9 "Validity Period" (dateTimeStamp); Open Badges 3.0, DateTimeZ',
         "validFrom is there, and every date is a date and a time with a time zone.",
         "write 2026-05-04T12:30:00Z", document.timestamps),
    Rule("periods", "error", _OURS, 'VC Data Model 2.0 §4.9 "Validity Period"; Open Badges 3.0, AchievementSubject',
         "Nothing ends before it starts: neither validity nor activity.",
         "exchange or correct the dates", document.periods),
    Rule("plausible-years", "error", _OURS, "Laurel",
         "Dates lie between 1900 and 2199, and none is the first second of 1970, as programs write that have no date.",
         "write the true date, or leave it out", document.plausible_years),
    Rule("awarded-date", "warning", _BADGES, "Open Badges 3.0, AchievementCredential awardedDate",
         "It was not awarded more than a day after it became valid.",
         "check awardedDate and validFrom", document.awarded_date),
    # -- text
    Rule("text-normal-form", "error", _OURS, "Unicode UAX #15",
         "Text is in Unicode normalization form C, so that equal texts have equal bytes.",
         "normalise it to NFC", text.in_every_text(text.normal_form)),
    Rule("text-characters", "error", _OURS, "Laurel; Unicode UAX #9 §2.2",
         "Text has no control characters, no overrides of direction, no replacement characters.",
         "take them out, and read the source as UTF-8", text.in_every_text(text.characters)),
    Rule("text-leftovers", "error", _OURS, "Laurel",
         'No text is "undefined", "null", "[object Object]" or an unfilled place such as {{name}}.',
         "fill in the value or leave the property out", text.in_every_text(text.leftovers)),
    Rule("text-markup", "error", _OURS, "Open Badges 3.0, String and Markdown",
         "Text is plain, narratives may be Markdown; neither holds HTML or XML.",
         "take the tags out; in narratives use Markdown", text.in_every_text(text.markup)),
    Rule("markdown-links", "error", _BADGES, "Open Badges 3.0, Markdown; CommonMark 0.31 §6.3",
         "Links in narratives lead to http(s) or mailto, in full.",
         "write the whole address", text.in_every_text(text.markdown_links)),
    Rule("text-length", "error", _BADGES, "Laurel",
         "Names have at most 1,000 characters, descriptions and narratives 10,000.",
         "shorten it, and link to the rest", text.in_every_text(text.length)),
    Rule("text-blanks", "warning", _BADGES, "Laurel",
         "There are no blanks around a text.",
         "trim it", text.in_every_text(text.outer_blanks)),
    # -- status
    Rule("status-entries", "error", _OURS, 'Bitstring Status List 1.0 §2.1 "BitstringStatusListEntry"',
         "A status entry has type, purpose, the URL of its list, and its index as text; its id is not the list's.",
         "write the entry as the status list gave it out", status.status_entries),
    Rule("status-unique", "error", _OURS, "Bitstring Status List 1.0 §2.1; VC Data Model 2.0 §4.10",
         "No two entries of a credential share an id, a place in a list or a purpose (messages aside).",
         "reserve a place of its own for each purpose", status.status_unique),
    Rule("status-purpose", "warning", _OURS, "Bitstring Status List 1.0 §2.1, statusPurpose",
         "The purpose is revocation, suspension, refresh or message: verifiers know no other.",
         "use one of the four", status.status_purpose),
    Rule("status-message", "error", _OURS, "Bitstring Status List 1.0 §2.1, statusSize, statusMessage and statusReference",
         "An entry of several bits, or of messages, has one message for each value that its bits can have.",
         "list 2 to the power of statusSize messages, status 0x0 first", status.status_message),
    # -- Open Badges
    Rule("credential-types", "error", _BADGES, "Open Badges 3.0, AchievementCredential and EndorsementCredential type; VC Data Model 2.0 §4.5",
         "type holds VerifiableCredential and OpenBadgeCredential or AchievementCredential (EndorsementCredential for endorsements), each type once.",
         "add the type that is missing, or take the second one out", badge.types),
    Rule("credential-name", "warning", _BADGE, "Open Badges 3.0, AchievementCredential name",
         "The credential has a name for wallets.",
         "set name, for example to the achievement's", badge.credential_name),
    Rule("credential-schema", "error", _BADGES, "Open Badges 3.0, CredentialSchema",
         "credentialSchema names the schema of 1EdTech.",
         "add the schema's URL with type 1EdTechJsonSchemaValidator2019", badge.credential_schema),
    Rule("achievement-complete", "error", _BADGE, "Open Badges 3.0, AchievementSubject and Achievement",
         "There is an achievement, with a name and a description.",
         "describe what was achieved", achievement.achievement_complete),
    Rule("criteria", "error", _BADGE, "Open Badges 3.0, Criteria",
         "The criteria say how it is earned: in a narrative, on a web page, or both.",
         "write a narrative, or give the page's URL", achievement.criteria),
    Rule("vocabularies", "error", _BADGES, "Open Badges 3.0, AchievementType, AlignmentTargetType, ResultType and IdentifierTypeEnum",
         "Types of achievements, alignment targets, results and identifiers are the standard's, or extensions such as ext:Workshop.",
         "use a listed value, or ext: and letters, digits, dots, dashes or underscores", achievement.vocabularies),
    Rule("alignments", "error", _BADGES, "Open Badges 3.0, Alignment",
         "An alignment has a targetName and a targetUrl on the web.",
         "name the skill, and give the URL of its official description", achievement.alignments),
    Rule("languages", "error", _BADGES, "Open Badges 3.0, LanguageCode; BCP 47",
         "inLanguage is a language tag such as en, pt-BR or zh-Hant-TW.",
         "write the language in small letters, a script as Hant, a country as BR", achievement.languages),
    Rule("images", "error", _BADGES, "Open Badges 3.0, Image (PNG or SVG)",
         "Images are URLs, or whole PNG or SVG pictures in data URIs that run and load nothing.",
         "export the picture again as PNG or plain SVG, or link it", achievement.images),
    Rule("image-caption", "warning", _BADGE, "Open Badges 3.0, Image caption; WCAG 2.2 §1.1.1",
         "The badge's image has a caption for those who do not see it.",
         "say in a caption what the image shows", achievement.image_caption),
    Rule("credits", "warning", _BADGE, "Open Badges 3.0, AchievementSubject creditsEarned and Achievement creditsAvailable",
         "Credits are not negative, and not more are earned than there are.",
         "correct the numbers", achievement.credits_earned),
    # -- results
    Rule("described-results", "error", _BADGE, "Open Badges 3.0, ResultDescription and RubricCriterionLevel",
         "Result descriptions and rubric levels have ids of their own, and valueMin is not above valueMax.",
         "give each its own id, and exchange the bounds", achievement.described_results),
    Rule("required-results", "error", _BADGE, "Open Badges 3.0, ResultDescription requiredValue and requiredLevel",
         "What is required is an allowed value within the range, and one of the levels.",
         "choose one that a learner can reach", achievement.required_results),
    Rule("result-references", "error", _BADGE, "Open Badges 3.0, Result resultDescription and achievedLevel",
         "A result names a resultDescription of the same achievement, and a level of that description.",
         "use the ids of the achievement", achievement.result_references),
    Rule("result-values", "error", _BADGE, "Open Badges 3.0, Result value",
         "A result's value is allowed, and within its description's range.",
         "correct the value or the description", achievement.result_values),
    Rule("result-content", "error", _BADGE, "Open Badges 3.0, Result status",
         "A result says something: its status where its type is Status, else a value, a level or a status.",
         "add what the learner reached, or leave the result out", achievement.result_content),
    # -- the learner
    Rule("recipient", "error", _BADGE, "Open Badges 3.0, AchievementSubject id and identifier",
         "The learner has an id or a hashed identifier; a did:key holds a key, and no readable address is published.",
         "use a DID, or a salted hash of the address in identifier", badge.recipient),
    Rule("self-awarded", "warning", _BADGE, "Laurel",
         "The issuer does not award to itself.",
         "put the learner's id", badge.self_awarded),
    Rule("identity-hash", "error", _BADGE, "Open Badges 3.0, IdentityObject and IdentityHash",
         "Identifiers of learners are hashed: sha256$ and 64 hexadecimal digits.",
         "hash address and salt with SHA-256, and set hashed to true", badge.identity_hash),
    Rule("identity-salt", "warning", _BADGE, "Open Badges 3.0, IdentityObject salt",
         "Hashed identifiers are salted, and not hashed with MD5.",
         "use SHA-256 with a random salt", badge.identity_salt),
    Rule("evidence", "error", _BADGES, "Open Badges 3.0, Evidence",
         "Evidence can be seen: a web page, a picture, PDF or text in a data URI, or words.",
         "give its URL, or describe it", badge.evidence),
    # -- endorsements
    Rule("endorsement-complete", "error", _ENDORSEMENT, "Open Badges 3.0, EndorsementSubject",
         "An endorsement names what it endorses and says something about it.",
         "set id, type EndorsementSubject and endorsementComment", badge.endorsement_complete),
    Rule("endorsement-target", "error", _BADGES, "Open Badges 3.0, EndorsementCredential and EndorsementSubject id",
         "An endorsement that stands in a credential, achievement or profile endorses that very one.",
         "move it to what it endorses", badge.endorsement_target),
    Rule("endorsement-jwt", "error", _BADGES, "Open Badges 3.0, endorsementJwt (CompactJws); RFC 7515 §7.1",
         "An endorsementJwt is a signed compact JWS with JSON inside.",
         "put the endorsement as it was issued", badge.endorsement_jwt),
    # -- status lists
    Rule("status-list", "error", _STATUS_LIST, 'Bitstring Status List 1.0 §2.2 "BitstringStatusListCredential"',
         "A status list has its types, its own URL as id, one subject with a purpose, and a ttl in milliseconds if any.",
         "build it with status.build_status_list", status.status_list),
    Rule("status-bits", "error", _STATUS_LIST, "Bitstring Status List 1.0 §2.2, encodedList; §3.4",
         "encodedList unfolds to at least 131,072 entries.",
         "encode it with status.encode_list", status.status_bits),
    # -- what no other rule has said of the same place
    Rule("safe-expansion", "error", _OURS, 'VC Data Integrity 1.0 §4.6 "Context Validation"; JSON-LD 1.1 §5.1',
         "Every term and type is defined by a context, every IRI is absolute, nothing is dropped: all of it is signed.",
         "use the terms of the contexts, or leave it out", document.safe_expansion),
    Rule("open-badge-schema", "error", _BADGES, "Open Badges 3.0, JSON Schema (ob_v3p0_achievementcredential_schema.json)",
         "The document follows the JSON schema that 1EdTech publishes, "
         "apart from a credentialStatus of several entries (it knows one).",
         "write it as the schema asks", badge.json_schema, unmasked=True),
)  # fmt: skip

BY_NAME = {rule.name: rule for rule in RULES}


def of_profile(profile: Profile) -> tuple[Rule, ...]:
    """The rules that documents of `profile` are held to, in the order in which they run."""
    return tuple(rule for rule in RULES if profile in rule.profiles)
