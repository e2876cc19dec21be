"""Tables of images: their names, files and labels, for the pool or for the test; no pixels are read here.

Folders, folders of classes and manifests all become one `ImageTable`. All errors in one are reported at once.
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

from assl_lightning.base.problems import refuse
from assl_lightning.base.suggestions import Suggestions, nearest_path
from assl_lightning.base.tables import MISSING_WORDS, Columns, Row, Table, looks_missing, read_table
from assl_lightning.data.answers import Incoming
from assl_lightning.data.class_names import are_splits, class_order, read_class_names
from assl_lightning.data.file_reading import ImageFile
from assl_lightning.data.folders import SUFFIXES as SUFFIXES  # noqa: PLC0414  (also to be had here)
from assl_lightning.data.folders import Folder, Found, ImageFiles, find_images
from assl_lightning.data.label_rows import kind_of, label_columns, problem_of_status, read_label_row, resolve_rows
from assl_lightning.data.outputs import pictures_of_runs
from assl_lightning.data.same_names import SameNames, one_form

log = logging.getLogger(__name__)

UNKNOWN = -1
"""The label of an image without one."""

_SPLITS = ("pool", "test")


@dataclass(frozen=True)
class ImageTable:
    """N images. Folders give them in the order of their sample ids, manifests in their own."""

    sample_ids: tuple[str, ...] = field(repr=False)  # N stable, distinct names
    paths: tuple[ImageFile, ...] = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)  # (N,) in [0, C), −1 if unknown
    splits: tuple[str, ...] = field(repr=False)  # pool | test, or "" if it is to be drawn
    groups: tuple[str, ...] = field(repr=False)  # images of a group stay in one part; a single image has its sample id
    class_names: tuple[str, ...]  # C names; a label is an index into them
    passed_over: Mapping[str, int] = field(default_factory=dict)  # of folders, see `Found`

    def __len__(self) -> int:
        return len(self.sample_ids)

    def take(self, rows: Sequence[int]) -> ImageTable:
        """Return some of the images, in the order of `rows`."""
        return ImageTable(
            sample_ids=tuple(self.sample_ids[row] for row in rows),
            paths=tuple(self.paths[row] for row in rows),
            labels=self.labels[np.asarray(rows, dtype=np.int64)],
            splits=tuple(self.splits[row] for row in rows),
            groups=tuple(self.groups[row] for row in rows),
            class_names=self.class_names,
            passed_over=self.passed_over,
        )


def read_folder(root: Folder, class_names: Sequence[str]) -> ImageTable:
    """Find all images below `root`, without labels. An image's sample id is its path from `root`, "2024/cat 1.jpg".

    `find_images` says which files are images, and which directories are no data; links to directories are followed.

    `root` may be a folder of a store; its URL is then in place of the directory.

    Raises:
        FileNotFoundError: `root` is no directory.
        ValueError: there is no image, a name that cannot be written as UTF-8, or `root` lies in a run's own directory.
    """
    found = find_images(root)
    return _make_table(found, [UNKNOWN] * len(found.images), read_class_names(class_names))


def read_image_folder(root: Folder, class_names: Sequence[str] | None = None) -> ImageTable:
    """Find all images below `root` as `read_folder` does, each with the name of its first directory as its class.

    The classes are `class_names` in that order, or all directories that have an image, sorted by `class_order`.

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
    return _make_table(files, [numbers[name] for name in found], classes.names)


def read_manifest(path: Path, root: Path | None = None, class_names: Sequence[str] | None = None) -> ImageTable:
    """Read a table of images: CSV with a header, or Parquet where the name ends in .parquet (`read_table`).

    Columns, in any order; others are passed over with a message:

    * path: relative to `root` (default: where the manifest is), or absolute.
    * sample_id: the stable name; without the column, the path as it stands there.
    * label: the class's name; empty if it is not known.
    * status: in place of a label: skip, the label is not known; bad, the image is left out of the table.
    * split: pool or test; empty if it is to be drawn, see `hold_out`.
    * group: images that must stay together in the pool or the test, as those of one patient; empty for a single image.

    The classes are `class_names` in that order, or all that the column label has, sorted by `class_order`. A cell is
    empty, too, if its value is missing: null, NaN, and nan, NaN, NaT or <NA> as a text. Of names that are equal but for
    their Unicode form, only one is meant.

    Raises:
        FileNotFoundError: the manifest is missing.
        ImportError: it is Parquet, and pyarrow is not installed.
        ValueError: it cannot be read, or anything in it is wrong; the first ten problems are named, by their lines.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} must be a manifest, a CSV or Parquet file; there is no such file{nearest_path(path)}"
        )
    table = _read_table(path, _manifest_columns(class_names or ()))
    files = ImageFiles(path.parent if root is None else root)
    classes = _Classes((row.cells["label"].strip() for row in table.rows), class_names)
    refuse(f"{path} must be a table of images", [*table.faults, *_problems(table.rows, files, classes)])
    rows = [row.cells for row in table.rows]
    if not rows:
        raise ValueError(f"{path} must have a line for each image; it has a header and nothing below it")
    _tell_odd_groups(path, rows)
    sample_ids = [_id_of(cells) for cells in rows]
    images = ImageTable(
        sample_ids=tuple(sample_ids),
        paths=tuple(files.path(cells["path"]) for cells in rows),
        labels=np.array([classes.number_in(cells["label"]) for cells in rows], dtype=np.int64),
        splits=tuple(cells["split"] for cells in rows),
        groups=tuple(cells["group"] or name for cells, name in zip(rows, sample_ids, strict=True)),
        class_names=tuple(classes.names),
    )
    bad = {name for name, cells in zip(sample_ids, rows, strict=True) if kind_of(cells) == "bad"}
    return _without_bad(path, images, bad)


def read_labels(path: Path, table: ImageTable, class_names: Sequence[str] | None = None) -> ImageTable:
    """Return the table with the labels that a CSV or Parquet file has for some of its images, and without bad images.

    The file is read as one that people send back (`label_rows`): its columns are sample_id and label, and may be
    status, annotator, seconds, at and decides, in any order; others are passed over with a message. A line without
    label and status says nothing, and one that is skipped gives no label. The classes are `class_names` in that order,
    or all labels of the file, sorted by `class_order`.

    Raises:
        FileNotFoundError: the file is missing.
        ImportError: it is Parquet, and pyarrow is not installed.
        ValueError: it cannot be read, or anything in it is wrong: a sample_id that the table has not, a label that is
            no class, answers that contradict each other; the first ten problems are named, by their lines.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} must be a CSV or Parquet file with the columns sample_id and label; there is no such file"
            f"{nearest_path(path)}"
        )
    file = _read_table(path, label_columns(class_names or ()))
    read = [read_label_row(row) for row in file.rows]
    answers = [answer for answer, _ in read if answer is not None]
    classes = _Classes(((answer.label or "").strip() for answer in answers), class_names)
    names, hints = SameNames(table.sample_ids), Suggestions(table.sample_ids)
    problems = [
        problem
        for answer, wrong in read
        for problem in (wrong if answer is None else _problems_of_answer(answer, names, hints, classes))
    ]
    resolved, contradictions = resolve_rows(
        replace(answer, sample_id=name, label=answer.label and classes.name_in(answer.label))
        for answer in answers
        if (name := names.find_cell(answer.sample_id)) is not None
    )
    refuse(f"{path} must have labels of images in the pool", [*file.faults, *problems, *contradictions])
    if len(answers) > len(resolved):
        log.info("%s: lines that answer for an image once more: %s", path, len(answers) - len(resolved))
    labels = table.labels.copy()
    for row, name in enumerate(table.sample_ids):
        if name in resolved:
            labels[row] = classes.number_in(resolved[name].label or "")
    labelled = replace(table, labels=labels, class_names=tuple(classes.names))
    return _without_bad(path, labelled, {name for name, label in resolved.items() if label.kind == "bad"})


def hold_out(
    table: ImageTable, fraction: float, seed: int, not_drawn: Container[str] = ()
) -> tuple[ImageTable, ImageTable]:
    """Split the table into pool and test.

    If any image has a split, the test is the images whose split is test, and the pool is the rest. Else each labelled
    image goes to the test with probability `fraction`, by its group and `seed` alone: an image stays in its part,
    whichever others come or go. The pool gets the images without a label, all images of their groups, and those whose
    sample ids are `not_drawn`.

    Raises:
        ValueError: a test image without a label, no image left for one of the two, or `fraction` is not in (0, 1).
    """
    if not any(table.splits):
        drawn = _draw(table, fraction, seed)
        is_test = [test and name not in not_drawn for test, name in zip(drawn, table.sample_ids, strict=True)]
        advice = f"test_fraction={fraction:g} takes none: make it larger, or mark some in a column split"
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


def _make_table(found: Found, labels: Sequence[int], class_names: Sequence[str]) -> ImageTable:
    return ImageTable(
        sample_ids=found.images,
        paths=found.files,
        labels=np.array(labels, dtype=np.int64),
        splits=("",) * len(found.images),
        groups=found.images,
        class_names=tuple(class_names),
        passed_over=found.passed_over,
    )


# --- tables ----------------------------------------------------------------------------------------------------------


def _manifest_columns(class_names: Sequence[str]) -> Columns:
    return Columns(
        needed=("path",),
        optional=("sample_id", "label", "status", "split", "group"),
        exact=("label",),
        words={"path": MISSING_WORDS, "label": frozenset(map(str, class_names))},
    )


def _read_table(path: Path, columns: Columns) -> Table:
    table = read_table(path, str(path), columns)
    if table.unused:
        log.info("%s: columns that are not used: %s", path, ", ".join(table.unused))
    if table.emptied:
        log.info("%s: cells that say nan, NaN, NaT or <NA> are taken for empty: %s", path, table.emptied)
    return table


def _without_bad(path: Path, table: ImageTable, bad: Container[str]) -> ImageTable:
    """Return the table without the images whose names are in `bad`."""
    kept = [row for row, name in enumerate(table.sample_ids) if name not in bad]
    if len(kept) == len(table):
        return table
    log.info("%s: images left out, whose status is bad: %s", path, len(table) - len(kept))
    return table.take(kept)


def _tell_odd_groups(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    for name, count in Counter(cells["group"] for cells in rows).items():
        if count > 1 and looks_missing(name):
            log.warning(
                "%s: %s images are one group, %s; leave the cell empty where an image stands alone", path, count, name
            )


def _id_of(cells: Mapping[str, str]) -> str:
    return cells["sample_id"] or cells["path"]


def _problems(rows: Sequence[Row], files: ImageFiles, classes: _Classes) -> Iterator[str]:
    """Yield everything that is wrong with the rows of a manifest, in their order."""
    ids: dict[str, str] = {}
    places: dict[str, str] = {}
    splits: dict[str, tuple[str, str]] = {}  # group → its split, and the place of the first row that has it
    paths = {row.cells["path"]: files.path(row.cells["path"]) for row in rows if row.cells["path"] and not row.fault}
    outputs = set(pictures_of_runs(paths.values()))
    for row in rows:
        where, cells = row.where, row.cells
        if row.fault:
            yield f"{where}: {row.fault}"
            continue
        yield from (f"{where} {problem}" for problem in _problems_of_image(cells, files, classes, outputs))
        if status := problem_of_status(cells):
            yield f"{where}: {status}"
        if not cells["path"]:
            continue
        path = os.path.normpath(paths[cells["path"]])
        for kind, seen, value in (("sample_id", ids, _id_of(cells)), ("path", places, path)):
            first = seen.setdefault(value, where)
            if first != where:
                yield f"{where} has the {kind} {value} of {first}"
                break
        split, first = splits.setdefault(cells["group"], (cells["split"], where))
        if cells["group"] and (split or "pool") != (cells["split"] or "pool"):
            yield f"{where} has another split than {first}, of the same group {cells['group']}"


def _problems_of_image(
    cells: Mapping[str, str], files: ImageFiles, classes: _Classes, outputs: Container[Path]
) -> Iterator[str]:
    path = files.path(cells["path"])
    if not cells["path"]:
        yield "has no path"
    elif not os.path.lexists(path):  # of a link to nothing, decoding says more, and it may be left out
        yield f"names {path}, and there is no such file{files.hint(cells['path'])}"
    elif os.path.isdir(path):  # noqa: PTH112  # which raises for no path
        yield f"names {path}, which is a directory"
    elif path in outputs:
        yield f"names {path}, which a run has written: a copy, or a drawing, of images; take it out"
    if problem := classes.problem_in(cells["label"]):
        yield problem
    if cells["split"] not in (*_SPLITS, ""):
        yield f"has the split {cells['split']}, which must be {', '.join(_SPLITS)} or empty"


def _problems_of_answer(answer: Incoming, names: SameNames, hints: Suggestions, classes: _Classes) -> Iterator[str]:
    if names.find_cell(answer.sample_id) is None:
        hint = hints.hint(answer.sample_id)
        yield f"{answer.where} has the sample_id {answer.sample_id}, which is no image of the pool{hint}"
    if problem := classes.problem_in(answer.label or ""):
        yield f"{answer.where} {problem}"


# --- classes ---------------------------------------------------------------------------------------------------------


class _Classes:
    """The classes that are given, or else all that were found; "" is none."""

    def __init__(self, found: Iterable[str], given: Sequence[str] | None) -> None:
        self.names = class_order(one_form(name for name in found if name)) if given is None else read_class_names(given)
        self._number = {name: number for number, name in enumerate(self.names)}
        self._same = SameNames(self.names)
        self._hints = Suggestions(self.names)

    def number(self, name: str) -> int | None:
        """Return the index of a class among the classes, in any Unicode form; None if there is no such class."""
        same = self._same.find(name)
        return None if same is None else self._number[same]

    def name_in(self, cell: str) -> str | None:
        """Return the class in a cell of a table, as `SameNames.find_cell` finds it."""
        return self._same.find_cell(cell)

    def number_in(self, cell: str) -> int:
        """Return the place of the class in a cell among the classes; −1 if there is none."""
        name = self.name_in(cell)
        return UNKNOWN if name is None else self._number[name]

    def problem_in(self, cell: str) -> str:
        """Return what is wrong with the label in a cell, or ""."""
        if not cell.strip() or self.name_in(cell) is not None:
            return ""
        advice = "; where the class is not known, leave the cell empty" if looks_missing(cell.strip()) else ""
        return f"has the label {cell}, which is not among the classes{self.hint(cell)}{advice}"

    def hint(self, name: str) -> str:
        return self._hints.hint(name)


def _refuse_splits(root: Folder, names: set[str]) -> None:
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
    """Draw the test set: True for each image in it."""
    unlabelled = {group for group, label in zip(table.groups, table.labels, strict=True) if label == UNKNOWN}
    return [is_drawn(group, fraction, seed) and group not in unlabelled for group in table.groups]


def is_drawn(group: str, fraction: float, seed: int) -> bool:
    """True if an image or a group is drawn for the test: a `fraction` of all names, by the name and the seed alone.

    Raises:
        ValueError: `fraction` is not in (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"test_fraction must be above 0 and below 1, a share of the labelled images; got {fraction}")
    digest = hashlib.blake2b(f"test:{seed}:{group}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53 < fraction


def _rows(table: ImageTable, is_test: Sequence[bool]) -> Iterator[tuple[str, bool, int]]:
    return zip(table.sample_ids, is_test, table.labels.tolist(), strict=True)
