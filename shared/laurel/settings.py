"""Settings that every service shares, read from LAUREL_* environment variables when a process starts, not at import."""

from __future__ import annotations

import base64
import binascii
import os
from typing import Annotated, Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BeforeValidator, Field, SecretBytes
from pydantic_settings import BaseSettings, SettingsConfigDict


def _from_base64(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64; make one with `laurel secrets`") from None
    if len(raw) != 32:
        raise ValueError("must be 32 bytes in base64; make one with `laurel secrets`")
    return raw


SecretKey = Annotated[SecretBytes, BeforeValidator(_from_base64)]


class Settings(BaseSettings):
    """What every service needs to know. Each service's config.py extends it."""

    model_config = SettingsConfigDict(env_prefix="LAUREL_", extra="ignore", frozen=True)

    bus_url: str = Field(description="Where events travel: kafka://host:9092 or postgres://…")
    database_url: str = Field(description="PostgreSQL, without user: each service adds its own role.")
    database_password: str = Field(
        default="", description="Password of the services' roles; empty where PostgreSQL trusts the socket."
    )
    public_url: str = Field(
        default="http://localhost:8080",
        description="What the outside calls us; credential ids and DIDs are built on it.",
    )
    id_key: SecretKey = Field(description="32 bytes, base64. Derives credential ids; must never change.")
    contact_key: SecretKey = Field(
        description="32 bytes, base64. Seals learners' contact data on its way to the notifier."
    )
    host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    port: int = Field(default=8080, description="Port that the API listens on.")
    database_pool: int = Field(default=8, ge=2, description="Connections per pool.")
    batch_size: int = Field(default=500, ge=1, le=5000, description="Records a consumer takes at a time.")
    stuck_after_s: float = Field(
        default=40.0,
        gt=0,
        description="Seconds after which a process exits, to be started again: of a loop without a sign of life, of a "
        "database that does not answer, of records that wait and do not come.",
    )

    def dsn(self, service: str, *, worker: bool = False) -> str:
        """The service's database URL with its role; LAUREL_<SERVICE>_DATABASE_URL overrides the shared one.

        worker: the role of relays, consumers and workers, which row-level security lets see every tenant.
        """
        role = f"laurel_{service}_worker" if worker else f"laurel_{service}"
        base = os.environ.get(f"LAUREL_{service.upper()}_DATABASE_URL", self.database_url)
        return with_role(base, role, self.database_password)

    @property
    def base_url(self) -> str:
        """public_url without a trailing slash."""
        return self.public_url.rstrip("/")


def with_role(url: str, role: str, password: str = "") -> str:
    """The same database URL, as another role."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    login = quote(role, safe="") + (f":{quote(password, safe='')}" if password else "")
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))
