"""The template's way and the full way give the same bytes, or the template steps aside.

LAUREL_TEMPLATE_CREDENTIALS says how many random credentials are compared (default 2,500); -s prints what was done.
"""

# ruff: noqa: E501 - tables of values

from __future__ import annotations

import collections
import hashlib
import json
import os
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laurel.credential import lint, model, proof_bytes, proofs, slots, status
from laurel.credential.contexts import OPEN_BADGES_SCHEMA
from laurel.credential.template import NeedsFullWay, NotCompilable, Path, value_at
from tests.unit.credential.samples import (
    ACHIEVEMENT,
    BASE,
    CREATED,
    DID,
    LIST_URL,
    NOW,
    PROFILE,
    RECIPIENT,
    RESULT_DESCRIPTION,
    SIGNER,
)

CREDENTIALS = int(os.environ.get("LAUREL_TEMPLATE_CREDENTIALS", "2500"))
A_TEMPLATE = 25  # credentials compared for each random shape

HOSTILE = [
    "", " ", "\t", "\x00", "a\nb", '"', "\\", 'a"b\\c', "\\u0041", "é", "e\u0301", "\ufb01", "数据", "🎓", "👩\u200d🎓",
    "\u202e", "\u2028", "\x7f", "\x85", "\ufffe", "\ud800", "\U0001fffe", "null", "None", "{{x}}", "${x}", "<b>x</b>",
    "< b", "a > b", "@id", "@type", "_:b0", "name", "name:x", "https", "-1", "007", "1e3", "1_0", " 5", "5 ", "NaN",
    "inf", "٣", "101", "-0", "100.0", "laurel-slot-0-z", "https://laurel-slot-0-z.example/x", "%s", "%", "'", "x" * 5000,
]  # fmt: skip
IRIS = [
    "https://x.example/a?b=c#d", "http://localhost:54321/c/1", "https://x.example:443/%C3%A9", "HTTPS://x.example/",
    "https://x.example/%zz", "https://x.example/a b", "https://x.example/<a>", "https://é.example/", "https://[::1]/x",
    "https://user@x.example/", "https://x.example:99999/", "https://x.example:65535/", "https://", "https:x", "//x/y",
    "/relative", "relative", "?q", "#f", "_:b0", "_:", "name:x", "schema:name", "ob:x", "id", "type", "@id",
    f"did:key:{SIGNER.public_key_multibase}", "did:key:z6Mkh", "did:web:x.example:a", "did:x:a/b", "did:X:y", "did:x:%zz",
    "urn:uuid:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e60", "urn:isbn:1", "urn:UUID:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e60",
    "mailto:a@x.example", "ftp://x.example/", "data:image/png;base64,AAAA", "https://x.example/a#b#c", "https://x..example/",
    "https://-x.example/", "https://x.example/{a}", "https://x.example/a^b", "https://x.example/`", "https://x.example/|",
    "https://x.example/[a]", "https://x.example/..//./a", "https://x.example/\u202e", "https://x.example/a\\b", "x" * 300,
    DID, LIST_URL, BASE + "/status/9", ACHIEVEMENT.id, RESULT_DESCRIPTION, PROFILE.url or "", "https://schema.org/name",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#type", "https://www.w3.org/2018/credentials#VerifiableCredential",
    OPEN_BADGES_SCHEMA, "https://www.w3.org/ns/credentials/v2",
]  # fmt: skip
TIMES = [
    "2026-05-04T12:30:00+02:00", "2026-05-04T12:30:00.5Z", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "2026-05-04",
    "2026-05-04T24:00:00Z", "2026-05-04T23:59:60Z", "٢026-05-04T12:30:00Z", "2026-05-04T12:30:00z", "2026-05-04T12:30:00",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2024-02-29T00:00:00Z", "2026-05-04T12:30:00Z\n",
]  # fmt: skip


def lint_way(document: dict[str, Any]) -> lint.Linted | None:
    try:
        return lint.lint(document, issuer=DID)
    except lint.LintError:
        return None


def template_way(made: lint.LintedTemplate, values: list[str]) -> lint.Linted | None:
    try:
        return made.linted(values)
    except NeedsFullWay:
        return None


def with_values(document: dict[str, Any], paths: list[Path], values: list[str]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for path, value in zip(paths, values, strict=True):
        value_at(copy, path[:-1])[path[-1]] = value
    return copy


def values_of(document: dict[str, Any], paths: list[Path]) -> list[str]:
    return [value_at(document, path) for path in paths]


def assert_same(filled: lint.Linted, document: dict[str, Any]) -> None:
    full = lint.lint(document, issuer=DID)
    assert filled.canonical_nquads == full.canonical_nquads
    assert filled.encoded() == full.encoded()
    assert filled.document() == full.document()
    assert (filled.findings, filled.issuer, filled.contexts, filled.profile) == (
        full.findings, full.issuer, full.contexts, full.profile,
    )  # fmt: skip
    signed = proof_bytes.sign_bytes(filled, SIGNER, CREATED)
    assert signed == msgspec.json.encode(proofs.sign(full, SIGNER, CREATED))
    assert proof_bytes.verify_bytes(filled, signed, SIGNER.public_key_multibase).ok


# -- random credentials over the shapes that the model allows ------------------------------------------------


def any_badge(rng: random.Random, texts: list[str]) -> dict[str, Any]:
    """A credential that lint takes, most of the time: every optional part is there or not."""

    def maybe(value: Any) -> Any:
        return value if rng.random() < 0.5 else None

    def text() -> str:
        if rng.random() < 0.02:
            return rng.choice([*texts, 'quoted "x"', "\\n", "<b>"])
        return rng.choice(["Essay", "数据 · data", "L'été", "a > b", "100 %"]) + str(rng.random())

    described = tuple(
        model.ResultDescription(f"urn:uuid:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e{number:02x}", f"Part {number}", "Percent",
                                maybe("0"), maybe("100"), allowed_value=rng.choice([(), (), ("5", "7", "93")]))
        for number in range(rng.choice([0, 1, 1, 2, 3, 6]))
    )  # fmt: skip
    achievement = model.Achievement(
        id=ACHIEVEMENT.id, name=rng.choice(["Heat", "数据素养", 'The "best"']), description="Learn.",
        criteria_narrative="Pass.", criteria_id=maybe(rng.choice([ACHIEVEMENT.id, "https://x.example/criteria"])),
        achievement_type=maybe("Course"), image=maybe(ACHIEVEMENT.image), image_caption=maybe("A wreath"),
        tag=rng.choice([(), ("b", "a"), ("é", "z", "🎓")]), alignment=rng.choice([(), ACHIEVEMENT.alignment]),
        result_description=described, in_language=maybe("en"), human_code=maybe("H1"), field_of_study=maybe("Physics"),
        version=maybe("1"), credits_available=maybe(2.5), creator=maybe(PROFILE),
    )  # fmt: skip
    recipient = rng.choice(
        [RECIPIENT, model.Recipient(f"did:key:{SIGNER.public_key_multibase}"),
         model.Recipient("https://x.example/ada", RECIPIENT.identity)]
    )  # fmt: skip
    results = [
        model.Result(rng.choice(["5", "7", "93"]), one.id if rng.random() < 0.8 else None, maybe("Completed"))
        for one in described
        if rng.random() < 0.8
    ]
    evidence = tuple(
        model.Evidence(maybe(f"https://lms.example/{number}"), text(), maybe(text()), maybe(text()), maybe("Essay"), maybe(
            "Public")) for number in range(rng.choice([0, 0, 1, 2, 3]))
    )  # fmt: skip
    entries = [status.status_entry(LIST_URL, 94_567), status.status_entry(f"{BASE}/status/8", 7, "suspension")]
    return model.build_open_badge(
        id=f"{BASE}/c/1", issuer=rng.choice([PROFILE, model.Profile(DID, "Physics")]), achievement=achievement,
        recipient=recipient, valid_from=NOW, name=maybe("Badge"), description=maybe("Given for work."),
        awarded_date=maybe(NOW), valid_until=maybe(NOW + timedelta(days=9)), results=tuple(results), evidence=evidence,
        status=rng.choice([None, entries[0], entries]), activity_start_date=maybe(NOW - timedelta(days=9)),
        activity_end_date=maybe(NOW), credits_earned=maybe(rng.choice([2.5, 1e16, 3.0])), license_number=maybe(text()),
        role=maybe(text()), term=maybe(text()),
    )  # fmt: skip


def any_value(rng: random.Random, path: Path, values: list[str], texts: list[str]) -> str:
    """Mostly ordinary; else hostile, or equal to another value of the same credential."""
    chance = rng.random()
    if chance < 0.02:
        return rng.choice(values)
    if chance < 0.05:
        return rng.choice(HOSTILE + IRIS + TIMES + texts)
    hexed = hashlib.sha256(rng.randbytes(8)).hexdigest()
    match path[-1]:
        case "id":
            ordinary = [
                f"{BASE}/c/{hexed[:8]}",
                f"https://{hexed[:4]}.example/{hexed}?x={hexed[:3]}#{hexed[0]}",
                f"{LIST_URL}#{int(hexed[:4], 16)}",
            ]
            return rng.choice(ordinary * 4 + [f"did:web:{hexed[:5]}.example", rng.choice(IRIS)])
        case "identityHash":
            return rng.choice(
                [*[f"sha256${hexed}"] * 12, f"SHA256${hexed}", f"sha256${hexed.upper()}", f"md5${hexed[:32]}"]
            )
        case "statusListIndex":
            return str(rng.randrange(131_072))
        case "value":
            return rng.choice(["5", "7", "93", "0", "100", "100.5", str(rng.randrange(120)), rng.choice(HOSTILE)])
        case "validFrom" | "validUntil" | "awardedDate" | "activityStartDate" | "activityEndDate":
            moment = datetime(2026, 5, 4, tzinfo=UTC) + timedelta(seconds=rng.randrange(-9, 10) * 86_399)
            return rng.choice([*[moment.strftime("%Y-%m-%dT%H:%M:%SZ")] * 12, rng.choice(TIMES)])
        case _:
            return rng.choice([hexed[:22], "Ordinary text", "été · 数据", rng.choice(texts), rng.choice(HOSTILE)])


COUNTS: collections.Counter[str] = collections.Counter()


@settings(
    max_examples=max(1, CREDENTIALS // A_TEMPLATE), deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(seed=st.integers(0, 2**64), texts=st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=5))
def compare_random_credentials(seed: int, texts: list[str]) -> None:
    rng = random.Random(seed)
    document = any_badge(rng, texts)
    paths = list(slots.varying_paths(document))
    rng.shuffle(paths)
    paths = sorted(paths[: rng.choice([len(paths), len(paths), rng.randint(1, len(paths))])], key=str)
    try:
        made = lint.lint_template(document, paths, issuer=DID)
    except (lint.LintError, NotCompilable) as error:
        reason = str(error) if isinstance(error, NotCompilable) else "lint refuses the example"
        COUNTS[f"no template: {reason.partition(':')[0]}"] += 1
        return
    COUNTS["templates"] += 1
    ordinary = values_of(document, paths)
    for _ in range(A_TEMPLATE + 15):
        values = [any_value(rng, path, ordinary, texts) for path in paths]
        if rng.random() < 0.5:  # few of them hostile, so that most of these go the template's way
            odd = rng.randrange(len(values))
            values = [
                value if number == odd else any_value(_Calm(rng), paths[number], ordinary, texts)
                for number, value in enumerate(values)
            ]
        filled = template_way(made, values)
        changed = with_values(document, paths, values)
        if filled is None:
            COUNTS["the full way"] += 1
            continue
        COUNTS["filled"] += 1
        assert_same(filled, changed)


class _Calm(random.Random):
    """Takes the ordinary choice wherever there is one."""

    def __init__(self, source: random.Random) -> None:
        super().__init__(source.random())

    def choice(self, options: Any) -> Any:
        return options[0]

    def random(self) -> float:
        return 0.5


def test_random_credentials_are_the_same_both_ways() -> None:
    COUNTS.clear()
    compare_random_credentials()
    print(dict(COUNTS))
    done = COUNTS["filled"] + COUNTS["the full way"]
    assert done >= CREDENTIALS * 0.8
    assert COUNTS["filled"] > done / 5
    assert COUNTS["the full way"] > done / 20
