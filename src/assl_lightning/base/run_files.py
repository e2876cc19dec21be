"""Names of the files and directories in a run's directory."""

from __future__ import annotations

from pathlib import Path

from assl_lightning.base.suggestions import nearest_path

CONFIG = "config.yaml"
"""The resolved configuration, with versions and commits."""

RECORDS = "rounds.jsonl"
"""One line for each complete round."""

POOL = "pool.pt"
"""The labels with which a round trains, below `round_directory`; written once they are taken over."""

STATE = "state.json"
"""The progress of a round that is not complete, below `round_directory`."""

QUERIED = "queried.csv"
"""The samples that a round asked for, best first, below `round_directory`."""

QUERIED_PROBABILITIES = "queried.pt"
"""What the network gave for each class of these samples, before it was trained on their labels, below
`round_directory`."""

THUMBNAILS = "queried.png"
"""The images of the first of them as one contact sheet, below `round_directory`."""

HISTOGRAMS = "histograms.json"
"""The distributions of score and statistics, over the pool and over the queried, below `round_directory`."""

EVALUATION = "evaluation.npz"
"""The predictions of a round's test, image by image, below `round_directory`."""

ERRORS = "errors.png"
"""The wrong test images with the highest confidence as one contact sheet, below `round_directory`."""

FINAL_CHECKPOINT = "final.ckpt"
"""The raw and the averaged weights of a trained round, below `round_directory`."""

STATISTICS = "statistics.pt"
"""The table of the running statistics of a trained round, below `round_directory`."""

PREDICTIONS = "predictions.pt"
"""The latest predictions of the unlabelled samples while a round trained, below `round_directory`."""

TO_LABEL = "to_label"
"""The directory of what people are asked to label before a round trains, below `round_directory`."""

AUDIT = "audit"
"""How the directories begin of what an audit asks people once more: `audit_01` holds `TO_LABEL`, as a round does."""

RESUME = "resume"
"""The directory of the checkpoints of an unfinished training, below that of its round or of the warm-up."""

REPEAT = "repeat"
"""The directory of a second training on the same labels, below `round_directory`, while it goes on."""

WARM_UP = "warm_up"
"""The directory of what the training before the first label writes on its way."""

WARM_UP_WEIGHTS = "warm_up.ckpt"
"""The weights that this training leaves, those of the network without its head."""

WARM_UP_RECORD = "warm_up.json"
"""Its steps, images, loss and seconds; written once it is complete."""

INITIAL = "initial.json"
"""The samples that were asked for at first, below the directory of round 0."""

LEDGER = "labels.sqlite"
"""Every answer that people gave, in the order in which it came."""

CLASS_CHANGES = "classes.json"
"""The changes of the classes, where there were any."""

SAMPLES = "samples.csv"
"""The ids of the samples, by index, where images may come and go."""

UNREADABLE = "unreadable.csv"
"""The images that could not be decoded."""

LOCK = ".lock"
"""The file that a process locks for as long as it works on the run."""


def round_directory(run_dir: Path, number: int) -> Path:
    """Return the directory of the files of one round."""
    return run_dir / f"round_{number:02d}"


def require_run(run_dir: Path) -> None:
    """Return if `run_dir` is the directory of a run.

    Raises:
        ValueError: it is none, with a name that is spelt like it, or a run that lies below it.
    """
    if (run_dir / CONFIG).exists():
        return
    expected = f"{run_dir} must be the directory of a run"
    if not run_dir.exists():
        raise ValueError(f"{expected}; there is no such directory{nearest_path(run_dir)}")
    if not run_dir.is_dir():
        raise ValueError(f"{expected}, but is a file; name the run_dir of one")
    below = sorted(file.parent for pattern in ("*", "*/*") for file in run_dir.glob(f"{pattern}/{CONFIG}"))
    such_as = f", such as {below[0]}" if below else ""
    raise ValueError(f"{expected}, but has no {CONFIG}; name the run_dir of one{such_as}")
