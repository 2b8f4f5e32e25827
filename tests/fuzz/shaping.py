"""From raw bytes to choices, texts and JSON, so that most inputs get past the first check of what is fuzzed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

from tests.mutants.places import Path, at, places

T = TypeVar("T")

_WORDS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**53, 2**70, 1e300, -0.0, 1.5, "", "x", "_:b0", "did:key:z", "did:web:x.example",
    "https://x.example/#", "urn:uuid:00000000-0000-4000-8000-000000000001", "2026-13-01T00:00:00Z", "\ud7ff",
    "\U0001f600",
    "https://www.w3.org/ns/credentials/v2", "VerifiableCredential", "z6Mk", "u", "@id", {"@value": "x"}, {"@list": []},
    {"@id": "x"}, {"@context": {}}, {"x": "@nest"}, "2026-01-01T00:00:00Z", "eddsa-jcs-2022", "assertionMethod",
)  # fmt: skip
_NAMES = (
    "@context", "id", "type", "proof", "issuer", "name", "credentialSubject", "credentialStatus", "validFrom", "@id",
    "@type", "@graph", "@nest", "@value", "@language", "@direction", "@index", "@reverse", "x", "", "previousProof",
    "verificationMethod", "publicKeyJwk", "publicKeyMultibase", "created", "expires", "proofValue", "cryptosuite",
)  # fmt: skip


class Bytes:
    """Data, used up from the front; when it is used up every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def left(self) -> bool:
        """Whether there is data left."""
        return self._place < len(self._data)

    def number(self) -> int:
        """0 to 255."""
        self._place += 1
        return self._data[self._place - 1] if self._place <= len(self._data) else 0

    def choice(self, options: Sequence[T]) -> T:
        """One of up to 65,536 options."""
        return options[(self.number() << 8 | self.number() if len(options) > 255 else self.number()) % len(options)]

    def take(self, most: int = 64) -> bytes:
        """Some bytes."""
        length = self.number() % (most + 1)
        taken = self._data[self._place : self._place + length]
        self._place += length
        return taken

    def text(self, most: int = 64) -> str:
        """Some text, without lone surrogates."""
        return self.take(most).decode("utf-8", "replace")

    def json(self, depth: int = 3) -> Any:
        """Any JSON value."""
        kind = self.number() % 8
        if kind < 4:
            return copy.deepcopy(self.choice(_WORDS))
        if kind == 4 or not depth:
            return self.text()
        if kind == 5:
            return int.from_bytes(self.take(9), "big", signed=True)
        if kind == 6:
            return [self.json(depth - 1) for _ in range(self.number() % 4)]
        return {self.name(): self.json(depth - 1) for _ in range(self.number() % 4)}

    def name(self) -> str:
        """A member's name: mostly one that means something."""
        return self.choice(_NAMES) if self.number() % 4 else self.text(24)

    def changed(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document with up to four changes: a value replaced, cut, copied elsewhere, or a member added."""
        made = copy.deepcopy(document)
        for _ in range(1 + self.number() % 4):
            everywhere: list[Path] = places(made)
            if not everywhere:
                break
            path = self.choice(everywhere)
            parent = at(made, path[:-1])
            match self.number() % 5:
                case 0 | 1:
                    parent[path[-1]] = self.json()
                case 2:
                    del parent[path[-1]]
                case 3:
                    parent[path[-1]] = copy.deepcopy(at(made, self.choice(everywhere)))
                case _:
                    if isinstance(parent, dict):
                        parent[self.name()] = self.json()
                    else:
                        parent.append(self.json())
        return made
