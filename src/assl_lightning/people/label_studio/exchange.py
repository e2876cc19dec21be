"""The two ways to label in Label Studio: by files that a person imports and exports, and by REST."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assl_lightning.base.extras import install_command
from assl_lightning.base.words import counted
from assl_lightning.data.answers import Incoming
from assl_lightning.people.batch import LabelBatch
from assl_lightning.people.label_studio.convention import BAD_IMAGE, CONTROL, marker
from assl_lightning.people.label_studio.errors import ExportError, LabelStudioError, UnsureError
from assl_lightning.people.label_studio.exports import read_export, tasks_of_batch
from assl_lightning.people.label_studio.tasks import (
    LABEL_CONFIG,
    TASKS,
    embed,
    image_urls,
    label_config,
    tasks_of,
    write_tasks,
)

if TYPE_CHECKING:
    from assl_lightning.people.label_studio.client import LabelStudio, Task

EXPORT = "label_studio.json"
"""The name of the export in the batch's directory."""

TOKEN = "LABEL_STUDIO_API_KEY"
"""The environment variable with the token, the only place that it is read from."""

_SENDINGS = 3
_LONGEST_TITLE = 50


class LabelStudioFiles:
    """Labelling by files: tasks.json and label_config.xml are imported, the JSON export is saved as label_studio.json.

    Args:
        image_root: the document root from which Label Studio serves files, above the images.
        image_prefix: an http(s) address at which an image is found under its sample id. Without either, the tasks hold
            the images.
    """

    def __init__(self, *, image_root: str | None = None, image_prefix: str | None = None) -> None:
        self.image_root = image_root
        self.image_prefix = image_prefix

    def check(self, class_names: Sequence[str]) -> None:
        """Raise, before a training, if its labels could not be asked for.

        Raises:
            ValueError: a class cannot be written into Label Studio's interface.
        """
        label_config(class_names)

    def offer(self, batch: LabelBatch) -> str:
        """Write the two files, and return the instructions for people."""
        urls = image_urls(batch, image_root=self.image_root, image_prefix=self.image_prefix)
        write_tasks(batch, image_url=urls, show_predictions=batch.show_predictions)
        return (
            f"{counted(len(batch.samples), 'image')} to label in Label Studio: in the run's project, or a new one with "
            f"the labeling interface of {batch.directory / LABEL_CONFIG}, import {batch.directory / TASKS}; label; "
            f"export as JSON to {batch.directory / EXPORT}; then give the same command again"
        )

    def collect(self, batch: LabelBatch) -> list[Incoming]:
        """Return the answers in the export to the batch; none if there is no export yet.

        Raises:
            ExportError: it is not a JSON export of this batch, or a part of it is invalid.
        """
        path = batch.directory / EXPORT
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return []
        except (ValueError, RecursionError, OSError) as error:
            raise ExportError([f"{path} must be Label Studio's JSON export; it cannot be read ({error})"]) from None
        return read_export(tasks_of_batch(content, batch, str(path)), str(path))


class LabelStudioExchange:
    """Labelling by REST, which needs httpx and a token in the environment.

    Args:
        url: the server's address, as a browser has it.
        project: the number of the project; None: the run's own, which is made if there is none.
        image_root: the document root from which the server serves files, above the images.
        image_prefix: an http(s) address at which an image is found under its sample id. Without either, the tasks hold
            the images.
        timeout: seconds for each request.

    All methods raise `LabelStudioError`, a ConnectionError, for a server that refuses or does not answer, and
    ValueError for a wrong argument.
    """

    def __init__(
        self,
        url: str,
        *,
        project: int | None = None,
        image_root: str | None = None,
        image_prefix: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.url = url
        self.project = project
        self.image_root = image_root
        self.image_prefix = image_prefix
        self.timeout = timeout

    def check(self, class_names: Sequence[str]) -> None:
        """Raise, before a training, if its labels could not be asked for: check server, token, project and classes."""
        label_config(class_names)
        with self._server() as server:
            server.version()
            if self.project is None:
                server.projects()  # whether the token may see projects
            else:
                offered = _offered(server, self.project)
                if any(name not in offered for name in (*class_names, BAD_IMAGE)):
                    raise _another_interface(self.project, offered, class_names)

    def offer(self, batch: LabelBatch) -> str:
        """Send the samples of the batch that are missing in the project, and return the instructions for people."""
        urls = image_urls(batch, image_root=self.image_root, image_prefix=self.image_prefix)
        wanted = tasks_of(batch, image_url=urls, show_predictions=batch.show_predictions)
        with self._server() as server:
            server.version()
            project = self._find(server, batch)
            if project is None:
                project = _create(server, batch)
            else:
                self._offer_classes(server, project, batch)
            tasks = _send_missing(server, project, batch, wanted)
            _check_image(server, batch, tasks)
            done, total = _progress(tasks)
            return (
                f"{counted(total, 'image')} to label in Label Studio, {done} of them done: label or skip at "
                f"{server.url}/projects/{project}/data, then give the same command again"
            )

    def collect(self, batch: LabelBatch) -> list[Incoming]:
        """Return the answers to the batch so far; none if labelling has not begun.

        Raises:
            ExportError: an annotation is invalid.
        """
        with self._server() as server:
            project = self._find(server, batch)
            if project is None:
                return []
            answered = [task.id for task in _of_batch(server.tasks(project), batch) if task.annotations]
            where = f"Label Studio project {project}"
            return read_export(server.export(project, answered), where)

    def progress(self, batch: LabelBatch) -> tuple[int, int]:
        """Return the number of the batch's samples that are labelled or skipped, and of those in the project."""
        with self._server() as server:
            project = self._find(server, batch)
            return (0, 0) if project is None else _progress(_of_batch(server.tasks(project), batch))

    def _find(self, server: LabelStudio, batch: LabelBatch) -> int | None:
        return self.project or server.find_project(marker(batch.run_id))

    def _offer_classes(self, server: LabelStudio, project: int, batch: LabelBatch) -> None:
        """Make a project offer the batch's classes; former names of classes may stay, since answers may have them."""
        offered = _offered(server, project)
        names = (*batch.class_names, BAD_IMAGE)
        former = [name for name in offered if name in batch.former_names]
        if any(name not in (*names, *former) for name in offered):
            raise _another_interface(project, offered, batch.class_names)
        if all(name in offered for name in names):
            return
        if self.project is not None or BAD_IMAGE not in offered:
            raise _another_interface(project, offered, batch.class_names)
        server.set_label_config(project, label_config([*batch.class_names, *former]))  # of the run's own project

    def _server(self) -> LabelStudio:
        try:
            from assl_lightning.people.label_studio.client import LabelStudio
        except ImportError as error:
            if error.name != "httpx":
                raise
            raise ImportError(
                f"Label Studio's REST interface needs httpx: {install_command('label_studio')}; the way by files needs "
                f"nothing"
            ) from error
        token = os.environ.get(TOKEN, "")
        if not token.strip():
            raise ValueError(
                f"the environment variable {TOKEN} must hold a token of Label Studio; it is not set; copy one from "
                f"Account & Settings there"
            )
        return LabelStudio(self.url, token=token, timeout=self.timeout)


def _create(server: LabelStudio, batch: LabelBatch) -> int:
    name = batch.name[: _LONGEST_TITLE - len(batch.run_id) - 1].strip()
    return server.create_project(
        f"{name} {batch.run_id}"[:_LONGEST_TITLE].strip(),
        f"Images that the run {batch.name} asks for. Leave this, it finds the project again: {marker(batch.run_id)}",
        label_config(batch.class_names),
        batch.show_predictions,
    )


def _offered(server: LabelStudio, project: int) -> list[str]:
    """Return the choices that a project's interface offers."""
    config = server.project(project).get("parsed_label_config")
    control = config.get(CONTROL) if isinstance(config, dict) else None
    offered = control.get("labels") if isinstance(control, dict) and control.get("type") == "Choices" else None
    return [str(name) for name in offered] if isinstance(offered, list) else []


def _another_interface(project: int, offered: Sequence[str], class_names: Sequence[str]) -> LabelStudioError:
    names = (*class_names, BAD_IMAGE)
    missing = [name for name in names if name not in offered]
    strange = [name for name in offered if name not in names]
    lacks = f"lacks {', '.join(missing)}" if missing else ""
    more = f"has also {', '.join(strange)}" if strange else ""
    return LabelStudioError(
        f"project {project} of Label Studio must have the run's classes in Choices named {CONTROL!r}; it "
        f"{' and '.join(part for part in (lacks, more) if part)}; put the content of {LABEL_CONFIG} into Settings, "
        f"Labeling Interface, or give no project to have one made"
    )


def _of_batch(tasks: Sequence[Task], batch: LabelBatch) -> list[Task]:
    asked = {sample.sample_id for sample in batch.samples}
    key = (batch.run_id, str(batch.round))
    return [task for task in tasks if (task.run_id, task.round) == key and task.sample_id in asked]


def _send_missing(
    server: LabelStudio, project: int, batch: LabelBatch, wanted: Sequence[dict[str, object]]
) -> list[Task]:
    """Send the missing tasks of a batch, and return all of its tasks; after an unclear result, list them again."""
    problem = ""
    for sending in range(_SENDINGS + 1):
        tasks = _of_batch(server.tasks(project), batch)
        there = {task.sample_id for task in tasks}
        missing = [task for sample, task in zip(batch.samples, wanted, strict=True) if sample.sample_id not in there]
        if not missing:
            return tasks
        if sending == _SENDINGS or (sending and not problem):
            break
        try:
            server.import_tasks(project, missing)
            problem = ""
        except UnsureError as error:
            problem = str(error)
    raise LabelStudioError(
        f"project {project} of Label Studio must have all {len(batch.samples)} images that were sent; {len(missing)} "
        f"of them are missing ({problem or 'it accepted them'}); give the same command again"
    )


def _check_image(server: LabelStudio, batch: LabelBatch, tasks: Sequence[Task]) -> None:
    """Fetch the image of one task, so that people start with images that are there."""
    address = server.image(tasks[0].id)
    if not address.startswith("data:"):
        server.fetch(address)
        return
    (sample,) = [sample for sample in batch.samples if sample.sample_id == tasks[0].sample_id]
    if address != embed(batch.image_path(sample)):
        raise LabelStudioError(
            f"task {tasks[0].id} of Label Studio must hold the image {batch.image_path(sample)}; it holds another, or "
            f"a part; delete the tasks of round {batch.round} there, and give the same command again"
        )


def _progress(tasks: Sequence[Task]) -> tuple[int, int]:
    """Count annotated and all distinct samples; a sample may have two tasks."""
    return len({task.sample_id for task in tasks if task.annotations}), len({task.sample_id for task in tasks})


def labels_by_label_studio(
    url: str | None = None,
    project: int | None = None,
    image_root: str | None = None,
    image_prefix: str | None = None,
    timeout: float = 30.0,
) -> LabelStudioExchange | LabelStudioFiles:
    """Return the tool that asks a server at `url` by REST, or by files where `url` is None; see the two classes."""
    if url is None:
        return LabelStudioFiles(image_root=image_root, image_prefix=image_prefix)
    return LabelStudioExchange(url, project=project, image_root=image_root, image_prefix=image_prefix, timeout=timeout)
