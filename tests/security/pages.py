"""What may stand on a page of ours: read from its HTML and its content security policy, as a browser would."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

from tests.security.estate import BASE_URL

_LINKS = {
    "href",
    "src",
    "action",
    "formaction",
    "poster",
    "data",
    "cite",
    "background",
    "xlink:href",
    "ping",
    "manifest",
    "srcset",
}
_RUN_OR_EMBED = {
    "iframe",
    "object",
    "embed",
    "applet",
    "base",
    "frame",
    "frameset",
    "portal",
    "template",
    "noscript",
    "marquee",
}
# An SVG in an <img> runs nothing and loads nothing (SVG Integration, "secure static mode").
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]*", re.ASCII).fullmatch


def policy_of(answer: httpx.Response) -> dict[str, list[str]]:
    """Directive → sources (CSP 3 §2.2). One policy alone: several would be read together."""
    (text,) = answer.headers.get_list("content-security-policy")
    return {name: sources for name, *sources in (part.split() for part in text.split(";") if part.strip())}


class Page(HTMLParser):
    """The elements of a page with their attributes, its inline scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inline: list[tuple[str, str]] = []
        self._inside: str | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag if tag in ("script", "style") else None

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._inside = None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None and data.strip():
            self.inline.append((self._inside, data))

    @property
    def shape(self) -> set[tuple[str, tuple[str, ...]]]:
        """Which elements with which attributes: what no text may add to."""
        return {(tag, tuple(sorted(attributes))) for tag, attributes in self.elements}


def wrong(answer: httpx.Response, *, docs: bool = False) -> list[str]:
    """What a browser should not be told by a page. docs: Swagger UI, which styles its elements itself."""
    found = []
    policy = policy_of(answer)
    expected = {
        "default-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
    found += [f"{name} {policy.get(name)}" for name, sources in expected.items() if policy.get(name) != sources]
    digest = re.compile(r"'sha256-[A-Za-z0-9+/]{43}='").fullmatch
    for name, sources in policy.items():
        for source in sources:
            good = source in ("'self'", "'none'") or (name in ("script-src", "style-src") and digest(source))
            good = good or (name == "img-src" and source == "data:")
            if not good and not (docs and (name, source) == ("style-src", "'unsafe-inline'")):
                found.append(f"{name} {source}")
    for header, value in (("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")):
        if answer.headers.get_list(header) != [value]:
            found.append(f"{header}: {answer.headers.get_list(header)}")
    if "camera=()" not in answer.headers.get("permissions-policy", ""):
        found.append("no Permissions-Policy")
    if not re.fullmatch(r"text/html; ?charset=utf-8", answer.headers["content-type"]):
        found.append(answer.headers["content-type"])
    page = Page(answer.text)
    for tag, attributes in page.elements:
        if tag in _RUN_OR_EMBED:
            found.append(f"<{tag}>")
        if tag == "meta" and "http-equiv" in attributes:
            found.append(f"<meta http-equiv={attributes['http-equiv']}>")
        for name, value in attributes.items():
            if name.startswith("on") or name == "srcdoc" or (name == "style" and not docs):
                found.append(f"<{tag} {name}>")
            if name in _LINKS:
                found += _wrong_link(tag, name, value)
    for tag, text in page.inline:
        told = f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        if told not in policy[f"{tag}-src"] and not (docs and tag == "style"):
            found.append(f"an inline <{tag}> that the policy does not know")
    return found


def _wrong_link(tag: str, name: str, value: str) -> list[str]:
    if tag == "img" and name == "src" and _PICTURE(value):
        return []
    seen = re.sub("[\x00-\x20\x7f]", "", value).lower()  # as a URL parser sees it (WHATWG URL §4.4)
    parts = urlsplit(urljoin(BASE_URL, value))
    if re.match(r"[a-z][a-z0-9+.-]*:", seen) and not seen.startswith(("http://", "https://", "mailto:")):
        return [f"<{tag} {name}={value[:80]}>"]
    if parts.scheme not in ("http", "https", "mailto"):
        return [f"<{tag} {name}={value[:80]}>"]
    if tag not in ("a",) and not (tag == "link" and name == "href") and f"{parts.scheme}://{parts.netloc}" != BASE_URL:
        return [f"<{tag} {name}={value[:80]}> is loaded from elsewhere"]
    if tag == "link" and f"{parts.scheme}://{parts.netloc}" != BASE_URL:
        return [f"<link href={value[:80]}> is elsewhere"]
    return []
