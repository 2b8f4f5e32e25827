from __future__ import annotations

import hashlib
from importlib import resources

import pytest

from laurel.credential import contexts

EXPECTED = {
    "https://www.w3.org/ns/credentials/v2",
    "https://www.w3.org/2018/credentials/v1",
    "https://www.w3.org/ns/credentials/undefined-terms/v2",
    "https://www.w3.org/ns/credentials/status/v1",
    "https://www.w3.org/ns/did/v1",
    "https://w3id.org/security/data-integrity/v1",
    "https://w3id.org/security/data-integrity/v2",
    "https://w3id.org/security/multikey/v1",
    "https://w3id.org/security/jwk/v1",
    "https://w3id.org/security/suites/ed25519-2020/v1",
    "https://w3id.org/vc/status-list/2021/v1",
    *(f"https://purl.imsglobal.org/spec/ob/v3p0/context{v}.json" for v in ("", "-3.0.1", "-3.0.2", "-3.0.3")),
    "https://purl.imsglobal.org/spec/ob/v3p0/extensions.json",
}


@pytest.mark.parametrize("folder", ["contexts", "schemas"])
def test_the_manifest_and_the_files_agree(folder: str) -> None:
    root = resources.files("laurel.credential").joinpath(folder)
    files = {entry.name for entry in root.iterdir()} - {"manifest.json"}
    listed = contexts.manifest(folder).values()
    assert {resource.file for resource in listed} == files
    for resource in listed:
        assert hashlib.sha256(root.joinpath(resource.file).read_bytes()).hexdigest() == resource.sha256, resource.file
        assert resource.licence, resource.file
        assert resource.source, resource.file


def test_every_context_that_is_needed_is_bundled_and_loads() -> None:
    assert set(contexts.manifest()) >= EXPECTED
    for url in contexts.manifest():
        assert "@context" in contexts.load(url), url


@pytest.mark.parametrize(
    ("url", "printed"),
    [  # the hashes that the Recommendations print
        (contexts.CREDENTIALS_V2, "59955ced6697d61e03f2b2556febe5308ab16842846f5b586d7f1f7adec92734"),
        (
            "https://w3id.org/security/data-integrity/v2",
            "67f21e6e33a6c14e5ccfd2fc7865f7474fb71a04af7e94136cb399dfac8ae8f4",
        ),
        ("https://w3id.org/security/multikey/v1", "ba2c182de2d92f7e47184bcca8fcf0beaee6d3986c527bf664c195bbc7c58597"),
        ("https://w3id.org/security/jwk/v1", "0f14b62f6071aafe00df265770ea0c7508e118247d79b7d861a406d2aa00bece"),
    ],
)
def test_contexts_of_the_w3c_are_the_published_bytes(url: str, printed: str) -> None:
    assert contexts.manifest()[url].sha256 == printed


@pytest.mark.parametrize("url", ["https://evil.example/v1", contexts.CREDENTIALS_V2 + "/", "", "file:///etc/passwd"])
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(contexts.UnknownContext) as refused:
        contexts.load(url)
    assert refused.value.url == url


def test_a_changed_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = contexts.manifest()[contexts.CREDENTIALS_V2]
    changed = contexts.Resource(**{**vars(resource), "sha256": "0" * 64})
    monkeypatch.setattr(contexts, "manifest", lambda folder="contexts": {changed.url: changed})
    contexts._pinned_bytes.cache_clear()
    try:
        with pytest.raises(contexts.ChangedResource, match=resource.file):
            contexts.load(contexts.CREDENTIALS_V2)
    finally:
        contexts._pinned_bytes.cache_clear()


def test_what_a_caller_changes_stays_with_the_caller() -> None:
    contexts.load(contexts.CREDENTIALS_V2).clear()
    assert "@context" in contexts.load(contexts.CREDENTIALS_V2)
