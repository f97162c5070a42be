"""Files of other servers, fetched so that nothing inside this network can be reached.

A request must not make this machine ask its own services, its neighbours or a cloud's metadata
server. Every address that a name resolves to has to be public; the connection goes to the address
that was checked, not to the name, which could resolve differently the second time; redirects are
checked in the same way. Neither credentials nor the proxies of the environment are used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import aclosing
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

from localmtp import __version__

Address = IPv4Address | IPv6Address

MOST_BYTES = 32 << 20
"""Maximum size of a file."""

_MOST_REDIRECTS = 3
_TIME_S = 15.0
"""Limit for a file in all, with redirects."""

_MOST_TRANSFERS = 4
"""Maximum number of files that are fetched at a time."""

_NAT64 = IPv6Network("64:ff9b::/96")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class DownloadError(Exception):
    """A file was not fetched; the message is one line."""


def is_public(address: Address) -> bool:
    """Reports whether an address is one of the Internet, not of a machine or network."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local or address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


class RemoteFiles:
    """Fetches files over HTTP.

    Args:
        allowed: tells which addresses may be connected to.
        most_bytes: maximum size of a file.
        time_s: limit for a file, in seconds.
    """

    def __init__(
        self,
        allowed: Callable[[Address], bool] = is_public,
        *,
        most_bytes: int = MOST_BYTES,
        time_s: float = _TIME_S,
    ) -> None:
        self._allowed = allowed
        self._most_bytes, self._time_s = most_bytes, time_s
        self._transfers = asyncio.Semaphore(_MOST_TRANSFERS)

    async def fetch(self, url: str) -> bytes:
        """Return the content of a file.

        Raises:
            DownloadError: the address is not allowed, the server does not send the file, or it is
                too large or too slow.
        """
        try:
            async with asyncio.timeout(self._time_s), self._transfers:
                return await self._fetch(_parsed(url))
        except TimeoutError as error:
            raise DownloadError(f"it did not arrive within {self._time_s:.0f} seconds") from error
        except httpx.HTTPError as error:
            raise DownloadError(f"its server cannot be reached: {type(error).__name__}") from error

    async def _fetch(self, url: httpx.URL) -> bytes:
        for _ in range(_MOST_REDIRECTS + 1):
            # A connection of its own for each address: none is shared between names.
            async with (
                httpx.AsyncClient(trust_env=False, follow_redirects=False) as client,
                aclosing(await client.send(await self._request(client, url), stream=True)) as reply,
            ):
                if not reply.has_redirect_location:
                    return await self._content(reply)
                url = _parsed(reply.headers["location"], url)
        raise DownloadError(f"its server redirects more than {_MOST_REDIRECTS} times")

    async def _request(self, client: httpx.AsyncClient, url: httpx.URL) -> httpx.Request:
        """Build a request to the checked address, in the name of the host."""
        address = await self._resolved(url)
        literal = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
        return client.build_request(
            "GET",
            url.copy_with(host=literal),
            headers={
                "Host": url.netloc.decode("ascii"),
                "Accept": "image/*, audio/*",
                "Accept-Encoding": "identity",
                "User-Agent": f"localmtp/{__version__}",
            },
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )

    async def _resolved(self, url: httpx.URL) -> Address:
        port = url.port or _DEFAULT_PORTS[url.scheme]
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(url.raw_host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise DownloadError("the name of its server cannot be resolved") from error
        addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        if not addresses or not all(map(self._allowed, addresses)):
            raise DownloadError("its server has no public address, and is not asked")
        return addresses[0]

    async def _content(self, reply: httpx.Response) -> bytes:
        if reply.status_code != httpx.codes.OK:
            raise DownloadError(f"its server answers with status {reply.status_code}")
        if reply.headers.get("content-encoding", "identity").lower() != "identity":
            raise DownloadError("its server sends it compressed, unasked")
        too_large = DownloadError(f"it is larger than {self._most_bytes >> 20} MiB")
        length = reply.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._most_bytes:
            raise too_large
        data = bytearray()
        async for chunk in reply.aiter_raw():
            data += chunk
            if len(data) > self._most_bytes:
                raise too_large
        return bytes(data)


def _parsed(url: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        parsed = base.join(url) if base else httpx.URL(url)
        host, port = parsed.host, parsed.port
    except (httpx.InvalidURL, ValueError) as error:
        raise DownloadError("its address is not valid") from error
    if parsed.scheme not in _DEFAULT_PORTS or not host:
        raise DownloadError("its address is not one of HTTP")
    if port is not None and not 0 < port < 1 << 16:
        raise DownloadError("its address is not valid")
    if parsed.userinfo:
        raise DownloadError("its address has credentials, which are not sent")
    return parsed
