"""Marked secrets go through all services, where things go wrong, too; then each log line, span and error is read.

What is looked for: each secret as it is, and the forms in which programs print bytes (base64, base64url, hex, repr).
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest

from laurel import logs, telemetry
from laurel.process import load_settings, open_bus
from laurel.security import unseal
from laurel_local.serve import settings_class
from tests.component.whole.conftest import Tenant, Whole, opened, until
from tests.conftest import free_ports
from tests.security.estate import OPERATOR

SMTP = "smtp-password-mark-q7"
DATABASE = "database-password-mark-q7"
LEARNER = "learner-mark-q7@example.org"
NAME = "Learner Mark Q7"
URL_TOKEN = "webhook-url-token-mark-q7"
ACHIEVEMENT = {
    "name": "Data literacy", "description": "Reads charts.", "criteria": {"narrative": "60 points."},
    "policy": {"minimum_score": 60},
}  # fmt: skip


class Captured:
    """All that leaves: logs of every level and library, spans, and the answers that tell of errors."""

    def __init__(self) -> None:
        self.log = io.StringIO()
        self.spans = InMemorySpanExporter()
        self.answers: list[str] = []

    def text(self) -> str:
        spans = "\n".join(span.to_json() for span in self.spans.get_finished_spans())
        return "\n".join([self.log.getvalue(), spans, generate_latest(telemetry.REGISTRY).decode(), *self.answers])

    async def asked(self, whole: Whole, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await whole.http.request(method, path, **options)
        assert answer.status_code >= 400, (path, answer.text)
        self.answers.append(f"{answer.headers}\n{answer.text}")
        return answer


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Captured]:
    made = Captured()
    handlers, level = logging.root.handlers[:], logging.root.level
    logging.root.handlers.clear()
    logs.configure(level="DEBUG", json=True, stream=made.log)
    logging.root.setLevel(logging.DEBUG)
    monkeypatch.setattr(logging.getLogger("httpx"), "level", logging.WARNING)  # the test's own client
    if not isinstance(trace.get_tracer_provider(), TracerProvider):  # it can be set once a process
        telemetry.configure("test", exporter=InMemorySpanExporter())
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(SimpleSpanProcessor(made.spans))
    monkeypatch.setattr(telemetry, "_propagate_only", False)
    yield made
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logs.configure(level="WARNING", json=True)


def forms(secret: bytes | str) -> set[str]:
    """How it could be printed."""
    raw = secret if isinstance(secret, bytes) else secret.encode()
    found = {raw.hex(), base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    return found | {repr(raw)[2:-1]} | ({secret} if isinstance(secret, str) else set())


async def test_no_secret_leaves_by_logs_traces_metrics_or_errors(whole_dsn: str, captured: Captured) -> None:
    secrets: dict[str, bytes | str] = {
        "SMTP password": SMTP, "database password": DATABASE, "operator token": OPERATOR, "e-mail": LEARNER,
        "name": NAME, "URL of a webhook": URL_TOKEN, **{f"key {fill}": bytes([fill]) * 32 for fill in (1, 2, 3)},
    }  # fmt: skip
    dsn = whole_dsn
    settings = {"smtp_url": f"smtp://mailer:{SMTP}@127.0.0.1:9", "database_password": DATABASE}
    async with opened(dsn, **settings) as whole:
        tenant = await whole.tenant("uni")
        secrets["API key"] = tenant.key.split("_")[2]
        rotated = await whole.call(tenant, "POST", f"/issuer/v1/api-keys/{tenant.key_id}/rotate", 201)
        secrets["rotated API key"] = rotated["text"].split("_")[2]
        secrets["access token"] = (await whole.token(rotated["text"])).rpartition(".")[2]
        await _issue(whole, tenant, secrets)
        await _things_go_wrong(whole, tenant, captured, secrets)
        await _the_database_goes_away(whole, captured, tenant)

    text = captured.text()
    assert len(captured.spans.get_finished_spans()) > 50, "there is something to look at"
    assert len(captured.answers) > 25
    assert "database" in captured.log.getvalue().lower()
    leaks = [(name, form) for name, secret in secrets.items() for form in forms(secret) if form in text]
    assert leaks == [], [text[max(0, text.index(form) - 300) : text.index(form) + 100] for _, form in leaks]


async def _issue(whole: Whole, tenant: Tenant, secrets: dict[str, bytes | str]) -> None:
    """The whole path once: signing, a webhook that nobody answers, an e-mail that no server takes."""
    profile = await whole.call(
        tenant, "POST", "/issuer/v1/profiles", 201, json={"slug": "uni", "name": "Uni", "url": "https://u.example"}
    )
    await whole.call(tenant, "POST", f"/issuer/v1/profiles/{profile['profile_id']}/keys", 201)
    (port,) = free_ports(1)
    endpoint = await whole.call(
        tenant, "POST", "/notifier/v1/endpoints", 201,
        json={"url": f"http://127.0.0.1:{port}/hook?token={URL_TOKEN}", "event_types": ["credential.issued"]},
    )  # fmt: skip
    secrets["webhook secret"] = endpoint["secret"].removeprefix("whsec_")
    secrets["webhook secret, raw"] = base64.b64decode(endpoint["secret"].removeprefix("whsec_"))
    again = await whole.call(tenant, "POST", f"/notifier/v1/endpoints/{endpoint['endpoint_id']}/rotate-secret")
    secrets["rotated webhook secret"] = again["secret"].removeprefix("whsec_")
    achievement = (
        await whole.call(
            tenant, "POST", "/assessment/v1/achievements", 201,
            json={**ACHIEVEMENT, "profile_id": profile["profile_id"]},
        )
    )["achievement_id"]  # fmt: skip
    row = {"achievement": achievement, "learner": "l1", "email": LEARNER, "name": NAME, "score": 93}
    await whole.call(tenant, "POST", "/assessment/v1/results", 201, json=row)
    rows = f"learner,email,name,score\nl2,{LEARNER},{NAME},80\nl3,not {LEARNER},{NAME},80\n,{LEARNER},,\n"
    answer = await whole.http.post(
        f"/assessment/v1/results/imports?achievement={achievement}", content=rows.encode(),
        headers={**tenant.headers, "Content-Type": "text/csv"},
    )  # fmt: skip
    assert answer.status_code == 202, answer.text
    await until(lambda: whole.sql("SELECT 1 FROM notifier.deliveries WHERE attempts::text LIKE '%error%' LIMIT 1"))
    await until(lambda: whole.sql("SELECT 1 FROM notifier.emails WHERE last_error IS NOT NULL LIMIT 1"))
    (sealed,) = await whole.sql("SELECT contact FROM notifier.emails LIMIT 1")
    secrets["sealed contact"] = sealed["contact"]
    for number, found in enumerate(await whole.sql("SELECT sealed_seed FROM issuer.signing_keys")):
        secrets[f"signing key {number}"] = unseal(bytes([3]) * 32, found["sealed_seed"], purpose="signing-key")
    (found,) = await whole.sql("SELECT sealed_seed FROM issuer.token_secrets")
    secrets["token key"] = unseal(bytes([3]) * 32, found["sealed_seed"], purpose="access token key")


async def _things_go_wrong(whole: Whole, tenant: Tenant, captured: Captured, secrets: dict[str, bytes | str]) -> None:
    """Secrets where they do not belong: in paths, queries, headers and bodies that are refused."""
    key, token = tenant.key, await whole.token(tenant.key)
    secrets["second access token"] = token.rpartition(".")[2]
    json = {**tenant.headers, "Content-Type": "application/json"}
    for body in (
        f'{{"label": "{key}", }}',
        f'{{"a": "{key}", "a": 1}}',
        f'["{key}\\ud800"]',
        f"{key}",
        f'{{"x": "{token}"}}',
    ):
        await captured.asked(whole, "POST", "/issuer/v1/api-keys", content=body.encode(), headers=json)
    for body in (
        {"label": "x", "scopes": [key]}, {"label": "x", "scopes": [token]}, {"label": key + "\n", "scopes": []},
        {"label": ["x"], "scopes": key}, {key: 1},
    ):  # fmt: skip
        await captured.asked(whole, "POST", "/issuer/v1/api-keys", json=body, headers=tenant.headers)
    for path in (
        f"/issuer/v1/credentials/{key}", f"/issuer/v1/profiles/{key}", f"/issuers/{key}", f"/achievements/{key}",
        f"/{key}",
        f"/issuer/v1/credentials?after={key}", f"/assessment/v1/results/{token}", f"/notifier/v1/endpoints/{key}",
        f"/notifier/v1/deliveries?endpoint_id={key}", f"/verifier/v1/credentials/{key}", f"/status/{key}",
    ):  # fmt: skip
        await captured.asked(whole, "GET", path, headers=tenant.headers)
    for header in (f"Bearer {key[:-1]}", f"Basic {key}", f"Bearer {token[:-4]}AAAA", key, f"Bearer {OPERATOR}"):
        await captured.asked(whole, "GET", "/issuer/v1/credentials", headers={"Authorization": header})
    await captured.asked(whole, "POST", "/issuer/v1/organisations", json={}, headers=tenant.headers)
    await captured.asked(
        whole, "POST", "/issuer/v1/organisations", json={"slug": key, "name": "x"},
        headers={"Authorization": f"Bearer {OPERATOR}"},
    )  # fmt: skip
    for form in (
        {"grant_type": key}, {"grant_type": "client_credentials", "scope": key},
        {"grant_type": "client_credentials", "client_id": key},
    ):  # fmt: skip
        await captured.asked(whole, "POST", "/oauth/token", data=form, auth=(tenant.key_id, key))
    await captured.asked(whole, "POST", "/oauth/token", data={"client_id": tenant.key_id, "client_secret": key[:-1]})
    for row in ({"learner": LEARNER}, {"name": NAME}, {"learner": "x", "email": LEARNER, "score": "x"}):
        await captured.asked(whole, "POST", "/assessment/v1/results", json=row, headers=tenant.headers)
    await captured.asked(
        whole, "POST", "/notifier/v1/endpoints", headers=tenant.headers,
        json={"url": f"https://user:{URL_TOKEN}@nowhere.invalid/", "event_types": ["credential.issued"]},
    )  # fmt: skip


async def _the_database_goes_away(whole: Whole, captured: Captured, tenant: Tenant) -> None:
    """Every connection is cut and none comes about; then it is there again."""
    name = urlsplit(whole.admin_dsn).path.lstrip("/")
    admin = await asyncpg.connect(whole.admin_dsn.replace(f"/{name}?", "/postgres?"))
    try:
        await admin.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        for service in whole.services.values():
            service.api.state.callers.known.clear()
            path = f"/{service.name}/v1/dead-letters"
            answer = await captured.asked(whole, "GET", path, headers=tenant.headers)
            assert answer.status_code == 503, answer.text
        await captured.asked(
            whole, "POST", "/oauth/token", data={"grant_type": "client_credentials"}, auth=(tenant.key_id, tenant.key)
        )
        await asyncio.sleep(1)  # the loops meet it too; nothing is asserted of when
    finally:
        await admin.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
        await admin.close()


BAD_SETTINGS = {
    "LAUREL_DATABASE_URL": [
        f"postgresql://u:{DATABASE}/x@h/d", f"mysql://u:{DATABASE}@h/d", f"postgresql://u:p@h:{DATABASE}/d",
        f"postgresql://[{DATABASE}/d", DATABASE,
    ],
    "LAUREL_BUS_URL": [
        f"kafka://u:{DATABASE}@h", f"kafka://u:x?{DATABASE}@h:9092", f"kafka://u:{DATABASE}/x:y", f"amqp://u:{DATABASE}@h",
        DATABASE,
    ],
    "LAUREL_SMTP_URL": [f"smtp://u:{DATABASE}/@h:x", f"http://u:{DATABASE}@h", DATABASE],
    "LAUREL_ID_KEY": [DATABASE],
    "LAUREL_KEK": [base64.b64encode(DATABASE.encode()).decode()],
    "LAUREL_NOTIFIER_DATABASE_URL": [f"postgresql://u:{DATABASE}/x@h/d", f"postgresql://u:p@h:{DATABASE}/d"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "value"), [(name, value) for name, values in BAD_SETTINGS.items() for value in values]
)
def test_a_setting_that_is_wrong_is_not_quoted(variable: str, value: str) -> None:
    service = "issuer" if variable == "LAUREL_KEK" else "notifier"
    key = base64.b64encode(bytes(32)).decode()
    environment = {
        "LAUREL_DATABASE_URL": "postgresql://127.0.0.1:9/x", "LAUREL_BUS_URL": "postgresql://127.0.0.1:9/x",
        "LAUREL_ID_KEY": key, "LAUREL_CONTACT_KEY": key, "LAUREL_KEK": key, "PATH": "/usr/bin:/bin", variable: value,
    }  # fmt: skip
    command = [sys.executable, "-m", "laurel_local.cli", "serve", service, "--role", "worker"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert variable.removeprefix("LAUREL_").split("_", maxsplit=1)[0].lower() in said.lower() or "bus URL" in said
    for secret in (DATABASE, base64.b64encode(DATABASE.encode()).decode()):
        assert secret not in said


def test_settings_do_not_show_their_secrets() -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    values = {
        "database_url": f"postgresql://u:{DATABASE}@h/d", "bus_url": f"kafka://u:{DATABASE}@h:9092", "id_key": key,
        "database_password": DATABASE, "contact_key": key, "kek": key, "operator_token": DATABASE,
        "smtp_url": f"smtp://u:{DATABASE}@h",
    }  # fmt: skip
    for service in ("assessment", "issuer", "notifier", "verifier"):
        settings = load_settings(settings_class(service), **values)
        assert DATABASE not in repr(settings) + str(settings)
        assert key not in repr(settings)
    assert DATABASE not in repr(open_bus(str(values["bus_url"])))
