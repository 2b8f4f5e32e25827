"""The OpenAPI document tells the truth: every answer fits the shape that is documented for it."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

from laurel.bus import Message
from laurel.dead_letters import DeadLetter, bury
from tests.component.assessment.conftest import Caller, World, learner, ndjson

V1 = "/assessment/v1"


class Documented:
    """Calls, and holds the answers against the document."""

    def __init__(self, document: dict[str, Any], caller: Caller) -> None:
        self.document = document
        self.caller = caller
        self.seen: set[tuple[str, str]] = set()

    async def call(self, method: str, path: str, status: int, template: str | None = None, **options: Any) -> Any:
        headers = {**self.caller.headers, **options.pop("headers", {})}
        answer = await self.caller.http.request(method, path, headers=headers, **options)
        assert answer.status_code == status, answer.text
        documented = self.document["paths"][template or path][method.lower()]["responses"][str(status)]
        schema = documented["content"]["application/json"]["schema"]
        assert schema
        Draft202012Validator({**schema, "components": self.document["components"]}).validate(answer.json())
        self.seen.add((method.lower(), template or path))
        return answer.json()


async def test_answers_fit_their_documented_shapes(world: World, ours: Caller) -> None:
    document = (await world.http.get(f"{V1}/openapi.json")).json()
    api = Documented(document, ours)
    profile = await world.profile(ours.tenant_id)
    given = {
        "profile_id": profile, "name": "Data", "description": "Reads data.", "criteria": {"narrative": "Pass."},
        "policy": {"minimum_score": 60}, "alignment": [{"targetName": "x", "targetUrl": "https://e.org/1"}],
        "result_descriptions": [{"name": "Score"}], "tags": ["data"],
    }  # fmt: skip
    made = await api.call("POST", f"{V1}/achievements", 201, json=given)
    one = f"{V1}/achievements/{made['achievement_id']}"
    template = f"{V1}/achievements/{{achievement_id}}"
    await api.call("PUT", one, 200, template, json=given)
    await api.call("GET", one, 200, template)
    await api.call("GET", f"{V1}/achievements", 200)

    row = learner(1, achievement=made["achievement_id"], parts={"essay": 2.5}, course_run="CR1")
    passed = await api.call("POST", f"{V1}/results", 201, json=row)
    await api.call("POST", f"{V1}/results", 200, json=row)
    await api.call("POST", f"{V1}/results", 201, json=learner(2, achievement=made["achievement_id"], score=1))
    await api.call("GET", f"{V1}/results/{passed['result_id']}", 200, f"{V1}/results/{{result_id}}")
    taken = await api.call(
        "POST", f"{V1}/results/imports", 202, params={"achievement": made["achievement_id"]},
        headers={"content-type": "application/x-ndjson"}, content=ndjson(learner(3), {"learner": "x"}, learner(1)),
    )  # fmt: skip
    await world.settle()
    template = f"{V1}/results/imports/{{import_id}}"
    await api.call("GET", taken["url"], 200, template)
    assert (await api.call("GET", f"{taken['url']}/rejections", 200, f"{template}/rejections"))["items"]
    assert len((await api.call("GET", f"{taken['url']}/results", 200, f"{template}/results"))["items"]) == 3
    await api.call("GET", f"{V1}/results/imports", 200)
    assert len((await api.call("GET", f"{V1}/results", 200))["items"]) == 6
    await api.call("GET", f"{V1}/reports/reconcile", 200)
    assert (await api.call("GET", f"{V1}/reports/credentials", 200))["items"]
    assert len((await api.call("GET", f"{V1}/reports/outcomes", 200))["items"]) == 6
    erased = await api.call("POST", "/assessment/v1/learners/erase", 202, json={"learner": "l"})
    await api.call("GET", erased["url"], 200, "/assessment/v1/erasures/{erasure_id}")
    async with world.service.worker_database.transaction() as tx:
        record = Message("laurel.issuer", 0, 0, b"k", b"\xff", (("h", b"v"),), 0)
        await bury(tx, "assessment.issuers", [DeadLetter(record, ours.tenant_id, None, "bad_data", "x")])
    (letter,) = (await api.call("GET", f"{V1}/dead-letters", 200))["items"]
    letters = f"{V1}/dead-letters"
    await api.call("GET", f"{letters}/{letter['id']}", 200, f"{letters}/{{letter_id}}")
    await api.call(
        "POST", f"{letters}/{letter['id']}/discard", 200, f"{letters}/{{letter_id}}/discard", json={"reason": "x"}
    )
    asked = await api.call("POST", f"{letters}/redrive", 202, json={"all": True, "state": "discarded"})
    redrive, template = f"{letters}/redrives/{asked['request_id']}", f"{letters}/redrives/{{request_id}}"
    await api.call("GET", redrive, 200, template)
    await api.call("POST", f"{redrive}/cancel", 200, f"{template}/cancel")
    assert (await api.call("GET", f"{V1}/audit", 200))["items"]
    assert (await api.call("GET", f"{V1}/api-keys/use", 200))["items"]
    await api.call("POST", f"{one}/retire", 200, f"{V1}/achievements/{{achievement_id}}/retire")

    documented = {
        (method, path)
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith(V1) and not path.endswith(("healthz", "readyz"))
    }
    assert documented == api.seen


async def test_public_routes_name_their_media_types(world: World) -> None:
    paths = (await world.http.get(f"{V1}/openapi.json")).json()["paths"]
    page = paths["/achievements/{achievement_id}"]["get"]["responses"]["200"]["content"]
    assert set(page) == {"application/ld+json", "text/html"}
    image = paths["/achievements/{achievement_id}/image"]["get"]["responses"]["200"]["content"]
    assert set(image) == {"image/png", "image/svg+xml"}
    row = paths[f"{V1}/results"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert row["properties"]["attempt"]["maximum"] == 32_767
