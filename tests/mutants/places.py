"""Ways around in a JSON document: every place, what stands there, and copies with something else there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> list[Path]:
    """Every place below `value`, outermost first."""
    steps: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        steps = list(value.items())
    elif isinstance(value, list):
        steps = list(enumerate(value))
    found: list[Path] = []
    for step, inner in steps:
        found += [(*path, step), *places(inner, (*path, step))]
    return found


def at(document: Any, path: Path) -> Any:
    """What stands at `path`."""
    for step in path:
        document = document[step]
    return document


def where(document: Any, holds: Callable[[Any], bool]) -> list[Path]:
    """The places whose value `holds`."""
    return [path for path in places(document) if holds(at(document, path))]


def put(document: Any, path: Path, value: Any) -> Any:
    """A copy with `value` at `path`."""
    made = copy.deepcopy(document)
    at(made, path[:-1])[path[-1]] = value
    return made


def cut(document: Any, path: Path) -> Any:
    """A copy without what stands at `path`."""
    made = copy.deepcopy(document)
    del at(made, path[:-1])[path[-1]]
    return made


def rename(document: Any, path: Path, name: str, *, at_end: bool = False) -> Any:
    """A copy in which the member at `path` is called `name`."""
    made = copy.deepcopy(document)
    parent = at(made, path[:-1])
    members = [(name if key == path[-1] else key, value) for key, value in parent.items()]
    if at_end:
        members.sort(key=lambda member: member[0] == name)
    parent.clear()
    parent.update(members)
    return made
