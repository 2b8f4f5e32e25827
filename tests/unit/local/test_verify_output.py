"""What `laurel verify` prints of a credential is a line of ours, whatever a stranger has put into it."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from laurel_local.console import Output
from laurel_local.verify import _show

EVIL = "Evil\x1b[2J\x1b[1;1H\nvalid\n\r\x9b31m\u202edilav\u2066\u2028end"


def shown(found: dict[str, Any]) -> str:
    output = Output(as_json=False)
    written = io.StringIO()
    output.out = Console(file=written, width=400, markup=False, highlight=False, emoji=False, soft_wrap=True)
    _show(found, output)
    return written.getvalue()


def test_a_strangers_words_draw_nothing_on_the_terminal() -> None:
    check = {
        "step": "issuer", "outcome": "failed", "detail": EVIL, "clause": "a clause", "pointer": EVIL,
        "problem": {"type": EVIL}, "against": [{"kind": "key", "id": EVIL, "source": "document", "version": EVIL}],
    }  # fmt: skip
    endorsement = {"verdict": "invalid", "issuer_name": EVIL, "pointer": EVIL}
    names = {"id": EVIL, "issuer_name": EVIL, "issuer": EVIL}
    text = shown({"verdict": "invalid", **names, "checks": [check], "endorsements": [endorsement]})
    lines = text.split("\n")
    assert len(lines) == 9  # one for each thing that is said, and the end
    assert lines[0] == "invalid"
    assert all(line.isprintable() for line in lines)
    assert not any(line.strip().startswith("valid") for line in lines)
    assert text.count("Evil\N{REPLACEMENT CHARACTER}[2J") == 10


def test_names_of_other_scripts_stay_as_they_are() -> None:
    name = "Université — 東京大学 · جامعة القاهرة"
    assert f"issuer name: {name}\n" in shown({"verdict": "valid", "issuer_name": name, "checks": []})
