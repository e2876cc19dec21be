"""Kill an ingest at one statement after the other, and look at what it left.

    python tests/people/ingest_kills.py RUN_DIR FILE ROWS [EVERY]

The ingest is a process of its own that does what the command line does; it gets SIGKILL from itself just before its
n-th statement reaches SQLite, for n = 0, 1, …: while the ledger is made, at each row, before and after the commit. Of
the rows in the middle only each `EVERY`-th is tried. It must leave none of the ROWS answers or all, and the same call
must complete them, each once. Prints how many kills there were, and before which statements all was there already.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assl_lightning.base.run_files import LEDGER
from assl_lightning.commands.ingest import main
from assl_lightning.people.ledger import Ledger

_FIRST = 24  # statements, of which each is tried: until the first row or beyond
_connect = sqlite3.connect


class _Killing(sqlite3.Connection):
    """A connection that ends its process before one of its statements."""

    left = 0  # statements until then

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        _count_down()
        return super().execute(*arguments)

    def close(self) -> None:
        _count_down()
        super().close()


def _count_down() -> None:
    if _Killing.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    _Killing.left -= 1


def in_a_process(action: Callable[[], int]) -> int:
    """Its exit code, negative where a signal ended it."""
    process = os.fork()
    if not process:
        code = 70
        try:
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
            code = action()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_at(statement: int, arguments: list[str]) -> bool:
    """Whether the ingest was killed; it may have fewer statements."""

    def ingest() -> int:
        _Killing.left = statement
        sqlite3.connect = lambda *args, **options: _connect(*args, factory=_Killing, **options)  # type: ignore[assignment]
        return main(arguments)

    code = in_a_process(ingest)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"an ingest that was to be killed at statement {statement} ended with {code}")
    return code != 0


def remove_ledger(run_dir: Path) -> None:
    for path in run_dir.glob(f"{LEDGER}*"):
        path.unlink()


def kill_everywhere(run_dir: Path, file: str, rows: int, every: int) -> tuple[int, list[int]]:
    """The number of kills, and the statements before which all was there."""
    complete: list[int] = []
    arguments = [str(run_dir), file]
    before = len(Ledger(run_dir / LEDGER).active_answers())
    saved = {path: path.read_bytes() for path in run_dir.glob(f"{LEDGER}*")}
    kills = statement = 0
    while kill_at(statement, arguments):
        kills += 1
        found = len(Ledger(run_dir / LEDGER).active_answers()) - before
        if found not in (0, rows):
            raise RuntimeError(f"killed before statement {statement}, an ingest left {found} of {rows} answers")
        if complete and not found:
            raise RuntimeError(f"killed before statement {statement}, an ingest lost what it had before {complete[-1]}")
        if found:
            complete.append(statement)
        if in_a_process(lambda: main(arguments)) != 0:
            raise RuntimeError(f"after a kill before statement {statement}, the same command failed")
        history = Ledger(run_dir / LEDGER).history()
        if (
            len(history) != before + rows
            or len({(one.sample_id, one.annotator) for one, _ in history}) != before + rows
        ):
            raise RuntimeError(f"after a kill before statement {statement}, there were {len(history) - before} answers")
        remove_ledger(run_dir)
        for path, content in saved.items():
            path.write_bytes(content)
        statement = min(statement + every, rows) if _FIRST <= statement < rows else statement + 1
    return kills, complete


if __name__ == "__main__":
    directory, name, count, *step = sys.argv[1:]
    print(*kill_everywhere(Path(directory), name, int(count), int(step[0]) if step else 1))  # noqa: T201
