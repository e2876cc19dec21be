"""Real files of every kind, made by Pillow; the oracles are Pillow's own steps, one by one, and arithmetic."""

from __future__ import annotations

import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from assl_lightning.data.decoding import ImageFormat, Resize, decode, decode_all, describe_faults, read_upright

Pixels = npt.NDArray[np.uint8]


def photograph(height: int = 12, width: int = 12, channels: int = 3, seed: int = 0) -> Pixels:
    """Smooth colours and some noise, (height, width, channels)."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / (3 + c)) + np.cos(x / (2 + c)) for c in range(channels)]
    noise = np.random.default_rng(seed).normal(size=(height, width, channels))
    return (128 + 40 * np.stack(waves, -1) + 8 * noise).clip(0, 255).astype(np.uint8)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def decoded(path: Path, size: tuple[int, int] = (12, 12), channels: int = 3, resize: Resize = "crop") -> Pixels:
    """(height, width, channels)."""
    image = decode(path, ImageFormat(size, channels, resize))
    assert not isinstance(image, str), image
    assert image.shape == (channels, *size)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    return image.transpose(1, 2, 0)


def refused(path: Path, size: tuple[int, int] = (12, 12)) -> str:
    fault = decode(path, ImageFormat(size, 3))
    assert isinstance(fault, str)
    assert fault.startswith(f"{path} (")
    return fault.removeprefix(f"{path} ")


# --- colours ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm"])
def test_colour_comes_back_bit_for_bit_from_files_without_loss(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(photograph()), **options)
    np.testing.assert_array_equal(decoded(path), photograph())


def test_a_jpeg_is_what_pillow_decodes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(photograph()))
    with Image.open(path) as stored:
        np.testing.assert_array_equal(decoded(path), np.asarray(stored))


def test_grey_becomes_three_equal_channels_and_colour_becomes_grey_by_its_weights(tmp_path: Path) -> None:
    grey = photograph(channels=1)
    path = save(tmp_path / "grey.png", Image.fromarray(grey[..., 0]))
    np.testing.assert_array_equal(decoded(path), grey.repeat(3, 2))
    np.testing.assert_array_equal(decoded(path, channels=1), grey)

    colour = save(tmp_path / "colour.png", Image.fromarray(photograph()))
    expected = photograph() @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(decoded(colour, channels=1)[..., 0], expected, atol=0.51)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = photograph(channels=1)[..., 0] > 128
    path = save(tmp_path / "a.png", Image.fromarray(bits))
    np.testing.assert_array_equal(decoded(path, channels=1)[..., 0], bits * 255)


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(photograph()).quantize(16)
    for name in ("a.png", "a.gif"):
        path = save(tmp_path / name, image)
        np.testing.assert_array_equal(decoded(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_over_white(tmp_path: Path, mode: str) -> None:
    pixels = photograph(channels=4 if mode == "RGBA" else 2)
    pixels[:4, :, -1], pixels[4:8, :, -1] = 0, 255
    colour, alpha = pixels[..., :-1].astype(float), pixels[..., -1:] / 255
    expected = (colour * alpha + 255 * (1 - alpha)) + np.zeros((1, 1, 3))
    found = decoded(save(tmp_path / "a.png", Image.fromarray(pixels)))
    np.testing.assert_allclose(found, expected, atol=1)
    assert (found[:4] == 255).all()
    np.testing.assert_array_equal(found[4:8], expected[4:8])


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_one_colour_that_counts_as_transparent_lies_over_white_too(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (12, 12), 0)
    image.paste(1 if mode != "RGB" else (9, 8, 7), (0, 0, 12, 6))
    if mode == "P":
        image.putpalette([0, 0, 0, 50, 60, 70])
    upper = {"P": [50, 60, 70], "L": [1, 1, 1], "RGB": [9, 8, 7]}[mode]
    path = save(tmp_path / "a.png", image, transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert decoded(path)[0, 0].tolist() == upper
    assert decoded(path)[11, 0].tolist() == [255, 255, 255]


def test_cmyk_becomes_colour(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(photograph()).convert("CMYK"), quality=95)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
    difference = decoded(path).astype(float) - photograph()
    assert abs(difference).mean() < 5, "but for the JPEG's loss; inverted it would be about a hundred"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_of_grey_are_scaled_to_eight(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 65535, 144).round().astype(np.uint16).reshape(12, 12)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(values))
    expected = np.rint(values.astype(float) / 257)
    np.testing.assert_array_equal(decoded(path, channels=1)[..., 0], expected)
    np.testing.assert_array_equal(decoded(path)[..., 2], expected)


@pytest.mark.parametrize(
    ("kind", "words"), [(np.int32, "signed 32-bit integers"), (np.float32, "floating-point numbers")]
)
def test_numbers_whose_white_nobody_knows_are_refused_by_name(tmp_path: Path, kind: type, words: str) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(photograph(channels=1)[..., 0].astype(kind)))
    assert refused(path).startswith(f"(its pixels are {words}")
    assert refused(path).endswith("of which no value is known to be white; save it with 8 or 16 bits)")


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sixteen", [False, True])
def test_an_image_stands_upright_however_the_camera_was_held(tmp_path: Path, orientation: int, sixteen: bool) -> None:
    """EXIF's eight orientations, by what the standard says of row 0 and column 0."""
    grey = photograph(7, 12, channels=1)[..., 0]
    upright = {
        1: grey,
        2: grey[:, ::-1],
        3: grey[::-1, ::-1],
        4: grey[::-1],
        5: grey.T,
        6: grey.T[:, ::-1],
        7: grey.T[::-1, ::-1],
        8: grey.T[::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(grey.astype(np.uint16) * 257 if sixteen else grey)
    path = save(tmp_path / "a.png", image, exif=exif)
    height, width = upright.shape
    np.testing.assert_array_equal(decoded(path, (height, width), 1)[..., 0], upright)


@pytest.mark.parametrize("stored", [(30, 50), (50, 30), (8, 9), (12, 40), (10, 16)])
@pytest.mark.parametrize("size", [(10, 16), (16, 10), (12, 12)])
def test_cropping_covers_the_size_and_keeps_the_middle(
    tmp_path: Path, stored: tuple[int, int], size: tuple[int, int]
) -> None:
    """The oracle scales the whole image first and then cuts, so that it agrees but for what lies beyond the edge."""
    pixels = photograph(*stored)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    if stored == size:
        np.testing.assert_array_equal(decoded(path, size), pixels)
        return
    scale = max(size[0] / stored[0], size[1] / stored[1])
    box_height, box_width = size[0] / scale, size[1] / scale
    top, left = (stored[0] - box_height) / 2, (stored[1] - box_width) / 2
    image = Image.fromarray(pixels).resize(
        (size[1], size[0]), Image.Resampling.BILINEAR, box=(left, top, left + box_width, top + box_height)
    )
    difference = np.abs(decoded(path, size).astype(int) - np.asarray(image))
    assert difference.max() <= 1


@pytest.mark.parametrize("size", [(10, 16), (16, 10), (40, 40)])
def test_squashing_keeps_everything(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = photograph(30, 20)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    expected = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decoded(path, size, resize="squash"), np.asarray(expected))


def test_shrinking_averages_instead_of_picking(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 255
    path = save(tmp_path / "a.png", Image.fromarray(stripes))
    assert np.abs(decoded(path, (8, 8), 1).astype(int) - 127).max() <= 8


def test_transparency_is_mixed_before_the_size_changes(tmp_path: Path) -> None:
    """Scaled first, the black below transparent pixels would darken the edges."""
    pixels = np.zeros((24, 24, 4), dtype=np.uint8)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    assert (decoded(path) == 255).all()


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif", "png"])
def test_what_has_several_frames_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(photograph(seed=seed)) for seed in range(3)]
    path = save(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])
    assert refused(path) == "(it has 3 frames; save one of them as an image of its own)"


def test_of_a_cameras_several_pictures_the_first_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(photograph(seed=seed)) for seed in range(2)]
    path = save(tmp_path / "a.jpg", frames[0], format="MPO", save_all=True, append_images=frames[1:])
    alone = save(tmp_path / "b.jpg", frames[0])
    np.testing.assert_array_equal(decoded(path), decoded(alone))


def test_an_image_that_is_far_too_large_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", Image.new("L", (30, 20)))
    assert decoded(path).shape == (12, 12, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    assert "exceeds limit" in refused(path) or "more than the 599" in refused(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    assert "exceeds limit" in refused(path)


def test_a_file_that_is_no_image_or_half_of_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    assert refused(tmp_path / "text.png") == "(no image format that Pillow knows)"
    (tmp_path / "empty.png").touch()
    assert refused(tmp_path / "empty.png") == "(no image format that Pillow knows)"
    whole = BytesIO()
    Image.fromarray(photograph(64, 64)).save(whole, "JPEG")
    (tmp_path / "half.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    assert "truncated" in refused(tmp_path / "half.jpg")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "a pointer of Git LFS, not the file"),
        (b"/annex/objects/SHA256E-s9--4d.png\n", "a pointer of git-annex; fetch it with git annex get"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photograph; save it as JPEG or PNG"),
    ],
)
def test_what_people_often_have_instead_of_an_image_is_told_as_what_it_is(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert refused(tmp_path / "a.jpg").startswith(f"({words}")
    assert read_upright(tmp_path / "a.jpg", 3) == f"{tmp_path}/a.jpg {refused(tmp_path / 'a.jpg')}"


def test_many_threads_at_once_leave_the_filters_of_warnings_as_they_were(tmp_path: Path) -> None:
    """Each of these warns; in three parts, on all cores."""
    path = save(tmp_path / "a.png", Image.new("L", (30, 20)))
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error")
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
        before = [*warnings.filters]
        parts = list(decode_all([path] * 600, ImageFormat((4, 4), 1)))
        assert [*warnings.filters] == before
    assert {fault for _, _, faults in parts for fault in faults.values()} == {
        f"{path} (it has 30 × 20 pixels, more than the 599 that are taken for an image)"
    }


def test_a_file_that_cannot_be_read_is_no_damaged_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape("nowhere.png")):
        decode(tmp_path / "nowhere.png", ImageFormat((8, 8), 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 8), 3, "crop"), "image_size must be [height, width], each at least 1; got [0, 8]"),
        (((8, 8), 4, "crop"), "channels must be 1, for grey images, or 3, for colour; got 4"),
        (((8, 8), 3, "fit"), "resize must be one of crop, squash; got 'fit'"),
    ],
)
def test_a_format_that_cannot_be_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageFormat(*arguments)


# --- many ------------------------------------------------------------------------------------------------------------


def test_many_are_decoded_in_their_order_and_those_with_a_fault_are_black(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{n}.png", Image.new("L", (4, 4), n % 256)) for n in range(600)]
    for broken in (3, 256, 599):
        paths[broken].write_bytes(b"")
    parts = list(decode_all(paths, ImageFormat((4, 4), 1)))
    values = np.concatenate([images for _, images, _ in parts])[:, 0, 2, 1]
    faults = [index for _, _, faults in parts for index in faults]

    assert values.tolist() == [0 if n in (3, 256, 599) else n % 256 for n in range(600)]
    assert faults == [3, 256, 599]
    assert max(len(images) for _, images, _ in parts) < 600, "never all at once"


def test_faults_are_counted_and_the_first_are_named() -> None:
    assert describe_faults(["a (x)", "b (y)", "c (z)", "d (w)"], "pool") == (
        "4 of the pool's images cannot be decoded: a (x); b (y); c (z); and 1 more"
    )


@pytest.mark.parametrize(
    ("links", "words"),
    [(1, "1 is a link to nothing: mount what it leads to"), (2, "2 are links to nothing: mount what they lead to")],
)
def test_links_to_nothing_are_counted_among_the_faults(links: int, words: str) -> None:
    faults = ["a (x)"] + ["b (not read: a link to nothing, /b)"] * links
    assert describe_faults(faults, "pool").endswith(f"; of these, {words}")
    assert describe_faults(faults[:1], "pool").endswith("a (x)")


def test_what_pillow_does_to_crop_is_what_its_own_function_does(tmp_path: Path) -> None:
    pixels = photograph(37, 23)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    expected = ImageOps.fit(Image.fromarray(pixels), (9, 11), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decoded(path, (11, 9)), np.asarray(expected))
