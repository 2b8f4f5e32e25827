"""Settings that every service shares, read from LAUREL_* environment variables when a process starts, not at import."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import re
from typing import Annotated, Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretBytes, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from laurel.errors import ConfigurationError


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


def postgres_url(value: str) -> str:
    """Refused here, by words of ours: what a library says of a URL that it cannot read may quote the password."""
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes of the command line or the environment
        raise ValueError("is no UTF-8; write it as text, and other signs as %XX") from None
    try:
        parts = urlsplit(value)
        (parts.hostname or "").encode("idna")  # as whoever resolves it does
        fits = parts.scheme in ("postgres", "postgresql") and (parts.port or 1) > 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError("must look like postgresql://host:5432/database; write signs of a password as %XX")
    return value


SecretKey = Annotated[SecretBytes, BeforeValidator(_from_base64)]


_KEY_RATE = re.compile(r"([0-9a-z]{12})=(\d{1,9}(?:\.\d{1,6})?)/(\d{1,9})").fullmatch


class Settings(BaseSettings):
    """What every service needs to know. Each service's config.py extends it."""

    model_config = SettingsConfigDict(env_prefix="LAUREL_", extra="ignore", frozen=True)

    bus_url: str = Field(repr=False, description="Where events travel: kafka://host:9092 or postgres://…")
    database_url: Annotated[str, AfterValidator(postgres_url)] = Field(
        repr=False, description="PostgreSQL, without user: each service adds its own role."
    )
    database_password: str = Field(
        default="", repr=False, description="Password of the services' roles; empty where PostgreSQL trusts the socket."
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
    trusted_proxies: str = Field(
        default="127.0.0.1,::1",
        description="Comma-separated addresses and CIDRs of the proxies whose X-Forwarded-For is believed.",
    )
    rate_per_key: float = Field(
        default=1000.0,
        ge=0,
        description="Requests a second that one API key may send to one API process, on average; 0: any number.",
    )
    burst_per_key: int = Field(default=20_000, ge=1, description="Requests that one API key may send at once.")
    key_rates: str = Field(
        default="",
        description="Rates of single API keys, as KEY_ID=RATE/BURST with commas between; KEY_ID is what stands between "
        "the two underscores of a key.",
    )
    rate_per_address: float = Field(
        default=5.0,
        ge=0,
        description="Requests a second that one public address may send to the doors that cost much and ask for no key "
        "(verifying), on average, to one API process; 0: any number.",
    )
    burst_per_address: int = Field(default=100, ge=1, description="Such requests that one address may send at once.")
    database_pool: int = Field(default=8, ge=2, description="Connections per pool.")
    batch_size: int = Field(default=500, ge=1, le=5000, description="Records a consumer takes at a time.")
    stuck_after_s: float = Field(
        default=40.0,
        gt=0,
        description="Seconds after which a process exits, to be started again: of a loop without a sign of life, of a "
        "database that does not answer, of records that wait and do not come.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        """uvicorn takes what is no address for the name of a socket, and then believes nobody."""
        for part in filter(None, (one.strip() for one in value.split(","))):
            try:
                ipaddress.ip_network(part)
            except ValueError as error:
                hint = "write addresses and CIDRs with commas between, for example 10.0.0.0/8,192.0.2.7"
                raise ValueError(f"{part!r} is no network: {error}; {hint}") from None
        return value

    @field_validator("key_rates")
    @classmethod
    def _key_rates(cls, value: str) -> str:
        _read_rates(value)
        return value

    @property
    def own_rates(self) -> dict[str, tuple[float, int]]:
        """`key_rates`: key id → (requests a second, burst)."""
        return _read_rates(self.key_rates)

    def dsn(self, service: str, *, worker: bool = False) -> str:
        """The service's database URL with its role; LAUREL_<SERVICE>_DATABASE_URL overrides the shared one.

        worker: the role of relays, consumers and workers, which row-level security lets see every tenant.
        """
        role = f"laurel_{service}_worker" if worker else f"laurel_{service}"
        base = os.environ.get(f"LAUREL_{service.upper()}_DATABASE_URL", self.database_url)
        try:
            return with_role(postgres_url(base), role, self.database_password)
        except ValueError as error:
            raise ConfigurationError(f"LAUREL_{service.upper()}_DATABASE_URL: {error}") from None

    @property
    def base_url(self) -> str:
        """public_url without a trailing slash."""
        return self.public_url.rstrip("/")


def _read_rates(text: str) -> dict[str, tuple[float, int]]:
    found: dict[str, tuple[float, int]] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        match = _KEY_RATE(part)
        if match is None or float(match[2]) <= 0 or int(match[3]) < 1:
            raise ValueError(f"{part!r}: write KEY_ID=RATE/BURST, for example 0123456789ab=500/2000")
        found[match[1]] = float(match[2]), int(match[3])
    return found


def with_role(url: str, role: str, password: str = "") -> str:
    """The same database URL, as another role."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    login = quote(role, safe="") + (f":{quote(password, safe='')}" if password else "")
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))
