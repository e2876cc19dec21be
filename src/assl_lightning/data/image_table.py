"""Which images there are, by what name, with which label, for the pool or for the test; no pixel is looked at here.

Folders, folders of classes and manifests all become one `ImageTable`. Whatever is wrong with one is told at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from assl_lightning.base.cells import MISSING_WORDS
from assl_lightning.base.problems import refuse
from assl_lightning.base.suggestions import Suggestions
from assl_lightning.base.table_rows import Numbered, Row, read_rows
from assl_lightning.data.class_names import are_splits, class_order, looks_missing, read_class_names
from assl_lightning.data.folders import SUFFIXES as SUFFIXES  # noqa: PLC0414  (also to be had here)
from assl_lightning.data.folders import Found, ImageFiles, find_images, nearest_path
from assl_lightning.data.outputs import pictures_of_runs
from assl_lightning.data.same_names import SameNames, one_form

log = logging.getLogger(__name__)

UNKNOWN = -1
"""The label of an image that nobody has labelled."""

_SPLITS = ("pool", "test")
_COLUMNS = ("sample_id", "path", "label", "split", "group")


@dataclass(frozen=True)
class ImageTable:
    """N images. Folders give them in the order of their sample ids, manifests in their own."""

    sample_ids: tuple[str, ...] = field(repr=False)  # N stable, distinct names
    paths: tuple[Path, ...] = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)  # (N,) in [0, C), −1 where nobody knows
    splits: tuple[str, ...] = field(repr=False)  # pool | test, and "" where it is not said
    groups: tuple[str, ...] = field(repr=False)  # what must not be parted; the sample's id where it stands alone
    class_names: tuple[str, ...]  # C names; a label is a place among them
    passed_over: Mapping[str, int] = field(default_factory=dict)  # of folders, see `Found`

    def __len__(self) -> int:
        return len(self.sample_ids)

    def take(self, rows: Sequence[int]) -> ImageTable:
        """Some of the images, in the order of `rows`."""
        return ImageTable(
            sample_ids=tuple(self.sample_ids[row] for row in rows),
            paths=tuple(self.paths[row] for row in rows),
            labels=self.labels[np.asarray(rows, dtype=np.int64)],
            splits=tuple(self.splits[row] for row in rows),
            groups=tuple(self.groups[row] for row in rows),
            class_names=self.class_names,
            passed_over=self.passed_over,
        )


def read_folder(root: Path, class_names: Sequence[str]) -> ImageTable:
    """All images below `root`, without labels. An image's sample id is its path from `root`, "2024/cat 1.jpg".

    Files are images by their names, and what is no data is passed over, as `find_images` has it; directories that are
    links are gone into.

    Raises:
        FileNotFoundError: `root` is no directory.
        ValueError: there is no image, a name that cannot be written as UTF-8, or `root` lies in a run's own directory.
    """
    found = find_images(root)
    return _make_table(root, found, [UNKNOWN] * len(found.images), read_class_names(class_names))


def read_image_folder(root: Path, class_names: Sequence[str] | None = None) -> ImageTable:
    """All images below `root`, each with the name of its first directory as its class; otherwise as `read_folder`.

    The classes are `class_names` in that order, or all directories that have an image, as `class_order` has them.

    Raises:
        FileNotFoundError: `root` is no directory.
        ValueError: as `read_folder`; an image that is in no directory, or in one that is not among `class_names`.
    """
    files = find_images(root)
    sample_ids = files.images
    problems = [f"{name} is in no class's directory" for name in sample_ids if "/" not in name]
    found = [name.partition("/")[0] for name in sample_ids]
    if class_names is None and not problems:
        _refuse_splits(root, set(found))
    classes = _Classes(found, class_names)
    counted = Counter(name for name, sample_id in zip(found, sample_ids, strict=True) if "/" in sample_id)
    problems += [
        f"{name}/ ({count} images) is not among the classes{classes.hint(name)}"
        for name, count in counted.items()
        if classes.number(name) is None
    ]
    refuse(f"{root} must have one directory for each of its classes", problems)
    numbers = {name: number for name in counted if (number := classes.number(name)) is not None}
    return _make_table(root, files, [numbers[name] for name in found], classes.names)


def read_manifest(path: Path, root: Path | None = None, class_names: Sequence[str] | None = None) -> ImageTable:
    """A table of images: CSV (UTF-8, commas, a header), or Parquet where the name ends in .parquet, with pyarrow.

    Columns, in any order; others are passed over with a message:

    * path: relative to `root` (default: where the manifest is), or absolute.
    * sample_id: the stable name; without the column, the path as it stands there.
    * label: the class's name; empty where nobody knows.
    * split: pool or test; empty where it is to be drawn, see `hold_out`.
    * group: images that must not be parted between pool and test, of one patient for instance; empty where it is alone.

    The classes are `class_names` in that order, or all that the column label has, as `class_order` has them. A cell is
    empty too where it is missing as other programs have it: null, NaN, and nan, NaN, NaT or <NA> as a text. Of names
    that are equal but for their Unicode form, only one is meant.

    Raises:
        FileNotFoundError: the manifest is missing.
        ImportError: it is Parquet, and pyarrow is not installed.
        ValueError: it cannot be read, or anything in it is wrong; the first ten problems are named, by their lines.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} must be a manifest, a CSV or Parquet file; there is no such file{nearest_path(path)}"
        )
    numbered = _without_missing(path, read_rows(path, _COLUMNS, needed=("path",)), class_names)
    files = ImageFiles(path.parent if root is None else root)
    classes = _Classes((row["label"] for _, row, _ in numbered), class_names)
    refuse(f"{path} must be a table of images", _problems(numbered, files, classes))
    rows = [row for _, row, _ in numbered]
    if not rows:
        raise ValueError(f"{path} must have a line for each image; it has a header and nothing below it")
    _tell_odd_groups(path, rows)
    sample_ids = [_id_of(row) for row in rows]
    return ImageTable(
        sample_ids=tuple(sample_ids),
        paths=tuple(files.path(row["path"]) for row in rows),
        labels=np.array([_number(classes, row["label"]) for row in rows], dtype=np.int64),
        splits=tuple(row["split"] for row in rows),
        groups=tuple(row["group"] or name for row, name in zip(rows, sample_ids, strict=True)),
        class_names=tuple(classes.names),
    )


def read_labels(path: Path, table: ImageTable, class_names: Sequence[str] | None = None) -> ImageTable:
    """The table with the labels that a CSV or Parquet file, read as `read_manifest` does, has for some of its images.

    Its columns are sample_id and label, in any order; others are passed over with a message. A line without a label
    says nothing. The classes are `class_names` in that order, or all labels of the file, as `class_order` has them.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it cannot be read, or has a sample_id that the table has not, a label that is no class, or a
            sample_id twice; the first ten problems are named, by their lines.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} must be a CSV or Parquet file with the columns sample_id and label; there is no such file"
            f"{nearest_path(path)}"
        )
    columns = ("sample_id", "label")
    numbered = _without_missing(path, read_rows(path, columns, needed=columns), class_names)
    classes = _Classes((row["label"] for _, row, _ in numbered), class_names)
    known = SameNames(table.sample_ids)
    hints = Suggestions(table.sample_ids)
    refuse(f"{path} must have labels of images in the pool", _problems_of_labels(numbered, known, hints, classes))
    place = {sample_id: number for number, sample_id in enumerate(table.sample_ids)}
    labels = table.labels.copy()
    for _, row, _ in numbered:
        if row["label"]:
            labels[place[known.find(row["sample_id"]) or ""]] = _number(classes, row["label"])
    return replace(table, labels=labels, class_names=tuple(classes.names))


def hold_out(
    table: ImageTable, fraction: float, seed: int, not_drawn: Container[str] = ()
) -> tuple[ImageTable, ImageTable]:
    """The table in two, pool and test.

    Where any split is said, test is what says so and the pool is the rest. Where none is, each labelled image goes to
    the test with probability `fraction`, by its group and `seed` alone: an image stays where it is, whichever others
    come or go. Images without a label are the pool's, and so are all of a group that has one, and those whose sample
    ids are `not_drawn`.

    Raises:
        ValueError: a test image without a label, no image left for one of the two, or `fraction` is not in (0, 1).
    """
    if not any(table.splits):
        drawn = _draw(table, fraction, seed)
        is_test = [here and name not in not_drawn for here, name in zip(drawn, table.sample_ids, strict=True)]
        advice = f"test_fraction={fraction:g} takes none: make it larger, or say which by a column split"
    else:
        is_test = [split == "test" for split in table.splits]
        advice = "no line has the split test: mark some"
    unlabelled = [name for name, test, label in _rows(table, is_test) if test and label == UNKNOWN]
    refuse("every test image must have a label", [f"{name} has none" for name in unlabelled])
    pool = table.take([row for row, test in enumerate(is_test) if not test])
    test = table.take([row for row, test in enumerate(is_test) if test])
    if not len(test):
        labelled = int((table.labels != UNKNOWN).sum())
        raise ValueError(
            f"there must be labelled images to test with; of the {len(table)} images {labelled} have a label, and "
            f"{advice}"
        )
    if not len(pool):
        raise ValueError(f"there must be images in the pool; all {len(table)} are for the test: leave some to the pool")
    return pool, test


# --- folders ---------------------------------------------------------------------------------------------------------


def _make_table(root: Path, found: Found, labels: Sequence[int], class_names: Sequence[str]) -> ImageTable:
    return ImageTable(
        sample_ids=found.images,
        paths=tuple(root / name for name in found.images),
        labels=np.array(labels, dtype=np.int64),
        splits=("",) * len(found.images),
        groups=found.images,
        class_names=tuple(class_names),
        passed_over=found.passed_over,
    )


# --- manifests -------------------------------------------------------------------------------------------------------


def _without_missing(path: Path, rows: Iterable[Numbered], class_names: Sequence[str] | None) -> list[Numbered]:
    """The rows, with cells emptied that say nan, NaN, NaT or <NA>, unless a class is called so."""
    kept = set(map(str, class_names or ()))
    count = 0
    found: list[Numbered] = []
    for where, row, fault in rows:
        words = {
            name: ""
            for name, cell in row.items()
            if name != "path" and cell in MISSING_WORDS and not (name == "label" and cell in kept)
        }
        count += len(words)
        found.append((where, {**row, **words}, fault))
    if count:
        log.info("%s: cells that say nan, NaN, NaT or <NA> are taken for empty: %s", path, count)
    return found


def _tell_odd_groups(path: Path, rows: Sequence[Row]) -> None:
    for name, count in Counter(row["group"] for row in rows).items():
        if count > 1 and looks_missing(name):
            log.warning(
                "%s: %s images are one group, %s; leave the cell empty where an image stands alone", path, count, name
            )


def _id_of(row: Row) -> str:
    return row["sample_id"] or row["path"]


def _problems(numbered: Sequence[Numbered], files: ImageFiles, classes: _Classes) -> Iterator[str]:
    """Everything that is wrong with the lines, in their order."""
    ids: dict[str, str] = {}
    places: dict[str, str] = {}
    splits: dict[str, tuple[str, str]] = {}  # group → its split, and where that was said
    paths = {row["path"]: files.path(row["path"]) for _, row, fault in numbered if row["path"] and not fault}
    outputs = set(pictures_of_runs(paths.values()))
    for where, row, fault in numbered:
        for problem in (fault,) if fault else _problems_of(row, files, classes, outputs):
            yield f"{where} {problem}"
        if fault or not row["path"]:
            continue
        path = os.path.normpath(paths[row["path"]])
        for kind, seen, value in (("sample_id", ids, _id_of(row)), ("path", places, path)):
            first = seen.setdefault(value, where)
            if first != where:
                yield f"{where} has the {kind} {value} of {first}"
                break
        split, first = splits.setdefault(row["group"], (row["split"], where))
        if row["group"] and (split or "pool") != (row["split"] or "pool"):
            yield f"{where} has another split than {first}, of the same group {row['group']}"


def _problems_of(row: Row, files: ImageFiles, classes: _Classes, outputs: Container[Path]) -> Iterator[str]:
    path = files.path(row["path"])
    if not row["path"]:
        yield "has no path"
    elif not os.path.lexists(path):  # of a link to nothing, decoding says more, and it may be left out
        yield f"names {path}, and there is no such file{files.hint(row['path'])}"
    elif os.path.isdir(path):  # noqa: PTH112  # which raises for no path
        yield f"names {path}, which is a directory"
    elif path in outputs:
        yield f"names {path}, which a run has written: a copy, or a drawing, of images; take it out"
    if row["label"] and classes.number(row["label"]) is None:
        yield f"has the label {row['label']}, which is not among the classes{classes.hint(row['label'])}"
    if row["split"] not in (*_SPLITS, ""):
        yield f"has the split {row['split']}, which must be {', '.join(_SPLITS)} or empty"


def _problems_of_labels(
    numbered: Sequence[Numbered], known: SameNames, hints: Suggestions, classes: _Classes
) -> Iterator[str]:
    """Everything that is wrong with the lines of a file of labels, in their order."""
    ids: dict[str, str] = {}
    for where, row, fault in numbered:
        sample_id, label = row["sample_id"], row["label"]
        if fault or not sample_id:
            yield f"{where} {fault or 'has no sample_id'}"
            continue
        name = known.find(sample_id)
        first = ids.setdefault(name or sample_id, where)
        if first != where:
            yield f"{where} has the sample_id {sample_id} of {first}"
        elif name is None:
            yield f"{where} has the sample_id {sample_id}, which is no image of the pool{hints.hint(sample_id)}"
        if label and classes.number(label) is None:
            yield f"{where} has the label {label}, which is not among the classes{classes.hint(label)}"


# --- classes ---------------------------------------------------------------------------------------------------------


class _Classes:
    """The classes of a table: those that are given, or all that it names; "" is none."""

    def __init__(self, found: Iterable[str], given: Sequence[str] | None) -> None:
        self.names = class_order(one_form(name for name in found if name)) if given is None else read_class_names(given)
        self._number = {name: number for number, name in enumerate(self.names)}
        self._same = SameNames(self.names)
        self._hints = Suggestions(self.names)

    def number(self, name: str) -> int | None:
        """The place of the class `name` among the classes, in whatever Unicode form; None where there is none."""
        same = self._same.find(name)
        return None if same is None else self._number[same]

    def hint(self, name: str) -> str:
        return self._hints.hint(name)


def _number(classes: _Classes, label: str) -> int:
    number = classes.number(label) if label else None
    return UNKNOWN if number is None else number


def _refuse_splits(root: Path, names: set[str]) -> None:
    if are_splits(names):
        found = sorted(names)
        raise ValueError(
            f"{root} must have one directory for each of its classes; {' and '.join(f'{name}/' for name in found)} are "
            f"called as the parts of a data set are: give the one to train with as data.root, such as "
            f"{root / found[-1]}, and the other as data.source.test_root, or, where these are the classes, say so with "
            f"data.source.class_names=[{','.join(found)}]"
        )


# --- parting ---------------------------------------------------------------------------------------------------------


def _draw(table: ImageTable, fraction: float, seed: int) -> list[bool]:
    """Whether each image is drawn for the test."""
    unlabelled = {group for group, label in zip(table.groups, table.labels, strict=True) if label == UNKNOWN}
    return [is_drawn(group, fraction, seed) and group not in unlabelled for group in table.groups]


def is_drawn(group: str, fraction: float, seed: int) -> bool:
    """Whether an image, or a group, is for the test: of `fraction` of all names, by the name and the seed alone.

    Raises:
        ValueError: `fraction` is not in (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"test_fraction must be above 0 and below 1, a share of the labelled images; got {fraction}")
    digest = hashlib.blake2b(f"test:{seed}:{group}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53 < fraction


def _rows(table: ImageTable, is_test: Sequence[bool]) -> Iterator[tuple[str, bool, int]]:
    return zip(table.sample_ids, is_test, table.labels.tolist(), strict=True)
