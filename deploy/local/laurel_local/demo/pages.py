"""The demo's own pages: plain HTML without scripts."""

from __future__ import annotations

import base64
import hashlib
import html

from starlette.responses import HTMLResponse

from laurel.edge import CSP, SECURITY_HEADERS

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: start; padding: .3rem .6rem; border-bottom: 1px solid #ccc; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f2; padding: 1rem; } nav a { margin-inline-end: 1rem; }
"""  # noqa: E501
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    **{name.decode(): value.decode() for name, value in SECURITY_HEADERS},
    "content-security-policy": CSP.replace("style-src 'self'", f"style-src 'sha256-{_DIGEST}'"),
    "cache-control": "no-store",
}


def page(title: str, body: str) -> HTMLResponse:
    """A page with the demo's navigation. body: HTML that is already escaped."""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)} – Laurel demo</title><style>{_STYLE}</style></head><body>"
        '<nav aria-label="Demo"><a href="/">Start</a><a href="/demo/inbox">Inbox</a>'
        '<a href="/demo/mailbox">Mailbox</a></nav>'
        f"<main><h1>{html.escape(title)}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(text, headers=_HEADERS)
