"""End-to-end tests ask the same independent verifier as the conformance tests, and share a Laurel that is up."""

from tests.conformance.conftest import node_verify
from tests.e2e.running import up

__all__ = ["node_verify", "up"]
