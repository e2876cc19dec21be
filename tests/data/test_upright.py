"""Files made byte by byte, where Pillow writes no such thing; the oracles are what the formats' standards say."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from PIL.TiffTags import TAGS_V2

from assl_lightning.data.decoding import ImageFormat, convert, decode_bytes, read_upright

Entry = tuple[int, int, int, bytes]  # tag, type, count, value


def pixels_of(content: bytes, height: int, width: int, channels: int = 1) -> npt.NDArray[np.uint8]:
    found = decode_bytes(content, ImageFormat((height, width), channels), "a")
    assert not isinstance(found, str), found
    return found


# --- EXIF ------------------------------------------------------------------------------------------------------------

BARS = np.repeat(np.repeat([[250, 120, 0], [0, 0, 60]], 8, 0), 8, 1).astype(np.uint8)


def exif_of(entries: list[Entry]) -> bytes:
    """A TIFF of these entries alone, little-endian."""
    table, data = struct.pack("<H", len(entries)), b""
    first = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in sorted(entries):
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", first + len(data))
        table, data = table + struct.pack("<HHI", tag, kind, count) + place, data + (value if len(value) > 4 else b"")
    return b"II*\0\x08\0\0\0" + table + bytes(4) + data


def jpeg(exif: bytes) -> bytes:
    file = BytesIO()
    Image.fromarray(BARS).save(file, "JPEG", quality=95)
    plain, segment = file.getvalue(), b"Exif\0\0" + exif
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]


ODD: dict[str, Entry] = {
    "a text for a resolution": (282, 2, 3, b"72\0"),
    "a fraction for a width": (256, 5, 1, struct.pack("<II", 1024, 1)),
    "a fraction for a maker": (271, 5, 1, struct.pack("<II", 1, 3)),
    "a float for an artist": (315, 11, 1, struct.pack("<f", 1.5)),
    "a double for a software": (305, 12, 1, struct.pack("<d", 2.5)),
    "nothing by nothing": (282, 5, 1, bytes(8)),
    "numbers for a pointer": (34665, 3, 2, struct.pack("<HH", 1, 2)),
    "more than there is": (37500, 7, 70000, struct.pack("<I", 8)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ODD)
def test_a_photo_with_an_odd_entry_in_its_exif_is_decoded_and_stands_upright(name: str) -> None:
    content = jpeg(exif_of([(0x0112, 3, 1, struct.pack("<H", 6)), ODD[name]]))
    upright = np.rot90(BARS, -1)
    assert np.abs(pixels_of(content, *upright.shape)[0].astype(int) - upright).max() < 20


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"no TIFF at all",
        b"II*\0\xff\xff\xff\x7f",
        exif_of([(0x0112, 2, 2, b"6\0")]),
        exif_of([(0x0112, 3, 70000, struct.pack("<I", 8))]),
        exif_of([(0x0112, 3, 1, struct.pack("<H", 9))]),
        exif_of([(0x0112, 5, 1, bytes(8))]),
    ],
)
def test_where_the_orientation_cannot_be_read_the_image_stays_as_it_is_stored(exif: bytes) -> None:
    assert np.abs(pixels_of(jpeg(exif), *BARS.shape)[0].astype(int) - BARS).max() < 20


SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""EXIF's types → bytes of one value."""


def odd_entry(chance: random.Random) -> Entry:
    """Any tag but the orientation's, with any number of values of any type."""
    kind, count = chance.choice([*SIZES]), chance.choice((0, 1, 1, 1, 2, 3, 5, 20))
    length = SIZES[kind] * count
    value = chance.choice((bytes(length), chance.randbytes(length), b"\xff" * length))
    return chance.choice([tag for tag in TAGS_V2 if tag != 0x0112] + [34665, 34853, 40965, 37500]), kind, count, value


def turned_otherwise(count: int) -> list[tuple[int, list[Entry]]]:
    """The orientations and entries of which a photo does not stand upright, or is refused, out of `count` at random."""
    chance = random.Random(0)
    turns = {1: BARS, 3: BARS[::-1, ::-1], 6: np.rot90(BARS, -1), 8: np.rot90(BARS), 2: BARS[:, ::-1], 4: BARS[::-1]}
    found = []
    for _ in range(count):
        orientation, entries = chance.choice([*turns]), [odd_entry(chance) for _ in range(chance.randint(1, 4))]
        content = jpeg(exif_of([(0x0112, 3, 1, struct.pack("<H", orientation)), *entries]))
        upright = turns[orientation]
        pixels = decode_bytes(content, ImageFormat(upright.shape, 1), "a")
        if isinstance(pixels, str) or np.abs(pixels[0].astype(int) - upright).max() >= 20:
            found.append((orientation, entries))
    return found


@pytest.mark.filterwarnings("error")
def test_a_photo_stands_upright_whatever_else_its_exif_says() -> None:
    assert turned_otherwise(1000) == []


@pytest.mark.slow
def test_thousands_of_photos_stand_upright_whatever_else_their_exif_says() -> None:
    assert turned_otherwise(15_000) == []


def tiff(values: npt.NDArray[np.generic], *entries: Entry) -> bytes:
    """Grey, one strip, little-endian; the `entries` beside those that make an image, or instead of them."""
    height, width = values.shape
    content, bits = values.tobytes(), 8 * values.itemsize
    numbers = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 0, 277: 1, 278: height, 279: len(content)}
    table = {tag: (tag, 3, 1, struct.pack("<H", value)) for tag, value in numbers.items()}
    table |= {entry[0]: entry for entry in entries}
    length = len(exif_of([*table.values()]))
    table[273] = (273, 4, 1, struct.pack("<I", length))
    return exif_of([*table.values()]) + content


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_a_tiff_with_an_odd_entry_stands_upright_too(orientation: int, turns: int) -> None:
    """Pillow goes into the directories that its entries point to when it loads one; here before the file's begin."""
    entries = (0x0112, 3, 1, struct.pack("<H", orientation)), (34665, 9, 1, struct.pack("<i", -5))
    upright = np.rot90(BARS, turns)
    np.testing.assert_array_equal(pixels_of(tiff(BARS, *entries), *upright.shape)[0], upright)


def test_an_image_that_was_loaded_before_is_turned_as_one_that_was_not() -> None:
    entry = (0x0112, 3, 1, struct.pack("<H", 6))
    upright = np.rot90(BARS, -1)
    for content in (tiff(BARS, entry), jpeg(exif_of([entry]))):
        with Image.open(BytesIO(content)) as stored:
            stored.load()
            found = convert(stored, ImageFormat(upright.shape, 1), "a")
        np.testing.assert_array_equal(found, pixels_of(content, *upright.shape))


# --- warnings --------------------------------------------------------------------------------------------------------


def test_what_pillow_warns_of_is_neither_shown_nor_an_error_and_the_filters_stay(tmp_path: Path) -> None:
    content = jpeg(exif_of([ODD["more than there is"], (0x0112, 3, 2, struct.pack("<HH", 6, 6))]))
    (tmp_path / "a.jpg").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = [*warnings.filters]
        pixels_of(content, *BARS.shape)
        assert not isinstance(read_upright(tmp_path / "a.jpg", 3), str)
        assert [*warnings.filters] == before
        with pytest.raises(UserWarning, match="still an error"):
            warnings.warn("still an error", stacklevel=1)


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_too_many_pixels_are_told_in_the_same_words_however_warnings_are_treated(
    monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    file = BytesIO()
    Image.new("L", (30, 20)).save(file, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]
        found = decode_bytes(file.getvalue(), ImageFormat((8, 8), 3), "a")
    assert found == "a (it has 30 × 20 pixels, more than the 599 that are taken for an image)"


# --- what a PNG hides ------------------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth: int, kind: int, values: npt.NDArray[np.integer], hidden: bytes, palette: bytes = b"") -> bytes:
    """`values` (height, width, samples) of `depth` bits, colour type `kind`, with `hidden` as its tRNS."""
    height, width = values.shape[:2]
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"tRNS", hidden)]
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(name, content) for name, content in chunks if content or name == b"IEND"
    )


@pytest.mark.parametrize(("depth", "channels"), [*product([1, 2, 4, 8, 16], [1, 3])])
def test_the_grey_that_a_png_hides_is_white_at_every_depth(depth: int, channels: int) -> None:
    """By the standard: exactly the samples of that value, in the file's own bits."""
    largest = 2**depth - 1
    values = np.unique([0, 1, largest // 2, largest // 2 + 1, largest])[None, :, None]
    for hidden in values.ravel():
        expected = np.where(values == hidden, 255, np.rint(values / largest * 255))[..., 0]
        found = pixels_of(png(depth, 0, values, struct.pack(">H", hidden)), 1, expected.shape[1], channels)
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape), f"{hidden} of {depth} bits")


@pytest.mark.parametrize("depth", [8, 16])
def test_the_colour_that_a_png_hides_is_white_and_those_that_are_near_it_are_not(depth: int) -> None:
    top = 1 if depth == 8 else 256
    values = np.array([[[1, 2, 3], [1, 2, 4], [0, 2, 3], [200, 2, 3]]]) * top
    values[0, 1, 2] = values[0, 0, 2] + 1  # which differs in its last bit alone
    hidden = struct.pack(">HHH", *values[0, 0])
    expected = (values // top).astype(np.uint8)
    expected[0, 0] = 255
    found = pixels_of(png(depth, 2, values, hidden), 1, 4, 3)
    np.testing.assert_array_equal(found.transpose(1, 2, 0), expected)


def test_a_hidden_colour_of_sixteen_bits_is_found_in_a_turned_image_too() -> None:
    values = np.full((2, 3, 3), 40000)
    values[0, 0] = 1000
    entry = (0x0112, 3, 1, struct.pack("<H", 6))
    whole = png(16, 2, values, struct.pack(">HHH", 1000, 1000, 1000))
    content = whole[:33] + chunk(b"eXIf", exif_of([entry])) + whole[33:]
    expected = np.full((3, 2), 40000 >> 8)
    expected[0, 1] = 255
    np.testing.assert_array_equal(pixels_of(content, 3, 2)[0], expected)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_the_palettes_entries_that_a_png_hides_are_white(depth: int) -> None:
    values = np.arange(2**depth)[None, :, None]
    palette = np.stack([np.arange(2**depth), np.arange(2**depth) + 100, np.full(2**depth, 7)], 1).astype(np.uint8)
    expected = palette[None].copy()
    expected[0, 0] = 255
    found = pixels_of(png(depth, 3, values, b"\0", palette.tobytes()), 1, 2**depth, 3)
    np.testing.assert_array_equal(found.transpose(1, 2, 0), expected)


# --- numbers of more than eight bits ----------------------------------------------------------------------------------

RAMP = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)


@pytest.mark.parametrize("maxval", [1, 100, 255, 256, 1023, 4095, 65535])
def test_a_pgm_is_scaled_by_its_own_largest_value(maxval: int) -> None:
    values = np.linspace(0, maxval, 12).round().astype(int).reshape(3, 4)
    raw = values.astype(">u2" if maxval > 255 else "u1").tobytes()
    text = " ".join(map(str, values.ravel())).encode()
    for content in (b"P5\n4 3\n%d\n%s" % (maxval, raw), b"P2\n4 3\n%d\n%s\n" % (maxval, text)):
        np.testing.assert_allclose(pixels_of(content, 3, 4)[0], values / maxval * 255, atol=0.51)


def test_a_tiff_of_sixteen_bits_may_have_its_white_at_zero() -> None:
    white_is_zero = (262, 3, 1, struct.pack("<H", 0))
    expected = np.rint(RAMP / 257)
    np.testing.assert_array_equal(pixels_of(tiff(RAMP), 3, 4)[0], expected)
    np.testing.assert_array_equal(pixels_of(tiff(RAMP, white_is_zero), 3, 4)[0], 255 - expected)


def test_a_tiff_of_twelve_bits_is_scaled_by_them() -> None:
    values = np.array([[0, 1, 2000, 4095]])
    bits = ((values[..., None] >> np.arange(11, -1, -1)) & 1).astype(np.uint8)
    packed = np.packbits(bits.reshape(1, -1), axis=1)
    entries = (256, 3, 1, struct.pack("<H", 4)), (258, 3, 1, struct.pack("<H", 12))
    np.testing.assert_array_equal(pixels_of(tiff(packed, *entries), 1, 4)[0], np.rint(values / 4095 * 255))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("<i2", "its pixels are signed 16-bit integers"),
        ("<u4", "its pixels are 32-bit integers"),
        ("<i4", "its pixels are signed 32-bit integers"),
        ("<f4", "its pixels are floating-point numbers"),
    ],
)
def test_numbers_without_a_white_are_told_as_what_they_are(kind: str, words: str) -> None:
    sample_format = {"u": 1, "i": 2, "f": 3}[kind[1]]
    content = tiff(RAMP.astype(kind), (339, 3, 1, struct.pack("<H", sample_format)))
    found = decode_bytes(content, ImageFormat((3, 4), 1), "a")
    assert found == f"a ({words}, of which no value is known to be white; save it with 8 or 16 bits)"


# --- what goes along -------------------------------------------------------------------------------------------------


def test_an_upright_image_has_no_metadata_any_more(tmp_path: Path) -> None:
    file = BytesIO()
    Image.fromarray(BARS).save(file, "JPEG", comment=b"who I am", exif=exif_of([(315, 2, 3, b"me\0")]), dpi=(72, 72))
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    image = read_upright(tmp_path / "a.jpg", 1)
    assert not isinstance(image, str)
    assert image.info == {}
