"""Changes of values, members and contexts of a credential."""

from __future__ import annotations

import copy
import json
import random
import re
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from laurel.credential import contexts
from laurel.credential.text import parse_timestamp, timestamp
from tests.mutants.places import Path, at, cut, places, put, rename, where
from tests.mutants.specimens import Specimen, strangers

Dice = random.Random
Kind = Callable[[Dice, Specimen], "bytes | dict[str, Any] | None"]

CRED = "https://www.w3.org/2018/credentials#"
XSD = "http://www.w3.org/2001/XMLSchema#"
_TWINS = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")  # Cyrillic
_INVISIBLE = ("\u200b", "\u00ad", "\u2060", "\ufeff", "\u202e", "\u00a0", " ", "\t", "\n", "\u0301", "\x00")


def text_of(document: Any) -> bytes:
    """The bytes of a document, as the issuer writes them; surrogate escapes become the bytes that they stand for."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")


def handed_in(specimen: Specimen) -> bytes:
    """What its holder has: the picture, the token or the JSON."""
    return specimen.picture or specimen.token or text_of(specimen.document)


def _texts(document: Any) -> list[Path]:
    return where(document, lambda value: isinstance(value, str))


# --- values ---------------------------------------------------------------------------------------------------------


def bit_of_a_value(dice: Dice, specimen: Specimen) -> bytes | None:
    """One bit of one string, which may then be no UTF-8 any more."""
    path = dice.choice(_texts(specimen.document))
    raw = bytearray(at(specimen.document, path).encode())
    if not raw:
        return None
    raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return text_of(put(specimen.document, path, raw.decode("utf-8", "surrogateescape")))


def bit_of_the_file(dice: Dice, specimen: Specimen) -> bytes:
    """One bit of the whole text, names and brackets included."""
    raw = bytearray(text_of(specimen.document))
    raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return bytes(raw)


def characters(dice: Dice, specimen: Specimen) -> dict[str, Any] | None:
    """A character more, less, twice, in another case, or one that looks the same."""
    path = dice.choice(_texts(specimen.document))
    text = at(specimen.document, path)
    place = dice.randrange(len(text) + 1)
    changed = dice.choice(
        [
            text[:place] + text[place + 1 :], text[:place] + dice.choice(_INVISIBLE) + text[place:], text[::-1],
            text[:place] + text[place : place + 1] * 2 + text[place + 1 :], text.upper(), text.lower(), text.title(),
            text.translate(_TWINS), text[:place] + text[place:].translate(_TWINS), text + "/", text + "#", "",
            text[:place] + text[place : place + 1].swapcase() + text[place + 1 :], text.strip("/"), f" {text}",
        ]
    )  # fmt: skip
    return None if changed == text else put(specimen.document, path, changed)


def normal_form(dice: Dice, specimen: Specimen) -> dict[str, Any] | None:
    """Another Unicode normalisation form of a text."""
    found = [
        (path, changed)
        for path in _texts(specimen.document)
        for form in ("NFD", "NFKD", "NFKC", "NFC")
        if (changed := unicodedata.normalize(form, at(specimen.document, path))) != at(specimen.document, path)
    ]
    return put(specimen.document, *dice.choice(found)) if found else None


def dates(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """Any moment becomes another, or is written otherwise."""
    path = dice.choice(where(specimen.document, lambda value: parse_timestamp(value) is not None))
    moment = parse_timestamp(at(specimen.document, path))
    assert moment is not None
    seconds = dice.choice([1, -1, 60, 3600, 86_400, -86_400, 31_536_000, -31_536_000, dice.randrange(-(10**8), 10**8)])
    written = timestamp(moment)
    changed = dice.choice(
        [
            timestamp(moment + timedelta(seconds=seconds)), timestamp(moment + timedelta(seconds=seconds)),
            written.replace("Z", "+00:00"), written.replace("Z", ".000Z"), written.replace("T", "t"), written[:10],
            written.replace("Z", ""), written.replace("Z", "-00:00"), "9999-12-31T23:59:59Z",
        ]
    )  # fmt: skip
    return put(specimen.document, path, changed)


def types(dice: Dice, specimen: Specimen) -> dict[str, Any] | None:
    """A value of another type: 1, 1.0 and "1"; true and "true"; a value and an array of it; an object; null."""
    path = dice.choice(places(specimen.document))
    value = at(specimen.document, path)
    options: list[Any] = [None, [value], [value, value], {"@value": value}, {"id": value}, [], {}, [[value]], [[]]]
    if isinstance(value, str):
        options += [
            {"@list": [value]},
            {"@value": value, "@type": f"{XSD}string"},
            {"@value": value, "@language": "en"},
        ]
        if re.fullmatch(r"\d{1,9}", value):
            options += [int(value), float(value), f"{value}.0", f"0{value}", f"+{value}"]
    elif isinstance(value, bool):
        options += [not value, str(value).lower(), int(value)]
    elif isinstance(value, float | int):
        options += [str(value), value + 1, -value, int(value), float(value), value + 1e-12, value * (1 + 1e-15)]
    elif isinstance(value, list):
        options += [value[::-1], value[1:], value[:1], value + value, [*value, []], value[0] if value else None]
    return put(specimen.document, path, dice.choice(options))


def spelling(dice: Dice, specimen: Specimen) -> bytes | None:
    """The same JSON, otherwise written: order, space, escapes, the writing of numbers. (Most say the same.)"""
    document = specimen.document
    match dice.randrange(5):
        case 0:
            keys = dice.sample(list(document), len(document))
            return text_of({key: document[key] for key in keys})
        case 1:
            return json.dumps(
                document, ensure_ascii=True, indent=dice.randrange(1, 4), sort_keys=dice.random() < 0.5
            ).encode()
        case 2:
            text = text_of(document)
            number = dice.choice(
                [b"2.50", b"25e-1", b"0.25E1", b"2.5000000000000001", b"2.4999999999999996", b"2.500000000000001"]
            )
            return text.replace(b":2.5,", b":" + number + b",", 1) if b":2.5," in text else None
        case 3:
            text = text_of(document)
            place = dice.randrange(len(text))
            return text[:place] + dice.choice([b" ", b"\n", b"\t", b"\\u0041", b"\xef\xbb\xbf"]) + text[place:]
        case _:
            text = text_of(document)
            members = [one for one in document if one != "@context"]
            key = dice.choice(members)
            other = json.dumps(dice.choice([document[key], "x", None]), ensure_ascii=False).encode()
            return text[:-1] + b"," + json.dumps(key).encode() + b":" + other + b"}"  # the member twice


# --- members --------------------------------------------------------------------------------------------------------


def removed(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """A member or an array's value is gone."""
    made: dict[str, Any] = cut(specimen.document, dice.choice(places(specimen.document)))
    return made


_TERMS = (
    "validFrom", "validUntil", "name", "description", "image", "id", "type", "issuer", "credentialStatus", "evidence",
    "narrative", "tag", "achievement", "creditsEarned", "termsOfUse", "relatedResource", "refreshService", "proof",
    "issuanceDate", "expirationDate", "statusSize", "statusMessage", "revoked", "expires", "hashed", "source", "holder",
    "undefinedTerm", "@id", "@type", "@language", "@index", "@context", "__proto__", "sec:proof", "https://x.example/p",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    "x", "2099-01-01T00:00:00Z", "https://x.example/", 1, True, {"id": "urn:x:y", "type": "Evidence"}, [], "en",
    {"type": "Image", "id": "https://x.example/i.png"}, {"narrative": "x"}, None, "did:example:eve", 0, "",
)  # fmt: skip


def added(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """A member more, somewhere."""
    objects = [(), *where(specimen.document, lambda value: isinstance(value, dict))]
    made = copy.deepcopy(specimen.document)
    target = at(made, dice.choice(objects))
    target[dice.choice(_TERMS)] = dice.choice(_VALUES)
    return made


def renamed(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """A member under another name: another term, another case, one more character."""
    path = dice.choice([one for one in places(specimen.document) if isinstance(one[-1], str)])
    name = str(path[-1])
    new = dice.choice(
        [*_TERMS, name.upper(), name.title(), name + "s", f"@{name}", f" {name}", name[:-1], name.swapcase()]
    )
    made: dict[str, Any] = rename(specimen.document, path, new)
    return made


def exchanged(dice: Dice, specimen: Specimen) -> dict[str, Any] | None:
    """Two values change places."""
    everywhere = places(specimen.document)
    first, second = dice.sample(everywhere, 2)
    if first == second[: len(first)] or second == first[: len(second)]:
        return None
    made = put(specimen.document, first, at(specimen.document, second))
    made = put(made, second, at(specimen.document, first))
    return dict(made)


def moved(dice: Dice, specimen: Specimen) -> dict[str, Any] | None:
    """A member goes to another object."""
    source = dice.choice([one for one in places(specimen.document) if isinstance(one[-1], str)])
    targets = [(), *where(specimen.document, lambda value: isinstance(value, dict))]
    target = dice.choice(targets)
    if source == target[: len(source)] or target == source[:-1]:
        return None
    value = at(specimen.document, source)
    made = copy.deepcopy(specimen.document)
    at(made, target)[source[-1]] = value
    del at(made, source[:-1])[source[-1]]
    return made


def grafted(dice: Dice, specimen: Specimen) -> dict[str, Any] | None:
    """A value of another genuine credential in the same place."""
    other = dice.choice(strangers())
    path = dice.choice(places(specimen.document))
    try:
        value = at(other, path)
    except (KeyError, IndexError, TypeError):
        return None
    if path[0] == "proof" or value == at(specimen.document, path):
        return None
    return dict(put(specimen.document, path, copy.deepcopy(value)))


# --- what the JSON hides ----------------------------------------------------------------------------------------------


def hidden(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """A property under a name that readers of the JSON do not know, so that its statements stay signed."""
    wanted = (
        "validUntil",
        "validFrom",
        "credentialStatus",
        "credentialSchema",
        "evidence",
        "awardedDate",
        "name",
        "id",
    )
    name = dice.choice([one for one in wanted if one in specimen.document])
    made = copy.deepcopy(specimen.document)
    value = made.pop(name)
    dated = parse_timestamp(value) is not None
    iri = {"name": "https://schema.org/name", "id": "@id"}.get(name, CRED + name)
    literal = {"@value": value, "@type": f"{XSD}dateTime"} if dated else value
    node = {"id": specimen.document["id"], "type": "VerifiableCredential", name: value}
    definition: Any = {"@id": iri, "@type": f"{XSD}dateTime"} if dated else iri
    inline: Any = None
    match dice.randrange(9):
        case 0:
            made[iri] = literal
        case 1:
            made["alias"], inline = value, {"alias": definition}
        case 2:
            made["c:" + name], inline = literal, {"c": {"@id": CRED, "@prefix": True}}
        case 3:
            made["credentials#" + name], inline = literal, {"@vocab": "https://www.w3.org/2018/"}
        case 4:
            made["@nest"] = {name: value}
        case 5:
            made["nested"], inline = {name: value}, {"nested": "@nest"}
        case 6:
            made["@included"] = [node]
        case 7:
            made["@reverse"] = {CRED + "issuer": node}
        case _:
            issuer = made["issuer"]
            issuer["@reverse"] = {CRED + "issuer": node}
    if inline is not None:
        made["@context"] = (
            [*made["@context"], inline] if dice.random() < 0.7 else [made["@context"][0], inline, *made["@context"][1:]]
        )
    return made


def context_list(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """Contexts in another order, twice, fewer, more, other versions, inline ones."""
    listed = list(specimen.document["@context"])
    inline: list[Any] = [
        {"validUntil": "urn:x:y"}, {"name": "https://schema.org/description"}, {"unused": "urn:x:unused"}, {},
        {"credentialStatus": None}, {"@vocab": "https://x.example/"}, {"@base": "https://x.example/"}, None,
        {"@language": "de"}, {"Achievement": "urn:x:y"}, {"id": "@type"}, {"@protected": True, "x": "urn:x:x"},
    ]  # fmt: skip
    more = dice.choice([*contexts.manifest(), *inline, "https://x.example/context"])
    place = dice.randrange(len(listed) + 1)
    changed = dice.choice(
        [
            listed[::-1], dice.sample(listed, len(listed)), listed + listed, listed[:-1], listed[1:],
            [*listed, more], [*listed[:place], more, *listed[place:]], [*listed[:place], more, *listed[place + 1 :]],
            listed[0], [listed], [*listed, listed[0]], {"@import": listed[0]},
        ]
    )  # fmt: skip
    if dice.random() < 0.2:
        path = dice.choice(where(specimen.document, lambda value: isinstance(value, dict)))
        return dict(put(specimen.document, (*path, "@context"), more))
    return put(specimen.document, ("@context",), changed) | {}
