"""A few thousand of the mutants at each change of the code; `python -m tests.mutants` tries a hundred thousand."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from laurel.credential import jose, model
from laurel.credential.baking import bake_png, bake_svg
from laurel.credential.multibase import base64url_decode, base64url_encode
from tests.mutants.containers import says_the_same
from tests.mutants.meaning import same, statements
from tests.mutants.specimens import specimens
from tests.mutants.trial import mutant, pairs, try_mutants, unmutated
from tests.mutants.value_kinds import handed_in, text_of
from tests.unit.credential.samples import PNG, badge

ALL = len(pairs())


def test_the_specimens_are_what_they_are_called() -> None:
    verdicts = unmutated()
    assert {one.name: one.state for one in specimens()} == verdicts
    assert sum(verdict == "valid" for verdict in verdicts.values()) >= 7


@pytest.mark.parametrize("part", range(2))
def test_no_mutant_is_valid(part: int) -> None:
    count = 3 * ALL  # each kind with each specimen, three times
    report = try_mutants(4, range(part * count, (part + 1) * count))
    assert report.escaped == []
    assert report.mutants + report.same.total() == count
    assert report.mutants > count * 0.75
    # Equal in meaning, and valid where nothing else is wrong: else the verifier would refuse everything.
    assert report.same_valid.total() > 30
    assert report.verdicts.keys() >= {"invalid", "valid", "could_not_check", "expired", "revoked", "suspended"}


def test_a_mutant_is_the_same_each_time() -> None:
    assert [mutant(7, number) for number in range(ALL)] == [mutant(7, number) for number in range(ALL)]


DOCUMENT = {**badge(), "proof": {"type": "DataIntegrityProof", "cryptosuite": "eddsa-rdfc-2022", "proofValue": "z1"}}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    made = copy.deepcopy(DOCUMENT)
    target: Any = made
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = to
    return made


def test_what_counts_as_the_same() -> None:
    tags = ("credentialSubject", "achievement", "tag")
    for same_statements in (
        changed(*tags, to=["statistics", "data", "data"]), changed("evidence", to=DOCUMENT["evidence"][0]),
        changed("name", to=[DOCUMENT["name"]]), changed("proof", to=[DOCUMENT["proof"]]),
        changed("@context", to=[*DOCUMENT["@context"], DOCUMENT["@context"][0]]),
    ):  # fmt: skip
        assert same(same_statements, DOCUMENT, "rdfc")
        if same_statements["proof"] == DOCUMENT["proof"] and same_statements["@context"] == DOCUMENT["@context"]:
            assert not same(same_statements, DOCUMENT, "jcs")
    earned = ("credentialSubject", "creditsEarned")
    assert same(changed(*earned, to=2.4999999999999996), DOCUMENT, "rdfc")
    assert not same(changed(*earned, to=2.4999999999999996), DOCUMENT, "jcs")
    assert same(dict(reversed(DOCUMENT.items())), DOCUMENT, "jcs")
    for other in (
        changed(*tags, to=["data"]), changed("name", to="x"), changed("@context", to=DOCUMENT["@context"][:1]),
        changed("validFrom", to="2026-05-04T12:30:01Z"), changed("proof", "proofValue", to="z2"), None, [],
        changed("credentialSubject", "creditsEarned", to="2.5"), changed("proof", to=None),
    ):  # fmt: skip
        assert not same(other, DOCUMENT, "rdfc")
        assert not same(other, DOCUMENT, "jcs")


def test_what_counts_as_the_same_token() -> None:
    named = {one.name: one for one in specimens()}
    edwards, curve, both = named["vc+jwt EdDSA"], named["vc-jwt RS256"], named["vc+jwt EdDSA, and a proof"]
    token = edwards.token
    enveloped = jose.enveloped(token)
    for body in (
        token, b" " + token + b"\n", text_of(enveloped), text_of({**enveloped, "type": [enveloped["type"]]}),
        bake_png(PICTURE, token), bake_png(PICTURE, text_of(enveloped)), bake_svg(ART, token),
    ):  # fmt: skip
        assert says_the_same(body, edwards)
        assert not says_the_same(body, curve)
    for body in (
        token[:-1], token + b"=", b'"' + token + b'"', token.replace(b".", b"..", 1), text_of(edwards.document), b"",
        text_of({**enveloped, "name": "x"}), text_of({**enveloped, "id": enveloped["id"] + "x"}), curve.token,
        text_of({**enveloped, "type": [enveloped["type"], "OpenBadgeCredential"]}), named["eddsa-rdfc"].picture,
        twin(token),
    ):  # fmt: skip
        assert not says_the_same(body, edwards)
    ecdsa = named["vc+jwt ES256"]
    assert twin(ecdsa.token) != ecdsa.token
    assert says_the_same(twin(ecdsa.token), ecdsa)
    assert says_the_same(text_of(both.document), both)  # its own proof holds without the token


def twin(token: bytes) -> bytes:
    """The token with (r, n - s) of P-256 for (r, s)."""
    signed, _, signature = token.rpartition(b".")
    raw = base64url_decode(signature.decode())
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = (order - int.from_bytes(raw[32:], "big")) % order
    return signed + b"." + base64url_encode(raw[:32] + other.to_bytes(32, "big")).encode()


PICTURE = base64.b64decode(PNG.partition(",")[2])
ART = b'<svg xmlns="http://www.w3.org/2000/svg"><g/></svg>'


def test_what_counts_as_the_same_picture() -> None:
    named = {one.name: one for one in specimens()}
    for name in ("eddsa-rdfc", "ecdsa-jcs", "vc+jwt EdDSA"):
        png, svg = named[f"{name} in a PNG"], named[f"{name} in an SVG"]
        bare = handed_in(named[name])
        end = svg.picture.index(b"</svg>")
        element = svg.picture[svg.picture.index(b"<openbadges:") : svg.picture.index(b"<title>")]
        chunk = png.picture[33 : png.picture.index(b"IDAT") - 4]
        for one in (png, svg):
            for body in (
                bare, png.picture, svg.picture, png.picture + b"x", svg.picture.replace(b"<title>Data", b"<title>"),
                bake_svg(ART, bare), svg.picture[:end] + b"<!-- " + element.replace(b"--", b"") + b" --></svg>",
            ):  # fmt: skip
                assert says_the_same(body, one)
            for body in (
                PICTURE, ART, b"", svg.picture[:end] + element + b"</svg>", png.picture.replace(b"openb", b"Openb"),
                png.picture[:33] + chunk + png.picture[33:], bake_png(PICTURE, b'{"@context":[]}'),
                bake_svg(ART, handed_in(named["eddsa-rdfc expired"])), bake_svg(ART, b"a.b.c"), svg.picture[:end],
            ):  # fmt: skip
                assert not says_the_same(body, one)


def test_the_other_processor_reads_what_is_issued() -> None:
    found = statements(badge())
    assert found is not None
    assert found.count(b"\n") > 30
    assert statements(badge(recipient=model.Recipient(id="did:example:other"))) != found
