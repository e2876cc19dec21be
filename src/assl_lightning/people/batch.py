"""Batches: the images that people are asked to label before a round trains, each batch in a directory of its own.

<run_dir>/round_01/to_label/batch.json         the samples, and the classes that they may be of
<run_dir>/round_01/to_label/to_label.csv       the same as a table, whose column label may be filled in there
<run_dir>/round_01/to_label/contact_sheet.png  the images, small, in the order of the table
<run_dir>/round_01/to_label/images/            the images, as a browser shows them

A batch belongs to the round that trains on its labels: the batch of round 0 has the initial labels, that of round r + 1
is asked for after the training of round r. In a run's directory a batch has the present classes of the run.

<run_dir>/audit_01/to_label/ has the same files: samples with a label, which an audit asks for once more. Such a batch
belongs to a round, too, the first one that can train on the corrections, but no round waits for it: it stays open.
A labelling tool needs this directory alone: it may be copied elsewhere without the data.
"""

from __future__ import annotations

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
from assl_lightning.base.csv_text import table_as_csv
from assl_lightning.base.run_files import AUDIT, CONFIG, POOL, TO_LABEL, require_run
from assl_lightning.base.shell import command
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.records import read_config

TABLE = "to_label.csv"
CONTACT_SHEET = "contact_sheet.png"
IMAGES = "images"

_DESCRIPTION = "batch.json"
_FORMAT = 1
_IMAGE_NAME = re.compile(r"[0-9]{4,}\.(png|jpg|webp)")
_ROUND_NAME = re.compile(r"round_([0-9]{2,})")
_AUDIT_NAME = re.compile(rf"{AUDIT}_([0-9]{{2,}})")


@dataclass(frozen=True)
class AskedSample:
    """An image to label. Tools hide the model's prediction and scores from people, unless they ask for them."""

    sample_id: str
    index: int  # in the pool
    image: str  # name of its file in the directory `IMAGES`
    path: str | None = None  # of the original file; None if the data are no files
    prediction: str | None = None  # the class that the model predicts; None if there is no model yet
    score: float | None = None  # of the acquisition; larger means label sooner
    parts: Mapping[str, float | None] = field(default_factory=dict)  # terms of the score
    again: bool = False  # it has a label already, and is asked for once more


@dataclass(frozen=True)
class LabelBatch:
    """The K samples to label before a round trains, highest score first, and the classes that they may be of."""

    directory: Path = field(compare=False)
    run_id: str
    name: str  # of the run, for people
    round: int  # the round that trains on the labels, ≥ 0
    class_names: tuple[str, ...]
    samples: tuple[AskedSample, ...]
    show_predictions: bool = False  # True if a tool may show the predictions
    former_names: Mapping[str, str] = field(default_factory=dict, compare=False)  # of classes → present name

    @property
    def is_open(self) -> bool:
        """True while the run waits for the labels; later answers are corrections, which the next round takes over.

        It is False, too, if the run was set to end before the round that trains on them. An audit stays open: all its
        answers are corrections, which count at once where the labels are used, and in training from the next round on.
        """
        if self.is_audit:
            return True
        if (self.directory.parent / POOL).exists():
            return False
        if not (self.run_dir / CONFIG).exists():  # a copy of the round's directory
            return True
        rounds = read_config(self.run_dir).get("rounds")
        return not isinstance(rounds, int) or self.round <= rounds

    @property
    def is_audit(self) -> bool:
        """True if an audit asks for samples that have a label, and no round waits for the answers."""
        return bool(_AUDIT_NAME.fullmatch(self.directory.parent.name))

    @property
    def title(self) -> str:
        """The name for people: "round 1", or "audit 1"."""
        name = _AUDIT_NAME.fullmatch(self.directory.parent.name)
        return f"round {self.round}" if name is None else f"audit {int(name[1])}"

    @property
    def run_dir(self) -> Path:
        """The run's directory, or the directory with a copy of the round's."""
        return self.directory.parent.parent

    def needed(self, share: float) -> int:
        """Return the number of answers that are a `share` of the batch, in (0, 1]."""
        return math.ceil(round(share * len(self.samples), 6))  # 0.07 × 100 is more than 7

    def image_path(self, sample: AskedSample) -> Path:
        """Return the image's file, which tools show."""
        return self.directory / IMAGES / sample.image


def write_batch(batch: LabelBatch, images: Sequence[bytes], contact_sheet: bytes) -> None:
    """Write a batch to its directory, which must not exist: the whole batch, or nothing if the process ends half-way.

    `images` are the bytes of K files, in the order of the samples and in the formats that their names have.
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
    """Update the classes in a batch's directory, where tools and copies of the directory look for them."""
    if read_history(batch.run_dir) is None:
        return  # they are as they were when the batch was written
    text = _description(batch)
    path = batch.directory / _DESCRIPTION
    if path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def read_batch(directory: Path) -> LabelBatch:
    """Read the batch in a directory, with the present classes of its run.

    Raises:
        ValueError: there is none, or it is not as `write_batch` writes it.
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
    """Read the batches of a run's rounds, in their order."""
    return _find(run_dir, "round_*", _ROUND_NAME)


def find_audits(run_dir: Path) -> list[LabelBatch]:
    """Read the batches that audits of a run have written, in their order."""
    return _find(run_dir, f"{AUDIT}_*", _AUDIT_NAME)


def find_all_batches(run_dir: Path) -> list[LabelBatch]:
    """Read the batches of rounds and those of audits."""
    return [*find_batches(run_dir), *find_audits(run_dir)]


def next_audit(run_dir: Path) -> Path:
    """Return the directory of the batch that the next audit may write."""
    known = [int(name[1]) for path in run_dir.iterdir() if (name := _AUDIT_NAME.fullmatch(path.name))]
    number = 1 + max(known, default=0)
    return run_dir / f"{AUDIT}_{number:02d}" / TO_LABEL


def _find(run_dir: Path, pattern: str, exact: re.Pattern[str]) -> list[LabelBatch]:
    found = [(name, path) for path in run_dir.glob(pattern) if (name := exact.fullmatch(path.name))]
    numbered = sorted((int(name[1]), path) for name, path in found)
    return [read_batch(path / TO_LABEL) for _, path in numbered if (path / TO_LABEL).is_dir()]


def known_classes(batches: Iterable[LabelBatch]) -> frozenset[str]:
    """Return the classes that an answer to the batches may have, by their present and former names."""
    return frozenset(name for batch in batches for name in (*batch.class_names, *batch.former_names))


def require_batches(run_dir: Path) -> list[LabelBatch]:
    """Read the batches of a run's rounds, in their order, from its directory or a copy with the batches alone.

    Raises:
        ValueError: the directory is none of a run.
    """
    batches = find_batches(run_dir)
    if not batches and not find_audits(run_dir):
        require_run(run_dir)
    return batches


def waiting_batch(run_dir: Path) -> LabelBatch:
    """Read the batch whose labels a run waits for.

    Raises:
        ValueError: the directory is none of a run, or the run waits for no labels.
    """
    batches = require_batches(run_dir)
    waiting = [batch for batch in batches if batch.is_open]
    if waiting:
        return waiting[-1]
    raise ValueError(
        f"{run_dir} waits for no labels; start the run, or go on with it, until it does "
        f"({command('status', run_dir)} shows its state)"
    )


def _with_present_classes(batch: LabelBatch) -> LabelBatch:
    classes = read_history(batch.run_dir)
    if classes is None:
        return batch
    samples = tuple(
        sample if sample.prediction is None else replace(sample, prediction=classes.resolve(sample.prediction))
        for sample in batch.samples
    )
    return replace(batch, class_names=classes.names(), samples=samples, former_names=classes.former)


def _description(batch: LabelBatch) -> str:
    content = {key: value for key, value in asdict(batch).items() if key not in ("directory", "former_names")}
    return json.dumps({"format": _FORMAT, **content}, indent=1, ensure_ascii=False)


def _table(batch: LabelBatch) -> str:
    """Return the table: highest score first, with empty columns to fill in; predictions only if people may see them."""
    shown = batch.show_predictions
    parts = list(batch.samples[0].parts) if shown and batch.samples else []
    of_model = ["prediction", "score", *parts] if shown else []
    rows = []
    for sample in batch.samples:
        predicted = [sample.prediction, sample.score, *(sample.parts[name] for name in parts)] if shown else []
        image = f"{IMAGES}/{sample.image}"
        rows.append([sample.sample_id, "", "", sample.path, image, *predicted, batch.round])
    header = ["sample_id", "label", "status", "path", "image", *of_model, "round"]
    return table_as_csv(header, rows, line_end="\r\n")


def _batch_of(content: Any, directory: Path) -> LabelBatch:
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"its format must be {_FORMAT}")
    samples = tuple(map(_sample_of, content["samples"]))
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
    strange = sorted(content.keys() - {known.name for known in fields(AskedSample)})
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
