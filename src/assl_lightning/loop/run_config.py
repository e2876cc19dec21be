"""The configuration of a run: what config.yaml says, and which changes a run that goes on accepts."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from omegaconf import OmegaConf

from assl_lightning.base.differences import differences
from assl_lightning.base.environment import environment
from assl_lightning.base.run_files import CONFIG
from assl_lightning.loop.class_history import KEYS as CLASS_KEYS
from assl_lightning.loop.class_history import changeable_round, named_classes, run_classes, write_history
from assl_lightning.loop.moving import CONTENTS, in_one_spelling, moved_paths, with_run_dir
from assl_lightning.loop.records import (
    COMMAND,
    KEYS_WITHOUT_EFFECT,
    PROVENANCE_KEYS,
    STOPPING_KEYS,
    read_config,
    read_records,
    trained_records,
    with_later_keys,
    write_config,
)

log = logging.getLogger(__name__)

DEVICES = ("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
"""Keys that may change with `change_devices`."""

LABELLING_KEYS = (
    *("oracle.tool", "oracle.conflicts", "oracle.min_fraction", "oracle.relabel_fraction"),
    *("oracle.show_predictions", "oracle.longest_side", "oracle.notify"),
)
"""Keys that may change: answers that were given before keep their meaning."""


class RunConfig:
    """The config.yaml of the run in a directory, with the history of its changes."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write the configuration of a new run."""
        history = {"run_id": uuid4().hex, **_command(sys.orig_argv)}
        write_config(self.run_dir, {**config, "environment": environment(), "history": history})

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise unless `config` is the configuration of this run.

        These may differ:

        - `KEYS_WITHOUT_EFFECT`;
        - the classes, while labels are waited for: new ones may join at the end;
        - `rounds`: more extend the run, and fewer end it, but not before the newest round that is trained;
        - `non_finite`, `trainer.cuda_graph`, `STOPPING_KEYS`, `LABELLING_KEYS`, the paths of the same data (`moving`),
          and, with `change_devices`, `DEVICES`.

        Raises:
            ValueError: other keys differ; the message names them.
        """
        self._history()
        self._joining(config)
        _, refused = self._compare(config)
        if refused:
            is_devices = all(line.startswith(DEVICES) for line in refused)
            hint = "change_devices=true to go on with other devices, " if is_devices else ""
            if any(line.startswith("rounds was ") for line in refused):
                hint += f"rounds={self._fewest_rounds()} to end it after the newest round that is trained, "
            raise ValueError(
                f"run_dir {self.run_dir} holds a run with another configuration ({'; '.join(refused)}); "
                f"repeat its settings to go on with it, {hint}or choose another run_dir"
            )

    def note_changes(self, config: Mapping[str, Any]) -> None:
        """Write the changes that `check` accepts: new classes into classes.json, then the others into config.yaml."""
        joining, known, number = self._joining(config), run_classes(self.run_dir), changeable_round(self.run_dir)
        if joining and known is not None and number is not None:
            write_history(self.run_dir, known.add(joining, number))
            log.info("classes that are new: %s; round %s is the first to train with them", ", ".join(joining), number)
        accepted, _ = self._compare(config)
        before = self._read().get("rounds")
        if isinstance(before, int) and config["rounds"] < before:
            log.info(
                "rounds was %d, now %d: the run ends early; rounds=%d goes on with it", before, config["rounds"], before
            )
        if accepted or config.get(CONTENTS) != self._read().get(CONTENTS):
            self._note(accepted, config, **(_command(sys.orig_argv) if accepted else {}))

    def check_devices(self, devices: str, change: bool) -> None:
        """Raise a ValueError unless the run was trained on the same `devices`, or may `change` them; note them."""
        known = self._history().get("devices")
        if known is not None and known != devices and not change:
            raise ValueError(
                f"run_dir {self.run_dir} holds a run that was trained on {known}, and here is {devices}, whose results "
                f"differ in the last digits; go on where it began, or with change_devices=true"
            )
        if known != devices:
            changes = [] if known is None else [f"devices were {known}, now {devices}"]
            self._note(changes, devices=devices)

    @property
    def run_id(self) -> str | None:
        """The unique id of the run; None for a run of an early version, which has none."""
        run_id: str | None = self._history().get("run_id")
        return run_id

    def _joining(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the new classes of `config`; raise where they cannot join now, or other classes differ."""
        asked, known = named_classes(config), run_classes(self.run_dir)
        if asked is None or known is None:
            return ()
        try:
            joining = known.joining(asked, self.run_dir)
        except ValueError as error:
            raise ValueError(f"run_dir {self.run_dir} holds a run with other classes: {error}") from error
        if joining and changeable_round(self.run_dir) is None:
            raise ValueError(
                f"run_dir {self.run_dir} holds a run with the classes {', '.join(known.names())}; {', '.join(joining)} "
                f"can join while labels are waited for, and not while a round trains"
            )
        return joining

    def _compare(self, config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Return the accepted and the refused differences from the run's configuration, a line each."""
        before = in_one_spelling(with_later_keys(self._read()))
        now = in_one_spelling(OmegaConf.to_container(OmegaConf.create(with_later_keys(config))))
        if before.get("run_dir") and now.get("run_dir"):
            before = with_run_dir(before, before["run_dir"], now["run_dir"])
            now = with_run_dir(now, now["run_dir"], now["run_dir"])  # in one spelling
        may_change = [
            "non_finite",
            "trainer.cuda_graph",
            *STOPPING_KEYS,
            *LABELLING_KEYS,
            *(DEVICES if now.get("change_devices") else ()),
        ]
        may_change += moved_paths(before, now)
        rounds = before.get("rounds")
        if isinstance(rounds, int) and rounds != now.get("rounds") and now["rounds"] >= self._fewest_rounds():
            may_change.append("rounds")
        if named_classes(before) is not None and named_classes(config) is not None:
            may_change += CLASS_KEYS  # `_joining` checks them
        ignore = (*KEYS_WITHOUT_EFFECT, *PROVENANCE_KEYS)
        refused = list(differences(before, now, (*ignore, *may_change)))
        return [line for line in differences(before, now, ignore) if line not in refused], refused

    def _fewest_rounds(self) -> int:
        """Return the number of acquisitions up to the newest trained round, which fewer `rounds` would lose."""
        rounds = self._read().get("rounds")
        return max(len(trained_records(self.run_dir, rounds if isinstance(rounds, int) else 0)) - 1, 0)

    def _note(self, changes: Sequence[str], config: Mapping[str, Any] | None = None, **history: str) -> None:
        before = self._read()
        asked = before if config is None else config
        known = self._history()
        if changes:
            note = {"complete_rounds": len(read_records(self.run_dir)), "changes": list(changes)}
            known = {**known, "changes": [*known.get("changes", []), note]}
        content = {**asked, "environment": before.get("environment"), "history": {**known, **history}}
        write_config(self.run_dir, content)

    def _history(self) -> dict[str, Any]:
        history = self._read().get("history") or {}
        if not isinstance(history, dict) or not isinstance(history.get("changes", []), list):
            raise ValueError(  # noqa: TRY004
                f"{self.run_dir / CONFIG}: history must be a group of keys, and its changes a list; got {history!r}. "
                f"Restore it, or choose another run_dir"
            )
        return history

    def _read(self) -> dict[str, Any]:
        try:
            return read_config(self.run_dir)
        except ValueError as error:
            raise ValueError(f"run_dir {self.run_dir} holds a run that cannot go on: {error}") from error


def _command(words: Sequence[str]) -> dict[str, str]:
    """Return this process's command line under `COMMAND`, if it is one of this package."""
    if words[1:3] == ["-m", "assl_lightning"]:
        return {COMMAND: shlex.join(["python", *words[1:]])}
    if len(words) > 1 and Path(words[1]).name == "assl-lightning":
        return {COMMAND: shlex.join(["assl-lightning", *words[2:]])}
    return {}
