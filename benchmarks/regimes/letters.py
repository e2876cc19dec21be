"""`python -m benchmarks.regimes.letters DIR`: the letters A to Z in the fonts of this machine, 26 classes.

Fonts of one family, and of families whose names begin alike, are all in the pool or all in the test set, so that a test
asks for letters in fonts that nothing was trained on.
"""

from __future__ import annotations

import argparse
import string
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from assl_lightning.base.command_line import as_command
from assl_lightning.base.paths import path_argument
from assl_lightning.base.seeding import derive_key
from benchmarks.regimes.fonts import Face, find_faces
from benchmarks.regimes.image_set import Part, Sample, write_image_set

LETTERS = string.ascii_uppercase
SIZE = 28  # pixels, height and width
FEWEST_FACES = 100
MOST_OF_KIN = 4  # faces, so that a font with fifty weights does not make half of the images

_TEST_SHARE = 0.3  # of the kins
_FINER = 4  # letters are drawn this much larger, then shrunk
_HEIGHTS = (0.55, 0.8)  # of a letter's longer side, as a share of the image's
_LARGEST_ANGLE = 12.0  # degrees
_LARGEST_SHIFT = 2.0  # pixels


def choose_faces(root: Path, seed: int, fewest: int) -> list[tuple[Part, Face]]:
    """Return "pool" or "test" with each face of the fonts below `root` that is used, sorted by the names of the faces.

    The part of a kin of fonts is a function of its name and `seed`, whatever other fonts there are.

    Raises:
        ValueError: there are fewer than `fewest` faces, or none in a part.
    """
    by_kin: dict[str, list[Face]] = defaultdict(list)
    for face in find_faces(root, LETTERS):
        by_kin[face.kin].append(face)
    chosen = [
        (_part(kin, seed), face)
        for kin, faces in by_kin.items()
        for face in sorted(faces, key=lambda face: derive_key(seed, face.name))[:MOST_OF_KIN]
    ]
    if len(chosen) < fewest or {part for part, _ in chosen} != {"pool", "test"}:
        raise ValueError(
            f"{root} must have {fewest} fonts or more with the letters A to Z, for the pool and the test set, counting "
            f"at most {MOST_OF_KIN} of a family; it has {len(chosen)}. Install more, such as the packages that "
            f"benchmarks/regimes/fonts.txt names: apt-get install $(cat benchmarks/regimes/fonts.txt)"
        )
    return sorted(chosen, key=lambda pair: pair[1].name)


def _part(kin: str, seed: int) -> Part:
    return "test" if np.random.default_rng(derive_key(seed, f"part of {kin}")).random() < _TEST_SHARE else "pool"


def draw_letter(face: Face, letter: str, seed: int) -> Image.Image:
    """Draw a letter, white on black, of a random size, angle and place; a function of the face, letter and `seed`."""
    generator = np.random.default_rng(derive_key(seed, f"{face.name} {letter}"))
    height, angle = generator.uniform(*_HEIGHTS) * SIZE, generator.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE)
    shift = generator.uniform(-_LARGEST_SHIFT, _LARGEST_SHIFT, size=2)
    side = SIZE * _FINER
    font = ImageFont.truetype(str(face.path), side)
    left, top, right, bottom = font.getbbox(letter)
    font = ImageFont.truetype(str(face.path), max(round(side * height * _FINER / max(right - left, bottom - top)), 1))
    left, top, right, bottom = font.getbbox(letter)
    image = Image.new("L", (side, side))
    middle = ((side - left - right) / 2, (side - top - bottom) / 2)
    ImageDraw.Draw(image).text(middle, letter, fill=255, font=font)
    moved = image.rotate(
        angle, Image.Resampling.BICUBIC, translate=tuple((shift * _FINER).round().astype(int).tolist())
    )
    return moved.resize((SIZE, SIZE), Image.Resampling.BOX)


def letters(root: Path, seed: int, fewest: int) -> Iterator[Sample]:
    """Yield every letter in every face that `choose_faces` returns, once."""
    for part, face in choose_faces(root, seed, fewest):
        for letter in LETTERS:
            yield Sample(part, letter, face.name, draw_letter(face, letter, seed))


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the images."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regimes.letters", description=__doc__)
    parser.add_argument("directory", type=path_argument, help="where to write; must not exist")
    parser.add_argument("--fonts", type=path_argument, default=Path("/usr/share/fonts"), help="where fonts lie")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sizes, angles and places, and of the parts")
    parser.add_argument("--fewest", type=int, default=FEWEST_FACES, help="an error if there are fewer fonts")
    options = parser.parse_args(arguments)
    count = write_image_set(letters(options.fonts, options.seed, options.fewest), options.directory)
    print(f"{count:,} images in {options.directory}")


if __name__ == "__main__":
    sys.exit(main())
