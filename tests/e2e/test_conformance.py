"""`laurel up --conformance --tls` as a suite starts it: one line of JSON, HTTPS, and a folder that stays apart."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from ssl import create_default_context

import httpx
import pytest

from tests.component.conformance.conftest import credential
from tests.e2e.running import environment, laurel


@pytest.mark.timeout(240)
def test_it_says_who_issues_and_serves_until_it_is_stopped(tmp_path: Path) -> None:
    state = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-m", "laurel_local.cli", "up", "--conformance", "--tls", "--port", "0",
         "--state", str(state)],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        routes = said["conformance"]
        assert said["issuer"] == routes["issuer"] == routes["issuers"]["Ed25519"]
        assert sorted(routes["issuers"]) == ["Ed25519", "P-256", "P-384"]
        assert routes["issue"] == f"https://localhost:{said['port']}/conformance/credentials/issue"
        trusted = create_default_context(cafile=str(state / "conformance-cert.pem"))
        with httpx.Client(verify=trusted, trust_env=False, timeout=60) as client:
            for kind, issuer in routes["issuers"].items():
                body = {"credential": credential(issuer=issuer)}
                issued = client.post(routes["issue"], json=body)
                assert issued.status_code == 201, issued.text
                vc = issued.json()["verifiableCredential"]
                assert vc["issuer"] == issuer, kind
                verified = client.post(routes["verify"], json={"verifiableCredential": vc})
                assert verified.status_code == 200, verified.text
                presentation = {
                    "@context": ["https://www.w3.org/ns/credentials/v2"],
                    "type": ["VerifiablePresentation"],
                    "verifiableCredential": [vc],
                }
                presented = client.post(routes["verify_presentation"], json={"verifiablePresentation": presentation})
                assert presented.status_code == 200, presented.text
            assert client.get(f"{said['url']}/readyz").status_code == 200
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told.decode()
        assert "For test suites alone" in told.decode()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)
    done = laurel("up", "--port", "0", "--state", str(state), "--json")
    assert done.returncode == 2
    assert "was used with --conformance" in json.loads(done.stdout)["error"]["detail"]
    (state / "state.json").unlink()  # what is in its database, nobody can say any more
    done = laurel("up", "--conformance", "--tls", "--port", "0", "--state", str(state), "--json")
    assert done.returncode == 2
    assert "was used without --conformance" in json.loads(done.stdout)["error"]["detail"]
