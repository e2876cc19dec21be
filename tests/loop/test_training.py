"""The model that a training leaves for its query, or that is restored from the files of a round."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch

from assl_lightning import ASSLScoreCallback, SampleStatistics
from assl_lightning.loop.training import _model
from assl_lightning.method.features import SampleFeatures
from assl_lightning.networks.small import SmallCNN
from tests.emulated_device import CUDA, emulated_cuda_gpu


def test_kept_features_of_a_checkpoint_come_back_on_the_device_of_the_training() -> None:
    """As a run that was stopped at its query restores them."""
    kept, index = SampleFeatures(3), torch.tensor([2, 0])
    kept.update(index, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    score = ASSLScoreCallback(3, keep_features=True)
    score.load_state_dict({"statistics": SampleStatistics(3).state_dict(), "features": kept.state_dict()})
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=CUDA), precision_plugin=SimpleNamespace(forward_context=nullcontext)
    )
    with emulated_cuda_gpu():
        trained = _model(trainer, SmallCNN(2), None, score)
        assert trained.features is not None
        assert trained.features.seen(index).device == CUDA
        rows = trained.features.rows(index)
        assert rows.device == CUDA
        assert torch.equal(rows.cpu(), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
