"""The requests of this package to a Label Studio server, over HTTP with httpx.

The token is sent to the server's own address alone, and is in no message: errors are raised outside of the blocks that
catch httpx's, so that they hold neither a request nor its headers, and what a server says is quoted without it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from assl_lightning.base.words import shortened
from assl_lightning.people.label_studio.errors import LabelStudioError, UnsureError

_ATTEMPTS = 4
_LONGEST_WAIT = 60.0  # seconds, whatever a server asks for
_ACCESS_SECONDS = 240.0  # an access token lives five minutes
_PAGE = 100  # tasks; of projects Label Studio gives at most as many
_MOST_OF_AN_IMPORT = 16 * 2**20  # bytes of JSON in one request; above 250 MB Label Studio answers with an error 500
_EXPORTED_AT_ONCE = 100  # tasks, whose numbers are in the address
_OVERLOADED = frozenset({500, 502, 503, 504})

Json = Any


@dataclass(frozen=True)
class Task:
    """One of ours in a project."""

    id: int
    run_id: str
    round: str
    sample_id: str
    annotations: int  # labels and skips


@dataclass(frozen=True)
class _Failure:
    """The reason why a request has no usable answer."""

    text: str
    kind: Literal["not done", "unsure"]  # "not done": the server has not begun; "unsure": it may have done it
    wait: float | None = None  # seconds, as the server wishes


class LabelStudio:
    """One Label Studio server.

    Args:
        url: its address, as a browser has it.
        token: a personal access token, or a legacy token where the organisation allows them.
        timeout: seconds for each request.
        sleep: waits between attempts.
        clock: seconds, monotonic.

    Raises:
        ValueError: from the constructor, where `url` or `token` cannot be one. All else raises `LabelStudioError`.
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
        self._is_personal = self._token.count(".") == 2  # a JSON web token, with which one may fetch short-lived ones
        self._secrets = {self._token}
        self._access = ""
        self._renew_at = float("-inf")
        self._sleep = sleep
        self._clock = clock
        self._http = httpx.Client(timeout=timeout, follow_redirects=False)

    def __repr__(self) -> str:
        return f"LabelStudio({self.url!r})"

    def __enter__(self) -> LabelStudio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def version(self) -> str:
        """Its release, of which the first number must be 1."""
        answer = self._get("/api/version")
        release = answer.get("release") if isinstance(answer, dict) else None
        if not isinstance(release, str):
            raise LabelStudioError(f"{self.url} must be a Label Studio; it does not tell its version as one does")
        if release.partition(".")[0] != "1":
            raise LabelStudioError(
                f"{self.url} must be a Label Studio of version 1, such as the community edition's 1.23.2; it is "
                f"version {self._quote(release)}"
            )
        return release

    def project(self, number: int) -> Mapping[str, Json]:
        """A project's settings."""
        return self._mapping(self._get(f"/api/projects/{number}/", what=f"project {number}"))

    def projects(self) -> list[Mapping[str, Json]]:
        """Number, title and description of all that the token's user may see."""
        query = {"include": "id,title,description", "page_size": _PAGE}
        found: list[Mapping[str, Json]] = []
        for page in count(1):
            answer = self._mapping(self._get("/api/projects/", {**query, "page": page}))
            found += self._rows(answer, "results")
            if not answer.get("next"):
                break
        return found

    def find_project(self, marker: str) -> int | None:
        """The number of the project whose description holds `marker`; None where there is none.

        Raises:
            LabelStudioError: there are several.
        """
        held = re.compile(re.escape(marker) + r"(?!\w)")
        found = [self._whole(one, "id") for one in self.projects() if held.search(str(one.get("description")))]
        if len(found) > 1:
            raise LabelStudioError(
                f"{self.url} must have one project of {marker}; it has {', '.join(map(str, sorted(found)))}; give the "
                f"number of the right one as project"
            )
        return found[0] if found else None

    def create_project(self, title: str, description: str, label_config: str, show_predictions: bool) -> int:
        """A new project's number."""
        settings = {
            "title": title,
            "description": description,
            "label_config": label_config,
            "show_collab_predictions": show_predictions,
            "enable_empty_annotation": False,
        }
        return self._whole(self._mapping(self._post("/api/projects/", settings)), "id")

    def set_label_config(self, project: int, label_config: str) -> None:
        """Give a project another labelling interface."""
        address = f"{self.url}/api/projects/{project}/"
        self._json(self._answer("PATCH", address, {}, {"label_config": label_config}), f"project {project}")

    def tasks(self, project: int) -> list[Task]:
        """Those of a project that came from this package, without what they show."""
        query = {
            "project": project,
            "page_size": _PAGE,
            "include": "id,meta,total_annotations,cancelled_annotations",
        }
        rows: list[dict[str, Json]] = []
        for page in count(1):
            answer = self._mapping(self._get("/api/tasks/", {**query, "page": page}, what=f"project {project}"))
            some = self._rows(answer, "tasks")
            rows += some
            if len(rows) >= self._whole(answer, "total") or not some:
                break
        return [task for row in rows if (task := _task_of(row)) is not None]

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Json]]) -> None:
        """Send tasks, in several requests where they are large; Label Studio takes the same task as often as it comes.

        Raises:
            UnsureError: some may have arrived; look at `tasks` before sending again.
        """
        for part in _parts(tasks):
            self._post(f"/api/projects/{project}/import", part, what=f"project {project}")

    def export(self, project: int, task_ids: Sequence[int]) -> list[Json]:
        """These tasks with all that was said of them, as in a JSON export."""
        exported: list[Json] = []
        for start in range(0, len(task_ids), _EXPORTED_AT_ONCE):
            query = {
                "exportType": "JSON",
                "download_all_tasks": "true",
                "ids[]": list(task_ids[start : start + _EXPORTED_AT_ONCE]),
            }
            part = self._get(f"/api/projects/{project}/export", query, what=f"project {project}")
            if not isinstance(part, list):
                raise LabelStudioError(f"{self.url} must export a list of tasks; it sent {self._quote(part)}")
            exported += part
        return exported

    def image(self, task: int) -> str:
        """Return the address of a task's image, as the task has it."""
        content = self._mapping(self._get(f"/api/tasks/{task}/", {"resolve_uri": "false"}, what=f"task {task}"))
        data = content.get("data")
        return str(data.get("image")) if isinstance(data, dict) else ""

    def fetch(self, address: str) -> bytes:
        """An image's bytes, as a browser would get them: with the token from the server itself, else without.

        Raises:
            LabelStudioError: it is not served, or is no image.
        """
        response = self._fetch(address)
        kind = response.headers.get("content-type", "")
        if response.status_code != 200 or not kind.startswith("image/"):
            found = f"{response.status_code}, {self._quote(kind)}" if response.is_success else str(response.status_code)
            raise LabelStudioError(
                f"{self._quote(address)} must be served as an image; the answer is {found}"
                f"{_advice(address, response.status_code)}"
            )
        return response.content

    def _fetch(self, address: str) -> httpx.Response:
        absolute = self.url + address if address.startswith("/") else address
        if _origin(absolute) == _origin(self.url):
            return self._answer("GET", absolute, {}, None)
        with httpx.Client(timeout=self._http.timeout, follow_redirects=True, max_redirects=5) as foreign:
            try:
                return foreign.get(absolute)
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                failure = self._reason(error)
        raise LabelStudioError(f"{self._quote(address)} must be served as an image; it cannot be reached ({failure})")

    def _get(self, path: str, query: Mapping[str, Any] | None = None, what: str = "") -> Json:
        return self._json(self._answer("GET", self.url + path, query or {}, None), what)

    def _post(self, path: str, content: Json, what: str = "") -> Json:
        return self._json(self._answer("POST", self.url + path, {}, content), what)

    def _answer(self, method: str, address: str, query: Mapping[str, Any], content: Json) -> httpx.Response:
        """The last answer after a few attempts; one more where an access token has ended before its time."""
        response = self._patiently(method, address, query, content, self._authorization())
        if response.status_code == 401 and self._is_personal:
            self._access = ""
            response = self._patiently(method, address, query, content, self._authorization())
        return response

    def _authorization(self) -> _Authorization:
        if not self._is_personal:
            return _Authorization("Token", self._token)
        if not self._access or self._clock() >= self._renew_at:
            address = self.url + "/api/token/refresh"
            response = self._patiently("POST", address, {}, {"refresh": self._token}, None, repeatable=True)
            access = self._mapping(self._json(response, "")).get("access")
            self._access = _checked_token(access if isinstance(access, str) else "")
            self._secrets.add(self._access)
            self._renew_at = self._clock() + _ACCESS_SECONDS
        return _Authorization("Bearer", self._access)

    def _patiently(
        self,
        method: str,
        address: str,
        query: Mapping[str, Any],
        content: Json,
        authorization: _Authorization | None,
        repeatable: bool = False,
    ) -> httpx.Response:
        """An answer that is not "later". What may be done twice is tried again also where it may have been done."""
        repeatable = repeatable or method in ("GET", "PATCH")
        attempt = 0
        while True:
            attempt += 1
            outcome = self._once(method, address, query, content, authorization)
            if isinstance(outcome, httpx.Response):
                return outcome
            is_unsure = outcome.kind == "unsure" and not repeatable
            if is_unsure or attempt == _ATTEMPTS:
                break
            self._sleep(min(outcome.wait if outcome.wait is not None else 2.0 ** (attempt - 1), _LONGEST_WAIT))
        tried = f", {attempt} times" if attempt > 1 else ""
        raise (UnsureError if is_unsure else LabelStudioError)(
            f"Label Studio at {self.url} must answer; {outcome.text}{tried}; see that it runs and can be "
            f"reached from here, and give the same command again"
        )

    def _once(
        self,
        method: str,
        address: str,
        query: Mapping[str, Any],
        content: Json,
        authorization: _Authorization | None,
    ) -> httpx.Response | _Failure:
        try:
            response = self._http.request(
                method, address, params=query or None, json=content, auth=authorization, headers=_HEADERS
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
                kind = self._quote(response.headers.get("content-type", "something"))
                problem = (
                    f"answers with {kind} in place of JSON; give its address as url, and see that no proxy or login "
                    f"page stands before it"
                )
        raise LabelStudioError(f"Label Studio at {self.url} {problem}")

    def _mapping(self, answer: Json) -> Mapping[str, Json]:
        if not isinstance(answer, dict):
            raise LabelStudioError(f"{self.url} must be a Label Studio; it answers with {self._quote(answer)}")
        return answer

    def _rows(self, answer: Mapping[str, Json], name: str) -> list[dict[str, Json]]:
        rows = answer.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise LabelStudioError(f"{self.url} must list {name}, as Label Studio 1.23 does; it does not")
        return rows

    def _whole(self, answer: Mapping[str, Json], name: str) -> int:
        number = answer.get(name)
        if not isinstance(number, int):
            raise LabelStudioError(f"{self.url} must give {name} as a number, as Label Studio 1.23 does; it does not")
        return number

    def _problem(self, response: httpx.Response, what: str) -> str:
        """Return the reason why a response is an error, to follow "Label Studio at URL"; empty for a success."""
        if response.is_success:
            return ""
        code = response.status_code
        said = f" ({detail})" if (detail := self._detail(response)) else ""
        if response.is_redirect:
            target = self._quote(response.headers.get("location", ""))
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
        return self._quote(": ".join(str(part) for part in (detail, errors) if part))

    def _reason(self, error: Exception) -> str:
        return self._quote(str(error)) or type(error).__name__

    def _quote(self, value: object) -> str:
        """Return a text of the server on one line: secrets are removed first, then it is cut short."""
        text = value if isinstance(value, str) else repr(value)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return shortened(" ".join(text.split()), 300)


class _Authorization(httpx.Auth):
    """Put a token into each request, and never show it."""

    def __init__(self, scheme: str, token: str) -> None:
        self._header = f"{scheme} {token}"

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = self._header
        yield request


_HEADERS = {"Accept": "application/json, image/*"}


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


def _task_of(row: Mapping[str, Json]) -> Task | None:
    meta = row.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    key = [text for name in ("run_id", "round", "sample_id") if isinstance(text := meta.get(name), str)]
    if len(key) < 3 or not isinstance(row.get("id"), int):
        return None  # somebody else's
    counts = (row.get("total_annotations"), row.get("cancelled_annotations"))
    run_id, round_number, sample_id = key
    return Task(row["id"], run_id, round_number, sample_id, sum(one for one in counts if isinstance(one, int)))


def _parts(tasks: Sequence[Mapping[str, Json]]) -> Iterator[list[Mapping[str, Json]]]:
    part: list[Mapping[str, Json]] = []
    size = 0
    for task in tasks:
        added = len(json.dumps(task))
        if part and size + added > _MOST_OF_AN_IMPORT:
            yield part
            part, size = [], 0
        part.append(task)
        size += added
    if part:
        yield part


def _wait(response: httpx.Response) -> float | None:
    """Seconds after which the server wants to be asked again; None where it does not say, or says a date."""
    text = response.headers.get("retry-after", "")
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _advice(address: str, code: int) -> str:
    if not address.startswith("/data/local-files/"):
        return "; see that image_prefix is right, and that it is reached without a password"
    if code == 403:
        return "; start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"
    return (
        "; image_root must be what Label Studio has as LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, and the project needs a "
        "storage of local files (Settings, Cloud Storage) at a directory below it"
    )
