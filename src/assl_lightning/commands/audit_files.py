"""Files of an audit: a table, and a page with pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from assl_lightning.base.atomic import write_text
from assl_lightning.base.csv_text import table_as_csv
from assl_lightning.base.words import counted
from assl_lightning.commands.auditing import Audit, Finding, Kind
from assl_lightning.commands.predicting import RunPredictor
from assl_lightning.data.rendition import rendition
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.report.html import render_html
from assl_lightning.report.sections.thumbnails import THUMBNAIL, small_picture
from assl_lightning.report.views import Page, Paragraph, Picture, Section, Table

COLUMNS = (
    *("finding", "sample_id", "part", "label", "predicted_class", "score"),
    *("other_image", "other_label", "judged_by", "path"),
)
MOST_ON_THE_PAGE = 100
"""Findings of each kind that the page shows; the table has all."""


def write_table(found: Audit, source: PoolSource, path: Path) -> None:
    """Write a row for each finding, as CSV."""
    write_text(path, table_as_csv(COLUMNS, (_row(finding, source) for finding in found.findings)))


def _row(finding: Finding, source: PoolSource) -> tuple[str, ...]:
    score = "" if finding.score is None else f"{finding.score:.6g}"
    is_file = bool(source.paths) and finding.part != "test"
    return (
        *(finding.kind, finding.name, finding.part, finding.label, finding.predicted, score),
        *(finding.other, finding.other_label, finding.judged_by, str(source.paths[finding.index]) if is_file else ""),
    )


def write_page(found: Audit, predictor: RunPredictor, path: Path) -> None:
    """Write the page: one HTML file that needs nothing else."""
    write_text(path, render_html(make_page(found, predictor)))


def make_page(found: Audit, predictor: RunPredictor) -> Page:
    """Return the page, with a section for each kind of finding."""
    name = predictor.config.name
    labels = sum(len(group.judged) for group in found.groups)
    missing = [title.lower() for kind, title, _ in _SECTIONS if not found.of_kind(kind)]
    lead = (
        f"{counted(found.images, 'image')} of the pool and {counted(labels, 'label')} were looked at, with the network "
        f"of round {predictor.trained_round}. What stands here is a suspicion: look before you change anything.",
        *([f"Nothing was found of these: {'; '.join(missing)}."] if missing else []),
    )
    sections = tuple(
        Section(title, (Paragraph(sentence), _table(findings, predictor.source)))
        for kind, title, sentence in _SECTIONS
        if (findings := found.of_kind(kind))
    )
    return Page(f"Audit of {name}", lead, sections)


_SECTIONS: tuple[tuple[Kind, str, str], ...] = (
    (
        "label",
        "Labels that are probably wrong",
        "The least probable first. The probability is the one that the network gives the label; most networks were not "
        "trained on the labels that they judge.",
    ),
    (
        "copy",
        "Near copies in the pool",
        "Beside each image the nearest one before it. A label of one of the two is as good for the other; if they have "
        "two labels, one of these is probably wrong.",
    ),
    (
        "copy_in_test",
        "Held-out and test images with a near copy in the pool",
        "The network may have been trained on the copy, so that the accuracy on these images says little.",
    ),
    ("empty", "Empty images", "All pixels have nearly the same grey level."),
    ("blurred", "Blurred images", "The variance of the Laplacian is far below the median of the pool's images."),
    ("unreadable", "Images that cannot be read", "They are gone or broken, and were passed over."),
)

_HEADERS: dict[Kind, tuple[str, ...]] = {
    "label": ("image", "label", "predicted", "probability of the label", "judged by"),
    "copy": ("image", "near copy of", "label", "label of the other", "bits that differ"),
    "copy_in_test": ("image", "near copy of", "label", "label of the other", "bits that differ"),
    "empty": ("image", "label", "standard deviation"),
    "blurred": ("image", "label", "share of the median"),
    "unreadable": ("image", "label"),
}


def _table(findings: Sequence[Finding], source: PoolSource) -> Table:
    shown = findings[:MOST_ON_THE_PAGE]
    count = counted(len(findings), "finding")
    caption = count if len(shown) == len(findings) else f"the first {len(shown)} of {count}; the table has all"
    header = _HEADERS[shown[0].kind]
    rows = tuple(_cells(finding) for finding in shown)
    pictures = tuple(_picture(finding, source) for finding in shown)
    others = tuple(_pool_picture(finding.other_index, source) for finding in shown) if shown[0].other else ()
    return Table(caption, header, rows, is_text=True, pictures=pictures, other_pictures=others)


def _cells(finding: Finding) -> tuple[str, ...]:
    label, score = finding.label or "–", "" if finding.score is None else f"{finding.score:.3g}"
    name = finding.name if finding.part == "pool" else f"{finding.name} ({finding.part})"
    if finding.kind == "label":
        return name, label, finding.predicted, f"{finding.score:.3f}", finding.judged_by
    if finding.other:
        return name, finding.other, label, finding.other_label or "–", score
    return (name, label, score) if finding.kind != "unreadable" else (name, label)


def _picture(finding: Finding, source: PoolSource) -> Picture | None:
    if finding.kind == "unreadable":
        return None
    if finding.part != "test":
        return _pool_picture(finding.index, source)
    (pixels,) = source.test_images[torch.tensor([finding.index])]
    return _as_picture(*rendition(pixels, None, THUMBNAIL))


def _pool_picture(index: int, source: PoolSource) -> Picture:
    (pixels,) = source.pool_images[torch.tensor([index])]
    return _as_picture(*rendition(pixels, source.paths[index] if source.paths else None, THUMBNAIL))


def _as_picture(_suffix: str, content: bytes) -> Picture:
    with Image.open(io.BytesIO(content)) as image:
        return small_picture(image)
