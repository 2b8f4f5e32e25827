"""docker-compose.yml, the Dockerfiles and the gateway, checked without an engine."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from laurel.migrate import SERVICES
from laurel.paths import PATHS, service_for
from laurel.settings import Settings
from laurel.topics import TOPICS

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = ("deploy/Dockerfile", "deploy/otel/Dockerfile")
GATEWAY = (ROOT / "deploy/gateway/nginx.conf").read_text()

ONE_SHOT = {"migrate", "topics"}
LONG_RUNNING = sorted(CONTAINERS.keys() - ONE_SHOT)
EVERY = sorted(CONTAINERS)

PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)*(@sha256:[0-9a-f]{64})?").fullmatch
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?P<operator>:?[?-])?(?P<rest>[^}]*)\}")


def _tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    else:
        yield str(value)


def _variables(value: Any) -> Iterator[re.Match[str]]:
    for text in _strings(value):
        yield from VARIABLE.finditer(text)


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("env") / "made"
    made = subprocess.run([str(ROOT / "deploy/compose-env"), str(path)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return path


def _read_env(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


# The files as such


def test_the_compose_file_is_valid() -> None:
    checked = _tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_dockerfiles_pass_hadolint(dockerfile: str) -> None:
    checked = _tool("hadolint", dockerfile)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_base_images_are_pinned_and_the_last_user_is_not_root(dockerfile: str) -> None:
    lines = (ROOT / dockerfile).read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(bases) == 2
    assert [base for base in bases if not PINNED(base)] == []
    last_stage = lines[max(index for index, line in enumerate(lines) if line.startswith("FROM ")) :]
    users = [line.split()[1] for line in last_stage if line.startswith("USER ")]
    assert users[-1:] == ["10001:10001"]


def test_the_image_installs_the_lock_with_hashes_and_takes_nothing_else_in() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    installs = re.findall(r"pip install (.+)", text)
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--only-binary=:all:" in installs[0]
    assert "-r requirements.lock" in installs[0]
    assert "--no-index" in installs[1]
    assert "requirements-dev" not in text


def test_what_the_image_copies_is_all_that_the_builder_is_sent() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "deploy/Dockerfile").read_text(), re.M)
        for source in line.split()[:-1]
    }
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignore[0] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)
    assert "**/.env*" in ignore


# Every container


@pytest.mark.parametrize("name", EVERY)
def test_images_are_pinned(name: str) -> None:
    assert PINNED(CONTAINERS[name]["image"]), CONTAINERS[name]["image"]


@pytest.mark.parametrize("name", EVERY)
def test_every_container_is_confined(name: str) -> None:
    container = CONTAINERS[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert "cap_add" not in container
    assert "privileged" not in container
    assert container["security_opt"] == ["no-new-privileges:true"]
    user, group = container["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert re.fullmatch(r"\d+[mg]", container["mem_limit"])
    assert container["pids_limit"] > 0
    assert container["logging"]["options"]["max-size"]
    assert not [volume for volume in container.get("volumes", ()) if "docker.sock" in volume]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_stays_up_says_whether_it_is_well(name: str) -> None:
    container = CONTAINERS[name]
    assert container["restart"] == "unless-stopped"
    check = container["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert "disable" not in check
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


@pytest.mark.parametrize("name", sorted(ONE_SHOT))
def test_one_shots_run_once(name: str) -> None:
    assert CONTAINERS[name]["restart"] == "no"
    assert "healthcheck" not in CONTAINERS[name]


def test_everybody_waits_for_health_or_completion() -> None:
    waits = [
        (name, on, how["condition"])
        for name, container in CONTAINERS.items()
        for on, how in container.get("depends_on", {}).items()
    ]
    wrong = [
        wait
        for wait in waits
        if wait[2] != ("service_completed_successfully" if wait[1] in ONE_SHOT else "service_healthy")
    ]
    assert wrong == []
    for service, role in itertools.product(SERVICES, ("api", "worker")):
        assert {on for name, on, _ in waits if name == f"{service}-{role}"} >= ONE_SHOT


def test_the_broker_may_load_the_compression_libraries_that_it_unpacks() -> None:
    options = next(mount for mount in CONTAINERS["kafka"]["tmpfs"] if mount.startswith("/tmp:")).split(":")[1]
    assert "exec" in options.split(",")  # Docker mounts tmpfs noexec unless told otherwise


# The roles


def test_the_broker_starts_when_its_disk_has_room() -> None:
    """And not before (docs/reliability.md). `$$` is a dollar sign of the shell's."""
    script = CONTAINERS["kafka"]["command"][2].replace("$$", "$").replace("sleep 5", "exit 3")
    for free, code in ((65535, 3), (65536, 0)):
        stub = f"df() {{ echo header; echo '/dev/vda 1 1 {free} 1% /var/lib/kafka/data'; }}\n"
        done = subprocess.run(
            ["sh", "-c", stub + script.replace("exec /etc/kafka/docker/run", "exit 0")], capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        assert ("make room" in done.stderr) == bool(code)


def test_each_service_runs_its_roles_as_containers_of_their_own() -> None:
    producers = {topic.producer for topic in TOPICS}
    expected = {
        f"{service}-{role}": ["serve", service, "--role", role]
        for service in SERVICES
        for role in ("api", "worker", "relay")
        if role != "relay" or service in producers
    }
    served = {name: c["command"] for name, c in CONTAINERS.items() if c.get("command", [""])[0] == "serve"}
    assert served == expected


def test_only_who_must_reach_the_internet_can() -> None:
    assert COMPOSE["networks"]["data"] == {"internal": True}
    outside = {name for name, container in CONTAINERS.items() if "edge" in container["networks"]}
    assert outside == {
        *(f"{service}-api" for service in SERVICES),
        "notifier-worker",
        "gateway",
        "jaeger",
        "prometheus",
    }
    assert CONTAINERS["gateway"]["networks"] == ["edge"]


def test_ports_are_published_to_this_host_alone_unless_asked() -> None:
    published = [port for container in CONTAINERS.values() for port in container.get("ports", ())]
    assert published
    assert [port for port in published if not re.fullmatch(r"\$\{\w+:-127\.0\.0\.1:\d+\}:\d+", port)] == []


# Secrets and settings


def test_no_secret_has_a_default() -> None:
    secret = re.compile(r"PASSWORD|KEY|SECRET|TOKEN")
    wrong = [match[0] for match in _variables(COMPOSE) if secret.search(match["name"]) and match["operator"] != ":?"]
    assert wrong == []


def test_the_administrators_password_goes_to_the_database_and_the_migrations_alone() -> None:
    knowing = {
        name
        for name, container in CONTAINERS.items()
        if any(match["name"] == "POSTGRES_PASSWORD" for match in _variables(container))
    }
    assert knowing == {"postgres", "migrate"}


def test_compose_env_makes_every_required_variable(env_file: Path) -> None:
    required = {match["name"] for match in _variables(COMPOSE) if match["operator"] == ":?"}
    made = _read_env(env_file)
    assert made.keys() == required
    # They stand in URLs unescaped.
    assert all(re.fullmatch(r"[0-9a-f]{48}", made[name]) for name in made if name.endswith("PASSWORD"))
    assert len(set(made.values())) == len(made)


def test_compose_env_is_for_its_owner_and_is_never_overwritten(env_file: Path) -> None:
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    before = env_file.read_bytes()
    again = subprocess.run(
        [str(ROOT / "deploy/compose-env"), str(env_file)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "LAUREL_ID_KEY must never change" in again.stderr
    assert env_file.read_bytes() == before


def test_keys_go_only_where_they_are_used() -> None:
    def knowing(secret: str) -> set[str]:
        return {name for name, container in CONTAINERS.items() if secret in container.get("environment", {})}

    processes = {name for name, container in CONTAINERS.items() if container.get("command", [""])[0] == "serve"}
    assert knowing("LAUREL_KEK") == {"issuer-api", "issuer-worker", "issuer-relay"}
    assert knowing("LAUREL_OPERATOR_TOKEN") == {"issuer-api"}
    assert knowing("LAUREL_ID_KEY") == knowing("LAUREL_CONTACT_KEY") == processes
    assert knowing("LAUREL_DATABASE_PASSWORD") == processes | {"migrate"}


@pytest.mark.parametrize("name", [name for name in EVERY if CONTAINERS[name].get("command", [""])[0] == "serve"])
def test_every_process_gets_settings_that_its_service_accepts(
    name: str, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _read_env(env_file)
    for variable in [variable for variable in os.environ if variable.startswith("LAUREL_")]:
        monkeypatch.delenv(variable)
    for variable, value in CONTAINERS[name]["environment"].items():
        if variable.startswith("LAUREL_") and value is not None:
            filled = VARIABLE.sub(lambda m: made.get(m["name"], m["rest"] if m["operator"] == ":-" else ""), value)
            monkeypatch.setenv(variable, filled)
    service, role = name.split("-")
    settings: Settings = importlib.import_module(f"laurel_{service}.config").Settings()
    password = made["LAUREL_DATABASE_PASSWORD"]
    assert settings.dsn(service, worker=True) == (
        f"postgresql://laurel_{service}_worker:{password}@postgres:5432/laurel"
    )
    assert settings.bus_url == "kafka://kafka:9092"
    assert len(settings.id_key.get_secret_value()) == 32
    assert ("LAUREL_HEALTH_PORT" in CONTAINERS[name]["environment"]) == (role != "api")


def test_every_laurel_variable_is_one_that_the_code_reads() -> None:
    source = "".join(
        path.read_text()
        for folder in ("shared/laurel", "services", "deploy/local")
        for path in (ROOT / folder).rglob("*.py")
    )
    given_names = {
        name
        for container in CONTAINERS.values()
        for name in container.get("environment", {})
        if name.startswith("LAUREL_")
    }
    field = re.compile(r"^    (\w+): ", re.M)
    fields = {f"LAUREL_{name.upper()}" for name in field.findall(source)}
    assert {name for name in given_names if name not in fields and name not in source} == set()


# The gateway


def _gateway_table() -> dict[str, str]:
    block = re.search(r"map \$uri \$laurel_upstream \{(.+?)\n    \}", GATEWAY, re.S)
    assert block
    rows = re.findall(r'"([^"]+)"\s+http://(\w+)-api:8080;', block[1])
    assert re.search(r'default\s+"";', block[1])
    return dict(rows)


def _gateway_service(path: str) -> str | None:
    """nginx's `map`: exact strings first, then regular expressions in their order."""
    table = _gateway_table()
    if path in table:
        return table[path]
    hits = (service for key, service in table.items() if key.startswith("~") and re.search(key[1:], path))
    return next(hits, None)


def test_the_gateways_table_is_that_of_paths() -> None:
    expected = {f"~^{path}" if path.endswith("/") and path != "/" else path: to for path, to in PATHS.items()}
    assert _gateway_table() == expected


@given(
    st.one_of(
        st.text(alphabet="/acehirsuvyz1.-", max_size=16).map(lambda tail: "/" + tail),
        st.tuples(st.sampled_from(sorted(PATHS)), st.text(alphabet="/ab.", max_size=6)).map("".join),
        st.sampled_from([path.rstrip("/") or "/" for path in PATHS]),
    )
)
def test_the_gateway_sends_a_path_where_the_embedded_one_does(path: str) -> None:
    assert _gateway_service(path) == service_for(path)


def test_the_gateway_is_ready_when_all_four_are() -> None:
    assert re.findall(r"auth_request /ready/(\w+)-api;", GATEWAY) == list(SERVICES)
    steps = re.findall(r"location = /(\w+) \{\s+auth_request /ready/(\w+)-api;\s+(?:proxy_pass \S+/(\w+);)?", GATEWAY)
    assert steps == [
        (service, service, following)
        for service, following in itertools.zip_longest(SERVICES, SERVICES[1:], fillvalue="")
    ]
    assert f"proxy_pass http://127.0.0.1:8081/{SERVICES[0]};" in GATEWAY
    assert set(CONTAINERS["gateway"]["depends_on"]) == {f"{service}-api" for service in SERVICES}


# Traces


def test_traces_go_from_the_services_through_the_collector_to_jaeger() -> None:
    collector = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text())
    jaeger = yaml.safe_load((ROOT / "deploy/otel/jaeger.yaml").read_text())
    receiver = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    port = receiver.rpartition(":")[2]
    processes = [container for container in CONTAINERS.values() if container.get("command", [""])[0] == "serve"]
    sent_to = {container["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] for container in processes}
    assert sent_to == {f"http://otel-collector:{port}"}
    host, _, port = collector["exporters"]["otlp"]["endpoint"].partition(":")
    assert host in CONTAINERS
    assert jaeger["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].endswith(f":{port}")
    for config in (collector, jaeger):
        assert list(config["service"]["pipelines"]) == ["traces"]
