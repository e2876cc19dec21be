"""Fonts are looked for among those that come with Matplotlib."""

from __future__ import annotations

import shutil
import string
from pathlib import Path

import pytest
from matplotlib import get_data_path

from benchmarks.regimes.fonts import Face, find_faces

FONTS = Path(get_data_path()) / "fonts" / "ttf"


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    return find_faces(FONTS, string.ascii_uppercase)


def test_faces_with_the_letters_are_found_and_signs_that_are_alike_are_none(faces: list[Face]) -> None:
    found = {face.path.name for face in faces}

    assert {"DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "STIXGeneral.ttf", "cmr10.ttf"} <= found
    assert "LastResortHE-Regular.ttf" not in found, "it draws the same sign for every letter"


def test_a_face_is_known_by_its_family_and_style(faces: list[Face]) -> None:
    face = next(face for face in faces if face.path.name == "DejaVuSansMono-BoldOblique.ttf")

    assert (face.name, face.kin) == ("DejaVu-Sans-Mono-Bold-Oblique", "deja")
    assert [face.name for face in faces] == sorted({face.name for face in faces})


def test_a_style_in_two_files_is_one_face_and_what_is_no_font_is_none(tmp_path: Path) -> None:
    for name in ("b.ttf", "a.TTF"):
        shutil.copy(FONTS / "DejaVuSans.ttf", tmp_path / name)
    (tmp_path / "damaged.otf").write_bytes(b"no font")
    (tmp_path / "notes.txt").write_text("no font")

    assert find_faces(tmp_path, "A") == [Face(tmp_path / "a.TTF", "DejaVu Sans", "Book")]


def test_a_face_without_one_of_the_characters_is_none(tmp_path: Path) -> None:
    shutil.copy(FONTS / "cmr10.ttf", tmp_path / "cmr10.ttf")

    assert len(find_faces(tmp_path, "AB")) == 1
    assert find_faces(tmp_path, "AB漢") == []
    assert find_faces(tmp_path, "A ") == [], "a space draws nothing"
