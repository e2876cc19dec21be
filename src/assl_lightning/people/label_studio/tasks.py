"""Make the tasks and the labelling interface of a batch for Label Studio."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import quoteattr

from assl_lightning.base.atomic import write_text
from assl_lightning.base.paths import expanded
from assl_lightning.people.batch import AskedSample, LabelBatch
from assl_lightning.people.label_studio.convention import BAD_IMAGE, CONTROL, MODEL_VERSION, SERVERS_FILES

LABEL_CONFIG, TASKS = "label_config.xml", "tasks.json"
"""The names of the two files in the batch's directory."""

_MOST_OF_AN_IMAGE = 2**21  # bytes that a task may carry itself
_MOST_OF_A_BATCH = 100 * 2**20  # Label Studio takes 250 MB in a request, a third more than the images are
_KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_DOLLAR = "$\u200b"  # with a space of no width, which no variable's name begins with
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def label_config(class_names: Sequence[str]) -> str:
    """Return the labelling interface as XML: one image, and one choice among the classes and "bad image".

    The keys 1 to 9 choose the first classes, 0 "bad image".

    Raises:
        ValueError: a class cannot be written there.
    """
    choices = "".join(f"    {_choice(name, number)}\n" for number, name in enumerate(class_names, start=1))
    return (
        "<View>\n"
        '  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <Choices name="{CONTROL}" toName="image" choice="single" showInline="true" required="true">\n'
        f"{choices}"
        f'    <Choice value="bad image" alias="{BAD_IMAGE}" hotkey="0"/>\n'
        "  </Choices>\n"
        "</View>\n"
    )


def tasks_of(
    batch: LabelBatch, *, image_url: Callable[[AskedSample], str], show_predictions: bool
) -> list[dict[str, Any]]:
    """Return K tasks in the batch's order; `image_url` returns the address of a sample's image.

    The keys that identify a task are in `meta` too, so that tasks can be listed without their data, which may hold
    images.
    """
    return [_task(batch, sample, image_url(sample), show_predictions) for sample in batch.samples]


def write_tasks(batch: LabelBatch, *, image_url: Callable[[AskedSample], str], show_predictions: bool) -> None:
    """Write `LABEL_CONFIG` and `TASKS` into the batch's directory, each in one piece."""
    tasks = tasks_of(batch, image_url=image_url, show_predictions=show_predictions)
    write_text(batch.directory / LABEL_CONFIG, label_config(batch.class_names))
    write_text(batch.directory / TASKS, json.dumps(tasks, indent=1, ensure_ascii=False))


def image_urls(
    batch: LabelBatch, *, image_root: str | None = None, image_prefix: str | None = None
) -> Callable[[AskedSample], str]:
    """Return a function from a sample to the address of its image; by default a data: URI in the task itself.

    Args:
        batch: the batch of the images.
        image_root: the document root from which a Label Studio serves files; the images lie below it, either the
            batch's own or the original files.
        image_prefix: an http(s) address; an image is there under its sample id.

    Raises:
        ValueError: both are given, or `image_prefix` is no address; from the function: an image is not below the root,
            or too large for a task.
    """
    if image_root is not None and image_prefix is not None:
        raise ValueError("image_root and image_prefix exclude each other; give the one by which the images are served")
    if image_root is not None:
        return _below(batch, expanded(image_root))
    if image_prefix is not None:
        return _after(image_prefix)
    return _embedded(batch)


def embed(path: Path) -> str:
    """Return an image as a data: URI, which any browser shows without another request.

    Raises:
        ValueError: it is too large for a task.
    """
    content = path.read_bytes()
    if len(content) > _MOST_OF_AN_IMAGE:
        raise ValueError(
            f"an image must be {_MOST_OF_AN_IMAGE / 2**20:g} MiB at most to be in its task; {path} is "
            f"{len(content) / 2**20:.1f}; say by image_root or image_prefix where it is served"
        )
    return f"data:{_KINDS[path.suffix]};base64,{base64.b64encode(content).decode()}"


def _choice(name: str, number: int) -> str:
    if name == BAD_IMAGE or _NOT_IN_XML.search(name):
        raise ValueError(
            f"a class must have a name of printable characters other than {BAD_IMAGE!r} for Label Studio; got {name!r}"
        )
    shown = f"value={_quote(name)}"
    if "$" in name:  # begins a variable of the task's data, and one that is not there came back as an empty choice
        shown = f"value={_quote(name.replace('$', _DOLLAR))} alias={_quote(name)}"
    hotkey = f' hotkey="{number}"' if number <= 9 else ""
    return f"<Choice {shown}{hotkey}/>"


def _quote(text: str) -> str:
    return quoteattr(text, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _task(batch: LabelBatch, sample: AskedSample, image: str, show_predictions: bool) -> dict[str, Any]:
    key = {"sample_id": sample.sample_id, "round": str(batch.round)}
    task: dict[str, Any] = {"data": {"image": image, **key}, "meta": {"run_id": batch.run_id, **key}}
    if show_predictions and sample.prediction is not None:
        result = {
            "from_name": CONTROL,
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [sample.prediction]},
        }
        task["predictions"] = [{"model_version": MODEL_VERSION, "result": [result]}]
    return task


def _embedded(batch: LabelBatch) -> Callable[[AskedSample], str]:
    total = sum(batch.image_path(sample).stat().st_size for sample in batch.samples)
    if total > _MOST_OF_A_BATCH:
        raise ValueError(
            f"the images of a batch must be {_MOST_OF_A_BATCH / 2**20:g} MiB at most together to be in the tasks; "
            f"those in {batch.image_path(batch.samples[0]).parent} are {total / 2**20:.0f}; ask for fewer, or say by "
            f"image_root or image_prefix where they are served"
        )

    return lambda sample: embed(batch.image_path(sample))


def _below(batch: LabelBatch, root: Path) -> Callable[[AskedSample], str]:
    top = root.resolve()

    def address(sample: AskedSample) -> str:
        candidates = [batch.image_path(sample), *([Path(sample.path)] if sample.path else [])]
        for path in candidates:
            resolved = path.resolve()
            if resolved.is_relative_to(top) and resolved.is_file():
                return SERVERS_FILES + quote(resolved.relative_to(top).as_posix())
        raise ValueError(
            f"image_root must be a directory above the images, the document root of Label Studio; neither of "
            f"{', '.join(map(str, candidates))} is a file below {root}"
        )

    return address


def _after(prefix: str) -> Callable[[AskedSample], str]:
    parts = urlsplit(prefix)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.username or parts.query or parts.fragment:
        raise ValueError(
            f"image_prefix must be an address such as https://images.example.org/photos, with no name, password or "
            f"query; got {parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()!r}"
        )
    return lambda sample: f"{prefix.rstrip('/')}/{quote(sample.sample_id)}"
