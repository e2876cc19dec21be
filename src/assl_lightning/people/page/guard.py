"""Access to the page: only from its own origin, under its own host name, and with its token."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
import socket
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "Content-Security-Policy"

SECURITY = {
    POLICY: "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every response; a refusal has a Content-Security-Policy of its own, for its style."""

PAGES = ("/", "/grid", "/settle")
"""The addresses that people open; these pages ask for all others."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]@/?#]+))(?::[0-9]+)?", re.IGNORECASE)


class Guard:
    """Middleware that passes a request on, or refuses it with the reason in one sentence.

    The token is in the address that was printed, and later in a cookie that neither scripts nor other sites can read.

    Args:
        app: the application behind it.
        token: the token that every request needs.
        host: the host name that the page listens on. Ports are not checked: a tunnel may have another.
        refuse: (path, sentence) → the response to a request that is refused, status 403.
    """

    def __init__(self, app: ASGIApp, token: str, host: str, refuse: Callable[[str, str], Response]) -> None:
        self.app = app
        self._token = token.encode()
        self._refuse = refuse
        self._names = _LOOPBACK_NAMES if is_loopback(host) else _LOOPBACK_NAMES | _own_names(host)
        self._any_address = not is_loopback(host)
        self.cookie = f"assl_label_{hashlib.sha256(self._token).hexdigest()[:8]}"  # ports share cookies, pages do not

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with the headers that every response has."""
        if scope["type"] != "http":
            return
        comes_with_token = self._comes_with_token(scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)  # a refusal has a style of its own
                if comes_with_token and message["status"] == 200:
                    headers.append(
                        "Set-Cookie",
                        f"{self.cookie}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict",
                    )
            await send(message)

        problem = self._problem(scope, comes_with_token)
        answer = self.app if problem is None else self._refuse(scope["path"], problem)
        await answer(scope, receive, send_guarded)

    def _problem(self, scope: Scope, comes_with_token: bool) -> str | None:
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return f"this page is not known under the name {', '.join(hosts)!r}; open the address that was printed"
        own_origins = (f"http://{hosts[0]}".lower(), f"https://{hosts[0]}".lower())
        if any(origin.lower() not in own_origins for origin in origins):
            return f"this page answers no other page, and the request is from {', '.join(origins)!r}"
        if scope["path"] not in PAGES and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "this page answers no other page, and the request is from another one"
        if not (comes_with_token or self._has_cookie(scope)):
            return "the token is missing or wrong; open the address that was printed when the page was started"
        return None

    def _comes_with_token(self, scope: Scope) -> bool:
        if scope["path"] not in PAGES or scope["method"] not in ("GET", "HEAD"):
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        return secrets.compare_digest(given[0].encode(), self._token)

    def _has_cookie(self, scope: Scope) -> bool:
        given = HTTPConnection(scope).cookies.get(self.cookie, "")
        return secrets.compare_digest(given.encode(), self._token)

    def _is_own(self, host: str) -> bool:
        parts = _HOST.fullmatch(host)
        if parts is None:
            return False
        name = (parts[1] or parts[2]).lower().rstrip(".")
        return name in self._names or (self._any_address and _is_address(name))


def is_loopback(host: str) -> bool:
    """True if a page that listens on `host` can be reached from this machine only.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0")]
    [True, True, True, False]
    """
    if host == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(name: str) -> bool:
    """True for an IP address, which no DNS server can turn into another machine while the page is open."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _own_names(host: str) -> frozenset[str]:
    return frozenset({host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()})
