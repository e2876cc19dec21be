"""Image files that several tests read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assl_lightning.data import decoding


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Nine images of noise, decoded two at a time; the fourth file is no image."""
    monkeypatch.setattr(decoding, "_AT_ONCE", 2)
    generator = np.random.default_rng(0)
    made = [tmp_path / f"{number}.png" for number in range(9)]
    for path in made:
        Image.fromarray(generator.integers(256, size=(8, 7, 3), dtype=np.uint8)).save(path)
    made[3].write_bytes(b"nothing")
    return made
