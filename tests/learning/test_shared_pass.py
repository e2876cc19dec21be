"""A pass over the pool that two processes share (gloo, on the CPU) against that of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from assl_lightning.learning.inference import evaluate
from tests.learning import shared_pass

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed"),
]
ROOT = Path(__file__).parents[2]
TIMEOUT = 120


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes have written."""
    place = tmp_path_factory.mktemp("shared")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    processes = [
        subprocess.Popen([sys.executable, shared_pass.__file__, str(place), str(rank)], env=environment)
        for rank in range(2)
    ]
    assert [process.wait(TIMEOUT) for process in processes] == [0, 0]
    return place


def test_each_process_makes_a_part_of_the_pass_and_both_have_the_numbers_of_one_process(directory: Path) -> None:
    first, second = (torch.load(directory / f"rank_{rank}.pt", weights_only=True) for rank in range(2))
    for batch_size in shared_pass.BATCH_SIZES:
        index = torch.arange(11)
        with torch.random.fork_rng():
            network = shared_pass.make_network()
        logits, features = evaluate(network, shared_pass.IMAGES.__getitem__, index, batch_size=batch_size)
        for rank in (first, second):
            assert torch.equal(rank[batch_size]["logits"], logits)
            assert torch.equal(rank[batch_size]["features"], features)
        parts = index.split(batch_size)
        for number, rank in enumerate((first, second)):
            shared = parts if len(parts) == 1 else parts[number::2]
            assert torch.equal(rank[batch_size]["seen"], torch.cat(shared))


def test_an_error_in_one_process_ends_both_with_its_words(directory: Path) -> None:
    errors = [(directory / f"error_{rank}.txt").read_text() for rank in range(2)]
    assert errors == ["ValueError: s3://bucket/3.png cannot be read", "OSError: s3://bucket/3.png cannot be read"]
