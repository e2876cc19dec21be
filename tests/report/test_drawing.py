from __future__ import annotations

from io import BytesIO

from PIL import Image

from assl_lightning.report.curve import Curve, draw_curves
from assl_lightning.report.drawing import png, rows_height, style_of, svg, wrapped


def test_the_same_figure_has_the_same_bytes() -> None:
    first, second = (draw_curves([Curve("assl", [10, 20], [50.0, 60.0], [1.0, 2.0])], title="digits") for _ in range(2))
    assert svg(first) == svg(second)
    assert png(first) == png(second)
    assert b"<dc:date>" not in svg(first).content


def test_a_png_is_one() -> None:
    with Image.open(BytesIO(png(draw_curves([Curve("assl", [10], [50.0])])))) as image:
        assert image.format == "PNG"


def test_28_methods_have_styles_that_differ_without_colour() -> None:
    assert len({(style_of(number).line, style_of(number).marker) for number in range(28)}) == 28


def test_rows_grow_with_the_lines_of_their_names() -> None:
    long = "random, algorithm=supervised, init=continue"
    assert wrapped([long, "$"]) == ["random,\nalgorithm=supervised,\ninit=continue", r"\$"]
    assert rows_height(["assl", "random"], 0.36) == 0.72
    assert rows_height(["assl", long], 0.36) > 0.72
