"""The content of a report, independent of Markdown and HTML: sections of sentences, tables, figures and pictures.

All text is unescaped: `html` and `markdown` escape it, each in its own way.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of whole sentences."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Picture:
    """The file of an image, embedded in the page."""

    content: bytes
    media_type: str  # image/svg+xml | image/png | image/jpeg

    @property
    def uri(self) -> str:
        """The image as a `data:` address."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; the first column names the row, the others are numbers unless `is_text`."""

    kind: ClassVar[str] = "table"
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_text: bool = False
    has_total: bool = False  # the last row summarises the others
    pictures: tuple[Picture | None, ...] = ()  # one or None for each row, or empty
    other_pictures: tuple[Picture | None, ...] = ()  # a second one beside each, or empty

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"a row of {self.caption!r} has {len(row)} cells under {len(self.header)} headings")
        for pictures in (self.pictures, self.other_pictures):
            if pictures and len(pictures) != len(self.rows):
                raise ValueError(f"{self.caption!r} has {len(pictures)} pictures for {len(self.rows)} rows")


@dataclass(frozen=True)
class Illustration:
    """A drawing with a caption and a text alternative."""

    kind: ClassVar[str] = "figure"
    picture: Picture
    alternative: str  # text for readers who cannot see the drawing
    caption: str
    is_wide: bool = False  # the drawing has many small panels
    is_dense: bool = False  # the drawing has much small text, so that a narrow screen scrolls it


@dataclass(frozen=True)
class Tile:
    """A queried sample."""

    picture: Picture
    name: str  # its sample_id
    lines: tuple[str, ...]  # text below it, such as its score


@dataclass(frozen=True)
class Strip:
    """Samples side by side, in the order of the picks."""

    kind: ClassVar[str] = "strip"
    caption: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks that are hidden until the reader opens them, and left out of the Markdown."""

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: tuple[Block, ...]


Block = Paragraph | Table | Illustration | Strip | Fold


@dataclass(frozen=True)
class Section:
    """A heading with its blocks; a section of `level` 3 belongs to the section of level 2 above it."""

    title: str
    blocks: tuple[Block, ...]
    level: int = 2


@dataclass(frozen=True)
class Page:
    """A whole report; `lead` is its summary."""

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def numbered(self) -> Iterator[tuple[str, Section]]:
        """The sections, each with a name for links to it."""
        return ((f"section-{number}", section) for number, section in enumerate(self.sections, start=1))
