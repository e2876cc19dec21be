"""The parts of a Label Studio server that this package uses: projects, tasks, exports and images."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import TracebackType

from assl_lightning.people.label_studio.connection import Connection, Json
from assl_lightning.people.label_studio.errors import LabelStudioError

_PAGE = 100  # tasks; of projects Label Studio gives at most as many
_MOST_OF_AN_IMPORT = 16 * 2**20  # bytes of JSON in one request; above 250 MB Label Studio answers with an error 500
_EXPORTED_AT_ONCE = 100  # tasks, whose numbers are in the address


@dataclass(frozen=True)
class Task:
    """A task of this package in a project."""

    id: int
    run_id: str
    round: str
    sample_id: str
    annotations: int  # labels and skips


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
        self._server = Connection(url, token=token, timeout=timeout, sleep=sleep, clock=clock)
        self.url = self._server.url

    def __repr__(self) -> str:
        return f"LabelStudio({self.url!r})"

    def __enter__(self) -> LabelStudio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    def version(self) -> str:
        """Return the server's release, of which the first number must be 1."""
        answer = self._server.get("/api/version")
        release = answer.get("release") if isinstance(answer, dict) else None
        if not isinstance(release, str):
            raise LabelStudioError(f"{self.url} must be a Label Studio; its answer has no version")
        if release.partition(".")[0] != "1":
            raise LabelStudioError(
                f"{self.url} must be a Label Studio of version 1, such as the community edition's 1.23.2; it is "
                f"version {self._server.quote(release)}"
            )
        return release

    def project(self, number: int) -> Mapping[str, Json]:
        """Return a project's settings."""
        return self._server.mapping(self._server.get(f"/api/projects/{number}/", what=f"project {number}"))

    def projects(self) -> list[Mapping[str, Json]]:
        """Return number, title and description of all projects that the token's user may see."""
        query = {"include": "id,title,description", "page_size": _PAGE}
        found: list[Mapping[str, Json]] = []
        for page in count(1):
            answer = self._server.mapping(self._server.get("/api/projects/", {**query, "page": page}))
            found += self._rows(answer, "results")
            if not answer.get("next"):
                break
        return found

    def find_project(self, marker: str) -> int | None:
        """Return the number of the project whose description holds `marker`; None if there is none.

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
        """Make a project, and return its number."""
        settings = {
            "title": title,
            "description": description,
            "label_config": label_config,
            "show_collab_predictions": show_predictions,
            "enable_empty_annotation": False,
        }
        return self._whole(self._server.mapping(self._server.post("/api/projects/", settings)), "id")

    def set_label_config(self, project: int, label_config: str) -> None:
        """Give a project another labelling interface."""
        self._server.patch(f"/api/projects/{project}/", {"label_config": label_config}, what=f"project {project}")

    def tasks(self, project: int) -> list[Task]:
        """Return the tasks of a project that came from this package, without their data."""
        query = {
            "project": project,
            "page_size": _PAGE,
            "include": "id,meta,total_annotations,cancelled_annotations",
        }
        rows: list[dict[str, Json]] = []
        for page in count(1):
            answer = self._server.mapping(
                self._server.get("/api/tasks/", {**query, "page": page}, what=f"project {project}")
            )
            some = self._rows(answer, "tasks")
            rows += some
            if len(rows) >= self._whole(answer, "total") or not some:
                break
        return [task for row in rows if (task := _task_of(row)) is not None]

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Json]]) -> None:
        """Send tasks, in several requests if they are large; a task that is sent twice is there twice.

        Raises:
            UnsureError: some may have arrived; look at `tasks` before sending again.
        """
        for part in _parts(tasks):
            self._server.post(f"/api/projects/{project}/import", part, what=f"project {project}")

    def export(self, project: int, task_ids: Sequence[int]) -> list[Json]:
        """Return tasks with their annotations, as in a JSON export."""
        exported: list[Json] = []
        for start in range(0, len(task_ids), _EXPORTED_AT_ONCE):
            query = {
                "exportType": "JSON",
                "download_all_tasks": "true",
                "ids[]": list(task_ids[start : start + _EXPORTED_AT_ONCE]),
            }
            part = self._server.get(f"/api/projects/{project}/export", query, what=f"project {project}")
            if not isinstance(part, list):
                raise LabelStudioError(f"{self.url} must export a list of tasks; it sent {self._server.quote(part)}")
            exported += part
        return exported

    def image(self, task: int) -> str:
        """Return the address of a task's image, as the task has it."""
        content = self._server.mapping(
            self._server.get(f"/api/tasks/{task}/", {"resolve_uri": "false"}, what=f"task {task}")
        )
        data = content.get("data")
        return str(data.get("image")) if isinstance(data, dict) else ""

    def fetch(self, address: str) -> bytes:
        """Return the bytes of an image, as a browser would get them.

        Raises:
            LabelStudioError: it is not served, or is no image.
        """
        response = self._server.fetch(address)
        kind = response.headers.get("content-type", "")
        if response.status_code != 200 or not kind.startswith("image/"):
            found = (
                f"{response.status_code}, {self._server.quote(kind)}"
                if response.is_success
                else str(response.status_code)
            )
            raise LabelStudioError(
                f"{self._server.quote(address)} must be served as an image; the answer is {found}"
                f"{_advice(address, response.status_code)}"
            )
        return response.content

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


def _task_of(row: Mapping[str, Json]) -> Task | None:
    meta = row.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    key = [text for name in ("run_id", "round", "sample_id") if isinstance(text := meta.get(name), str)]
    if len(key) < 3 or not isinstance(row.get("id"), int):
        return None  # not of this package
    counts = (row.get("total_annotations"), row.get("cancelled_annotations"))
    run_id, round_number, sample_id = key
    return Task(row["id"], run_id, round_number, sample_id, sum(number for number in counts if isinstance(number, int)))


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


def _advice(address: str, code: int) -> str:
    if not address.startswith("/data/local-files/"):
        return "; see that image_prefix is right, and that it is reached without a password"
    if code == 403:
        return "; start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"
    return (
        "; image_root must be what Label Studio has as LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, and the project needs a "
        "storage of local files (Settings, Cloud Storage) at a directory below it"
    )
