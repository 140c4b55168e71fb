"""Where tokens may go."""

from __future__ import annotations

import pytest

from qakhunt.backends.clouds import CLOUDS, check_endpoint, cloud_named, is_loopback
from qakhunt.core.errors import ConfigError

PUBLIC = CLOUDS["public"].hosts


@pytest.mark.parametrize(
    "url",
    [
        "https://api.loganalytics.azure.com", "https://api.loganalytics.io/",
        "https://GRAPH.microsoft.com", "http://127.0.0.1:8080", "http://localhost:1",
        "https://[::1]:8443", "https://contoso.westeurope.kusto.windows.net",
        "https://trd-abc.z0.kusto.fabric.microsoft.com", "https://api.securityplatform.microsoft.com",
        "https://westeurope.api.securityplatform.microsoft.com/lake/kql",
    ],
)  # fmt: skip
def test_hosts_of_the_cloud_and_this_machine_are_trusted(url: str) -> None:
    assert check_endpoint(url, PUBLIC) == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://graph.microsoft.us", "no host of this profile's cloud"),
        ("https://graph.microsoft.com.evil.example", "no host"),
        ("https://localhost.evil.example", "no host"),
        ("https://evilkusto.windows.net", "no host"),
        ("https://kusto.windows.net", "no host"),
        ("https://contoso.kusto.windows.net.evil.example", "no host"),
        ("https://contoso.kusto.usgovcloudapi.net", "no host"),
        ("https://graph.microsoft.com@evil.example", "not an address"),
        ("http://graph.microsoft.com", "https only"),
        ("http://10.0.0.1", "https only"),
        ("graph.microsoft.com", "not an address"),
        ("ftp://localhost", "not an address"),
    ],
)
def test_any_other_host_gets_no_token(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_endpoint(url, PUBLIC)


def test_a_host_can_be_trusted_by_name_but_not_without_tls() -> None:
    assert check_endpoint("https://mirror.example:444", PUBLIC, ["Mirror.Example"])
    with pytest.raises(ConfigError, match="https only"):
        check_endpoint("http://mirror.example", PUBLIC, ["mirror.example"])


def test_graph_hunting_is_not_in_china() -> None:
    with pytest.raises(ConfigError, match="not served"):
        _ = cloud_named("china").graph_scope


def test_an_unknown_cloud_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        cloud_named("usgv")
    assert caught.value.hint == "did you mean 'usgov'?"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "LOCALHOST"])
def test_loopback_is_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "localhost.x", "", "1.2.3.4"])
def test_nothing_else_is_loopback(host: str) -> None:
    assert not is_loopback(host)
