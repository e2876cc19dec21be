"""A batch: the images that people are asked to label before a round trains, in a directory of its own.

<run_dir>/round_01/to_label/batch.json         what is asked, and among which classes
<run_dir>/round_01/to_label/to_label.csv       the same as a table, whose column label may be filled in there
<run_dir>/round_01/to_label/contact_sheet.png  the images, small, in the order of the table
<run_dir>/round_01/to_label/images/            the images, as a browser shows them

It belongs to the round that trains on its labels: round 0's are the initial labels, round r + 1's were asked for after
the training of round r. In a run's directory a batch has the classes that the run has now.
The directory is all that a labelling tool needs: it may be copied elsewhere without the data.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from assl_lightning.base.arguments import is_integer, is_number
from assl_lightning.base.atomic import TEMPORARY, open_atomic, write_text
from assl_lightning.base.run_files import CONFIG, POOL
from assl_lightning.base.shell import command
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.records import read_config

DIRECTORY = "to_label"
"""Of a batch, in its round's directory."""

TABLE = "to_label.csv"
CONTACT_SHEET = "contact_sheet.png"
IMAGES = "images"

_DESCRIPTION = "batch.json"
_FORMAT = 1
_IMAGE_NAME = re.compile(r"[0-9]{4,}\.(png|jpg|webp)")
_ROUND_NAME = re.compile(r"round_([0-9]{2,})")


@dataclass(frozen=True)
class AskedSample:
    """One image to label. What the model thinks of it is not for the eyes of who labels, unless they ask for it."""

    sample_id: str
    index: int  # in the pool
    image: str  # its file's name below `IMAGES`
    path: str | None = None  # of the original file; None where the data are none
    prediction: str | None = None  # the class that the model takes it for; None where it was not asked
    score: float | None = None  # larger = more wanted
    parts: Mapping[str, float | None] = field(default_factory=dict)  # what the score was made of
    again: bool = False  # it has a label already, and is asked for once more


@dataclass(frozen=True)
class LabelBatch:
    """The K samples that are asked for before a round trains, most wanted first, and the classes they may be of."""

    directory: Path = field(compare=False)
    run_id: str
    name: str  # of the run, for people
    round: int  # that trains on the labels, ≥ 0
    class_names: tuple[str, ...]
    samples: tuple[AskedSample, ...]
    show_predictions: bool = False  # whether a tool may show what the model takes an image for
    former_names: Mapping[str, str] = field(default_factory=dict, compare=False)  # of classes → what they are now

    @property
    def is_open(self) -> bool:
        """True while the run waits for its labels; later answers are corrections, which the next round takes over.

        Also False where the run was told to end before the round that was to train on them.
        """
        if (self.directory.parent / POOL).exists():
            return False
        if not (self.run_dir / CONFIG).exists():  # a copy of the round's directory
            return True
        rounds = read_config(self.run_dir).get("rounds")
        return not isinstance(rounds, int) or self.round <= rounds

    @property
    def run_dir(self) -> Path:
        """The run's directory, or what holds a copy of the round's."""
        return self.directory.parent.parent

    def needed(self, share: float) -> int:
        """How many answers are a `share` of the batch, in (0, 1]."""
        return math.ceil(round(share * len(self.samples), 6))  # 0.07 × 100 is more than 7

    def image_path(self, sample: AskedSample) -> Path:
        """The file to show."""
        return self.directory / IMAGES / sample.image


def write_batch(batch: LabelBatch, images: Sequence[bytes], contact_sheet: bytes) -> None:
    """Put a batch into its directory, which must not exist: all of it or, where it ends half-way, nothing.

    `images` are K files' bytes, in the order of the samples and of the kind that their names say.
    """
    unfinished = batch.directory.with_name(f".{batch.directory.name}{TEMPORARY}")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / IMAGES).mkdir(parents=True)
    for sample, image in zip(batch.samples, images, strict=True):
        (unfinished / IMAGES / sample.image).write_bytes(image)
    with open_atomic(unfinished / CONTACT_SHEET) as file:
        file.write(contact_sheet)
    write_text(unfinished / TABLE, _table(batch))
    write_text(unfinished / _DESCRIPTION, _description(batch))
    unfinished.rename(batch.directory)


def write_classes(batch: LabelBatch) -> None:
    """Write a batch's classes down beside its images, where a copy of the directory and other tools look for them."""
    if read_history(batch.run_dir) is None:
        return  # they are those that it was written with
    text = _description(batch)
    path = batch.directory / _DESCRIPTION
    if path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def read_batch(directory: Path) -> LabelBatch:
    """The batch in a directory, with the classes that its run has now.

    Raises:
        ValueError: there is none, or it is not what `write_batch` leaves.
    """
    path = directory / _DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{directory} must hold a batch to label; it has no {_DESCRIPTION}") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); restore it from where the round was run") from None
    try:
        batch = _batch_of(content, directory)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{path} does not describe a batch ({problem}); restore it from where the round was run"
        ) from None
    return _with_present_classes(batch)


def find_batches(run_dir: Path) -> list[LabelBatch]:
    """All batches of a run, in the order of their rounds."""
    found = [(name, path) for path in run_dir.glob("round_*") if (name := _ROUND_NAME.fullmatch(path.name))]
    rounds = sorted((int(name[1]), path) for name, path in found)
    return [read_batch(path / DIRECTORY) for _, path in rounds if (path / DIRECTORY).is_dir()]


def known_classes(batches: Iterable[LabelBatch]) -> frozenset[str]:
    """Return the names of classes that an answer to the batches may have, former ones too."""
    return frozenset(name for batch in batches for name in (*batch.class_names, *batch.former_names))


def waiting_batch(run_dir: Path) -> LabelBatch:
    """The batch whose labels a run waits for.

    Raises:
        ValueError: it waits for none.
    """
    waiting = [batch for batch in find_batches(run_dir) if batch.is_open]
    if waiting:
        return waiting[-1]
    if not run_dir.is_dir():
        raise ValueError(f"{run_dir} must be the directory of a run; there is no such directory")
    raise ValueError(
        f"{run_dir} waits for no labels; start the run, or go on with it, and it says when it does "
        f"({command('status', run_dir)} tells where it is)"
    )


def _with_present_classes(batch: LabelBatch) -> LabelBatch:
    classes = read_history(batch.run_dir)
    if classes is None:
        return batch
    samples = tuple(
        one if one.prediction is None else replace(one, prediction=classes.resolve(one.prediction))
        for one in batch.samples
    )
    return replace(batch, class_names=classes.names(), samples=samples, former_names=classes.former)


def _description(batch: LabelBatch) -> str:
    content = {key: value for key, value in asdict(batch).items() if key not in ("directory", "former_names")}
    return json.dumps({"format": _FORMAT, **content}, indent=1, ensure_ascii=False)


def _table(batch: LabelBatch) -> str:
    """Best first, with empty columns to fill in; the model's prediction only where people may see it."""
    text = io.StringIO()
    shown = batch.show_predictions
    parts = list(batch.samples[0].parts) if shown and batch.samples else []
    writer = csv.writer(text)  # with line ends of which each character is quoted
    of_model = ["prediction", "score", *parts] if shown else []
    writer.writerow(["sample_id", "label", "status", "path", "image", *of_model, "round"])
    for sample in batch.samples:
        values = [sample.score, *(sample.parts[name] for name in parts)]
        numbers = ["" if value is None else value for value in values]
        thoughts = [sample.prediction or "", *numbers] if shown else []
        writer.writerow(
            [
                sample.sample_id,
                "",
                "",
                sample.path or "",
                f"{IMAGES}/{sample.image}",
                *thoughts,
                batch.round,
            ]
        )
    return text.getvalue()


def _batch_of(content: Any, directory: Path) -> LabelBatch:
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"its format must be {_FORMAT}")
    samples = tuple(_sample_of(one) for one in content["samples"])
    names = [sample.sample_id for sample in samples]
    classes = tuple(_text(name, "a class") for name in content["class_names"])
    if not samples or len(set(names)) != len(names) or len(set(classes)) != len(classes):
        raise ValueError("its samples must be at least one, and they and its classes distinct")
    return LabelBatch(
        directory=directory,
        run_id=_text(content["run_id"], "run_id"),
        name=_text(content["name"], "name"),
        round=_number(content["round"], "round"),
        class_names=classes,
        samples=samples,
        show_predictions=content["show_predictions"] is True,
    )


def _sample_of(content: Any) -> AskedSample:
    strange = sorted(content.keys() - {one.name for one in fields(AskedSample)})
    if strange:
        raise ValueError(f"a sample must not have {strange[0]}")
    if not _IMAGE_NAME.fullmatch(_text(content["image"], "image")):
        raise ValueError(f"an image must be named 0000.png; got {content['image']!r}")
    return AskedSample(
        sample_id=_text(content["sample_id"], "sample_id"),
        index=_number(content["index"], "index"),
        image=content["image"],
        path=None if content["path"] is None else _text(content["path"], "path"),
        prediction=None if content["prediction"] is None else _text(content["prediction"], "prediction"),
        score=_measure(content["score"]),
        parts={_text(name, "a part"): _measure(value) for name, value in content["parts"].items()},
        again=content["again"] is True,
    )


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text that is not empty; got {value!r}")
    return value


def _number(value: object, name: str) -> int:
    if not is_integer(value, 0):
        raise ValueError(f"{name} must be an integer of at least 0; got {value!r}")
    return value


def _measure(value: object) -> float | None:
    if value is None:
        return None
    if not is_number(value):
        raise ValueError(f"a score must be a number; got {value!r}")
    return float(value)
