"""Kill the command that changes classes at one write after the other, and look at what it left.

    python -m tests.commands.classes_kills RUN_DIR ARGUMENTS…

Each call is a process of its own; it gets SIGKILL from itself just before, or just after, the n-th file that it writes
takes its place. A copy of RUN_DIR must then have the classes of before or of after, in all that is read, and the same
call must complete it. Prints the number of kills, and how many of them left the classes of after.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from assl_lightning.base.run_files import LEDGER
from assl_lightning.commands.classes import main
from assl_lightning.loop.class_history import run_classes
from assl_lightning.people.batch import waiting_batch
from assl_lightning.people.ledger import Ledger
from tests.people.ingest_kills import in_a_process

_replace = Path.replace


def killed(arguments: list[str], number: int, after: bool) -> bool:
    """Whether the call was killed at its n-th write; it may have fewer."""
    left = number

    def replace(self: Path, target: Path) -> Path:
        nonlocal left
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        moved = _replace(self, target)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return moved

    def call() -> int:
        Path.replace = replace  # type: ignore[assignment, method-assign]
        return main(arguments)

    code = in_a_process(call)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a call that was to be killed at write {number} ended with {code}")
    return code != 0


def state_of(run_dir: Path) -> tuple[object, ...]:
    """What is read of the classes by the run, by who labels and by who reads answers."""
    classes, batch = run_classes(run_dir), waiting_batch(run_dir)
    assert classes is not None
    labels = [answer.label for answer in Ledger(run_dir / LEDGER).active_answers()]
    return classes.names(), batch.class_names, labels


def _texts(run_dir: Path) -> list[str]:
    """What people and other programs read."""
    texts = [run_dir / "config.yaml", *run_dir.rglob("batch.json"), *run_dir.rglob("label_config.xml")]
    return [path.read_text(encoding="utf-8") for path in sorted(texts)]


def complete(run_dir: Path, options: list[str]) -> None:
    """The call where nothing kills it; it must end well."""
    if in_a_process(lambda: main([str(run_dir), *options])):
        raise RuntimeError(f"the call in {run_dir} must end well where nothing kills it")


def kill_everywhere(run_dir: Path, options: list[str]) -> tuple[int, int]:
    """How many kills there were, and how many left the classes of after."""
    whole = Path(shutil.copytree(run_dir, run_dir.with_name("whole")))
    before = state_of(whole)
    complete(whole, options)
    after, changed = state_of(whole), 0
    copy = run_dir.with_name("copy")
    for kills in range(100):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run_dir, copy)
        if not killed([str(copy), *options], kills // 2, after=bool(kills % 2)):
            return kills, changed
        found = state_of(copy)
        if found not in (before, after):
            raise RuntimeError(f"kill {kills} left {found}")
        changed += found == after
        complete(copy, options)
        if state_of(copy) != after or _texts(copy) != _texts(whole):
            raise RuntimeError(f"the call after kill {kills} left {state_of(copy)}")
    raise RuntimeError("a call writes fewer than fifty files")


if __name__ == "__main__":
    sys.stdout.write("{} {}\n".format(*kill_everywhere(Path(sys.argv[1]), sys.argv[2:])))
