"""Damage that a file of tensors must be seen to have."""

from __future__ import annotations

import zipfile
from pathlib import Path


def flip_a_bit(path: Path) -> None:
    """Of the first byte of the largest record's data; a bit of the padding between records is nobody's."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
    header = largest.header_offset
    name_length, extra_length = (int.from_bytes(content[header + at : header + at + 2], "little") for at in (26, 28))
    content[header + 30 + name_length + extra_length] ^= 1
    path.write_bytes(content)
