"""Every rule of lint against every value that a template may fill in: what lint would find, no template takes."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

from laurel.credential import lint, model, slots, status
from laurel.credential.lint_table import RULES
from laurel.credential.template import Path
from tests.unit.credential.samples import BASE, CREATED, DID, LIST_URL, NOW, RECIPIENT, SIGNER, badge
from tests.unit.credential.test_template import HOSTILE, IRIS, TIMES, assert_same, template_way, values_of, with_values

# The rules that a value may violate which differs from credential to credential. A new rule that does stands here, and
# in `slots`; one that stands here and is never violated below is not tested.
OF_VALUES = {
    "plain-json", "size", "described-once", "no-empty-values", "credential-id", "absolute-ids", "timestamps", "periods",
    "plausible-years", "awarded-date", "text-normal-form", "text-characters", "text-leftovers", "text-markup",
    "markdown-links", "text-length", "text-blanks", "status-entries", "status-unique", "result-values", "recipient",
    "self-awarded", "identity-hash", "identity-salt", "evidence", "safe-expansion",
}  # fmt: skip

# Beyond the hostile values of test_template, what the rules are about.
MORE = [
    "undefined", "Dear ${name}", "Gr\ufffdsse", " trimmed ", "[x](javascript:alert(1))", "<javascript:x>",
    "[1]: data:x",
    "[good](https://x.example/a)", "see <https://x.example/>", "x" * 1001, "x" * 10_001, "x" * 262_144, "93", "93.0",
    "093", "nearly all", "md5$" + "0" * 32, "sha256$" + "0" * 64, "sha256$" + "0" * 63 + "g", "ada@example.org",
    "1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z", "1899-12-31T23:59:59Z", "1900-01-01T00:00:00Z",
    "2199-12-31T23:59:59Z",
    "2200-01-01T00:00:00Z", "2026-05-04T23:59:59Z", "2026-05-05T00:00:00Z", "2026-05-05T12:30:01Z", "tel:+49123456",
    "mailto:ada@example.org", "131071", "9999999999999999", "urn:isbn:0451450523", f"{LIST_URL}#94567",
    f"{BASE}/status/8#7",
    "http://x.example/evidence", "did:web:x.example#key", "did:example:a/b",
]  # fmt: skip


def samples() -> list[dict[str, Any]]:
    entries = [status.status_entry(LIST_URL, 94_567), status.status_entry(f"{BASE}/status/8", 7, "suspension")]
    return [
        badge(valid_until=CREATED, license_number="1", role="r", term="t", activity_start_date=NOW - timedelta(days=9)),
        badge(status=entries, recipient=model.Recipient("did:web:x.example", RECIPIENT.identity)),
        badge(results=(model.Result("93"),), evidence=(), recipient=model.Recipient("https://x.example/ada")),
    ]


@functools.cache
def outcomes() -> tuple[set[str], int, int]:
    """Fill every value into every place. The rules that were violated, how often it was filled in, how often not."""
    violated: set[str] = set()
    tried: set[tuple[Any, ...]] = set()
    taken = refused = 0
    for document in samples():
        paths: list[Path] = list(slots.varying_paths(document))
        made = lint.lint_template(document, paths, issuer=DID)
        ordinary = values_of(document, paths)
        for number in range(len(paths)):
            for value in dict.fromkeys([*HOSTILE, *IRIS, *TIMES, *MORE, *ordinary]):
                trial = (*(step for step in paths[number] if isinstance(step, str)), value)
                if trial in tried and value not in ordinary:  # the same place of another sample
                    continue
                tried.add(trial)
                values = [*ordinary[:number], value, *ordinary[number + 1 :]]
                changed = with_values(document, paths, values)
                filled = template_way(made, values)
                if filled is not None:
                    assert_same(filled, changed)  # the same findings, above all: none
                    taken += 1
                    continue
                refused += 1
                try:
                    violated |= {finding.rule for finding in lint.lint(changed, issuer=DID).findings}
                except lint.LintError as error:
                    violated |= {finding.rule for finding in error.findings}
    return violated, taken, refused


def test_no_template_takes_what_any_rule_would_find() -> None:
    _, taken, refused = outcomes()
    assert taken > 200
    assert refused > 2000


def test_each_rule_about_values_was_violated_and_no_other() -> None:
    violated, _, _ = outcomes()
    assert violated == OF_VALUES
    assert violated <= {rule.name for rule in RULES}


def test_the_key_is_judged_when_the_template_is_made() -> None:
    keys = (lint.SigningKey(SIGNER.verification_method, compromised=True),)
    for refuse in (lint.lint, lambda document, **given: lint.lint_template(document, [("id",)], **given)):
        try:
            refuse(badge(), issuer=DID, keys=keys)
        except lint.LintError as error:
            assert {finding.rule for finding in error.findings} == {"key-active"}  # noqa: PT017 - two functions
        else:
            raise AssertionError("a compromised key was accepted")
