"""Files of predictions: a table, a directory of links, a manifest, and tasks for Label Studio."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any
from urllib.parse import quote

from assl_lightning.base.atomic import open_atomic, write_text
from assl_lightning.base.csv_text import table_as_csv
from assl_lightning.base.extras import install_command
from assl_lightning.people.label_studio.convention import CONTROL, MODEL_VERSION, SERVERS_FILES

COLUMNS = ("sample_id", "class", "confidence", "second_class", "second_confidence", "uncertainty")
_PARQUET = ".parquet"


@dataclass(frozen=True)
class PredictedImage:
    """The prediction of one image."""

    sample_id: str  # or the file's name, of an image that is not in the pool
    class_name: str
    confidence: float  # in [0, 1]
    second_class: str
    second_confidence: float
    uncertainty: float  # the running one of the newest training; NaN where it kept none
    path: Path | None  # None where the data are not in files


@dataclass(frozen=True)
class LabelledImage:
    """An image with its label, or with a prediction that is taken for one."""

    sample_id: str
    class_name: str
    path: Path
    is_held_out: bool = False


def write_table(images: Sequence[PredictedImage], path: Path) -> None:
    """Write a row for each image: Parquet where the name ends in .parquet, else CSV.

    Raises:
        ImportError: it is Parquet, and pyarrow is not installed.
    """
    if path.suffix.lower() == _PARQUET:
        _write_parquet(images, path)
        return
    write_text(path, table_as_csv(COLUMNS, map(_row, images)))


def check_table(path: Path) -> None:
    """Raise an ImportError where a table could not be written to `path`, before any work is done."""
    if path.suffix.lower() == _PARQUET:
        _pyarrow(path)


def _row(image: PredictedImage) -> tuple[str, ...]:
    numbers = (image.confidence, image.second_confidence, image.uncertainty)
    confidence, second, uncertainty = ("" if isnan(number) else f"{number:.6g}" for number in numbers)
    return image.sample_id, image.class_name, confidence, image.second_class, second, uncertainty


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"{path} is to be a Parquet file, and pyarrow, which writes it, is not installed; install it with "
            f"{install_command('parquet')}, or give a name that ends in .csv"
        ) from error
    return pyarrow


def _write_parquet(images: Sequence[PredictedImage], path: Path) -> None:
    pyarrow = _pyarrow(path)
    values: tuple[list[Any], ...] = (
        [image.sample_id for image in images],
        [image.class_name for image in images],
        [image.confidence for image in images],
        [image.second_class for image in images],
        [image.second_confidence for image in images],
        [None if isnan(image.uncertainty) else image.uncertainty for image in images],
    )
    text, number = pyarrow.string(), pyarrow.float64()
    kinds = (text, text, number, text, number, number)
    arrays = [pyarrow.array(column, kind) for column, kind in zip(values, kinds, strict=True)]
    with open_atomic(path) as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=list(COLUMNS)), file)


def write_links(images: Sequence[LabelledImage], directory: Path) -> None:
    """Make a new directory of links to the images, CLASS/SAMPLE_ID, as data=image_folder reads it; all of it or none.

    A name without the suffix of its file gets it. Of two images whose names would be the same, the second has a number.
    """
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as temporary:
        made = Path(temporary) / directory.name
        made.mkdir()
        for image in images:
            link = _unused(made / image.class_name / _below(image.sample_id, image.path.suffix))
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(image.path.resolve())
        if directory.exists():
            directory.rmdir()  # it is empty
        shutil.move(made, directory)


def check_links(class_names: set[str], directory: Path, images: Sequence[Path], option: str = "--folder") -> None:
    """Raise a ValueError where `write_links` could not make the directory, before any work is done.

    It must be new or empty, not lie among the pool's `images`, which it would join, and have classes that can be the
    names of directories. `option` named the directory.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{option} {directory}: must be a directory that is new or empty; choose another")
    top = Path(os.path.commonpath([path.resolve().parent for path in images]))
    if directory.resolve().is_relative_to(top):
        raise ValueError(
            f"{option} {directory}: must not lie among the pool's images, below {top}, which its links would join; "
            f"choose another"
        )
    odd = next((name for name in sorted(class_names) if "/" in name or name.startswith(".")), None)
    if odd is not None:
        raise ValueError(
            f"{option} {directory}: the class {odd!r} cannot be the name of a directory; use a table, or rename it "
            f"with python -m assl_lightning.classes"
        )


def _below(sample_id: str, suffix: str) -> Path:
    path = Path(*(part for part in Path(sample_id).parts if part not in ("/", "..")))
    return path if path.suffix else path.with_name(f"{path.name}{suffix}")


def _unused(link: Path) -> Path:
    """Return the path, or, where there is one already, with a number before the suffix."""
    number, found = 2, link
    while found.is_symlink():
        found, number = link.with_name(f"{link.stem}_{number}{link.suffix}"), number + 1
    return found


def write_manifest(images: Sequence[LabelledImage], path: Path) -> None:
    """Write a table that data=manifest reads: path, sample_id, label and split."""
    rows = [
        (image.path.resolve(), image.sample_id, image.class_name, "test" if image.is_held_out else "pool")
        for image in images
    ]
    write_text(path, table_as_csv(("path", "sample_id", "label", "split"), rows))


def check_root(images: Sequence[Path], root: Path) -> None:
    """Raise a ValueError unless all images lie below `root`, the document root of a Label Studio."""
    outside = next((path for path in images if not path.resolve().is_relative_to(root.resolve())), None)
    if outside is not None:
        raise ValueError(
            f"--image-root {root}: must be a directory above the images, the document root of Label Studio; {outside} "
            f"is not below it"
        )


def write_label_studio(images: Sequence[PredictedImage], path: Path, root: Path) -> None:
    """Write tasks with predictions, for import into a Label Studio that serves the files below `root`."""
    write_text(path, json.dumps([_task(image, root.resolve()) for image in images], indent=1, ensure_ascii=False))


def _task(image: PredictedImage, root: Path) -> dict[str, Any]:
    assert image.path is not None
    result = {
        "from_name": CONTROL,
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [image.class_name]},
    }
    place = image.path.resolve().relative_to(root).as_posix()
    return {
        "data": {"image": SERVERS_FILES + quote(place), "sample_id": image.sample_id},
        "predictions": [{"model_version": MODEL_VERSION, "score": image.confidence, "result": [result]}],
    }
