"""Settings of the verifier, read from `LAUREL_*` environment variables when its process starts."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import Field, field_validator

from laurel.settings import Settings as SharedSettings


class Settings(SharedSettings):
    """What the verifier needs to know beyond what every service does."""

    allow_networks: str = Field(
        default="",
        description="Comma-separated CIDRs that DID documents, status lists and credentials may be fetched from "
        "although they are not public addresses, for example 127.0.0.0/8.",
    )
    allow_http_issuers: bool = Field(
        default=False, description="Look up did:web issuers of localhost by plain http: for development only."
    )
    sandbox_processes: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Processes that canonicalise the documents of strangers; as many again for those that take long.",
    )
    sandbox_seconds: float = Field(
        default=5.0, gt=0, le=60, description="Seconds that one document may take there before its process is killed."
    )
    sandbox_memory_mb: int = Field(
        default=1024, ge=256, description="Address space of such a process in MiB; more than it, and it dies."
    )
    batch_max_lines: int = Field(default=100_000, ge=1, description="Lines of one batch that is verified.")
    batch_max_bytes: int = Field(default=256 << 20, ge=1024, description="Bytes of one batch that is verified.")

    @field_validator("allow_networks")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in value.split(","):
            if part.strip():
                try:
                    ip_network(part.strip())
                except ValueError as error:
                    raise ValueError(f"LAUREL_ALLOW_NETWORKS: {error}; write CIDRs such as 10.0.0.0/8") from None
        return value

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """`allow_networks`, parsed."""
        return tuple(ip_network(part.strip()) for part in self.allow_networks.split(",") if part.strip())
