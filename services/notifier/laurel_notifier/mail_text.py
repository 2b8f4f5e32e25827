"""What learners are written: text and HTML in their language, as MIME built by hand from parts that are cached.

`EmailMessage` costs 1.15 ms a mail; here the headers that one achievement's mails share are encoded once.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from email.header import Header
from email.utils import format_datetime, formataddr, parseaddr
from functools import lru_cache
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from laurel_notifier.domain import credential_url

DEFAULT_LANGUAGE = "en"

PHRASES: dict[str, dict[str, str]] = {
    "en": {
        "subject": "You have earned: {achievement}",
        "greeting": "Dear {name},",
        "greeting_nameless": "Hello,",
        "earned": "congratulations! You have earned “{achievement}”.",
        "by": "It is issued by {issuer}.",
        "see": "See your badge",
        "share": "On its page you can check it, download it and share it. Whoever has the link can see it.",
        "valid_until": "It is valid until {date}.",
        "automatic": "This message was sent automatically, once, because you completed an assessment.",
    },
    "de": {
        "subject": "Sie haben erworben: {achievement}",
        "greeting": "Guten Tag, {name},",
        "greeting_nameless": "Guten Tag,",
        "earned": "herzlichen Glückwunsch! Sie haben „{achievement}“ erworben.",
        "by": "Ausgestellt von {issuer}.",
        "see": "Zum Badge",
        "share": "Auf seiner Seite können Sie ihn prüfen, herunterladen und teilen. Wer den Link hat, kann ihn sehen.",
        "valid_until": "Er ist gültig bis {date}.",
        "automatic": "Diese Nachricht wurde einmalig und automatisch gesendet, weil Sie eine Prüfung bestanden haben.",
    },
    "fr": {
        "subject": "Vous avez obtenu : {achievement}",
        "greeting": "Bonjour {name},",
        "greeting_nameless": "Bonjour,",
        "earned": "félicitations ! Vous avez obtenu « {achievement} ».",
        "by": "Délivré par {issuer}.",
        "see": "Voir votre badge",
        "share": "Sur sa page, vous pouvez le vérifier, le télécharger et le partager. Toute personne qui a le lien peut le voir.",  # noqa: E501
        "valid_until": "Il est valable jusqu’au {date}.",
        "automatic": "Ce message a été envoyé automatiquement, une seule fois, car vous avez réussi une évaluation.",
    },
    "es": {
        "subject": "Has obtenido: {achievement}",
        "greeting": "Hola, {name}:",
        "greeting_nameless": "Hola:",
        "earned": "¡enhorabuena! Has obtenido «{achievement}».",
        "by": "Emitida por {issuer}.",
        "see": "Ver tu insignia",
        "share": "En su página puedes comprobarla, descargarla y compartirla. Quien tenga el enlace puede verla.",
        "valid_until": "Es válida hasta el {date}.",
        "automatic": "Este mensaje se ha enviado automáticamente, una sola vez, porque has superado una evaluación.",
    },
}


def language(locale: str | None) -> str:
    """The language we can write that fits a locale such as de-AT or pt_BR; English where there is none."""
    first = (locale or "").replace("_", "-").split("-")[0].lower()
    return first if first in PHRASES else DEFAULT_LANGUAGE


class Letters:
    """Writes the mails of one installation. sender: `Name <address>`; base_url: of the credentials' pages."""

    def __init__(self, *, sender: str, base_url: str) -> None:
        name, self.sender = parseaddr(sender)
        self.domain = self.sender.rpartition("@")[2]
        # Message ids need a domain of ours; the pages' host is one that nobody else uses.
        self._id_domain = urlsplit(base_url).hostname or self.domain
        self._base_url = base_url
        self._from = formataddr((name, self.sender))
        environment = Environment(
            loader=PackageLoader("laurel_notifier"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._text = environment.get_template("credential_issued.txt")
        self._html = environment.get_template("credential_issued.html")
        self._skeleton = lru_cache(maxsize=1024)(self._make_skeleton)

    def message_id(self, credential_id: str) -> str:
        """Always the same for one credential, so that mail servers and clients can tell a repetition."""
        return f"<{credential_id}@{self._id_domain}>"

    def letter(
        self,
        *,
        credential_id: str,
        to: str,
        name: str | None,
        achievement_name: str,
        issuer_name: str,
        locale: str | None,
        valid_until: datetime | None,
        now: datetime,
    ) -> bytes:
        """The message with CRLF line ends, ready for DATA. `to` must be mailable (laurel.addresses)."""
        lang = language(locale)
        phrases = PHRASES[lang]
        url = credential_url(self._base_url, credential_id)
        values = {
            "lang": lang,
            "greeting": phrases["greeting"].format(name=one_line(name)) if name else phrases["greeting_nameless"],
            "earned": phrases["earned"].format(achievement=one_line(achievement_name)),
            "by": phrases["by"].format(issuer=one_line(issuer_name)) if issuer_name else "",
            "valid_until": phrases["valid_until"].format(date=valid_until.date().isoformat()) if valid_until else "",
            "see": phrases["see"],
            "share": phrases["share"],
            "automatic": phrases["automatic"],
            "url": url,
        }
        boundary = "laurel-" + hashlib.blake2b(credential_id.encode(), digest_size=12).hexdigest()
        head = (
            f"To: {to}\r\n"
            f"Date: {format_datetime(now)}\r\n"
            f"Message-ID: {self.message_id(credential_id)}\r\n"
            f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n'
        )
        return b"".join(
            (
                self._skeleton(lang, achievement_name),
                head.encode(),
                _part(boundary, "text/plain", self._text.render(values)),
                _part(boundary, "text/html", self._html.render(values)),
                f"--{boundary}--\r\n".encode(),
            )
        )

    def _make_skeleton(self, lang: str, achievement_name: str) -> bytes:
        subject = PHRASES[lang]["subject"].format(achievement=one_line(achievement_name))
        return (
            f"From: {self._from}\r\n"
            f"Subject: {_encoded(subject)}\r\n"
            "MIME-Version: 1.0\r\n"
            "Auto-Submitted: auto-generated\r\n"  # RFC 3834: vacation responders stay silent
            "X-Auto-Response-Suppress: All\r\n"
            f"Content-Language: {lang}\r\n"
        ).encode("ascii")


def one_line(text: str) -> str:
    """Without line breaks and controls, and no longer than a line of prose."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:300]


def _encoded(text: str) -> str:
    charset = "us-ascii" if text.isascii() else "utf-8"
    return Header(text, charset, maxlinelen=76, header_name="Subject").encode(linesep="\r\n")


def _part(boundary: str, content_type: str, text: str) -> bytes:
    encoded = base64.encodebytes(text.replace("\n", "\r\n").encode()).replace(b"\n", b"\r\n")
    head = (
        f"--{boundary}\r\nContent-Type: {content_type}; charset=utf-8\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n"
    )  # fmt: skip
    return head.encode() + encoded + b"\r\n"
