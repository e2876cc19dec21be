"""The head that a query hands to its strategy; what a query picks is in test_rounds.py and test_end_to_end.py."""

from __future__ import annotations

import pytest
import torch

from assl_lightning.base.ties import head_in_float64
from assl_lightning.loop.querying import Head
from assl_lightning.networks.small import SmallCNN


def make_network(dtype: torch.dtype = torch.float32) -> SmallCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallCNN(3, width=4).to(dtype).eval()


@pytest.mark.parametrize("of_network", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("of_features", [torch.float16, torch.float32, torch.float64])
def test_features_of_any_precision_give_the_networks_logits_in_float32_or_better(
    of_network: torch.dtype, of_features: torch.dtype
) -> None:
    network = make_network(of_network)
    features = torch.randn(5, network.feature_dim, generator=torch.Generator().manual_seed(0)).to(of_features)
    logits = Head(network)(features)
    assert logits.dtype == (torch.float64 if of_network == torch.float64 else torch.float32)
    torch.testing.assert_close(logits, network.head(features.to(of_network)).to(logits))


def test_in_float64_it_computes_what_float32_rounds() -> None:
    network = make_network()
    features = torch.randn(5, 7, network.feature_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits = head_in_float64(Head(network), features.device)(features)
    exact = make_network().double().head(features)
    torch.testing.assert_close(logits, exact, rtol=1e-13, atol=1e-14)
    assert logits.dtype == torch.float64
    assert next(network.parameters()).dtype == torch.float32
