from __future__ import annotations

import pytest
import torch
from torch import Tensor

from assl_lightning.learning.inference import evaluate, evaluation_mode
from assl_lightning.networks.small import SmallCNN

IMAGES = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def make_network() -> SmallCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallCNN(3, width=4)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_the_pass_gives_the_networks_logits_and_features_in_the_order_asked_for(batch_size: int) -> None:
    network, index = make_network(), torch.tensor([5, 0, 3])
    logits, features = evaluate(network, lambda part: IMAGES[part], index, batch_size=batch_size)
    network.eval()
    torch.testing.assert_close(features, network.features(IMAGES[index]).detach())
    torch.testing.assert_close(logits, network(IMAGES[index]).detach())
    assert not logits.requires_grad


class RoundsByPlace(SmallCNN):
    """Features that differ in their last bits by a row's place in the batch, as on some processors."""

    def features(self, images: Tensor) -> Tensor:
        return super().features(images) * (1 + 1e-6 * torch.arange(1, len(images) + 1)[:, None])


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_equal_images_have_equal_rows_wherever_they_stand(batch_size: int) -> None:
    network = RoundsByPlace(3, width=4)
    which = torch.tensor([0, 1, 2, 1, 0, 0, 3])
    logits, features = evaluate(network, lambda part: IMAGES[which[part]], torch.arange(7), batch_size=batch_size)
    for rows in (logits, features):
        assert torch.equal(rows[[3, 4, 5]], rows[[1, 0, 0]])
        assert len(rows.unique(dim=0)) == 4


def test_each_part_of_the_network_is_left_in_its_own_mode_and_its_buffers_alone() -> None:
    network = make_network()
    frozen = next(part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)).eval()
    before = {name: value.clone() for name, value in network.named_buffers()}
    evaluate(network, lambda part: IMAGES[part], torch.arange(7), batch_size=2)
    assert network.training
    assert not frozen.training
    for name, value in network.named_buffers():
        assert torch.equal(value, before[name]), name


def test_the_modes_come_back_after_an_error_too() -> None:
    network = make_network()

    def broken(part: Tensor) -> Tensor:
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        evaluate(network, broken, torch.arange(2), batch_size=2)
    assert all(part.training for part in network.modules())
    with evaluation_mode(network):
        assert not any(part.training for part in network.modules())
