"""Notify people by a command, once for each batch, that a run waits for their labels."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from assl_lightning.base.shell import command as shell_command
from assl_lightning.base.words import counted, one_line, printable, shortened
from assl_lightning.people.batch import LabelBatch

log = logging.getLogger(__name__)

NOTIFIED = ".notified"
"""The file in a batch's directory that records that the command was started for it."""

PATIENCE = 60.0  # seconds that the command may take

_TAIL = 2000  # bytes of the command's output that its last line is looked for in


def is_command(value: object) -> bool:
    """True for a text that can be passed to a shell."""
    return isinstance(value, str) and value.strip() != "" and "\0" not in value


def notify(command: str, batch: LabelBatch) -> None:
    """Run a shell command for a batch that waits for people, unless it was started for this batch before.

    The batch is described by environment variables alone (see `variables`), so that no name becomes a part of the
    command. It is recorded before the command starts, so that a killed process does not repeat it. A command that
    fails, or takes more than `PATIENCE` seconds, is a warning; nothing is raised, and nothing is repeated.
    """
    try:
        (batch.directory / NOTIFIED).touch(exist_ok=False)
    except FileExistsError:
        return
    except OSError as error:
        log.warning("oracle.notify was not run, since %s cannot be written (%s)", batch.directory / NOTIFIED, error)
        return
    problem = _run(command, {**os.environ, **variables(batch)})
    if problem:
        log.warning("oracle.notify failed: %s; the run goes on as without it, and does not repeat it", problem)
    else:
        log.info("oracle.notify was run for the %s in %s", counted(len(batch.samples), "image"), batch.directory)


def variables(batch: LabelBatch) -> Mapping[str, str]:
    """Return the environment variables that describe a batch to the command."""
    return {
        "ASSL_BATCH": str(batch.directory.absolute()),
        "ASSL_RUN": str(batch.run_dir.absolute()),
        "ASSL_NAME": batch.name,
        "ASSL_ROUND": str(batch.round),
        "ASSL_IMAGES": str(len(batch.samples)),
        "ASSL_LABEL": shell_command("label", batch.run_dir.absolute()),
    }


def _run(command: str, environment: Mapping[str, str]) -> str:
    """Run the command in the shell of the system, and return its failure in a few words, or ""."""
    with tempfile.TemporaryFile() as output:  # a pipe would stay open while the command's own children run
        try:
            process = subprocess.Popen(
                command,
                shell=True,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return one_line(error)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            _end(process)
            return f"the command did not end within {PATIENCE:g} s, and was ended"
        except BaseException:
            _end(process)
            raise
        if not code:
            return ""
        output.seek(max(0, output.seek(0, os.SEEK_END) - _TAIL))
        lines = output.read().decode(errors="replace").strip().splitlines()
        last_line = f" ({shortened(printable(lines[-1].strip()), 160)})" if lines else ""
        return f"the command ended with exit code {code}{last_line}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command with all that it has started."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
