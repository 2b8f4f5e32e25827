"""Requests for the fuzzer: what the OpenAPI documents allow, and what becomes of it when somebody means harm."""

from __future__ import annotations

import base64
import json
import random
import re
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.fuzz.shaping import Bytes
from tests.security.estate import OPERATOR, PARTNER, PNG, Door, Estate, Tenant


def _svg(head: str, inner: str = "") -> str:
    content = f'{head}<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1">{inner}</svg>'
    return f"data:image/svg+xml;base64,{base64.b64encode(content.encode()).decode()}"


_PICTURES = (
    _svg(""), _svg("", "<script/>"), _svg("<!DOCTYPE svg>"), _svg('<?xml-stylesheet href="#x"?>'), _svg("<"),
    *(_svg(f'<?xml version="1.0" encoding="{one}"?>') for one in ("UTF-7", "big5", "rot13", "idna", "x", "utf-16")),
)  # fmt: skip
# No public address is among them: a fuzzer sends nothing to anybody.
_TEXTS = (
    "", " ", "x", "0", "-1", "null", "true", "a" * 300, "é", "e\u0301", "\u202eabc", "\ufeff", "日本語", "\U0001f600",
    "%", "%00",
    "%2f", "..", "../../etc/passwd", "' OR 1=1 --", "\\", '"', "<script>alert(1)</script>", "javascript:alert(1)",
    "{{7*7}}", "${x}",
    "\x01", "\x1b[31m", "\r\nSet-Cookie: a=b", "\x7f", "\ud800", "\x00", "a\x00b", "2026-01-01T00:00:00Z",
    "2026-13-01", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+23:59", "https://127.0.0.1/", "https://x.invalid/", "http://localhost:1/",
    "did:web:x.invalid", "did:key:z6Mk",
    "urn:uuid:00000000-0000-4000-8000-000000000001", "00000000-0000-8000-8000-000000000000", "mailto:a@b.example",
    "a@b.example", "data:,x",
    "data:image/png;base64,AAAA", PNG, PARTNER, "sha256$00", "eddsa-rdfc-2022", "ecdsa-jcs-2019", "proof-chain",
    "vc+jwt", "credential.issued",
    "results:write", "keys:write", "reports:read", "en", "pt-BR", "application/json", "1" * 25, "1e400", "NaN", "𝟙",
    "١٢",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 7, 50, 100, 1000, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**40, 0.5, -0.0, 1e308, 1e-320)
_TYPES = (
    "application/json", "application/json; charset=utf-16", "application/vc+json", "text/plain", "text/csv",
    "application/x-ndjson", "",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data", "image/png",
    "image/svg+xml", "application/vc+jwt",
    "APPLICATION/JSON", "application/json;", ";", "/", "application/octet-stream", "text/html", "a" * 500,
)  # fmt: skip
_HEADERS = (
    "accept", "accept-language", "if-none-match", "idempotency-key", "traceparent", "content-encoding", "origin",
    "x-forwarded-for", "cookie",
    "host", "range", "transfer-encoding", "expect", "access-control-request-method", "authorization",
    "content-length", "upgrade", "te",
)  # fmt: skip
_TWICE = ("application/json", "text/plain", "application/x-ndjson", "0", "5", "Bearer x", "*/*", "")
_HEADER_VALUES = (
    "", "*", "*/*", "text/html", "application/json", "text/html;q=x", "text/html;q=1e999", ",,,", '"1"', 'W/"1"',
    "bytes=0-", "gzip", "identity",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-" + "0" * 32 + "-0000000000000000-00", "chunked",
    "100-continue", "null",
    "https://evil.example", "Bearer", "Bearer ", "Basic YTpi", "Bearer laurel_x", "\xe9", "\xff", "a" * 4000, "-1",
    "0", "99999999999999999999", "١",
    "en;q=0.5, *", "1\t2",
)  # fmt: skip
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X" * 50)
_RAW = (
    b"", b"null", b"[]", b"{}", b'""', b"0", b"{", b"NaN", b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":-Infinity}',
    b'{"a":1e999}', b'{"a":"\\ud800"}',
    b'{"a":"\\u0000"}', b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900, b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}", b'{"a":"\xff"}',
    b"\x1f\x8b\x08\x00\x00", b"a=b&c=d", b"url=https%3A%2F%2F127.0.0.1%2F",
    b"--x\r\nContent-Disposition: form-data; name=\"url\"\r\n\r\nx\r\n--x--",
    b"\x89PNG\r\n\x1a\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"<!DOCTYPE x [<!ENTITY a 'b'>]><svg>&a;</svg>", b"eyJhbGciOiJub25lIn0.e30.",
    b"achievement,learner\n", b"\n\n\n", b"{}\n{}\n", b"9" * 5000, b'{"a":' + b"1" * 400 + b"}",
)  # fmt: skip
# What makes keys or starts processes costs milliseconds; it is tried, but not most of the time.
_SELDOM = {
    ("POST", "/issuer/v1/profiles"): 0.03, ("PUT", "/issuer/v1/profiles/{profile_id}"): 0.03,
    ("POST", "/issuer/v1/profiles/{profile_id}/keys"): 0.02, ("POST", "/issuer/v1/endorsements"): 0.1,
    ("POST", "/issuer/v1/profiles/{profile_id}/keys/{key_id}/compromise"): 0.05,
    ("GET", "/c/{credential_id}/badge.{suffix}"): 0.1, ("HEAD", "/c/{credential_id}/badge.{suffix}"): 0.1,
    ("POST", "/verifier/v1/credentials/verify"): 0.3, ("POST", "/verifier/v1/credentials/verify/batch"): 0.1,
    ("POST", "/verify"): 0.3, ("GET", "/verifier/v1/docs/assets/{file}"): 0.3,
}  # fmt: skip
_IDS = (
    "letter_id",
    "request_id",
    "profile_id",
    "achievement_id",
    "credential_id",
    "result_id",
    "import_id",
    "endpoint_id",
    "delivery_id",
    "key_id",
    "list_id",
    "slug",
)


@dataclass(frozen=True)
class Request:
    """As a server would hand it to the application. gone_after: the client hangs up after so many pieces."""

    method: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    pieces: list[bytes]
    gone_after: int | None = None

    def told(self) -> dict[str, Any]:
        """For a file, so that it can be sent again."""
        return {
            "method": self.method, "path": self.raw_path.decode("latin-1"), "query": self.query.decode("latin-1"),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers],
            "pieces": [base64.b64encode(piece).decode() for piece in self.pieces], "gone_after": self.gone_after,
        }  # fmt: skip


class Maker:
    """Makes requests by a seeded dice. `learn` takes in what answers tell of things that can be named next."""

    def __init__(self, estate: Estate, tenants: Iterable[Tenant], documents: list[dict[str, Any]], seed: int) -> None:
        self._dice = random.Random(seed)
        self._documents = documents
        self._known: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=60))
        self._keys = [tenant.headers["Authorization"] for tenant in tenants]
        self._doors = [door for door in estate.doors() if door.method != "HEAD" or self._dice.random() < 0.5]
        self._weights = [_SELDOM.get((door.method, door.path), 1.0) for door in self._doors]
        self._schemas: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
        for service in estate.services.values():
            api: Any = service.api
            document = api.openapi()
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    self._schemas[method.upper(), path] = (operation, document)
        for tenant in tenants:
            for service in estate.services:
                self.learn(tenant.of(service))
            self.learn({"key_id": tenant.owns["signing_key_id"], "credential_id": tenant.owns["endorsement_id"]})

    def learn(self, answer: Any) -> None:
        """Ids of an answer's own members."""
        if isinstance(answer, dict):
            for name in _IDS:
                if isinstance(answer.get(name), str):
                    self._known[name].append(answer[name])

    def request(self) -> Request:
        """The next one."""
        dice = self._dice
        door = dice.choices(self._doors, self._weights)[0]
        path, query = self._path(door), self._query(door)
        kind, body = self._body(door)
        method = door.method if dice.random() < 0.93 else dice.choice(_METHODS)
        headers = {"host": "badges.example.org", "content-type": kind} if body or dice.random() < 0.2 else {}
        who = dice.random()
        if door.path.startswith("/issuer/v1/organisations"):
            headers["authorization"] = f"Bearer {OPERATOR}"
        elif who < 0.85:
            headers["authorization"] = dice.choice(self._keys)
        if dice.random() < 0.5:
            headers["accept"] = dice.choice(("text/html", "application/json", "*/*"))
        while dice.random() < 0.25:
            value = dice.choice(_HEADER_VALUES) if dice.random() < 0.8 else self._header_text()
            headers[dice.choice(_HEADERS)] = value
        if "content-length" not in headers and body and dice.random() < 0.7:
            headers["content-length"] = str(len(body))
        pieces = self._cut(body)
        gone = dice.randrange(len(pieces) + 1) if dice.random() < 0.01 else None
        fields = [
            (name.encode(), value.encode("latin-1", "replace"))
            for name, value in headers.items()
            if value or dice.random() < 0.5
        ]
        if dice.random() < 0.02:  # a header twice, with another value: whose reader goes by which?
            name = dice.choice(("content-type", "content-length", "authorization", "accept", "traceparent"))
            fields.insert(dice.randrange(len(fields) + 1), (name.encode(), dice.choice(_TWICE).encode()))
        return Request(method, path.encode(), query.encode(), fields, pieces, gone)

    # --- where ----------------------------------------------------------------------------------------------

    def _path(self, door: Door) -> str:
        dice = self._dice

        def filled(match: re.Match[str]) -> str:
            known = self._known.get(match[1])
            if match[1] == "suffix":
                return dice.choice(("png", "svg", "gif"))
            if known and dice.random() < 0.8:
                return dice.choice(known)
            return quote(self._text(), safe="" if dice.random() < 0.7 else "/", errors="surrogatepass")

        path = re.sub(r"\{(\w+)\}", filled, door.path)
        if dice.random() < 0.04:
            place = dice.randrange(len(path))
            path = (
                path[:place]
                + quote(dice.choice(_TEXTS)[:40], errors="surrogatepass")
                + path[place + dice.randrange(3) :]
            )
        return path if path.startswith("/") else "/" + path

    def _query(self, door: Door) -> str:
        dice = self._dice
        operation, document = self._schemas.get((door.method, door.path), ({}, {}))
        pairs = []
        for one in operation.get("parameters", []):
            if one["in"] == "query" and dice.random() < 0.3:
                value = (
                    self._value(one.get("schema", {}), document, one["name"]) if dice.random() < 0.6 else self._text()
                )
                pairs.append((one["name"], value if isinstance(value, str) else json.dumps(value)))
        if dice.random() < 0.05:
            pairs.append((dice.choice(("after", "limit", "url", "download", "v", "x", "")), self._text()))
        text = "&".join(f"{quote(name)}={quote(value, errors='surrogatepass')}" for name, value in pairs)
        return text if dice.random() < 0.97 else text + dice.choice(("&", "&&=", "%", "%zz", "?", "=%ff", "&a=%00"))

    # --- what -----------------------------------------------------------------------------------------------

    def _body(self, door: Door) -> tuple[str, bytes]:
        dice = self._dice
        if door.method in ("GET", "HEAD", "DELETE"):
            return ("application/json", dice.choice(_RAW)) if dice.random() < 0.02 else ("", b"")
        if dice.random() < 0.12:
            return dice.choice(_TYPES) if dice.random() < 0.4 else "application/json", dice.choice(_RAW)
        operation, document = self._schemas.get((door.method, door.path), ({}, {}))
        kinds = operation.get("requestBody", {}).get("content", {})
        kind = dice.choice(list(kinds)) if kinds else "multipart/form-data"
        if "verify" in door.path or not kinds:
            kind, body = self._handed_in(kind)
        elif kind == "application/json":
            body = self._json(self._value(kinds[kind].get("schema", {}), document, ""))
        elif kind == "text/csv":
            body = (
                "achievement,learner,email,score\n"
                + f"{self._known['achievement_id'][0]},{self._csv()},a@b.example,{dice.choice(_NUMBERS)}\n"
            ).encode("utf-8", "surrogatepass")
        else:
            rows = [self._json(self._value(self._row(), document, "")) for _ in range(dice.randrange(4))]
            body = b"\n".join(rows)
        if dice.random() < 0.15:
            body = self._damaged(body)
        if dice.random() < 0.0005:
            body += b" " * (3 << 20)
        return (kind if dice.random() < 0.96 else dice.choice(_TYPES)), body

    def _row(self) -> dict[str, Any]:
        operation, _ = self._schemas["POST", "/assessment/v1/results"]
        schema: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["schema"]
        return schema

    def _csv(self) -> str:
        return self._text().replace('"', "")

    def _handed_in(self, kind: str) -> tuple[str, bytes]:
        """A credential, mostly changed somewhere, in one of the ways in which it can be handed in."""
        dice = self._dice
        document = dice.choice(self._documents)
        if dice.random() < 0.8:
            document = Bytes(dice.randbytes(40)).changed(document)
        text = self._json(
            document if dice.random() < 0.8 else {"credential": document, "expected_recipient": self._text()}
        )
        if "form" not in kind or "urlencoded" in kind:
            return ("application/json" if dice.random() < 0.7 else kind), text
        name = dice.choice(("file", "credential", "url", "recipient", "x"))
        if name == "url":
            text = self._text().encode("utf-8", "surrogatepass")
        parts = b'--x\r\nContent-Disposition: form-data; name="%b"; filename="a"\r\n\r\n%b\r\n' % (name.encode(), text)
        return "multipart/form-data; boundary=x", parts + b"--x--\r\n"

    def _value(self, schema: dict[str, Any], document: dict[str, Any], name: str, depth: int = 0) -> Any:
        """A value that the schema allows, mostly."""
        dice = self._dice
        if dice.random() < 0.02:
            return dice.choice(
                (None, True, [], {}, self._text(), dice.choice(_NUMBERS), [self._text()] * 3, {"x": {"y": [1]}})
            )
        if "$ref" in schema:
            return self._value(_resolve(schema["$ref"], document), document, name, depth + 1)
        for many in ("anyOf", "oneOf"):
            if many in schema:
                return self._value(dice.choice(schema[many]), document, name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return dice.choice(schema["enum"])
        kind = schema.get("type", "string")
        kind = dice.choice(kind) if isinstance(kind, list) else kind
        if kind == "object":
            required = schema.get("required", [])
            made = {
                one: self._value(inner, document, one, depth + 1)
                for one, inner in schema.get("properties", {}).items()
                if (one in required and dice.random() < 0.97) or (depth < 5 and dice.random() < 0.25)
            }
            if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
                made[self._text()] = self._value(schema["additionalProperties"], document, "", depth + 1)
            if dice.random() < 0.03:
                made[self._text()] = self._text()
            return made
        if kind == "array":
            count = max(schema.get("minItems", 0), dice.choice((0, 1, 1, 2, 3)))
            return [self._value(schema.get("items", {}), document, name.rstrip("s"), depth + 1) for _ in range(count)]
        if kind in ("integer", "number"):
            low, high = schema.get("minimum", 0), schema.get("maximum", 100)
            return (
                dice.randint(int(low), max(int(low), int(min(high, 10**6))))
                if dice.random() < 0.85
                else dice.choice(_NUMBERS)
            )
        if kind in ("boolean", "null"):
            return dice.random() < 0.5 if kind == "boolean" else None
        return self._fitting(name, schema)

    def _fitting(self, name: str, schema: dict[str, Any]) -> str:
        """A text that is likely to be taken for this member."""
        dice = self._dice
        if dice.random() < 0.2:
            return self._text()
        known = self._known.get({"achievement": "achievement_id"}.get(name, name))
        if known:
            return dice.choice(known)
        if schema.get("format") == "date-time" or name.endswith(("_at", "_until", "_from", "_to")):
            return f"20{dice.randrange(10, 60)}-0{dice.randrange(1, 9)}-1{dice.randrange(10)}T00:00:00Z"
        if name == "image" and dice.random() < 0.4:
            return dice.choice(_PICTURES)
        fitting = {
            "url": PARTNER, "email": "a@b.example", "slug": f"s{dice.randrange(10**9)}", "image": PNG,
            "event_type": "credential.issued",
            "scope": "reports:read", "learner": f"L{dice.randrange(10**6)}", "locale": "en", "language": "en",
            "securing": "eddsa-rdfc-2022",
            "type": "Profile", "id": "https://x.invalid/a", "target_url": "https://x.invalid/a",
            "evidence": "https://x.invalid/e",
            "achievement_type": "Course", "status_purpose": "revocation",
        }  # fmt: skip
        return fitting.get(name, f"word {dice.randrange(1000)}")

    def _json(self, value: Any) -> bytes:
        """JSON, sometimes of the kinds that parsers disagree about."""
        dice = self._dice
        text = json.dumps(value, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
        if text[:1] == b"{" and len(text) > 2 and dice.random() < 0.04:
            evil = dice.choice(
                (
                    b'"a":NaN,',
                    b'"a":1e999,',
                    b'"a":"\\ud800",',
                    b'"\\u0000":1,',
                    b'"a":1,"a":1,',
                    b'"a":' + b"[" * 900 + b"]" * 900 + b",",
                )
            )
            text = b"{" + evil + text[1:]
        return text

    def _damaged(self, body: bytes) -> bytes:
        dice, made = self._dice, bytearray(body)
        for _ in range(dice.randrange(1, 5)):
            place = dice.randrange(len(made) + 1)
            match dice.randrange(4):
                case 0 if place < len(made):
                    made[place] ^= 1 << dice.randrange(8)
                case 1:
                    del made[place : place + dice.randrange(1, 20)]
                case 2:
                    made[place:place] = dice.randbytes(dice.randrange(1, 9))
                case _:
                    made[place:place] = dice.choice(_RAW)[:200]
        return bytes(made)

    def _text(self) -> str:
        dice = self._dice
        if dice.random() < 0.85:
            return dice.choice(_TEXTS)
        return "".join(
            chr(dice.choice((dice.randrange(0x80), dice.randrange(0x3000), dice.randrange(0x110000))))
            for _ in range(dice.randrange(12))
        )

    def _header_text(self) -> str:
        """What httptools lets pass: no NUL, CR or LF (RFC 9110 §5.5)."""
        return re.sub("[\x00\r\n]", "", self._text())

    def _cut(self, body: bytes) -> list[bytes]:
        dice = self._dice
        if len(body) < 2 or dice.random() < 0.8:
            return [body]
        places = sorted(dice.randrange(len(body)) for _ in range(dice.randrange(1, 5)))
        return [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]


def _resolve(reference: str, document: dict[str, Any]) -> dict[str, Any]:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found
