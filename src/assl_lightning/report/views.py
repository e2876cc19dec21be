"""What a report says, before it is Markdown or HTML: sections of sentences, tables, figures and strips of pictures.

Everything here is text as a person should read it. Nothing is escaped yet: `html` and `markdown` do that, each in its
own way.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Paragraph:
    """One or more whole sentences."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Picture:
    """An image's file, held in the page itself."""

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
    has_total: bool = False  # the last row sums up the others
    pictures: tuple[Picture | None, ...] = ()  # of what each row is about; where there are any, one or None a row

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"a row of {self.caption!r} has {len(row)} cells under {len(self.header)} headings")
        if self.pictures and len(self.pictures) != len(self.rows):
            raise ValueError(f"{self.caption!r} has {len(self.pictures)} pictures for {len(self.rows)} rows")


@dataclass(frozen=True)
class Illustration:
    """A drawing with the words that stand for it."""

    kind: ClassVar[str] = "figure"
    picture: Picture
    alternative: str  # for who cannot see it
    caption: str
    is_wide: bool = False  # of many small panels


@dataclass(frozen=True)
class Tile:
    """A sample that was queried."""

    picture: Picture
    name: str  # its sample_id
    lines: tuple[str, ...]  # below it, such as its score


@dataclass(frozen=True)
class Strip:
    """Samples side by side, in pick order."""

    kind: ClassVar[str] = "strip"
    caption: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Fold:
    """What is there to be looked up: closed until it is asked for, and not in the Markdown."""

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: tuple[Block, ...]


Block = Paragraph | Table | Illustration | Strip | Fold


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; `level` 2 is the page's own, 3 belongs to the section of level 2 above."""

    title: str
    blocks: tuple[Block, ...]
    level: int = 2


@dataclass(frozen=True)
class Page:
    """A whole report; `lead` is what a reader in a hurry reads."""

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def numbered(self) -> Iterator[tuple[str, Section]]:
        """Each section with a name for links to it."""
        return ((f"section-{number}", section) for number, section in enumerate(self.sections, start=1))
