"""Pre-emption in SLURM: the signal that announces it, and the return of the job to the queue.

Submitit announces the end of its own jobs, in SLURM or as local processes, and queues them again by itself.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Mapping

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

log = logging.getLogger(__name__)


def requeue_signal() -> int | None:
    """Return SIGUSR1 in a batch job of SLURM, as `#SBATCH --signal=SIGUSR1@90` asks for; None anywhere else."""
    return int(signal.SIGUSR1) if SLURMEnvironment.detect() and submitit_signal() is None else None


def submitit_signal() -> int | None:
    """Return the signal that submitit sends to its jobs before they end; None in any other process."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    return int(signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"])


def preemption_signals() -> tuple[int, ...]:
    """Return the signals after which a job must save its state and end."""
    return tuple(signum for signum in (requeue_signal(), submitit_signal()) if signum is not None)


def job_id(environment: Mapping[str, str]) -> str:
    """Return the id of this job for `scontrol`; "<array>_<task>" in a job array."""
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment["SLURM_JOB_ID"]


def requeue() -> None:
    """Put this job back into the queue; a failure is logged, not raised."""
    command = ["scontrol", "requeue", job_id(os.environ)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        problem = answer.stderr.strip() or f"exit code {answer.returncode}" if answer.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        log.warning("%s failed (%s); submit the job again, and it goes on", " ".join(command), problem)
    else:
        log.info("job %s is back in the queue, and goes on when it is started again", command[-1])
