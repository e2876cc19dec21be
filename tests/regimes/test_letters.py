"""The letters are drawn in the fonts that come with Matplotlib."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image

from assl_lightning.data import load_image_folder
from benchmarks.regimes.fonts import Face
from benchmarks.regimes.letters import LETTERS, MOST_OF_KIN, choose_faces, draw_letter, letters, main

FONTS = Path(get_data_path()) / "fonts" / "ttf"
SERIF = Face(FONTS / "DejaVuSerif.ttf", "DejaVu Serif", "Book")


def pixels(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(image, float)


def test_a_family_is_in_one_part_and_has_few_faces() -> None:
    chosen = choose_faces(FONTS, seed=0, fewest=5)
    parts = {kin: {part for part, face in chosen if face.kin == kin} for kin in {face.kin for _, face in chosen}}

    assert {len(of_kin) for of_kin in parts.values()} == {1}
    assert sum(face.kin == "deja" for _, face in chosen) == MOST_OF_KIN
    assert set.union(*parts.values()) == {"pool", "test"}


def test_the_part_and_the_drawing_of_a_font_do_not_depend_on_the_other_fonts(tmp_path: Path) -> None:
    for name in ("DejaVuSerif.ttf", "cmr10.ttf", "cmss10.ttf", "cmtt10.ttf", "STIXGeneral.ttf"):
        shutil.copy(FONTS / name, tmp_path / name)
    few = {sample.name: sample for sample in letters(tmp_path, seed=0, fewest=2) if sample.label == "Q"}
    many = {sample.name: sample for sample in letters(FONTS, seed=0, fewest=2) if sample.label == "Q"}

    shared = few.keys() & many.keys()
    assert len(shared) >= 3
    for name in shared:
        assert few[name].part == many[name].part
        assert few[name].image.tobytes() == many[name].image.tobytes()


def test_every_letter_is_drawn_once_in_every_face() -> None:
    samples = list(letters(FONTS, seed=3, fewest=5))
    chosen = choose_faces(FONTS, seed=3, fewest=5)

    assert len(samples) == 26 * len(chosen)
    assert len({(sample.part, sample.label, sample.name) for sample in samples}) == len(samples)


@pytest.mark.parametrize("letter", LETTERS)
def test_a_letter_is_whole_and_neither_tiny_nor_pale(letter: str) -> None:
    for seed in range(5):
        image = draw_letter(SERIF, letter, seed)
        left, top, right, bottom = image.getbbox() or (0, 0, 0, 0)
        assert image.size == (28, 28)
        assert min(left, top) >= 0 and max(right, bottom) <= 28  # noqa: PT018
        assert 12 <= max(right - left, bottom - top) <= 27
        assert pixels(image).max() > 150


def test_sizes_angles_and_places_differ_from_letter_to_letter_and_seed_to_seed() -> None:
    middles = set()
    for seed in range(8):
        image = pixels(draw_letter(SERIF, "O", seed))
        rows, columns = np.indices(image.shape)
        middles.add(tuple(np.round([(rows * image).sum(), (columns * image).sum(), image.sum()]) // 100))
    assert len(middles) == 8
    assert draw_letter(SERIF, "O", 1).tobytes() == draw_letter(SERIF, "O", 1).tobytes()


def test_too_few_fonts_are_one_line_that_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "set"), "--fonts", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert f"{tmp_path} must have 100 fonts or more with the letters A to Z" in message
    assert "it has 0" in message
    assert "apt-get install $(cat benchmarks/regimes/fonts.txt)" in message
    assert not (tmp_path / "set").exists()


def test_the_package_reads_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path / "set"), "--fonts", str(FONTS), "--fewest", "5"])

    source = load_image_folder(
        root=tmp_path / "set" / "pool",
        test_root=tmp_path / "set" / "test",
        image_size=(20, 20),
        channels=1,
        test_fraction=0.2,
        test_seed=0,
        class_names=None,
        images="memory",
        cache=None,
    )

    assert source.class_names == tuple(LETTERS)
    assert source.sample_ids[0].startswith("A/")
    counts = source.hidden_labels.bincount()
    assert int(counts.min()) == int(counts.max()) > 0
    assert f"{len(source.pool_images) + len(source.test_images):,} images in" in capsys.readouterr().out
