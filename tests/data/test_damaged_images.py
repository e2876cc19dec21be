"""Damages to files of every format that Pillow writes here: each becomes an image or a reason, never an error."""

from __future__ import annotations

import random
import struct
import warnings
from collections import Counter
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from assl_lightning.data.decoding import ImageFormat, attempt, decode_bytes

FORMS = (ImageFormat((9, 7), 3), ImageFormat((8, 8), 1, "squash"))
GENERATOR = np.random.default_rng(0)
COLOUR = Image.fromarray(GENERATOR.integers(256, size=(23, 17, 3), dtype=np.uint8))
GREY, BITS, PALETTE = COLOUR.convert("L"), COLOUR.convert("1"), COLOUR.quantize(16)
SIXTEEN = Image.fromarray(GENERATOR.integers(65536, size=(23, 17), dtype=np.uint16))
OVER = COLOUR.copy()
OVER.putalpha(GREY)


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[282], exif[305], exif[315] = 6, 72.0, "software", "artist"
    exif.get_ifd(0x8769)[36867] = "2024:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()


def _made() -> dict[str, bytes]:
    """Name → a whole file of a few hundred bytes."""
    exif = {"exif": _exif()}
    wanted: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (COLOUR, "JPEG", exif),
        "jpeg, progressive": (COLOUR, "JPEG", {"progressive": True, **exif}),
        "jpeg, four inks": (COLOUR.convert("CMYK"), "JPEG", {}),
        "jpeg of several": (COLOUR, "MPO", {"save_all": True, "append_images": [COLOUR], **exif}),
        "png": (COLOUR, "PNG", exif),
        "png, alpha": (OVER, "PNG", {}),
        "png, hidden colour": (COLOUR, "PNG", {"transparency": (1, 2, 3)}),
        "png, hidden grey": (GREY, "PNG", {"transparency": 7}),
        "png, hidden entry": (PALETTE, "PNG", {"transparency": 3}),
        "png, entries' alpha": (PALETTE, "PNG", {"transparency": bytes(range(16))}),
        "png, sixteen bits": (SIXTEEN, "PNG", {}),
        "png, frames": (COLOUR, "PNG", {"save_all": True, "append_images": [GREY.convert("RGB")]}),
        "gif": (PALETTE, "GIF", {"transparency": 3}),
        "gif, frames": (PALETTE, "GIF", {"save_all": True, "append_images": [PALETTE.rotate(90, expand=False)]}),
        "bmp": (COLOUR, "BMP", {}),
        "bmp, palette": (PALETTE, "BMP", {}),
        "dib": (COLOUR, "DIB", {}),
        "tiff": (COLOUR, "TIFF", exif),
        "tiff, sixteen bits": (SIXTEEN, "TIFF", {}),
        "ppm": (COLOUR, "PPM", {}),
        "pgm": (GREY, "PPM", {}),
        "pbm": (BITS, "PPM", {}),
        "tga": (COLOUR, "TGA", {}),
        "tga, packed": (OVER, "TGA", {"compression": "tga_rle"}),
        "pcx": (COLOUR, "PCX", {}),
        "sgi": (COLOUR, "SGI", {}),
    }
    if features.check("libtiff"):
        wanted |= {
            f"tiff, {name}": (COLOUR, "TIFF", {"compression": name, "tiffinfo": {274: 6}})
            for name in ("tiff_lzw", "jpeg")
        }
        wanted["tiff, fax"] = (BITS, "TIFF", {"compression": "group4"})
    if features.check("webp"):
        wanted |= {"webp": (COLOUR, "WEBP", exif), "webp, lossless": (OVER, "WEBP", {"lossless": True})}
    if features.check("jpg_2000"):
        wanted |= {"jp2": (COLOUR, "JPEG2000", {}), "j2k": (GREY, "JPEG2000", {"no_jp2": True})}
    if "AVIF" in Image.SAVE or (Image.init() and "AVIF" in Image.SAVE):
        wanted["avif"] = (COLOUR, "AVIF", exif)
    files = {}
    for name, (image, kind, options) in wanted.items():
        file = BytesIO()
        image.save(file, kind, **options)
        files[name] = file.getvalue()
    return files


FILES = _made()
_WORDS = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\1\0\0\0",
    b"\0\0\0\1",
)


def damage(content: bytes, chance: random.Random) -> bytes:
    """A few bytes otherwise, a run lost or there twice, numbers at the edge of their range, the end missing."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = min(int(chance.expovariate(1 / 200)) if chance.random() < 0.6 else chance.randrange(10**6), 10**6)
        place %= max(len(damaged), 1)
        length = chance.choice((1, 2, 4, 24))
        match chance.randrange(7):
            case 0:
                damaged[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                damaged[place : place + length] = bytes(length)
            case 2:
                del damaged[place : place + length]
            case 3:
                damaged[place:place] = damaged[place : place + length]
            case 4:
                word = chance.choice(_WORDS)
                damaged[place : place + len(word)] = word
            case 5:
                damaged[place : place + 4] = struct.pack(
                    chance.choice("<>") + "I", chance.choice((2**31, 65537, 3, 300))
                )
            case _:
                del damaged[place + 40 :]
    return bytes(damaged)


def outcomes(name: str, count: int) -> Counter[str]:
    """How many of `count` damages leave an image, and how many a reason; asserts that each is one of the two."""
    chance, found = random.Random(name), Counter[str]()
    for number in range(count):
        content, form = damage(FILES[name], chance), FORMS[number % 2]
        decoded = decode_bytes(content, form, "the file")
        if isinstance(decoded, str):
            assert decoded.startswith("the file (")
            assert decoded.endswith(")")
            assert "\n" not in decoded
            found["reason"] += 1
        else:
            assert decoded.shape == form.shape
            assert decoded.dtype == np.uint8
            found["image"] += 1
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_decoded(name: str) -> None:
    decoded = decode_bytes(FILES[name], FORMS[0], name)
    if "frames" in name:
        assert decoded == f"{name} (it has 2 frames; save one of them as an image of its own)"
    else:
        assert not isinstance(decoded, str), decoded


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_an_image_or_a_reason(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = outcomes(name, 150)
    assert found["reason"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_thousands_of_damages_are_images_or_reasons(name: str) -> None:
    found = outcomes(name, 3000)
    assert found["reason"] > 0


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (AttributeError("no such thing"), "AttributeError: no such thing"),
        (KeyError(34), "KeyError: 34"),
        (MemoryError(), "MemoryError"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (OSError("broken data\n  stream"), "broken data stream"),
        (RuntimeError("Failed to decode"), "RuntimeError: Failed to decode"),
    ],
)
def test_whatever_a_decoder_raises_is_a_reason(problem: Exception, words: str) -> None:
    def decode_it() -> None:
        raise problem

    assert attempt("a.png", decode_it) == f"a.png ({words})"


def test_a_person_who_interrupts_is_no_damage() -> None:
    def decode_it() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt("a.png", decode_it)
