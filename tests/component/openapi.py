"""Schemathesis against a service's own OpenAPI document, served by the real app: no server error, no broken promise."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from typing import Any

import httpx
import hypothesis
import requests
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)  # fmt: skip

CHECKS: list[Any] = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip


@schemathesis.serializer("application/x-ndjson")
def _ndjson(_context: Any, value: Any) -> bytes:
    """A body is a text here; what the schema does not allow may be anything."""
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


METHODS = ("GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "HEAD")
# For the long run: LAUREL_SCHEMATHESIS_EXAMPLES=500 make test PYTEST_ARGS="tests/component -k schemathesis"
EXAMPLES = int(os.environ.get("LAUREL_SCHEMATHESIS_EXAMPLES", "4"))


async def try_operations(client: httpx.AsyncClient, url: str, headers: dict[str, str] | None) -> Counter[int]:
    """Every operation, with data that its schema allows and data that it does not; the status codes of the answers.

    headers: of a caller with every scope, or None for nobody. Raises schemathesis' failures.
    """
    document = (await client.get(url)).json()
    schema = schemathesis.openapi.from_dict(document)
    seen: Counter[int] = Counter()
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            for case in _cases(operation, mode):
                answer = await _sent(client, case, headers)
                case.validate_response(answer, checks=CHECKS)
                seen[answer.status_code] += 1
                tried += 1
    assert tried > len(document["paths"])
    return seen


def _cases(operation: Any, mode: GenerationMode) -> list[Case]:
    cases: list[Case] = []

    @hypothesis.settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def collect(case: Case) -> None:
        cases.append(case)

    try:
        collect()
    except (hypothesis.errors.Unsatisfiable, hypothesis.errors.InvalidArgument):
        assert mode is GenerationMode.NEGATIVE, f"nothing can be sent to {operation.label}"  # it takes anything
    return cases


async def _sent(client: httpx.AsyncClient, case: Case, headers: dict[str, str] | None) -> httpx.Response:
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://laurel.test")).prepare()
    given = {name: value for name, value in prepared.headers.items() if name.lower() != "content-length"}
    given = {name: value if isinstance(value, str) else value.decode("latin-1") for name, value in given.items()}
    if headers is not None:
        given = {name: value for name, value in given.items() if name.lower() != "authorization"} | headers
    body = prepared.body if prepared.body is not None else b""
    fields = [(name.encode("latin-1", "replace"), text.encode("latin-1", "replace")) for name, text in given.items()]
    request = client.build_request(
        str(prepared.method), str(prepared.path_url), content=body,
        headers=fields,
    )  # fmt: skip
    if headers is None and "authorization" not in {name.lower() for name in given}:
        request.headers.pop("authorization", None)  # the client's own, if it has one
    return await client.send(request)


async def try_methods(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> int:
    """Methods that a path does not declare, TRACE among them: 405 with Allow (RFC 9110 §15.5.6). Their number."""
    document = (await client.get(url)).json()
    tried = 0
    for path, operations in document["paths"].items():
        place = path.replace("{", "").replace("}", "")
        for method in METHODS:
            if method.lower() in operations or (method == "HEAD" and "get" in operations):
                continue
            if any(method.lower() in other and _is_one_of(place, known) for known, other in document["paths"].items()):
                continue  # another path with a parameter there: /credentials/{id} for /credentials/verify
            answer = await client.request(method, place, headers=headers)
            if method == "OPTIONS" and answer.status_code == 204:
                continue  # a preflight (Fetch §3.2.2) is not an operation
            assert answer.status_code == 405, (method, path, answer.status_code)
            allowed = {one.strip() for one in answer.headers["allow"].split(",")}
            assert {one.upper() for one in operations if one.upper() in METHODS} <= allowed, (method, path, allowed)
            if method != "HEAD":
                assert answer.headers["content-type"] == "application/problem+json"
                assert json.loads(answer.text)["status"] == 405
            tried += 1
    return tried


def _is_one_of(path: str, template: str) -> bool:
    return re.fullmatch(re.sub(r"\\{[^/]+\\}", "[^/]+", re.escape(template)), path) is not None
