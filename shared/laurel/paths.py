"""The gateway's path space: which service answers which path. Both gateways, embedded and nginx, follow it."""

from __future__ import annotations

# Longest prefix wins. A prefix that ends in "/" covers everything below it; any other is exactly that path.
PATHS: dict[str, str] = {
    "/assessment/": "assessment",
    "/achievements/": "assessment",
    "/issuer/": "issuer",
    "/issuers/": "issuer",
    "/status/": "issuer",
    "/oauth/": "issuer",
    "/.well-known/oauth-authorization-server": "issuer",
    "/notifier/": "notifier",
    "/verifier/": "verifier",
    "/c/": "verifier",
    "/verify": "verifier",
    "/assets/": "verifier",
    "/": "verifier",
}


def service_for(path: str) -> str | None:
    """The service that answers `path`; None where nobody does ("/" stands for the start page alone)."""
    best = ""
    for prefix in PATHS:
        hit = path.startswith(prefix) if prefix.endswith("/") and prefix != "/" else path == prefix
        if hit and len(prefix) > len(best):
            best = prefix
    return PATHS.get(best)
