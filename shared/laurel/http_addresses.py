"""Which addresses and URLs an outgoing request may go to. Pure: nothing is resolved here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from yarl import URL

from laurel.errors import LaurelError

MAX_URL = 2048

# IANA IPv4 Special-Purpose Address Registry, and what is public by its number yet private by its use.
_REFUSED_V4 = tuple(
    IPv4Network(one)
    for one in (
        "0.0.0.0/8",  # RFC 791: "this network"; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # RFC 6598: shared address space (carrier NAT, cloud metadata of some providers)
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent: a public number that is only reachable from inside
        "169.254.0.0/16",  # link-local: cloud metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
    )
)
# Only 2000::/3 is handed out as global unicast (RFC 4291 §2.4). Everything else is refused with one rule: ::/128, ::1,
# ::ffff:0:0/96 and ::/96 (IPv4 in IPv6), 64:ff9b::/96 and 64:ff9b:1::/48 (NAT64), 100::/64, fc00::/7, fe80::/10,
# fec0::/10, ff00::/8, 5f00::/16.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(one)
    for one in (
        "2001::/23",  # IETF protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4: carries an IPv4 address that may be anything
        "3fff::/20",  # documentation, RFC 9637
    )
)


class FetchRefused(LaurelError):
    """We will not send this request, now or later. code: url_malformed, scheme_refused, userinfo_refused, host_refused,
    port_refused, address_refused. detail: a sentence for whoever gave us the URL."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class AddressPolicy:
    """Which IP addresses may be reached: the public ones, and those in `allow_networks` (the operator's own choice).

    public: False leaves only `allow_networks`.
    """

    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    public: bool = True

    @classmethod
    def parse(cls, networks: str) -> AddressPolicy:
        """From a setting: comma-separated CIDR ranges, "" for none. Raises ValueError naming the wrong one."""
        parsed: list[IPv4Network | IPv6Network] = []
        for one in filter(None, (part.strip() for part in networks.split(","))):
            try:
                parsed.append(ipaddress.ip_network(one))
            except ValueError as error:
                raise ValueError(
                    f"{one!r} is not a network in CIDR form, such as 10.1.0.0/16 or ::1/128: {error}"
                ) from None
        return cls(tuple(parsed))

    def only_allowed(self) -> AddressPolicy:
        """The same policy without the public addresses."""
        return AddressPolicy(self.allow_networks, public=False)

    def check(self, address: str | IPv4Address | IPv6Address) -> None:
        """Raises FetchRefused for every address that is neither public nor allowed, and for what is no address."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            raise FetchRefused("address_refused", f"{str(address)[:60]!r} is not an IP address") from None
        if isinstance(ip, IPv6Address) and ip.scope_id is not None:
            raise FetchRefused("address_refused", f"{ip} is bound to an interface of this machine")
        if any(ip in network for network in self.allow_networks):
            return
        if not self.public:
            raise FetchRefused(
                "scheme_refused", f"{ip} is reached by https only (plain http is for networks that the operator allows)"
            )
        if not is_public(ip):
            raise FetchRefused("address_refused", f"{ip} is not a public address")


def is_public(ip: IPv4Address | IPv6Address) -> bool:
    """Whether an address is globally reachable by its own number. Stricter than `ipaddress.is_global`, which in Python
    3.11 says yes to 64:ff9b::/96, 2002::/16, IPv4-mapped loopback and fec0::/10."""
    if isinstance(ip, IPv4Address):
        return not _in(ip, _REFUSED_V4) and ip.is_global
    return ip in _GLOBAL_UNICAST and not _in(ip, _REFUSED_V6) and ip.is_global


def _in(ip: IPv4Address | IPv6Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(ip in network for network in networks)


# --- URLs ---------------------------------------------------------------------------------------------------

_UNPRINTABLE = re.compile("[\x00-\x20\x7f-\xa0\\\\\u2028\u2029\ud800-\udfff]")
_AUTHORITY = re.compile(r"https?://([^/?#]+)(?:[/?#]|$)", re.IGNORECASE).match
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?").fullmatch
# WHATWG URL §3.5 "ends in a number": such hosts are IPv4 addresses to some parsers and names to others.
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*").fullmatch


def parse_url(url: str) -> URL:
    """The URL as it will be asked: one parser for the check and for the request.

    A host of the result is an address in canonical form (`literal`) or a name in ASCII that no parser takes for one.
    Raises FetchRefused: url_malformed, scheme_refused, userinfo_refused, host_refused, port_refused. Schemes http and
    https pass; whether http may be used is the client's question.
    """
    if len(url) > MAX_URL:
        raise FetchRefused("url_malformed", f"the URL is longer than {MAX_URL} characters")
    if _UNPRINTABLE.search(url):
        raise FetchRefused("url_malformed", "the URL holds a space, a backslash or a control character")
    scheme = url.partition(":")[0].lower()
    if scheme not in ("https", "http"):
        raise FetchRefused("scheme_refused", "use an https:// URL")
    match = _AUTHORITY(url)
    if match is None:
        raise FetchRefused("url_malformed", "the URL names no host; write https://host/path")
    if "@" in match[1]:
        raise FetchRefused("userinfo_refused", "the URL must not hold a user name or password")
    if "%" in match[1]:
        raise FetchRefused("host_refused", "the host must not be percent-encoded or name a network interface")
    try:
        parsed = URL(url).with_fragment(None)
        host, port = parsed.raw_host, parsed.port
    except ValueError:
        raise FetchRefused("url_malformed", "this is not a URL; write https://host/path") from None
    if not host or parsed.user is not None or parsed.password is not None:
        raise FetchRefused("url_malformed", "the URL names no host; write https://host/path")
    if port is None or (port < 1024 and port not in (80, 443)):
        raise FetchRefused("port_refused", "use port 443 or 80, or one from 1024 up")
    if "[" in match[1] and ":" not in host:
        raise FetchRefused("host_refused", "brackets are for IPv6 addresses")
    _check_host(host)
    return parsed


def _check_host(host: str) -> None:
    if ":" in host:
        try:
            IPv6Address(host)
        except ValueError:
            raise FetchRefused("host_refused", "the host is not an IPv6 address") from None
        return
    labels = host.lower().split(".")
    if _NUMERIC(labels[-1]) or (labels[-1] == "" and len(labels) > 1 and _NUMERIC(labels[-2])):
        try:
            IPv4Address(host)
        except ValueError:
            raise FetchRefused(
                "host_refused", "the host is a number in a form that is read in different ways; write it as 192.0.2.1"
            ) from None
        return
    if labels[-1] == "":
        raise FetchRefused("host_refused", "write the host without a dot at its end")
    if len(host) > 253 or not all(_LABEL(label) for label in labels):
        raise FetchRefused("host_refused", "the host is not a name that DNS can hold")


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host of `parse_url` stands for; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
