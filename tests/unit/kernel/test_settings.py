"""Settings are refused when a process starts, by name and with the fix."""

from __future__ import annotations

import base64

import pytest

from laurel.errors import ConfigurationError
from laurel.process import load_settings
from laurel.settings import Settings

KEY = base64.b64encode(bytes(32)).decode()
GOOD = {"bus_url": "postgres://h/d", "database_url": "postgres://h/d", "id_key": KEY, "contact_key": KEY}


@pytest.mark.parametrize("value", ["127.0.0.1,::1", "10.0.0.0/8, 192.0.2.7", "2001:db8::/32", ""])
def test_proxies_are_addresses_and_networks(value: str) -> None:
    assert load_settings(Settings, **GOOD, trusted_proxies=value).trusted_proxies == value


@pytest.mark.parametrize(
    "value", ["nonsense", "10.0.0.1/8", "127.0.0.1,10.0.0.0/99", "*", "127.0.0.1;::1", "proxy.example"]
)
def test_what_names_no_proxy_is_refused_with_the_fix(value: str) -> None:
    with pytest.raises(ConfigurationError, match="LAUREL_TRUSTED_PROXIES") as refused:
        load_settings(Settings, **GOOD, trusted_proxies=value)
    assert "10.0.0.0/8,192.0.2.7" in str(refused.value)
    assert "Value error" not in str(refused.value)
