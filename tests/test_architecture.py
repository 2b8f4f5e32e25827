"""The rules of the house that no reviewer has to remember: who may import whom, and where I/O may not be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVICES = ("assessment", "issuer", "notifier", "verifier")
KERNEL = ROOT / "shared/laurel"
# What pure code may not touch: the network, the disk, the database, the clock's and the system's side.
IO_MODULES = {
    "aiohttp", "aiokafka", "aiosmtplib", "asyncio", "asyncpg", "fastapi", "httpx", "os", "pathlib", "requests",
    "socket", "sqlalchemy", "starlette", "subprocess", "threading", "time", "urllib.request", "uvicorn",
}  # fmt: skip
PURE_READS_OWN_DATA = {"importlib.resources"}  # bundled contexts and schemas, pinned by hash


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}: relative import"
            yield node.module or ""


def _package(service: str) -> Path:
    return ROOT / f"services/{service}/laurel_{service}"


def _sources(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found, f"{folder} holds no code"
    return found


def _breaks(import_name: str, forbidden: set[str]) -> bool:
    return any(import_name == one or import_name.startswith(one + ".") for one in forbidden)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service(service: str) -> None:
    others = {f"laurel_{other}" for other in SERVICES if other != service} | {"laurel_local"}
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(_package(service))
        for name in _imports(path)
        if _breaks(name, others)
    ]
    assert not broken


def test_the_kernel_imports_no_service() -> None:
    services = {f"laurel_{service}" for service in SERVICES} | {"laurel_local"}
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(KERNEL)
        for name in _imports(path)
        if _breaks(name, services)
    ]
    assert not broken


def _pure() -> list[Path]:
    """domain.py of every service, the kernel's credential/, and every module whose docstring says "purely"."""
    services = [path for service in SERVICES for path in _sources(_package(service))]
    told = [
        path
        for path in services
        if path.name == "domain.py"
        or "purely" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").lower()
    ]
    assert {path.parent.name for path in told} == {f"laurel_{service}" for service in SERVICES}
    return [*told, *_sources(KERNEL / "credential")]


@pytest.mark.parametrize("path", _pure(), ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_code_does_no_io(path: Path) -> None:
    assert not [name for name in _imports(path) if _breaks(name, IO_MODULES)]
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    names = {ast.unparse(call) for call in calls}
    assert not names & {"open", "datetime.now", "datetime.utcnow", "date.today", "uuid.uuid4", "random.random", "uuid7"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_answers_the_same_questions_in_the_same_files(service: str) -> None:
    package = _package(service)
    for name in ("__main__.py", "config.py", "service.py", "api.py", "handlers.py", "domain.py", "store.py"):
        assert (package / name).is_file(), f"{service} has no {name}"
    assert list((package / "migrations").glob("[0-9]*.py")), f"{service} has no migration"
    readme = (package.parent / "README.md").read_text(encoding="utf-8").lower()
    for word in ("owns", "consumes", "produces", "fails"):
        assert word in readme, f"services/{service}/README.md does not say what it {word}"


def test_nobody_reaches_the_packages_by_their_folder() -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in ("shared", "services", "deploy", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if "node_modules" not in path.parts
        for name in _imports(path)
        if name.split(".")[0] in {"shared", "services"}
    ]
    assert not broken


def test_sql_is_in_few_named_places() -> None:
    """STYLE 13: SQL stays in store.py and its siblings, not in the HTTP edge or the domain."""
    for service in SERVICES:
        for name in ("api.py", "domain.py"):
            text = (_package(service) / name).read_text(encoding="utf-8")
            assert "SELECT " not in text, f"{service}/{name} holds SQL"
            assert "INSERT INTO" not in text, f"{service}/{name} holds SQL"


# --- the two guards -----------------------------------------------------------------------------------------

# What speaks HTTP, or could. Strangers' addresses go through laurel.http alone; the rest asks whom its operator named.
HTTP_MODULES = {
    "aiohttp", "grpc", "http.client", "httpx", "httpx2", "pycurl", "requests", "urllib.request", "urllib3",
    "websockets",
}  # fmt: skip
MAY_ASK = {
    "shared/laurel/http.py": "the guarded client",
    "deploy/local/laurel_local/client.py": "the operator's own Laurel",
    "deploy/local/laurel_local/status.py": "the operator's own Laurel",
    "deploy/local/laurel_local/verify.py": "the operator's own Laurel, or an address that the operator types",
}
DIALS = {"create_connection", "sock_connect", "connect_ex", "start_connection", "urlopen", "urlretrieve"}
MAY_DIAL = {"shared/laurel/http.py"}  # the guarded client, which has looked at the address
# Who reads the bytes of a request, and what they go through before anything is made of them.
READERS = {
    ("services/assessment/laurel_assessment/import_store.py", "form"): "the form of an import's rows, already read",
    ("services/assessment/laurel_assessment/results_api.py", "body"): "guard_json",
    ("services/assessment/laurel_assessment/results_api.py", "stream"): "rows.parse_line guards each line",
    ("services/issuer/laurel_issuer/oauth.py", "body"): "_form: a form in ASCII, of a size and a number of fields",
    ("services/verifier/laurel_verifier/pages.py", "body"): "forms.parse_form",
    ("services/verifier/laurel_verifier/pages.py", "receive"): "forms.handed_in",
    ("shared/laurel/quick.py", "receive"): "body_of, for the verifier: documents.read",
    ("deploy/local/laurel_local/conformance/api.py", "body"): "guard_json",
    ("deploy/local/laurel_local/demo/inbox.py", "body"): "the partner's side: the signature of a webhook",
}


def _everything() -> list[Path]:
    return [*_sources(ROOT / "shared"), *_sources(ROOT / "services"), *_sources(ROOT / "deploy")]


def test_nobody_speaks_http_but_the_guarded_client() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in _everything()
        if any(_breaks(name, HTTP_MODULES) for name in _imports(path))
    }
    assert found == set(MAY_ASK)


def test_nobody_dials_by_hand() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)[:80]}"
        for path in _everything()
        if str(path.relative_to(ROOT)) not in MAY_DIAL
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and not any(one.arg == "sock" for one in node.keywords)  # takes over what is connected
        and (ast.unparse(node.func).rpartition(".")[2] in DIALS or ast.unparse(node.func) == "asyncio.open_connection")
    ]
    assert not broken


def test_the_guarded_client_is_made_where_it_is_known() -> None:
    made = [
        (path.parent.name, path.name)
        for path in _everything()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "GuardedClient"
    ]
    # The verifier's second one is for our own origin: tests/security/test_ssrf.py looks where it dials.
    services = [("laurel_notifier", "service.py"), ("laurel_verifier", "service.py")]
    assert sorted(made) == sorted([("laurel_local", "verify.py"), *services, *services])


def test_nobody_reads_a_request_but_through_a_guard() -> None:
    found = {
        (str(path.relative_to(ROOT)), node.attr)
        for path in _everything()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)  # also what is handed on uncalled
        and isinstance(node.value, ast.Name)
        and node.value.id == "request"
        and node.attr in ("json", "body", "stream", "form", "receive")
    }
    # The batch takes its lines from ASGI's `receive` itself: laurel_verifier/batch_api.py, guarded in CredentialJudge.
    assert found == set(READERS)


def test_every_application_is_made_with_the_guard() -> None:
    made = {
        str(path.relative_to(ROOT))
        for path in _everything()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for used in (
            [node.func] if isinstance(node, ast.Call) else node.bases if isinstance(node, ast.ClassDef) else []
        )
        if ast.unparse(used) in ("FastAPI", "Starlette")
    }
    demo = {"deploy/local/laurel_local/demo/inbox.py", "deploy/local/laurel_local/demo/mailbox.py"}
    assert made == {"shared/laurel/web.py", *demo}
