"""Who is calling: an API key or an access token that one got, checked against the service's own replica of API keys.

One way for both, numbered as at the code:
1. what was sent is a well-formed API key, or a token that a key of ours signed (`laurel.tokens`): else 401, without a
   look at API keys;
2. what was confirmed a moment ago is not asked again (`KnownCallers`);
3. the replica knows the API key, and it is neither revoked nor expired; an API key's secret is one of its secrets;
4. the principal has the key's scopes; of a token, those that it was given too.

Since 3 holds for tokens, revoking an API key ends its tokens within seconds, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Request, Security
from fastapi.openapi.models import OAuthFlowClientCredentials, OAuthFlows
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, OAuth2

from laurel import access, tokens
from laurel.database import Database
from laurel.limits import Limits
from laurel.problems import Problem
from laurel.query import check_query
from laurel.security import SCOPE_MEANINGS, Principal, hash_secret, parse_api_key
from laurel.tokens import BadToken

# Seconds between looks: a key, a secret or a signing key made a moment ago comes with its event. One that never was is
# looked for as long as one whose secret is wrong, so that time tells nobody which ids there are.
_PAUSES = (0.0, 0.1, 0.3, 0.6)
KNOWN_S = 5.0


class Unauthorized(Exception):
    """Nobody that we know; the message may be told to whoever asked."""


class KnownCallers:
    """A short memory of callers that were confirmed, so that a busy one does not cost a query a request."""

    def __init__(self, *, seconds: float = KNOWN_S, most: int = 10_000) -> None:
        self._seconds = seconds
        self._most = most
        self._known: dict[bytes, tuple[float, Principal]] = {}

    def get(self, digest: bytes) -> Principal | None:
        """The principal, if this very text was confirmed a moment ago."""
        found = self._known.get(digest)
        return found[1] if found is not None and found[0] > time.monotonic() else None

    def put(self, digest: bytes, principal: Principal, *, most_s: float) -> None:
        """Remember a confirmed one for a few seconds (that is also how long a revocation takes to bite), or most_s."""
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[digest] = (time.monotonic() + min(self._seconds, most_s), principal)

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()


@dataclass(frozen=True, slots=True)
class _Claimed:
    """What was sent, and is yet to be confirmed. secret_hash: of an API key; token: what one says."""

    key_id: str
    secret_hash: str | None = None
    token: tokens.Claims | None = None


class Callers:
    """Confirms who is calling one service. base_url: the issuer and the audience of access tokens."""

    def __init__(self, database: Database, *, base_url: str) -> None:
        self._database = database
        self._base_url = base_url
        self.known = KnownCallers()

    async def principal(self, text: str) -> Principal:
        """The principal of an API key or an access token. Raises Unauthorized."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        known = self.known.get(digest)  # 2
        if known is not None:
            return known
        claimed = await self._claimed(text)  # 1
        principal, seconds = await self._confirmed(claimed)  # 3 4
        self.known.put(digest, principal, most_s=seconds)
        return principal

    async def confirm_key(self, text: str) -> Principal:
        """The principal of an API key alone: whoever asks for a token must hold the key itself. Raises Unauthorized."""
        parsed = parse_api_key(text)
        if parsed is None:
            raise Unauthorized("this is not an API key of ours; it looks like laurel_… and is copied whole")
        principal, _ = await self._confirmed(_Claimed(parsed[0], secret_hash=hash_secret(parsed[1])))
        return principal

    async def _claimed(self, text: str) -> _Claimed:
        parsed = parse_api_key(text)
        if parsed is not None:
            return _Claimed(parsed[0], secret_hash=hash_secret(parsed[1]))
        try:
            kid = tokens.key_named(text)
        except BadToken:
            detail = "this is neither an API key of ours (laurel_…, copied whole) nor an access token"
            raise Unauthorized(detail) from None
        async for _ in _looks():
            async with self._database.transaction(public_id=kid) as tx:
                public_key = await access.token_key(tx, kid, datetime.now(UTC))
            if public_key is not None:
                break
        else:
            raise Unauthorized("this access token is not valid here, or not any more; get a new one")
        try:
            claims = tokens.verify(text, public_key, issuer=self._base_url, now=time.time())
        except BadToken:
            raise Unauthorized("this access token is not valid here, or not any more; get a new one") from None
        return _Claimed(claims.client_id, token=claims)

    async def _confirmed(self, claimed: _Claimed) -> tuple[Principal, float]:
        """The principal, and the seconds for which it holds."""
        async for _ in _looks():
            async with self._database.transaction(public_id=claimed.key_id) as tx:
                key = await access.api_key(tx, claimed.key_id)
            if key is None:
                continue
            until = _secret_until(key, claimed.secret_hash) if claimed.token is None else claimed.token.expires_at
            if until is not None:
                break
        else:
            raise Unauthorized("this API key is unknown, wrong, revoked or expired")
        now = time.time()
        until = min(until, key.expires_at.timestamp() if key.expires_at is not None else until)
        if key.revoked or until <= now:
            raise Unauthorized("this API key is unknown, wrong, revoked or expired")
        await access.note_use(self._database, key)
        scopes = frozenset(key.scopes)
        token = claimed.token
        if token is not None:
            scopes &= token.scopes
        return Principal(key.tenant_id, key.key_id, scopes, None if token is None else token.token_id), until - now


async def _looks() -> AsyncIterator[None]:
    for pause in _PAUSES:
        await asyncio.sleep(pause)
        yield


_FOR_EVER = float("inf")


def _secret_until(key: access.ApiKey, secret_hash: str | None) -> float | None:
    """Unix time up to which a secret of the key is good; None: it is none of its secrets."""
    found: float | None = None
    for known, until in ((key.secret_hash, None), *((one.secret_hash, one.until) for one in key.previous)):
        if secret_hash is not None and hmac.compare_digest(known, secret_hash):
            found = _FOR_EVER if until is None else until.timestamp()
    return found


# --- at the edge --------------------------------------------------------------------------------------------

TOKEN_PATH = "/oauth/token"  # noqa: S105 - an address
_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key: laurel_…")
_oauth = OAuth2(
    flows=OAuthFlows(clientCredentials=OAuthFlowClientCredentials(tokenUrl=TOKEN_PATH, scopes=SCOPE_MEANINGS)),
    scheme_name="ClientCredentials", auto_error=False,
    description="An access token: client_id is an API key's key_id, client_secret the API key itself.",
)  # fmt: skip


class Requires:
    """A dependency: the caller's principal, if it has `scope`. Raises Problem 401, 429, 403, 422. Use `requires`."""

    def __init__(self, scope: str) -> None:
        if scope not in SCOPE_MEANINGS:
            raise ValueError(f"there is no scope {scope!r}")
        self.demand = scope

    async def __call__(
        self,
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        _: Annotated[str | None, Security(_oauth)],
    ) -> Principal:
        """Who is calling."""
        if given is None:
            raise _unauthorized("send `Authorization: Bearer` with an API key (laurel_…) or an access token")
        callers: Callers = request.app.state.callers
        try:
            principal = await callers.principal(given.credentials)
        except Unauthorized as error:
            raise _unauthorized(str(error), error="invalid_token") from None
        limits: Limits = request.app.state.limits
        limits.admit_key(request, principal.key_id)
        if self.demand not in principal.scopes:
            what = "API key" if principal.token_id is None else "access token"
            challenge = f'Bearer realm="laurel", error="insufficient_scope", scope="{self.demand}"'  # RFC 6750 §3.1
            raise Problem(
                403, "missing_scope", f"this {what} lacks the scope {self.demand!r}; use one that has it",
                headers={"WWW-Authenticate": challenge},
            )  # fmt: skip
        check_query(request)
        return principal


def requires(scope: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the caller's principal, if its API key or access token has `scope`. Problem 401, 429, 403, 422."""
    return Requires(scope)


def _unauthorized(detail: str, *, error: str | None = None) -> Problem:
    challenge = 'Bearer realm="laurel"' + (f', error="{error}"' if error else "")  # RFC 6750 §3
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
