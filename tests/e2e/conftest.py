"""End-to-end tests ask the same independent verifier as the conformance tests."""

from tests.conformance.conftest import node_verify

__all__ = ["node_verify"]
