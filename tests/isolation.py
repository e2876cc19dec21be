"""Tests see nothing of the machine: an empty working directory, a home of their own, few variables.

A test that reads what a run has left in the checkout, or writes into the checkout, fails with the path. pytest takes
the hooks and the fixture from conftest.py.
"""

from __future__ import annotations

import functools
import gc
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

KEPT = frozenset(
    (
        *("PATH", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL"),
        *("VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES", "NUMBA_CACHE_DIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE"),
        *("ASSL_LIGHTNING_LABEL_STUDIO", "ASSL_LIGHTNING_TEST_HOME"),
    )
)
"""Variables that tests see: where programs and temporary files are, how fast to compute, and how to reach an index."""

KEPT_BEGINNINGS = ("PYTEST_", "PIP_", "UV_", "COVERAGE_")

HOME = "ASSL_LIGHTNING_TEST_HOME"
"""Variable with the home of all processes of one pytest. The first of them, which sets it, removes the directory."""

CHECKOUT = f"{ROOT}{os.sep}"

OF_A_RUN = tuple(str(ROOT / name) for name in ("runs", "multirun", "data", "lightning_logs"))
"""What runs and downloads leave in a checkout. No test may read there."""

CACHES = ("__pycache__", ".pytest_cache", ".git")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
READS = ("os.listdir", "os.scandir")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "sqlite3.connect")

touched: list[str] = []
"""What was read or written in the checkout since the last test ended, and other offences, as sentences."""

A_PROCESS = "a Python process was started by a test without @pytest.mark.e2e"
A_ROUND = "a round of a run was trained by a test without @pytest.mark.e2e"
LONG = ("e2e", "slow", "gpu")
"""Marks of tests that may start a Python process, which takes seconds to import torch and Lightning, or make a run."""


def pytest_configure(config: pytest.Config) -> None:
    """Give all processes one home and the few variables that are kept, before anything of ours is imported."""
    if HOME not in os.environ:
        home = tempfile.mkdtemp(prefix="assl_lightning_tests_")
        config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
        os.environ[HOME] = home
    home = os.environ[HOME]
    for name in set(os.environ) - KEPT:
        if not name.startswith(KEPT_BEGINNINGS):
            del os.environ[name]
    for name in ("HOME", "USERPROFILE"):
        os.environ[name] = home
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(home) / "hypothesis")
    os.environ["HF_HUB_OFFLINE"] = "1"
    _set_up_hypothesis()
    sys.addaudithook(_note)
    gc.disable()


def pytest_collection_finish() -> None:
    """Spare the garbage collection what was there before the tests: it would walk over all modules and items again and
    again, a third of the time of the tests of the command line, which collect after each run."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a CUDA device where there is none, whatever was selected with `-m`."""
    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


def _set_up_hypothesis() -> None:
    """The same examples everywhere, whatever an earlier run found; `--hypothesis-profile=explore` tries others."""
    from hypothesis import settings

    settings.register_profile("same", derandomize=True, database=None, deadline=None)
    settings.register_profile("explore", deadline=None)
    settings.load_profile("same")


@pytest.fixture(scope="session")
def _nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nowhere")


@pytest.fixture(autouse=True)
def _isolated(_nowhere: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """An empty working directory and seeded generators; afterwards, what the test changed of the process is undone."""
    before = dict(os.environ)
    there = Path.cwd()
    os.chdir(_nowhere)
    _seed()
    try:
        with _rounds_noted(), nullcontext() if request.node.get_closest_marker("any_device") else _devices_noted():
            yield
    finally:
        os.chdir(there)
        _empty(_nowhere)
        if os.environ != before:
            os.environ.clear()
            os.environ.update(before)
    may_be_long = any(request.node.get_closest_marker(mark) for mark in LONG)
    found = [offence for offence in dict.fromkeys(touched) if not (may_be_long and offence in (A_PROCESS, A_ROUND))]
    touched.clear()
    if found:
        pytest.fail("\n".join(("a test uses its own directory, such as tmp_path, and names its device:", *found)))


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def _rounds_noted() -> Iterator[None]:
    """A test that trains a round says that it is no quick one."""
    training = sys.modules.get("assl_lightning.loop.training")
    if training is None:
        yield
        return
    kind: Any = training.RoundTraining
    fit = kind._fit

    @functools.wraps(fit)
    def note_round(self: Any, *arguments: Any, **settings: Any) -> Any:
        touched.append(A_ROUND)
        return fit(self, *arguments, **settings)

    kind._fit = note_round
    try:
        yield
    finally:
        kind._fit = fit


@contextmanager
def _devices_noted() -> Iterator[None]:
    """A test that trains says on which device, or a machine with a GPU would run another test (`any_device` may)."""
    lightning = sys.modules.get("lightning.pytorch")
    trainer_class: Any = getattr(lightning, "Trainer", None)
    if trainer_class is None:
        yield
        return
    make, fit = trainer_class.__init__, trainer_class.fit

    @functools.wraps(make)
    def note_device(self: Any, *arguments: Any, **settings: Any) -> None:
        self.names_its_device = settings.get("accelerator", "auto") != "auto"
        make(self, *arguments, **settings)

    @functools.wraps(fit)
    def note_fit(self: Any, *arguments: Any, **settings: Any) -> None:
        if not getattr(self, "names_its_device", True):
            touched.append("a Trainer without accelerator='cpu' or trainer.accelerator=cpu has trained")
        fit(self, *arguments, **settings)

    trainer_class.__init__, trainer_class.fit = note_device, note_fit
    try:
        yield
    finally:
        trainer_class.__init__, trainer_class.fit = make, fit


def _seed() -> None:
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    torch.default_generator.manual_seed(0)  # torch.manual_seed writes down a traceback for each kind of device
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    """Called by Python for whatever a process asks of the system."""
    if event == "open":
        path, _, flags = arguments
        writes = bool((flags or 0) & WRITING)
    elif event in READS:
        path, writes = arguments[0], False
    elif event in CHANGES:
        path, writes = arguments[0], True
    elif event == "subprocess.Popen" and sys.executable in (arguments[0], *arguments[1][:1]):
        touched.append(A_PROCESS)
        return
    else:
        return
    if isinstance(path, (str, bytes, os.PathLike)):
        _judge(os.fsdecode(path), writes)


def _judge(path: str, writes: bool) -> None:
    """Relative paths begin outside of the checkout, or at a directory that was judged when it was opened."""
    if not path.startswith(CHECKOUT):
        return
    inside = Path(path).parts[len(ROOT.parts) :]
    if path.startswith(OF_A_RUN) or (writes and inside and not _is_of_a_cache(inside)):
        touched.append(f"{path} was {'written' if writes else 'read'}")


def _is_of_a_cache(inside: tuple[str, ...]) -> bool:
    return inside[0].startswith(".venv") or any(part in CACHES for part in inside)
