"""SLURM's pre-emption: the signal that announces it, and putting the job back into the queue.

Jobs that submitit has started, in SLURM or as local processes, it announces and queues again by itself.
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
    """SIGUSR1 in a batch job of SLURM, as `#SBATCH --signal=SIGUSR1@90` asks for; None anywhere else."""
    return int(signal.SIGUSR1) if SLURMEnvironment.detect() and submitit_signal() is None else None


def submitit_signal() -> int | None:
    """What submitit sends to a job of its own before it is pre-empted or its time is over; None anywhere else."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    return int(signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"])


def preemption_signals() -> tuple[int, ...]:
    """Those at which a job is to save what it has and end."""
    return tuple(signum for signum in (requeue_signal(), submitit_signal()) if signum is not None)


def job_id(environment: Mapping[str, str]) -> str:
    """What `scontrol` knows this job by; a job of an array by the array's number and its own."""
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment["SLURM_JOB_ID"]


def requeue() -> None:
    """Put this job back into the queue, where it goes on once it is started again; a failure is told, not raised."""
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
