"""What assessment takes in, the notifier can write to."""

from __future__ import annotations

import pytest

from laurel.addresses import is_address


@pytest.mark.parametrize(
    "address",
    ["a@b.cd", "first.last+tag@sub.example.org", "o'neill@example.org", "用户@例子.测试", "a" * 64 + "@example.org"],
)
def test_addresses(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "@b.cd", "a@", "a@b", "a@b..cd", "a@.cd", "a@b.", "a b@c.de", "a@b.cd\n", "a@b.cd\r\nBcc: x@y.zz",
        "<a@b.cd>", "a@b@c.de", '"a"@b.cd', "a@b.cd,c@d.ef", "a" * 65 + "@example.org",
        "a@" + "b" * 64 + ".org", "a\x00@b.cd",
        "a@" + "b" * 60 + ("." + "c" * 60) * 4 + ".org",
    ],
)  # fmt: skip
def test_no_addresses(text: str) -> None:
    assert not is_address(text)
