"""Settings of the notifier, read from `LAUREL_*` environment variables when its process starts."""

from __future__ import annotations

from email.utils import parseaddr

from pydantic import Field, SecretStr, field_validator

from laurel.http import AddressPolicy
from laurel.settings import Settings as SharedSettings


class Settings(SharedSettings):
    """What the notifier needs to know beyond what every service does.

    Webhook secrets are sealed at rest with LAUREL_CONTACT_KEY, which the notifier needs anyway: no second key to keep.
    """

    smtp_url: SecretStr | None = Field(
        default=None,
        description="Mail server: smtps://user:password@host, smtp+starttls://user:password@host:587 or smtp://host. "
        "Without it e-mails wait in the state held.",
    )
    mail_from: str = Field(
        default="Laurel <no-reply@localhost>", description="Sender of e-mails, as `Name <address>`; no line breaks."
    )
    mail_connections: int = Field(default=4, ge=1, le=64, description="Connections to the mail server at a time.")
    allow_networks: str = Field(
        default="",
        description="Comma-separated CIDRs that webhooks may reach although they are not public addresses, for example "
        "10.1.0.0/16. There, plain http is allowed too.",
    )
    webhook_timeout_s: float = Field(
        default=15.0, gt=0, le=120, description="Seconds for one webhook request, name lookup and answer included."
    )
    webhook_concurrency: int = Field(
        default=512, ge=1, le=4096, description="Webhook requests that a worker runs at a time, over all endpoints."
    )
    webhook_concurrency_per_endpoint: int = Field(
        default=16, ge=1, le=256, description="Webhook requests that a worker runs at a time for one endpoint."
    )
    contact_key_lost: bool = Field(
        default=False,
        description="Go on with contacts that cannot be opened: their webhooks name no learner, their e-mails fail. "
        "For when the key that sealed them is gone for good, until those events have passed.",
    )
    endpoints_per_tenant: int = Field(default=50, ge=1, description="Webhook endpoints that an organisation may have.")

    @field_validator("smtp_url", mode="before")
    @classmethod
    def _no_server(cls, value: object) -> object:
        return None if value == "" else value  # as compose files pass what is not set

    @field_validator("allow_networks")
    @classmethod
    def _networks(cls, value: str) -> str:
        try:
            AddressPolicy.parse(value)
        except ValueError as error:
            raise ValueError(f"LAUREL_ALLOW_NETWORKS: {error}") from None
        return value

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        address = parseaddr(value)[1]
        if "@" not in address or not value.isprintable():
            raise ValueError("LAUREL_MAIL_FROM must look like `Example University <badges@example.edu>`")
        return value

    @property
    def address_policy(self) -> AddressPolicy:
        """Which addresses webhooks may go to."""
        return AddressPolicy.parse(self.allow_networks)
