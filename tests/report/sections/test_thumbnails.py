from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from assl_lightning.report.sections.thumbnails import read_tiles, shown_seeds, thumbnail_blocks
from assl_lightning.report.views import Fold, Paragraph, Picture, Strip

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Runs

COLOURS = [(10 * n, 255 - 10 * n, n) for n in range(14)]


def colour_of(picture: Picture) -> tuple[int, int, int]:
    """The one colour of a picture."""
    with Image.open(io.BytesIO(picture.content)) as image:
        ((_, colour),) = image.convert("RGB").getcolors() or []
    assert isinstance(colour, tuple)
    return colour[0], colour[1], colour[2]


@pytest.mark.parametrize("columns", [1, 3, 10, 14])
def test_tiles_come_in_pick_order(columns: int, runs: Runs, tmp_path: Path) -> None:
    runs.write_sheet(tmp_path / "queried.png", COLOURS, columns=columns)
    tiles = read_tiles(tmp_path / "queried.png", 12)
    assert [colour_of(tile) for tile in tiles] == COLOURS[:12]
    with Image.open(io.BytesIO(tiles[0].content)) as image:
        assert image.size == (4, 6)


def test_a_sheet_of_fewer_tiles_ends_with_the_last(runs: Runs, tmp_path: Path) -> None:
    runs.write_sheet(tmp_path / "queried.png", COLOURS[:3])
    assert len(read_tiles(tmp_path / "queried.png", 10)) == 3


def test_a_method_is_a_fold_with_a_strip_a_round(runs: Runs) -> None:
    run = runs.add("assl", 2, [0.5, 0.6, 0.7], queried_labels=[3, -1])
    runs.add("random", 2, [0.5, 0.6, 0.7])
    for number in (0, 1):
        runs.write_sheet(run / f"round_{number:02d}" / "queried.png", COLOURS)
        runs.write_queried(run / f"round_{number:02d}" / "queried.csv", ["digits/<7>", "digits/8"])
    setting = runs.setting()
    sentence, fold = thumbnail_blocks(setting, shown_seeds(setting))
    assert isinstance(sentence, Paragraph)
    assert isinstance(fold, Fold)
    assert fold.summary == "assl, seed 2"
    first, second = fold.blocks
    assert isinstance(first, Strip)
    assert isinstance(second, Strip)
    assert [first.caption, second.caption] == ["round 0, with 10 labels", "round 1, with 20 labels"]
    assert len(first.tiles) == 10
    assert first.tiles[0].name == "digits/<7>"
    assert first.tiles[0].lines == ("score 2.50", "u 0.60 ± 0.10", "i 2.40 ± 0.60", "label 3")
    assert first.tiles[1].lines[-1] == "no label"
    assert (first.tiles[2].name, first.tiles[2].lines) == ("", ())


def test_a_sheet_without_a_table_is_shown_without_numbers(runs: Runs) -> None:
    run = runs.add("assl", 0, [0.5, 0.6])
    runs.write_sheet(run / "round_00" / "queried.png", COLOURS[:1])
    _, strip = thumbnail_blocks(runs.setting(), {"assl": 0})
    assert isinstance(strip, Strip)
    assert strip.tiles[0].lines == ()


def test_a_query_that_was_withdrawn_as_the_run_ended_is_not_shown(runs: Runs) -> None:
    run = runs.add("assl", 0, [0.5, 0.6])
    runs.write_sheet(run / "round_01" / "queried.png", COLOURS[:1])
    (run / "round_01" / "state.json").write_text("{}")
    assert thumbnail_blocks(runs.setting(), {"assl": 0}) == ()


def test_runs_without_pictures_have_no_section(runs: Runs) -> None:
    runs.add("assl", 0, [0.5])
    assert thumbnail_blocks(runs.setting(), {"assl": 0}) == ()


def test_all_methods_show_the_lowest_seed_that_they_share(runs: Runs) -> None:
    for method, seeds in (("assl", (0, 1, 2)), ("random", (1, 2))):
        for seed in seeds:
            runs.add(method, seed, [0.5])
    assert shown_seeds(runs.setting()) == {"assl": 1, "random": 1}


def test_methods_that_share_no_seed_show_their_own_lowest(runs: Runs) -> None:
    runs.add("assl", 4, [0.5])
    runs.add("random", 5, [0.5])
    assert shown_seeds(runs.setting()) == {"assl": 4, "random": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"columns": "0"}, "14 tiles of 4 × 6 in 0 columns do not fit its 40 × 12"),
        ({"count": "30"}, "30 tiles of 4 × 6 in 10 columns do not fit its 40 × 12"),
        ({"tile_width": "5"}, "14 tiles of 5 × 6 in 10 columns do not fit"),
        ({"tile_height": "wide"}, "invalid literal"),
    ],
)
def test_a_sheet_with_wrong_numbers_is_named(text: dict[str, str], message: str, runs: Runs, tmp_path: Path) -> None:
    runs.write_sheet(tmp_path / "queried.png", COLOURS, text=text)
    with pytest.raises(ValueError, match=f"queried.png is not a contact sheet.*{message}"):
        read_tiles(tmp_path / "queried.png", 10)


def test_a_picture_that_is_no_sheet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "queried.png"
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(ValueError, match=r"queried.png is not a contact sheet.*KeyError: 'tile_width'"):
        read_tiles(path, 10)
    path.write_text("text")
    with pytest.raises(ValueError, match=r"queried.png is not a contact sheet.*UnidentifiedImageError"):
        read_tiles(path, 10)
