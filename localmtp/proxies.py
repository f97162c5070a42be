"""Proxies of the environment: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`.

Desktops and VPN clients set them to values that httpx cannot use, such as `socks://127.0.0.1:1080/`,
and then no client can be created at all.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    import httpx

_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


def is_loopback(host: str) -> bool:
    """Reports whether a host name or address is that of this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def http_client(host: str, **options: Any) -> httpx.Client:
    """Creates a client for one server; a loopback address is never reached through a proxy.

    Args:
        host: name or address of the server.
        options: of `httpx.Client`.

    Raises:
        LocalmtpError: the proxy of the environment cannot be used.
    """
    import httpx

    try:
        return httpx.Client(trust_env=not is_loopback(host), **options)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise proxy_error() or LocalmtpError(f"cannot create an HTTP client: {error}") from error


def ignore_for_loopback(url: str) -> None:
    """Removes all proxies from the environment of this process if `url` is on this machine."""
    if is_loopback(urlsplit(url).hostname or ""):
        for name in _VARIABLES:
            os.environ.pop(name, None)
            os.environ.pop(name.lower(), None)


def proxy_error() -> LocalmtpError | None:
    """Returns the error about a proxy that httpx cannot use; None if there is none."""
    for name in (*_VARIABLES, *map(str.lower, _VARIABLES)):
        scheme = os.environ.get(name, "").partition("://")[0].lower()
        if not os.environ.get(name) or scheme in ("http", "https"):
            continue
        if scheme in ("socks5", "socks5h"):
            return LocalmtpError(
                f"the proxy in {name} is a SOCKS proxy, which needs the package socksio",
                hint=f"pip install socksio, or unset {name}",
            )
        if "://" in os.environ[name]:
            return LocalmtpError(
                f"the proxy in {name} cannot be used: `{scheme}` is not `http` or `socks5`",
                hint=f"set {name} to http://HOST:PORT, or unset it",
            )
    return _exception_error()


def _exception_error() -> LocalmtpError | None:
    import httpx

    name = next((name for name in ("NO_PROXY", "no_proxy") if os.environ.get(name)), "")
    try:
        httpx.Client().close()
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        return LocalmtpError(
            f"the proxy settings of the environment cannot be used: {error}",
            hint=f"check {name or 'HTTP_PROXY and HTTPS_PROXY'}",
        )
    return None
