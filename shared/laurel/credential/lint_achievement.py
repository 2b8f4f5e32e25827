"""The rules of `lint` about achievements: what was earned, how, with which pictures, alignments and results."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from laurel.credential import contexts
from laurel.credential import images as pictures
from laurel.credential.lint_rules import Found, Path, Subject, is_identifier, objects_at
from laurel.credential.text import is_web_url

_LANGUAGE = re.compile(r"[a-z]{2,4}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?").fullmatch  # the schema's pattern
_EXTENSION = re.compile(r"ext:[A-Za-z0-9._-]+").fullmatch
# Whatever a double is, written out: up to 324 places to its last digit's place, and 17 digits.
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{1,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,2})?").fullmatch
_DATA_IMAGE = re.compile(r"data:image/(?:png|svg\+xml)(?:;charset=utf-8)?;base64,[A-Za-z0-9+/]+={0,2}").fullmatch

# Property → the class of the schema that lists its values; those not closed may also be "ext:…".
_VOCABULARIES = {
    "achievementType": "Achievement",
    "targetType": "Alignment",
    "resultType": "ResultDescription",
    "identityType": "IdentityObject",
    "identifierType": "IdentifierEntry",
}


@functools.cache
def vocabulary(name: str) -> tuple[str, ...]:
    """The values that the Open Badges 3.0 schema lists for a property such as "achievementType"."""
    definitions = contexts.load_schema(contexts.OPEN_BADGES_SCHEMA)["$defs"]
    described = definitions[_VOCABULARIES[name]]["properties"][name]
    return tuple(value for part in described["oneOf"] for value in part.get("enum", ()))


def is_term(name: str, value: str) -> bool:
    """Whether `value` is one that the standard lists for the property `name`, or an extension "ext:…"."""
    return value in vocabulary(name) or _EXTENSION(value) is not None


def vocabularies(subject: Subject) -> Iterator[Found]:
    for name in _VOCABULARIES:
        for path, value in subject.named(name):
            if isinstance(value, str) and not is_term(name, value):
                yield path, f"{value!r} is no {name} of the standard, and no extension ext:…"


def achievement_complete(subject: Subject) -> Iterator[Found]:
    found = False
    for path, achievement, _ in subject.achievements():
        found = True
        for name in ("name", "description"):
            if not isinstance(achievement.get(name), str):
                yield (*path, name), f"the achievement has no {name}"
    if not found:
        yield ("credentialSubject",), "there is no achievement"


def criteria(subject: Subject) -> Iterator[Found]:
    for path, achievement, _ in subject.achievements():
        value = achievement.get("criteria")
        place = (*path, "criteria")
        if not isinstance(value, dict) or not (value.get("id") or value.get("narrative")):
            yield place, "the criteria have neither a narrative nor an id"
        elif isinstance(value.get("id"), str) and is_identifier(value["id"]) and not is_web_url(value["id"]):
            yield (*place, "id"), f"{value['id']!r} is not an absolute http(s) URL; nobody can read it"


def alignments(subject: Subject) -> Iterator[Found]:
    for path, name, value in subject.values:
        if name != "alignment" or not isinstance(value, dict):
            continue
        if not isinstance(value.get("targetName"), str):
            yield (*path, "targetName"), "the alignment has no targetName"
        target = value.get("targetUrl")
        if not isinstance(target, str) or not is_web_url(target):
            yield (*path, "targetUrl"), "the alignment's targetUrl is not an absolute http(s) URL"


def languages(subject: Subject) -> Iterator[Found]:
    for path, value in subject.named("inLanguage"):
        if isinstance(value, str) and not _LANGUAGE(value):
            yield path, f"{value!r} is not a language tag like 'en', 'pt-BR' or 'zh-Hant-TW'"


def credits_earned(subject: Subject) -> Iterator[Found]:
    for path, achievement, node in subject.achievements():
        most, earned = achievement.get("creditsAvailable"), node.get("creditsEarned")
        taken = (*path[: path.index("achievement")], "creditsEarned")
        for value, place in ((most, (*path, "creditsAvailable")), (earned, taken)):
            if isinstance(value, int | float) and value < 0:
                yield place, "there are no negative credits"
        if isinstance(most, int | float) and isinstance(earned, int | float) and earned > most:
            yield taken, f"more credits were earned than the {most} that there are"


# --- images ----------------------------------------------------------------------------------------------------------


def images(subject: Subject) -> Iterator[Found]:
    for path, value in subject.named("image"):
        url, place = (value.get("id"), (*path, "id")) if isinstance(value, dict) else (value, path)
        if not isinstance(url, str) or not (url.startswith("data:") or is_web_url(url)):
            yield place, "the image is neither an http(s) URL nor a data URI"
        elif url.startswith("data:") and (wrong := _wrong_image(url)):
            yield place, wrong


def _wrong_image(url: str) -> str | None:
    if _DATA_IMAGE(url) is None:
        return "the data URI is not a base64 PNG or SVG image"
    try:
        pictures.from_data_uri(url)
    except pictures.BadImage as bad:
        return bad.detail
    return None


def image_caption(subject: Subject) -> Iterator[Found]:
    """The picture of a badge is its face; who does not see it reads the caption."""
    nodes = [((), subject.document), *((path, node) for path, node, _ in subject.achievements())]
    for path, node in nodes:
        for inner, image in objects_at(node, "image", path):
            if not isinstance(image.get("caption"), str):
                yield (*inner, "caption"), "the badge's image has no caption"


# --- results ---------------------------------------------------------------------------------------------------------


def result_descriptions(achievement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The achievement's result descriptions by their id."""
    return {str(item.get("id")): item for _, item in objects_at(achievement, "resultDescription", ())}


def _levels(description: dict[str, Any]) -> list[Any]:
    return [level.get("id") for _, level in objects_at(description, "rubricCriterionLevel", ())]


def described_results(subject: Subject) -> Iterator[Found]:
    """Result descriptions and their levels have ids of their own, and a range that begins before it ends."""
    for path, achievement, _ in subject.achievements():
        seen: set[Any] = set()
        for place, description in objects_at(achievement, "resultDescription", path):
            for inner, node in ((place, description), *objects_at(description, "rubricCriterionLevel", place)):
                name = str(node.get("id"))
                if name in seen:
                    yield (*inner, "id"), f"{name!r} is the id of another result description or level, too"
                seen.add(name)
            lowest, highest = decimal(description.get("valueMin")), decimal(description.get("valueMax"))
            if lowest is not None and highest is not None and lowest > highest:
                yield (*place, "valueMin"), "valueMin is above valueMax"


def required_results(subject: Subject) -> Iterator[Found]:
    """What is required to pass is a result that there can be."""
    for path, achievement, _ in subject.achievements():
        for place, description in objects_at(achievement, "resultDescription", path):
            value, level = description.get("requiredValue"), description.get("requiredLevel")
            if value is not None and (wrong := wrong_value(description, value)):
                yield (*place, "requiredValue"), wrong
            if level is not None and level not in _levels(description):
                yield (*place, "requiredLevel"), f"{level!r} is not the id of one of its rubric criterion levels"


def result_references(subject: Subject) -> Iterator[Found]:
    """A result refers to a description of its own achievement, and a level to a level of that description."""
    for place, result, described in _results(subject):
        reference, level = result.get("resultDescription"), result.get("achievedLevel")
        if reference is not None and str(reference) not in described:
            yield (*place, "resultDescription"), f"{reference!r} is not a resultDescription of the achievement"
        elif level is not None and level not in _levels(described.get(str(reference), {})):
            yield (*place, "achievedLevel"), f"{level!r} is not a level of the result's description"


def result_values(subject: Subject) -> Iterator[Found]:
    """A result keeps to the range and the values of its description."""
    for place, result, described in _results(subject):
        description, value = described.get(str(result.get("resultDescription"))), result.get("value")
        if description is not None and value is not None and (wrong := wrong_value(description, value)):
            yield (*place, "value"), wrong


def result_content(subject: Subject) -> Iterator[Found]:
    """A result says something: the status where it is of that type, else a value, a level or a status."""
    for place, result, described in _results(subject):
        description = described.get(str(result.get("resultDescription")), {})
        if description.get("resultType") == "Status" and result.get("status") is None:
            yield (*place, "status"), "a result of the type Status has no status"
        elif not any(result.get(name) is not None for name in ("value", "achievedLevel", "status")):
            yield place, "the result has neither a value nor a level nor a status"


def _results(subject: Subject) -> Iterator[tuple[Path, dict[str, Any], dict[str, dict[str, Any]]]]:
    for path, achievement, node in subject.achievements():
        described = result_descriptions(achievement)
        for place, result in objects_at(node, "result", path[: path.index("achievement")]):
            yield place, result, described


def wrong_value(description: dict[str, Any], value: Any) -> str | None:
    """What is wrong with this value of a result, or None. The quotation marks hold what may be a learner's."""
    allowed = description.get("allowedValue")
    if allowed is not None:
        listed = allowed if isinstance(allowed, list) else [allowed]
        if value not in listed:
            return f"{value!r} is not among the allowed values"
    lowest, highest = decimal(description.get("valueMin")), decimal(description.get("valueMax"))
    if lowest is None and highest is None:
        return None
    number = decimal(value)
    if number is None:
        return None if allowed is not None else f"{value!r} is no decimal number, and the description has a range"
    if lowest is not None and number < lowest:
        return f"{value!r} is below valueMin"
    if highest is not None and number > highest:
        return f"{value!r} is above valueMax"
    return None


def decimal(value: Any) -> float | None:
    """The decimal number that a value stands for, in ASCII digits; None: something else, such as a letter grade."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return float(value) if _DECIMAL(str(value)) else None
