"""Requests to a Label Studio server over HTTP, with httpx: the token, repeated attempts, and errors as one sentence.

The token is sent to the server's own address alone, and is in no message: errors are raised outside of the blocks that
catch httpx's, so that they hold neither a request nor its headers, and texts of the server are quoted without it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from assl_lightning.base.words import shortened
from assl_lightning.people.label_studio.errors import LabelStudioError, UnsureError

_ATTEMPTS = 4
_LONGEST_WAIT = 60.0  # seconds, also if a server asks for more
_ACCESS_SECONDS = 240.0  # an access token lives five minutes
_OVERLOADED = frozenset({500, 502, 503, 504})
_HEADERS = {"Accept": "application/json, image/*"}

Json = Any


@dataclass(frozen=True)
class _Request:
    """A request to the server, without its authorization."""

    method: str
    address: str
    query: Mapping[str, Any] | None
    content: Json
    is_repeatable: bool  # sent again also if the server may have carried it out


@dataclass(frozen=True)
class _Failure:
    """The reason why a request has no usable answer."""

    text: str
    kind: Literal["not done", "unsure"]  # "not done": the server has not begun; "unsure": it may have done it
    wait: float | None = None  # seconds, as the server wishes


class _Authorization(httpx.Auth):
    """Put a token into each request, and never show it."""

    def __init__(self, scheme: str, token: str) -> None:
        self._header = f"{scheme} {token}"

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = self._header
        yield request


class Connection:
    """The connection to one server.

    Args:
        url: the server's address, as a browser has it.
        token: a personal access token, or a legacy token if the organisation allows them.
        timeout: seconds for each request.
        sleep: waits between attempts.
        clock: seconds, monotonic.

    Raises:
        ValueError: from the constructor, if `url` or `token` is invalid. All methods raise `LabelStudioError`.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str,
        timeout: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = _checked_url(url)
        self._token = _checked_token(token)
        self._is_personal = self._token.count(".") == 2  # a JSON web token, which is exchanged for short-lived ones
        self._secrets = {self._token}
        self._access = ""
        self._renew_at = float("-inf")
        self._sleep = sleep
        self._clock = clock
        self._http = httpx.Client(timeout=timeout, follow_redirects=False)

    def __repr__(self) -> str:
        return f"Connection({self.url!r})"

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None, what: str = "") -> Json:
        """Return the JSON content at a path of the server; `what` names for errors the thing that is requested."""
        return self._json(self._request("GET", self.url + path, query), what)

    def post(self, path: str, content: Json, what: str = "") -> Json:
        """Send JSON content to a path of the server, and return the answer's.

        Raises:
            UnsureError: the server may have carried it out.
        """
        return self._json(self._request("POST", self.url + path, content=content), what)

    def patch(self, path: str, content: Json, what: str = "") -> Json:
        """Change fields of the thing at a path of the server, and return the answer's JSON content."""
        return self._json(self._request("PATCH", self.url + path, content=content), what)

    def fetch(self, address: str) -> httpx.Response:
        """Return the response of any address: with the token from the server itself, without it from others."""
        absolute = self.url + address if address.startswith("/") else address
        if _origin(absolute) == _origin(self.url):
            return self._request("GET", absolute)
        with httpx.Client(timeout=self._http.timeout, follow_redirects=True, max_redirects=5) as foreign:
            try:
                return foreign.get(absolute)
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                failure = self._reason(error)
        raise LabelStudioError(f"{self.quote(address)} must be served as an image; it cannot be reached ({failure})")

    def mapping(self, answer: Json) -> Mapping[str, Json]:
        """Return an answer that must be a JSON object."""
        if not isinstance(answer, dict):
            raise LabelStudioError(f"{self.url} must be a Label Studio; it answers with {self.quote(answer)}")
        return answer

    def quote(self, value: object) -> str:
        """Return a text of the server on one line: secrets are removed first, then it is cut short."""
        text = value if isinstance(value, str) else repr(value)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return shortened(" ".join(text.split()), 300)

    def _request(
        self, method: str, address: str, query: Mapping[str, Any] | None = None, content: Json = None
    ) -> httpx.Response:
        """Return the last answer after a few attempts; after one more if an access token has ended before its time."""
        request = _Request(method, address, query, content, method in ("GET", "PATCH"))
        response = self._attempt(request, self._authorization())
        if response.status_code == 401 and self._is_personal:
            self._access = ""
            response = self._attempt(request, self._authorization())
        return response

    def _authorization(self) -> _Authorization:
        if not self._is_personal:
            return _Authorization("Token", self._token)
        if not self._access or self._clock() >= self._renew_at:
            address = self.url + "/api/token/refresh"
            renewal = _Request("POST", address, None, {"refresh": self._token}, is_repeatable=True)
            response = self._attempt(renewal, None)
            access = self.mapping(self._json(response, "")).get("access")
            self._access = _checked_token(access if isinstance(access, str) else "")
            self._secrets.add(self._access)
            self._renew_at = self._clock() + _ACCESS_SECONDS
        return _Authorization("Bearer", self._access)

    def _attempt(self, request: _Request, authorization: _Authorization | None) -> httpx.Response:
        """Return the first usable answer of several attempts."""
        attempt = 0
        while True:
            attempt += 1
            outcome = self._once(request, authorization)
            if isinstance(outcome, httpx.Response):
                return outcome
            is_unsure = outcome.kind == "unsure" and not request.is_repeatable
            if is_unsure or attempt == _ATTEMPTS:
                break
            self._sleep(min(outcome.wait if outcome.wait is not None else 2.0 ** (attempt - 1), _LONGEST_WAIT))
        tried = f", {attempt} times" if attempt > 1 else ""
        raise (UnsureError if is_unsure else LabelStudioError)(
            f"Label Studio at {self.url} must answer; {outcome.text}{tried}; see that it runs and can be "
            f"reached from here, and give the same command again"
        )

    def _once(self, request: _Request, authorization: _Authorization | None) -> httpx.Response | _Failure:
        try:
            response = self._http.request(
                request.method,
                request.address,
                params=request.query,
                json=request.content,
                auth=authorization,
                headers=_HEADERS,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return _Failure(f"it cannot be reached ({self._reason(error)})", "not done")
        except httpx.TimeoutException:
            return _Failure("it did not answer in time", "unsure")
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            return _Failure(f"the connection broke ({self._reason(error)})", "unsure")
        if response.status_code == 429:
            return _Failure("it is asked too often (429)", "not done", _wait(response))
        if response.status_code in _OVERLOADED:
            said = f": {detail}" if (detail := self._detail(response)) else ""
            return _Failure(f"it failed ({response.status_code}{said})", "unsure", _wait(response))
        return response

    def _json(self, response: httpx.Response, what: str) -> Json:
        """Return the JSON content of a successful response.

        Raises:
            LabelStudioError: the response is an error; `what` names the thing that was requested.
        """
        problem = self._problem(response, what)
        if not problem:
            try:
                return json.loads(response.content)
            except (ValueError, RecursionError):
                kind = self.quote(response.headers.get("content-type", "something"))
                problem = (
                    f"answers with {kind} in place of JSON; give its address as url, and see that no proxy or login "
                    f"page stands before it"
                )
        raise LabelStudioError(f"Label Studio at {self.url} {problem}")

    def _problem(self, response: httpx.Response, what: str) -> str:
        """Return the reason why a response is an error, to follow "Label Studio at URL"; empty for a success."""
        if response.is_success:
            return ""
        code = response.status_code
        said = f" ({detail})" if (detail := self._detail(response)) else ""
        if response.is_redirect:
            target = self.quote(response.headers.get("location", ""))
            return f"redirects to {target}; give the address that answers as url"
        known = {
            401: (
                f"refuses the token with 401{said}; copy a personal access token from Account & Settings into "
                f"LABEL_STUDIO_API_KEY, or a legacy token where the organisation allows them"
            ),
            403: f"does not allow this with 403{said}; the token's user needs access to {what or 'its projects'}",
            404: f"has no {what} that the token's user may see (404); give another number, or none to have one made"
            if said and what
            else "has no such page (404); give its address as url, as a browser has it",
            413: (
                "refuses so large a request (413); a proxy before it limits them: raise its limit, or give image_prefix"
            ),
        }
        return known.get(code, f"refuses what was asked with {code}{said}")

    def _detail(self, response: httpx.Response) -> str:
        """Return the error text of Label Studio, cut short; empty if the response is not Label Studio's."""
        try:
            content = json.loads(response.content)
        except (ValueError, RecursionError):
            return ""
        if not isinstance(content, dict):
            return ""
        detail = content.get("detail")
        errors = content.get("validation_errors")
        return self.quote(": ".join(str(part) for part in (detail, errors) if part))

    def _reason(self, error: Exception) -> str:
        return self.quote(str(error)) or type(error).__name__


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except (ValueError, AttributeError):
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url must hold no name and password; the token comes from the environment")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"url must be the address of Label Studio, such as http://127.0.0.1:8080; got {url!r}")
    return parts.geturl().rstrip("/")


def _checked_token(token: str) -> str:
    stripped = token.strip()
    if not re.fullmatch(r"[!-~]+", stripped):
        raise ValueError(
            "the token of Label Studio must be of visible ASCII characters, without a space; copy it again"
        )
    return stripped


def _origin(address: str) -> tuple[str, str, int | None]:
    parts = urlsplit(address)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or default


def _wait(response: httpx.Response) -> float | None:
    """Return the seconds of the header Retry-After; None if it is missing or a date."""
    text = response.headers.get("retry-after", "")
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text) else None
