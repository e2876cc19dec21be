"""The fonts of this machine that have given characters, by family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_SUFFIXES = (".ttf", ".otf")
_PROBE_SIZE = 32  # pixels
_IN_NO_FONT = "\U0010fffe"  # no character, so that a font draws its sign for missing ones


@dataclass(frozen=True)
class Face:
    """A file with one style of a font."""

    path: Path
    family: str  # "DejaVu Sans Mono"
    style: str  # "Bold"

    @property
    def name(self) -> str:
        """Family and style, with a hyphen for each space; no two faces of `find_faces` share it."""
        return "-".join(f"{self.family} {self.style}".replace("/", " ").split())

    @property
    def kin(self) -> str:
        """The first four letters of the family in lower case, which its serif, sans and narrow versions share."""
        return "".join(self.family.split())[:4].casefold()


def find_faces(root: Path, characters: Sequence[str]) -> list[Face]:
    """Return the faces below `root` that draw each character, all of them differently, sorted by their names.

    Of several files with a family and style, such as OpenType and TrueType, the first one by path is taken.
    """
    found: dict[str, Face] = {}
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES):
        face = _read(path, characters)
        if face is not None:
            found.setdefault(face.name, face)
    return [found[name] for name in sorted(found)]


def _read(path: Path, characters: Sequence[str]) -> Face | None:
    """Return the face, or None if it cannot be read or does not draw the characters."""
    try:
        font = ImageFont.truetype(str(path), _PROBE_SIZE)
        drawn = [_drawing(font, character) for character in characters]
        missing = _drawing(font, _IN_NO_FONT)
    except (OSError, ValueError):  # a file that FreeType cannot read, or a character of absurd size
        return None
    family, style = font.getname()
    draws_all = all(drawn) and len(set(drawn)) == len(drawn) and missing not in drawn
    return Face(path, family, style or "Regular") if draws_all and family and family.strip() else None


def _drawing(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    """Return the pixels of a character in the middle of a square; b"" if there are none."""
    image = Image.new("L", (2 * _PROBE_SIZE, 2 * _PROBE_SIZE))
    ImageDraw.Draw(image).text((_PROBE_SIZE, _PROBE_SIZE), character, fill=255, font=font, anchor="mm")
    return image.tobytes() if image.getbbox() else b""
