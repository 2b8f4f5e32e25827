"""How often one caller may call: a token bucket for each API key, and one for each address at doors without a key.

Kept in memory, by each process for itself: n API processes behind a gateway let a caller through n times as often as
one does. Who calls from an address that is not public (this machine, a container network, a campus) is not counted by
address: behind a proxy that does not say who called, all would share one bucket.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.requests import HTTPConnection

from laurel import telemetry
from laurel.problems import FieldError, Problem
from laurel.settings import Settings

_MOST = 10_000  # callers remembered; whoever was not heard of for longest is forgotten first


class Rate(NamedTuple):
    """per_s tokens come back each second, up to `burst`."""

    per_s: float
    burst: int


class Decision(NamedTuple):
    """remaining: requests that may follow at once. full_s: until the bucket is full. retry_s: until one is allowed."""

    allowed: bool
    rate: Rate
    remaining: int
    full_s: float
    retry_s: float


class Buckets:
    """A bucket for each caller. A caller is remembered by one number: when its bucket is full again (GCRA)."""

    def __init__(self, rate: Rate, *, most: int = _MOST, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._most = most
        self._monotonic = monotonic
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, caller: str, rate: Rate | None = None) -> Decision:
        """One request. rate: this caller's own. What is refused costs nothing."""
        per_s, burst = rate = rate or self._rate
        now = self._monotonic()
        full_s = max(0.0, self._full_at.get(caller, now) - now)
        after = full_s + 1 / per_s
        if after > burst / per_s + 1e-9:
            return Decision(False, rate, 0, full_s, after - burst / per_s)
        self._full_at[caller] = now + after
        self._full_at.move_to_end(caller)
        while len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return Decision(True, rate, int(burst - after * per_s + 1e-9), after, 0.0)


@dataclass(frozen=True)
class Limits:
    """The limits of one API. None: none."""

    keys: Buckets | None = None
    addresses: Buckets | None = None
    own: Mapping[str, Rate] = field(default_factory=dict)  # key id → its own rate

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As the settings say."""
        keys = Rate(settings.rate_per_key, settings.burst_per_key)
        addresses = Rate(settings.rate_per_address, settings.burst_per_address)
        return cls(
            keys=Buckets(keys) if keys.per_s else None,
            addresses=Buckets(addresses) if addresses.per_s else None,
            own={key: Rate(per_s, burst) for key, (per_s, burst) in settings.own_rates.items()},
        )

    def admit_key(self, request: HTTPConnection, key_id: str) -> None:
        """Count a request of an API key, and leave word for the answer's headers. Raises Problem 429."""
        if self.keys is not None:
            _admit(request, "key", self.keys.take(key_id, self.own.get(key_id)), "this API key")

    def admit_address(self, request: HTTPConnection) -> None:
        """Count a request that needs no key. Raises Problem 429."""
        if self.addresses is not None and (caller := public_address(request)) is not None:
            _admit(request, "address", self.addresses.take(caller), "your address")


def _admit(request: HTTPConnection, name: str, decision: Decision, who: str) -> None:
    request.scope["laurel.rate"] = name, decision
    if decision.allowed:
        return
    telemetry.count("laurel_refused_total", reason=f"rate_per_{name}")
    per_s, burst = decision.rate
    retry_s = math.ceil(decision.retry_s)
    detail = f"{who} may send {per_s:g} requests a second, {burst} at once; send this one again in {retry_s} s"
    found = FieldError(field="Authorization" if name == "key" else "address", code="rate_limited", detail=detail)
    raise Problem(
        429, "rate_limited", detail, title="Too many requests", errors=[found], headers={"Retry-After": str(retry_s)}
    )


def rate_headers(name: str, decision: Decision) -> list[tuple[bytes, bytes]]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10 §3 and §4)."""
    per_s, burst = decision.rate
    policy = f'"{name}";q={burst};w={math.ceil(burst / per_s)}'
    service = f'"{name}";r={decision.remaining};t={math.ceil(decision.full_s)}'
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", service.encode())]


def public_address(request: HTTPConnection) -> str | None:
    """Who calls, as far as an address says it; of IPv6 the /64, which is one subscriber's. None: no public address."""
    return None if request.client is None else _public(request.client.host)


@functools.lru_cache(maxsize=4096)
def _public(host: str) -> str | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not address.is_global:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
