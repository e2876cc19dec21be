"""How things are timed: after a warm-up, in turns, so that what the machine does meanwhile meets all of them alike."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

CHECKOUT = Path(__file__).resolve().parents[1]  # where `benchmarks` is found


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Seconds that one of `calls` calls takes, the device's work included."""
    synchronise(device)
    started = time.perf_counter()
    for _ in range(calls):
        call()
    synchronise(device)
    return (time.perf_counter() - started) / calls


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    device: torch.device,
    *,
    repeats: int,
    calls_each: int = 1,
    warm_up: int = 2,
) -> dict[str, tuple[float, ...]]:
    """Seconds of one call of each, `repeats` times over: a, b, a, b, … so that ratios of one turn are of one moment."""
    for call in calls.values():
        for _ in range(warm_up):
            call()
    turns = [{name: seconds(call, device, calls_each) for name, call in calls.items()} for _ in range(repeats)]
    return {name: tuple(turn[name] for turn in turns) for name in calls}


def ratios(numerators: tuple[float, ...], denominators: tuple[float, ...]) -> tuple[float, ...]:
    """Turn by turn."""
    return tuple(above / below for above, below in zip(numerators, denominators, strict=True))


def peak_bytes(device: torch.device) -> int:
    """The most memory so far: of this process on a CPU, of what torch held for tensors on a GPU.

    On Linux not `ru_maxrss`, which begins at the peak of the process that started this one.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_fresh_process(code: str, *arguments: str) -> str:
    """The standard output of `python -c code arguments`, so that its peak memory and imports are its own."""
    command = [sys.executable, "-c", code, *arguments]
    finished = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"a fresh process ended with exit code {finished.returncode}: {finished.stderr.strip()}")
    return finished.stdout
