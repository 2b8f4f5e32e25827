"""The pages' own styles, script and pictures, under names that hold their hash: browsers keep them for ever."""

from __future__ import annotations

import hashlib
import importlib.resources
from dataclasses import dataclass

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "png": "image/png"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. name: with its hash, as it is asked for."""

    name: str
    media_type: str
    content: bytes


def load_assets() -> dict[str, Asset]:
    """Every file of the package's `assets` folder, by its plain name."""
    found = {}
    for file in (importlib.resources.files("laurel_verifier") / "assets").iterdir():
        stem, _, suffix = file.name.rpartition(".")
        if suffix in _TYPES:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:12]
            found[file.name] = Asset(f"{stem}.{digest}.{suffix}", _TYPES[suffix], content)
    return found
