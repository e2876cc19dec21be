"""The files of a run: where they lie, and when a directory may go on.

<run_dir>/config.yaml               what the run was asked to do, with versions
<run_dir>/samples.csv               the samples' names, in the order of their indices (`data.sample_names`)
<run_dir>/unreadable.csv            the images that cannot be decoded, where there are any, each with its reason
<run_dir>/classes.json              the changes of the classes, where there are some (`run_classes`)
<run_dir>/rounds.jsonl              one line for each complete round (`records`)
<run_dir>/round_00/pool.pt          who is labelled while this round trains
<run_dir>/round_00/initial.json       which samples were asked for before the first round, of round 0 alone
<run_dir>/round_00/state.json       training | trained | waiting, until the round's line is written; after it where the
                                    run ended before the labels that it had asked for were there
<run_dir>/round_00/resume/          the last two checkpoints from within the training; removed when it is done
<run_dir>/round_00/queried.csv      what was asked for, best first
<run_dir>/round_00/queried.png      the first hundred of them, as `contact_sheet` lays them out
<run_dir>/round_00/histograms.json  how score and statistics are distributed, in the pool and among the queried
<run_dir>/round_00/statistics.pt    the table of `SampleStatistics`
<run_dir>/round_00/final.ckpt       raw and averaged weights; removed when the next round is complete
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from omegaconf import OmegaConf
from torch import Tensor

from assl_lightning.base import tensor_files
from assl_lightning.base.atomic import TEMPORARY, open_atomic, write_text
from assl_lightning.base.differences import differences
from assl_lightning.base.environment import environment
from assl_lightning.base.locking import held
from assl_lightning.base.run_files import (
    CONFIG,
    HISTOGRAMS,
    INITIAL,
    LOCK,
    POOL,
    QUERIED,
    STATE,
    THUMBNAILS,
    UNREADABLE,
    round_directory,
)
from assl_lightning.base.words import one_line, shortened
from assl_lightning.data.growth import PoolOnDisk
from assl_lightning.data.pool import Pool, unused
from assl_lightning.data.reclassing import relabel
from assl_lightning.data.sample_names import SampleNames, read_samples, write_samples
from assl_lightning.data.sources.undecodable import Row, write_undecodable
from assl_lightning.learning.checkpointing import CHECKPOINT_IDENTITY
from assl_lightning.loop.class_history import KEYS as CLASS_KEYS
from assl_lightning.loop.class_history import (
    changeable_round,
    named_classes,
    read_history,
    run_classes,
    write_history,
)
from assl_lightning.loop.histograms import Histogram
from assl_lightning.loop.moving import CONTENTS, in_one_spelling, moved_paths
from assl_lightning.loop.records import (
    COMMAND,
    KEYS_WITHOUT_EFFECT,
    PROVENANCE_KEYS,
    RoundRecord,
    State,
    read_config,
    read_records,
    read_state,
    round_under_way,
    trained_records,
    write_config,
    write_record,
)

log = logging.getLogger(__name__)

_CHECKPOINT_NAME = re.compile(r"step_(\d{8,})\.ckpt")
_OF_A_CHECKPOINT = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step", "epoch")
_CHECKPOINTS_KEPT = 2  # the newest, and the one before in case the newest is damaged


CHECKPOINT_FORMAT = 1
"""Of what the loop needs in a checkpoint; another number means another version of this package."""

DEVICES = ("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
"""Keys that a run that goes on may change where it is told to, by `change_devices`."""

LABELLING_KEYS = (
    *("oracle.tool", "oracle.conflicts", "oracle.min_fraction", "oracle.relabel_fraction"),
    *("oracle.show_predictions", "oracle.longest_side"),
)
"""Keys that a run that goes on may change: what was answered so far stands, whatever they are."""


class RunDirectory:
    """One run's files. Every file is replaced in one piece, so whatever is there is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, config: Mapping[str, Any]) -> None:
        """Begin a run in a new or empty directory, or go on with the same run.

        These may differ from the run's configuration:

        - `KEYS_WITHOUT_EFFECT`;
        - the classes, while labels are waited for: new ones may join at the end;
        - `rounds`: more extend the run, and fewer end it, but not before the newest round that is trained;
        - `non_finite`, `LABELLING_KEYS`, the paths of the same data (`moving`), and, with `change_devices`, `DEVICES`.

        `note_changes` writes all but the first down.

        Raises:
            ValueError: the directory holds something else, or a run with another configuration; the keys are named.
        """
        file = self.path / CONFIG
        if not file.exists():
            if not self.is_new():
                raise ValueError(
                    f"run_dir {self.path} is not empty and holds no run (no config.yaml); choose another run_dir"
                )
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(
                    f"run_dir {self.path} cannot be made ({error.strerror}); choose another run_dir"
                ) from error
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise ValueError(f"run_dir {self.path} cannot be written; choose another run_dir")
            with self.held():
                if not file.exists():  # another process may have begun meanwhile
                    history = {"run_id": uuid4().hex, **_command(sys.orig_argv)}
                    self._write_config({**config, "environment": environment(), "history": history})
                    return
        self._history()
        self._joining(config)
        _, refused = self._compare(config)
        if refused:
            is_devices = all(line.startswith(DEVICES) for line in refused)
            hint = "change_devices=true to go on with other devices, " if is_devices else ""
            if any(line.startswith("rounds was ") for line in refused):
                hint += f"rounds={self._fewest_rounds()} to end it after the newest round that is trained, "
            raise ValueError(
                f"run_dir {self.path} holds a run with another configuration ({'; '.join(refused)}); "
                f"repeat its settings to go on with it, {hint}or choose another run_dir"
            )

    def is_new(self) -> bool:
        """Whether nothing is there, or no more than a killed start has left."""
        if not self.path.exists():
            return True
        left = (LOCK, UNREADABLE)  # the latter of a start that was refused
        return all(path.name in left or path.name.endswith(TEMPORARY) for path in self.path.iterdir())

    def note_unreadable(self, rows: Sequence[Row]) -> Path:
        """List the images that cannot be decoded, or remove the list where there are none; return its path.

        Raises:
            ValueError: the directory holds something else than a run.
            OSError: it cannot be written.
        """
        file = self.path / UNREADABLE
        if not (self.is_new() or (self.path / CONFIG).exists()):
            raise ValueError(f"{self.path} is not empty and holds no run")
        if rows:
            self.path.mkdir(parents=True, exist_ok=True)
            write_undecodable(file, rows)
        else:
            file.unlink(missing_ok=True)
        return file

    def note_changes(self, config: Mapping[str, Any]) -> None:
        """Write down the changes that `open` allowed: new classes in classes.json, then the others in config.yaml."""
        joining, known, number = self._joining(config), run_classes(self.path), changeable_round(self.path)
        if joining and known is not None and number is not None:
            write_history(self.path, known.add(joining, number))
            log.info("classes that are new: %s; round %s is the first to train with them", ", ".join(joining), number)
        allowed, _ = self._compare(config)
        before = self._read_config().get("rounds")
        if isinstance(before, int) and config["rounds"] < before:
            log.info(
                "rounds was %d, now %d: the run ends early; rounds=%d goes on with it", before, config["rounds"], before
            )
        if allowed or config.get(CONTENTS) != self._read_config().get(CONTENTS):
            self._note(allowed, config, **(_command(sys.orig_argv) if allowed else {}))

    def check_devices(self, devices: str, change: bool) -> None:
        """`devices`, in words, must be those that trained the run so far, unless it is to `change`; both are noted.

        Raises:
            ValueError: they are others.
        """
        known = self._history().get("devices")
        if known is not None and known != devices and not change:
            raise ValueError(
                f"run_dir {self.path} holds a run that was trained on {known}, and here is {devices}, whose results "
                f"differ in the last digits; go on where it began, or with change_devices=true"
            )
        if known != devices:
            changes = [] if known is None else [f"devices were {known}, now {devices}"]
            self._note(changes, devices=devices)

    @property
    def run_id(self) -> str | None:
        """What tells this run from all others; None for one that began before there was such a thing."""
        run_id: str | None = self._history().get("run_id")
        return run_id

    def _joining(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The classes that are new in `config`; ValueError where they cannot join now, or others are different."""
        asked, known = named_classes(config), run_classes(self.path)
        if asked is None or known is None:
            return ()
        try:
            joining = known.joining(asked, self.path)
        except ValueError as error:
            raise ValueError(f"run_dir {self.path} holds a run with other classes: {error}") from error
        if joining and changeable_round(self.path) is None:
            raise ValueError(
                f"run_dir {self.path} holds a run with the classes {', '.join(known.names())}; {', '.join(joining)} "
                f"can join while labels are waited for, and not while a round trains"
            )
        return joining

    def _compare(self, config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """What is different from the run that is here: what may be, and what may not."""
        before = in_one_spelling(self._read_config())
        now = in_one_spelling(OmegaConf.to_container(OmegaConf.create(dict(config))))
        may_change = ["non_finite", *LABELLING_KEYS, *(DEVICES if now.get("change_devices") else ())]
        may_change += moved_paths(before, now)
        rounds = before.get("rounds")
        if isinstance(rounds, int) and rounds != now.get("rounds") and now["rounds"] >= self._fewest_rounds():
            may_change.append("rounds")
        if named_classes(before) is not None and named_classes(config) is not None:
            may_change += CLASS_KEYS  # which `_joining` has looked at
        ignore = (*KEYS_WITHOUT_EFFECT, *PROVENANCE_KEYS)
        refused = list(differences(before, now, (*ignore, *may_change)))
        return [line for line in differences(before, now, ignore) if line not in refused], refused

    def _fewest_rounds(self) -> int:
        """The number of acquisitions up to the newest finished training, which fewer `rounds` would lose."""
        rounds = self._read_config().get("rounds")
        return max(len(trained_records(self.path, rounds if isinstance(rounds, int) else 0)) - 1, 0)

    def _note(self, changes: Sequence[str], config: Mapping[str, Any] | None = None, **history: str) -> None:
        before = self._read_config()
        asked = before if config is None else config
        known = self._history()
        if changes:
            note = {"complete_rounds": len(self.records()), "changes": list(changes)}
            known = {**known, "changes": [*known.get("changes", []), note]}
        self._write_config({**asked, "environment": before.get("environment"), "history": {**known, **history}})

    def _history(self) -> dict[str, Any]:
        history = self._read_config().get("history") or {}
        if not isinstance(history, dict) or not isinstance(history.get("changes", []), list):
            raise ValueError(  # noqa: TRY004
                f"{self.path / CONFIG}: history must be a group of keys, and its changes a list; got {history!r}. "
                f"Restore it, or choose another run_dir"
            )
        return history

    def _read_config(self) -> dict[str, Any]:
        try:
            return read_config(self.path)
        except ValueError as error:
            raise ValueError(f"run_dir {self.path} holds a run that cannot go on: {error}") from error

    def _write_config(self, content: Mapping[str, Any]) -> None:
        write_config(self.path, content)

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other process on this machine runs here meanwhile; the system lets go when the process ends, however.

        Raises:
            ValueError: another process runs here.
        """
        with held(self.path):
            yield

    def records(self) -> list[RoundRecord]:
        """The complete rounds."""
        return read_records(self.path)

    def commit(self, record: RoundRecord) -> None:
        """Write a round's line: from here on the round is complete."""
        write_record(self.path, record)
        self.tidy(record)

    def tidy(self, record: RoundRecord) -> None:
        """Remove files that a complete round no longer needs, also those that a kill has left."""
        number = record.round
        if not self._ended_before_its_labels(record):
            (self.round(number) / STATE).unlink(missing_ok=True)
        self.remove_checkpoints(number)
        if number > 0:
            (self.round(number - 1) / "final.ckpt").unlink(missing_ok=True)

    def _ended_before_its_labels(self, record: RoundRecord) -> bool:
        """True where the round's query was made and withdrawn; a run with more rounds takes it up again."""
        try:
            _, asked = self.read_state(record.round)
        except ValueError:
            return False
        return not record.queried and asked is not None and bool(asked.queried)

    def remove_temporary_files(self) -> None:
        """Remove what was being written when a process was killed; only while `held`."""
        for leftover in [*self.path.rglob(f".*{TEMPORARY}")]:
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)

    # ---- within a round's training

    def checkpoint_path(self, number: int, step: int) -> Path:
        """Where the checkpoint of step `step` of round `number` goes."""
        return self._checkpoints(number) / f"step_{step:08d}.ckpt"

    def checkpoint_identity(self, number: int) -> dict[str, Any]:
        """What a checkpoint of this round says of itself, beside its step."""
        return {"format": CHECKPOINT_FORMAT, "run_id": self.run_id, "round": number}

    def last_checkpoint(self, number: int) -> Path | None:
        """The newest checkpoint that is whole and of this round; those that are not are told."""
        well_named = self._all_checkpoints(number)
        for path in sorted({*self._checkpoints(number).glob("step_*")} - {*well_named}):
            log.warning("%s is passed over: it is no file of the name of a checkpoint, step_00000001.ckpt", path)
        for path in well_named:
            problem = self._problem_of(path, number)
            if problem is None:
                return path
            log.warning("checkpoint %s is passed over for the one before it: %s", path, problem)
        return None

    def keep_newest_checkpoints(self, number: int, step: int) -> None:
        """Keep that of `step`, which is whole, and the one before; later ones were passed over when the run went on."""
        found = self._all_checkpoints(number)
        newest = found.index(self.checkpoint_path(number, step))
        for path in [*found[:newest], *found[newest + _CHECKPOINTS_KEPT :]]:
            path.unlink(missing_ok=True)

    def remove_checkpoints(self, number: int) -> None:
        """All of a round's, once its training is done."""
        shutil.rmtree(self._checkpoints(number), ignore_errors=True)

    def _problem_of(self, path: Path, number: int) -> str | None:
        try:
            content = tensor_files.load(path)
        except (ValueError, OSError) as error:
            return str(error)
        identity = content.get(CHECKPOINT_IDENTITY)
        expected = self.checkpoint_identity(number)
        if not isinstance(identity, dict) or {name: identity.get(name) for name in expected} != expected:
            return f"it says of itself {identity}, and a checkpoint of this round says {expected}"
        missing = [name for name in _OF_A_CHECKPOINT if name not in content]
        return f"it is without {', '.join(missing)}" if missing else None

    def _all_checkpoints(self, number: int) -> list[Path]:
        """Newest first, by their steps: a clock may have jumped."""
        files = (path for path in self._checkpoints(number).glob("step_*") if path.is_file())
        found = ((_CHECKPOINT_NAME.fullmatch(path.name), path) for path in files)
        return [path for _, path in sorted(((int(name[1]), path) for name, path in found if name), reverse=True)]

    def _checkpoints(self, number: int) -> Path:
        return self.round(number) / "resume"  # Lightning's ModelCheckpoint takes "checkpoints"

    # ---- a round's other files

    def round(self, number: int) -> Path:
        """The directory of a round."""
        return round_directory(self.path, number)

    def save_tensors(self, number: int, name: str, state: dict[str, Any]) -> None:
        """Write tensors and plain values, to be read by `load_tensors`."""
        self.round(number).mkdir(exist_ok=True)
        tensor_files.save(state, self.round(number) / name)

    def load_tensors(self, number: int, name: str) -> dict[str, Any]:
        """Read what `save_tensors`, or a trainer's checkpoint, wrote; on the CPU, running no code from the file."""
        path = self.require(number, name)
        try:
            return tensor_files.load(path)
        except ValueError as error:
            raise ValueError(f"{error}; restore it or begin anew") from error

    def require(self, number: int, name: str) -> Path:
        """The path of a round's file, which must be there."""
        path = self.round(number) / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing, but the run cannot go on without it; restore it or begin anew")
        return path

    @contextmanager
    def reading(self, number: int, name: str) -> Iterator[None]:
        """Name a round's file in the error of who finds in it something else than was written there."""
        path = self.round(number) / name
        try:
            yield
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            problem = shortened(one_line(error), 200)
            if str(path) in problem:
                raise
            raise ValueError(
                f"{path} does not hold what this run needs of it ({type(error).__name__}: {problem}); restore it or "
                f"begin anew"
            ) from error

    def load_pool(self, number: int, pool: Pool, *, grown: bool = False) -> None:
        """Put into `pool` who is labelled while a round trains; where it has `grown`, others join in the next round."""
        state = self.load_tensors(number, POOL)
        classes = read_history(self.path)
        with self.reading(number, POOL):
            if classes is not None:
                state = relabel(state, classes.present_labels(number), pool.labels)
            pool.load_state_dict(state, joining=number + 1 if grown else None)

    def pool_on_disk(self) -> PoolOnDisk | None:
        """Read which images the run has and needs; None where it has written down no names yet."""
        names = read_samples(self.path)
        if not names.pool:
            return None
        if not self.has(0, POOL):
            return PoolOnDisk(names, len(names.pool), between_rounds=self.has_begun)
        number = self.under_way()
        state = self.load_tensors(number, POOL)
        with self.reading(number, POOL):
            is_waiting = self.read_state(number)[0] == "waiting"
            return PoolOnDisk(names, len(state["labelled_in_round"]), is_waiting, unused(state))

    @property
    def has_begun(self) -> bool:
        """Whether the first samples were asked for."""
        return self.has(0, INITIAL) or self.has(0, POOL)

    def write_initial(self, held_out: Tensor, others: Tensor) -> None:
        """Note which samples are asked for at first: (H,) to be held out and (K,) others, int64."""
        self.round(0).mkdir(exist_ok=True)
        content = {"held_out": held_out.tolist(), "others": others.tolist()}
        write_text(self.round(0) / INITIAL, json.dumps(content))

    def read_initial(self) -> tuple[Tensor, Tensor] | None:
        """What `write_initial` noted; None where it did not yet."""
        if not self.has(0, INITIAL):
            return None
        with self.reading(0, INITIAL):
            content = json.loads((self.round(0) / INITIAL).read_text(encoding="utf-8"))
            held_out, others = (torch.tensor(content[name], dtype=torch.int64) for name in ("held_out", "others"))
            return held_out, others

    def under_way(self) -> int:
        """As `records.round_under_way`."""
        return round_under_way(self.path)

    def note_samples(self, pool: Pool, test: Sequence[str]) -> None:
        """Write down all samples' names, in the order of their indices, where there are more than so far.

        Raises:
            ValueError: the pool has them in another order than the run.
        """
        known = read_samples(self.path)
        if pool.sample_ids[: len(known.pool)] != known.pool:
            raise ValueError(
                f"{self.path} has other samples at the indices of the {len(known.pool)} that it knows; where another "
                f"process has just noted new images, start the run once more, and else restore its images"
            )
        if not known.pool and self.has(0, POOL):  # of a run that began before names were written down
            self.load_pool(self.under_way(), Pool(pool.num_samples, pool.num_classes, pool.sample_ids), grown=True)
        if len(pool.sample_ids) > len(known.pool):
            write_samples(self.path, SampleNames(pool.sample_ids, tuple(test)))

    def has(self, number: int, name: str) -> bool:
        """Whether a round's file is there."""
        return (self.round(number) / name).exists()

    def write_state(self, number: int, state: State, record: RoundRecord | None = None) -> None:
        """`training`; `trained` or `waiting` for labels, with what the round's record will say."""
        content = {"state": state} if record is None else {"state": state, "record": asdict(record)}
        self.round(number).mkdir(exist_ok=True)
        write_text(self.round(number) / STATE, json.dumps(content))

    def read_state(self, number: int) -> tuple[State, RoundRecord | None]:
        """How far a round is that is not complete, and what its record will say."""
        return read_state(self.path, number)

    def write_queried(
        self, number: int, rows: Sequence[Mapping[str, object]], histograms: Mapping[str, Histogram]
    ) -> None:
        """`queried.csv`, a row a sample, best first, and `histograms.json`."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.round(number) / QUERIED, text.getvalue())
        write_text(self.round(number) / HISTOGRAMS, json.dumps(histograms))

    def write_thumbnails(self, number: int, png: bytes) -> None:
        """`queried.png`."""
        with open_atomic(self.round(number) / THUMBNAILS) as file:
            file.write(png)


def _command(words: Sequence[str]) -> dict[str, str]:
    """What was typed, under `COMMAND`, where it was this package's command line."""
    if words[1:3] == ["-m", "assl_lightning"]:
        return {COMMAND: shlex.join(["python", *words[1:]])}
    if len(words) > 1 and Path(words[1]).name == "assl-lightning":
        return {COMMAND: shlex.join(["assl-lightning", *words[2:]])}
    return {}
