"""The record of a run's warm-up: warm_up.json, written once it is complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from assl_lightning.base.arguments import is_integer, is_number
from assl_lightning.base.atomic import write_text
from assl_lightning.base.run_files import WARM_UP_RECORD
from assl_lightning.base.words import shortened


@dataclass(frozen=True)
class WarmUpRecord:
    """The training of a network before the first label of a run."""

    steps: int  # optimizer steps
    images: int  # number of the pool's images that it was trained on
    loss: float | None  # of the last step; None where it was not finite, under `non_finite: skip`
    skipped_steps: int  # steps whose gradients were not finite
    seconds: float  # without those of a pause
    samples: str  # digest of their indices


_VALUES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("an integer of at least 0", lambda value: is_integer(value, 0)),
    "float": ("a finite number", is_number),
    "float | None": ("a finite number, or null", lambda value: value is None or is_number(value)),
    "str": ("a text", lambda value: isinstance(value, str)),
}


def write_warm_up(run_dir: Path, record: WarmUpRecord) -> None:
    """Write the record of a complete warm-up."""
    write_text(run_dir / WARM_UP_RECORD, json.dumps(asdict(record)))


def read_warm_up(run_dir: Path) -> WarmUpRecord | None:
    """Read the record of a run's warm-up; None where it is not complete, or the run has none.

    Raises:
        ValueError: the file is damaged.
    """
    path = run_dir / WARM_UP_RECORD
    if not path.exists():
        return None
    advice = "restore the file or remove the run"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); {advice}") from None
    names = [field.name for field in fields(WarmUpRecord)]
    if not isinstance(content, dict) or content.keys() != {*names}:
        raise ValueError(f"{path} is not the record of a warm-up, which has the keys {', '.join(names)}; {advice}")
    for field in fields(WarmUpRecord):
        expected, is_right = _VALUES[str(field.type)]
        if not is_right(content[field.name]):
            value = shortened(repr(content[field.name]))
            raise ValueError(f"{path}: {field.name} must be {expected}; got {value}; {advice}")
    return WarmUpRecord(**content)
