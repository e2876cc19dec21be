"""The section on pictures: the first samples of each query, with their scores."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path

from PIL import Image, PngImagePlugin

from assl_lightning.base.run_files import QUERIED, THUMBNAILS, round_directory
from assl_lightning.loop.queried import Row, read_queried
from assl_lightning.report.analysis.classes import class_names_of, present_labels
from assl_lightning.report.analysis.runs import Method, Run, Setting, shared_seeds
from assl_lightning.report.views import Block, Fold, Paragraph, Picture, Strip, Tile

MOST_TILES = 10  # of each round

THUMBNAIL = 112  # pixels of the longer side; it is shown at half of this size


def shown_seeds(setting: Setting) -> dict[str, int]:
    """Return method → the seed whose queries are shown: the lowest common one, else the method's lowest."""
    shared = shared_seeds(*setting.methods.values())
    return {name: shared[0] if shared else min(method.runs) for name, method in setting.methods.items()}


def thumbnail_blocks(setting: Setting, seeds: Mapping[str, int]) -> tuple[Block, ...]:
    """Show a strip of pictures for each round, in a fold for each of several methods; nothing if there are none."""
    found = {
        name: strips for name, method in setting.methods.items() if (strips := tuple(_strips(method, seeds[name])))
    }
    if not found:
        return ()
    sentence = (
        f"The first {MOST_TILES} samples of each query, best first. Below each: its score, if the strategy has one; "
        f"its uncertainty u and inconsistency i, as mean ± standard deviation of the running estimates; the label that "
        f"it got."
    )
    if len(setting.methods) == 1:
        return Paragraph(sentence), *next(iter(found.values()))
    return Paragraph(sentence), *(Fold(f"{name}, seed {seeds[name]}", strips) for name, strips in found.items())


def _strips(method: Method, seed: int) -> list[Strip]:
    run = method.runs[seed]
    directories = [round_directory(run.directory, record.round) for record in run.records]
    return [
        Strip(f"round {number}, with {run.records[number].labels:,} labels", _tiles(run, number, directory))
        for number, directory in enumerate(directories)
        if (directory / THUMBNAILS).exists() and not run.has_withdrawn(run.records[number])
    ]


def _tiles(run: Run, number: int, directory: Path) -> tuple[Tile, ...]:
    pictures = read_tiles(directory / THUMBNAILS, MOST_TILES)
    rows = read_queried(directory / QUERIED)
    names = class_names_of(run)
    labels = [names[label] if label >= 0 else None for label in present_labels(run, run.records[number])]
    return tuple(
        Tile(picture, rows[rank].get("sample_id", "") if rank < len(rows) else "", _lines(rank, rows, labels))
        for rank, picture in enumerate(pictures)
    )


def _lines(rank: int, rows: Sequence[Row], labels: Sequence[str | None]) -> tuple[str, ...]:
    row = rows[rank] if rank < len(rows) else {}
    lines = [f"score {float(row['score']):#.3g}"] if row.get("score") else []
    for sign, name in (("u", "uncertainty"), ("i", "inconsistency")):
        mean, variance = row.get(f"{name}_mean"), row.get(f"{name}_variance")
        if mean and variance:
            lines.append(f"{sign} {float(mean):.2f} ± {sqrt(max(float(variance), 0.0)):.2f}")
    if rank < len(labels):
        lines.append("no label" if labels[rank] is None else f"label {labels[rank]}")
    return tuple(lines)


def read_tiles(path: Path, most: int) -> list[Picture]:
    """Read the first tiles of a contact sheet, row by row; their size is in the text of the PNG.

    Raises:
        ValueError: the file is no contact sheet.
    """
    try:
        with Image.open(path) as sheet:
            text = sheet.text if isinstance(sheet, PngImagePlugin.PngImageFile) else {}
            width, height, columns, count = (
                int(text[key]) for key in ("tile_width", "tile_height", "columns", "count")
            )
            rows = -(-count // max(columns, 1))
            if min(width, height, columns) < 1 or width * columns > sheet.width or height * rows > sheet.height:
                size = f"{sheet.width} × {sheet.height}"
                raise ValueError(  # noqa: TRY301
                    f"{count} tiles of {width} × {height} in {columns} columns do not fit its {size}"
                )
            return [
                _tile(sheet, (rank % columns * width, rank // columns * height, width, height))
                for rank in range(min(most, count))
            ]
    except Exception as error:  # Pillow's decoders may raise any error
        raise ValueError(
            f"{path} is not a contact sheet, a PNG whose text has tile_width, tile_height, columns and count "
            f"({type(error).__name__}: {error}); remove it, and the report does without"
        ) from None


def thumbnail(path: Path) -> Picture | None:
    """Return an image for a list, at most `THUMBNAIL` pixels wide and high; None if the file is gone.

    An image of at most half that size is enlarged by a whole number, so that its pixels stay squares.

    Raises:
        ValueError: the file is no image.
    """
    if not path.exists():
        return None
    try:
        with Image.open(path) as image:
            image.draft("RGB", (THUMBNAIL, THUMBNAIL))
            return small_picture(image.convert("L" if image.mode in ("1", "L", "LA", "I;16") else "RGB"))
    except Exception as error:  # as above
        raise ValueError(
            f"{path} is not an image ({type(error).__name__}: {error}); remove it, and the report does without"
        ) from None


def small_picture(image: Image.Image) -> Picture:
    """Return an image at most `THUMBNAIL` pixels wide and high, as `thumbnail` does."""
    file = io.BytesIO()
    factor = THUMBNAIL // max(image.size)
    if factor > 1:
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(
            file, format="PNG", optimize=True
        )
        return Picture(file.getvalue(), "image/png")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(file, format="JPEG", quality=80)
    return Picture(file.getvalue(), "image/jpeg")


def _tile(sheet: Image.Image, box: tuple[int, int, int, int]) -> Picture:
    left, top, width, height = box
    file = io.BytesIO()
    sheet.crop((left, top, left + width, top + height)).save(file, format="PNG", optimize=True)
    return Picture(file.getvalue(), "image/png")
