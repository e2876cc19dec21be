"""What a round leaves behind for analysis: one JSON line, written once."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path

from assl_lightning.atomic import write_text

FILE_NAME = "rounds.jsonl"


@dataclass(frozen=True)
class RoundRecord:
    """One round of a run. Accuracies lie in [0, 1]; indices are pool indices; times are seconds."""

    round: int
    labels: int  # that were trained on
    unlabelled: int  # samples without a label while it trained
    steps: int  # optimizer steps; fewer than asked for where the algorithm stopped early
    test_accuracy_ema: float  # of the averaged weights, at the last step; where there are none, as raw
    test_accuracy_raw: float  # of the weights themselves, at the last step
    test_balanced_accuracy_ema: float | None = None  # mean over the classes of the share of each that was right
    test_balanced_accuracy_raw: float | None = None
    coverage: float | None = None  # share of the unlabelled samples that training visited; None without statistics
    queried: list[int] = field(default_factory=list)  # in pick order; empty in the last round
    queried_labels: list[int] = field(default_factory=list)  # what the oracle answered to each; −1 where it did not
    drawn_at_random: int = 0  # of the queried ones, for want of visited candidates or by `unvisited: random`
    seconds: dict[str, float] = field(default_factory=dict)  # by part: train, test, acquire, label


def append_record(run_dir: Path, record: RoundRecord) -> None:
    """Add the line of a round that is complete; the file is replaced in one piece."""
    path = run_dir / FILE_NAME
    before = path.read_text() if path.exists() else ""
    write_text(path, before + json.dumps(asdict(record)) + "\n")


def read_records(run_dir: Path) -> list[RoundRecord]:
    """The complete rounds of a run directory, in order; none where there is no file yet."""
    path = run_dir / FILE_NAME
    if not path.exists():
        return []
    names = {entry.name for entry in fields(RoundRecord)}
    needed = {entry.name for entry in fields(RoundRecord) if entry.default is entry.default_factory is MISSING}
    records = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number} is not JSON ({error}); restore the file or remove the run"
            ) from None
        if not isinstance(content, dict) or not needed <= content.keys() <= names:
            raise ValueError(
                f"{path}, line {number} is not the record of a round; it needs the keys {', '.join(sorted(needed))} "
                f"and may have {', '.join(sorted(names - needed))}. Restore the file or remove the run"
            )
        if content["round"] != number - 1:
            raise ValueError(
                f"{path}, line {number} must be the record of round {number - 1}, but is that of round "
                f"{content['round']}; restore the file or remove the run"
            )
        records.append(RoundRecord(**content))
    return records
