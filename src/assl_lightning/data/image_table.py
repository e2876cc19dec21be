"""Which images there are, by what name, with which label, for the pool or for the test; no pixel is looked at here.

Folders, folders of classes and manifests all become one `ImageTable`. Whatever is wrong with one is told at once.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from assl_lightning.data.folders import find_images
from assl_lightning.data.outputs import pictures_of_runs
from assl_lightning.data.problems import refuse

log = logging.getLogger(__name__)

UNKNOWN = -1
"""The label of an image that nobody has labelled."""

_SPLITS = ("pool", "test")
_COLUMNS = ("sample_id", "path", "label", "split", "group")

_Row = Mapping[str, str]  # column → cell, without spaces around it; "" where there is none


@dataclass(frozen=True)
class ImageTable:
    """N images. Folders give them in the order of their sample ids, manifests in their own."""

    sample_ids: tuple[str, ...] = field(repr=False)  # N stable, distinct names
    paths: tuple[Path, ...] = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)  # (N,) in [0, C), −1 where nobody knows
    splits: tuple[str, ...] = field(repr=False)  # pool | test, and "" where it is not said
    groups: tuple[str, ...] = field(repr=False)  # what must not be parted; the sample's id where it stands alone
    class_names: tuple[str, ...]  # C names; a label is a place among them

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
        )


def read_folder(root: Path, class_names: Sequence[str]) -> ImageTable:
    """All images below `root`, without labels. An image's sample id is its path from `root`, "2024/cat 1.jpg".

    Files are images by their names, and what is no data is passed over, as `find_images` has it; directories that are
    links are gone into.

    Raises:
        FileNotFoundError: `root` is no directory.
        ValueError: there is no image, a name that cannot be written as UTF-8, or `root` lies in a run's own directory.
    """
    sample_ids = find_images(root)
    return _make_table(root, sample_ids, [UNKNOWN] * len(sample_ids), class_names)


def read_image_folder(root: Path, class_names: Sequence[str] | None = None) -> ImageTable:
    """All images below `root`, each with the name of its first directory as its class; otherwise as `read_folder`.

    The classes are `class_names` in that order, or all directories that have an image, as `class_order` has them.

    Raises:
        FileNotFoundError: `root` is no directory.
        ValueError: as `read_folder`; an image that is in no directory, or in one that is not among `class_names`.
    """
    sample_ids = find_images(root)
    problems = [f"{name} is in no class's directory" for name in sample_ids if "/" not in name]
    found = [name.partition("/")[0] for name in sample_ids]
    names = _distinct(class_names) if class_names is not None else class_order(set(found))
    number = {name: place for place, name in enumerate(names)}
    strange = Counter(name for name, sample_id in zip(found, sample_ids, strict=True) if "/" in sample_id)
    problems += [
        f"{name}/ ({count} images) is not among the classes{_nearest(name, names)}"
        for name, count in strange.items()
        if name not in number
    ]
    refuse(f"{root} must have one directory for each of its classes", problems)
    return _make_table(root, sample_ids, [number[name] for name in found], names)


def read_manifest(path: Path, root: Path | None = None, class_names: Sequence[str] | None = None) -> ImageTable:
    """A table of images: CSV (UTF-8, commas, a header), or Parquet where the name ends in .parquet, with pyarrow.

    Columns, in any order; others are passed over with a message:

    * path: relative to `root` (default: where the manifest is), or absolute.
    * sample_id: the stable name; without the column, the path as it stands there.
    * label: the class's name; empty where nobody knows.
    * split: pool or test; empty where it is to be drawn, see `hold_out`.
    * group: images that must not be parted between pool and test, of one patient for instance; empty where it is alone.

    The classes are `class_names` in that order, or all that the column label has, as `class_order` has them.

    Raises:
        FileNotFoundError: the manifest is missing.
        ImportError: it is Parquet, and pyarrow is not installed.
        ValueError: it cannot be read, or anything in it is wrong; the first ten problems are named, by their lines.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be a manifest, a CSV or Parquet file; there is no such file")
    numbered = list(_read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path))
    place = path.parent if root is None else root
    labels = {row["label"] for _, row, _ in numbered if row["label"]}
    names = _distinct(class_names) if class_names is not None else class_order(labels)
    refuse(f"{path} must be a table of images", _problems(numbered, place, names))
    rows = [row for _, row, _ in numbered]
    if not rows:
        raise ValueError(f"{path} must have a line for each image; it has a header and nothing below it")
    number = {name: position for position, name in enumerate(names)}
    sample_ids = [_id_of(row) for row in rows]
    return ImageTable(
        sample_ids=tuple(sample_ids),
        paths=tuple(place / row["path"] for row in rows),
        labels=np.array([number.get(row["label"], UNKNOWN) for row in rows], dtype=np.int64),
        splits=tuple(row["split"] for row in rows),
        groups=tuple(row["group"] or name for row, name in zip(rows, sample_ids, strict=True)),
        class_names=tuple(names),
    )


def read_labels(path: Path, table: ImageTable, class_names: Sequence[str] | None = None) -> ImageTable:
    """The table with the labels that a CSV file (UTF-8, commas, a header) has for some of its images.

    Its columns are sample_id and label, in any order; others are passed over with a message. A line without a label
    says nothing. The classes are `class_names` in that order, or all labels of the file, as `class_order` has them.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it cannot be read, or has a sample_id that the table has not, a label that is no class, or a
            sample_id twice; the first ten problems are named, by their lines.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} must be a CSV file with the columns sample_id and label; there is no such file"
        )
    numbered = list(_read_csv(path, ("sample_id", "label"), needed=("sample_id", "label")))
    found = {row["label"] for _, row, _ in numbered if row["label"]}
    names = _distinct(class_names) if class_names is not None else class_order(found)
    place = {sample_id: number for number, sample_id in enumerate(table.sample_ids)}
    refuse(f"{path} must have labels of images in the pool", _problems_of_labels(numbered, place, names))
    number = {name: position for position, name in enumerate(names)}
    labels = table.labels.copy()
    for _, row, _ in numbered:
        if row["label"]:
            labels[place[row["sample_id"]]] = number[row["label"]]
    return replace(table, labels=labels, class_names=tuple(names))


def hold_out(table: ImageTable, fraction: float, seed: int) -> tuple[ImageTable, ImageTable]:
    """The table in two, pool and test.

    Where any split is said, test is what says so and the pool is the rest. Where none is, each labelled image goes to
    the test with probability `fraction`, by its group and `seed` alone: an image stays where it is, whichever others
    come or go. Images without a label are the pool's, and so are all of a group that has one.

    Raises:
        ValueError: a test image without a label, no image left for one of the two, or `fraction` is not in (0, 1).
    """
    if not any(table.splits):
        is_test = _draw(table, fraction, seed)
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


def class_order(names: set[str]) -> list[str]:
    """By their letters; by their values where all of them are whole numbers.

    >>> class_order({"dent", "Ok", "scratch"}), class_order({"0", "10", "2"})
    (['Ok', 'dent', 'scratch'], ['0', '2', '10'])
    """
    are_numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name) if are_numbers else 0, name))


# --- folders ---------------------------------------------------------------------------------------------------------


def _make_table(root: Path, sample_ids: Sequence[str], labels: Sequence[int], class_names: Sequence[str]) -> ImageTable:
    return ImageTable(
        sample_ids=tuple(sample_ids),
        paths=tuple(root / name for name in sample_ids),
        labels=np.array(labels, dtype=np.int64),
        splits=("",) * len(sample_ids),
        groups=tuple(sample_ids),
        class_names=tuple(class_names),
    )


# --- manifests -------------------------------------------------------------------------------------------------------

_Numbered = tuple[str, _Row, str]  # where it stands ("line 3"), its cells, what is wrong with it as a line


def _read_csv(path: Path, columns: Sequence[str] = _COLUMNS, needed: Sequence[str] = ("path",)) -> Iterator[_Numbered]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            _check_header(path, header, columns, needed)
            begins = reader.line_num + 1
            for cells in reader:
                line, begins = begins, reader.line_num + 1
                if not any(cell.strip() for cell in cells):
                    continue
                fault = "" if len(cells) == len(header) else f"has {len(cells)} cells, the header {len(header)}"
                yield f"line {line}", _row(header, cells), fault
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be written in UTF-8 ({error}); save it so") from error
    except csv.Error as error:
        raise ValueError(f"{path} must be a CSV file; {error} after line {reader.line_num}") from error


def _read_parquet(path: Path) -> Iterator[_Numbered]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{path} is a Parquet file, and pyarrow, which reads it, is not installed; install it with pip install "
            f"'assl-lightning[parquet]', or save the table as CSV"
        ) from error
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} must be a Parquet file ({error}); write it again") from error
    header = table.column_names
    _check_header(path, header)
    known = [name for name in header if name in _COLUMNS]
    columns = [table.column(name).to_pylist() for name in known]
    for number, cells in enumerate(zip(*columns, strict=True), start=1):
        yield f"row {number}", _row(known, ["" if cell is None else str(cell) for cell in cells]), ""


def _check_header(
    path: Path, header: Sequence[str], columns: Sequence[str] = _COLUMNS, needed: Sequence[str] = ("path",)
) -> None:
    repeated = [name for name, count in Counter(header).items() if count > 1 and name in columns]
    problems = [f"it has the column {name} more than once" for name in repeated]
    problems += [
        f"it has no column {name}; its columns are {', '.join(header) or 'none'}"
        for name in needed
        if name not in header
    ]
    others = [name for name in header if name not in columns]
    absent = [name for name in columns if name not in header]
    problems += [f"it has a column {name}{hint}" for name in others if (hint := _nearest(name, absent))]
    in_words = f"the column{'s' * (len(needed) > 1)} {' and '.join(needed)}"
    may_have = f", and may have {', '.join(columns)}" if len(columns) > len(needed) else ""
    refuse(f"{path} must have a header with {in_words}{may_have}", problems)
    if others:
        log.info("%s: columns that are not used: %s", path, ", ".join(others))


def _row(header: Sequence[str], cells: Sequence[str]) -> _Row:
    given = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    return {name: given.get(name, "") for name in _COLUMNS}


def _id_of(row: _Row) -> str:
    return row["sample_id"] or row["path"]


def _problems(numbered: Sequence[_Numbered], root: Path, names: Sequence[str]) -> Iterator[str]:
    """Everything that is wrong with the lines, in their order."""
    ids: dict[str, str] = {}
    places: dict[str, str] = {}
    splits: dict[str, tuple[str, str]] = {}  # group → its split, and where that was said
    known = set(names)
    outputs = set(pictures_of_runs(root / row["path"] for _, row, fault in numbered if row["path"] and not fault))
    for where, row, fault in numbered:
        for problem in (fault,) if fault else _problems_of(row, root, names, known, outputs):
            yield f"{where} {problem}"
        if fault or not row["path"]:
            continue
        path = os.path.normpath(root / row["path"])
        for kind, seen, value in (("sample_id", ids, _id_of(row)), ("path", places, path)):
            first = seen.setdefault(value, where)
            if first != where:
                yield f"{where} has the {kind} {value} of {first}"
                break
        split, first = splits.setdefault(row["group"], (row["split"], where))
        if row["group"] and (split or "pool") != (row["split"] or "pool"):
            yield f"{where} has another split than {first}, of the same group {row['group']}"


def _problems_of(
    row: _Row, root: Path, names: Sequence[str], known: set[str], outputs: Container[Path]
) -> Iterator[str]:
    if not row["path"]:
        yield "has no path"
    elif not (root / row["path"]).is_file():
        yield f"names {root / row['path']}, and there is no such file"
    elif root / row["path"] in outputs:
        yield f"names {root / row['path']}, which a run has written: a copy, or a drawing, of images; take it out"
    if row["label"] and row["label"] not in known:
        yield f"has the label {row['label']}, which is not among the classes{_nearest(row['label'], names)}"
    if row["split"] not in (*_SPLITS, ""):
        yield f"has the split {row['split']}, which must be {', '.join(_SPLITS)} or empty"


def _problems_of_labels(numbered: Sequence[_Numbered], known: Container[str], names: Sequence[str]) -> Iterator[str]:
    """Everything that is wrong with the lines of a file of labels, in their order."""
    ids: dict[str, str] = {}
    for where, row, fault in numbered:
        sample_id, label = row["sample_id"], row["label"]
        if fault or not sample_id:
            yield f"{where} {fault or 'has no sample_id'}"
            continue
        first = ids.setdefault(sample_id, where)
        if first != where:
            yield f"{where} has the sample_id {sample_id} of {first}"
        elif sample_id not in known:
            yield f"{where} has the sample_id {sample_id}, which is no image of the pool"
        if label and label not in names:
            yield f"{where} has the label {label}, which is not among the classes{_nearest(label, names)}"


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


def _distinct(class_names: Sequence[str]) -> list[str]:
    """As texts, since a configuration may have classes that look like numbers."""
    names = [str(name) for name in class_names]
    refuse(
        "class_names must be distinct",
        [f"{name} is there {count} times" for name, count in Counter(names).items() if count > 1],
    )
    return names


# --- words -----------------------------------------------------------------------------------------------------------


def _nearest(name: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.75)
    return f" (did you mean {close[0]}?)" if close else ""
