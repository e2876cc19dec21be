"""The oracle is the definition, token by token and head by head, in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assl_lightning.networks.vit import ViTSmall, resize_positions


def make_tiny(**arguments: Any) -> ViTSmall:
    defaults = {"channels": 2, "patch_size": 4, "embedding_dim": 5, "last_blocks": 2, "token_dim": 12, "depth": 3}
    return ViTSmall(**{"num_classes": 4, "num_heads": 3, **defaults, **arguments})


def naive_features(network: ViTSmall, image: Tensor) -> Tensor:
    """One image (channels, height, width) → (d,), each sum of the definition written out."""
    trunk: Any = network.trunk  # its parts are typed as modules, and are called and read here as what they are
    side = trunk.patch_size
    rows, columns = image.shape[1] // side, image.shape[2] // side
    table = trunk.patch_position.permute(2, 0, 1)[None]
    factors = ((rows + 0.1) / table.shape[2], (columns + 0.1) / table.shape[3])
    positions = F.interpolate(table, scale_factor=factors, mode="bicubic")[0]
    tokens = [trunk.class_token[0, 0] + trunk.class_position[0, 0]]
    for row in range(rows):
        for column in range(columns):
            patch = image[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
            projected = (trunk.patches.weight * patch).sum((1, 2, 3)) + trunk.patches.bias
            tokens.append(projected + positions[:, row, column])
    class_tokens = []
    for block in trunk.blocks:
        attention = block.attention
        normed = [block.attention_norm(token) for token in tokens]
        queries, keys, values = zip(*[attention.query_key_value(token).chunk(3) for token in normed], strict=True)
        attended = []
        for query in queries:
            per_head = []
            for head in range(attention.num_heads):
                width = len(query) // attention.num_heads
                part = slice(head * width, (head + 1) * width)
                scores = torch.stack([query[part] @ key[part] / math.sqrt(width) for key in keys])
                weights = scores.exp() / scores.exp().sum()
                per_head.append(sum(weight * value[part] for weight, value in zip(weights, values, strict=True)))
            attended.append(attention.projection(torch.cat(per_head)))
        tokens = [token + change for token, change in zip(tokens, attended, strict=True)]
        hidden = [block.perceptron[0](block.perceptron_norm(token)) for token in tokens]
        activated = [0.5 * h * (1 + torch.erf(h / math.sqrt(2))) for h in hidden]
        tokens = [token + block.perceptron[2](h) for token, h in zip(tokens, activated, strict=True)]
        class_tokens.append(trunk.norm(tokens[0]))
    feature: Tensor = network.embedding(torch.cat(class_tokens[-trunk.last_blocks :]))
    return feature


def test_parameters_are_as_many_as_in_alfa_mix() -> None:
    network = ViTSmall(10)
    assert sum(parameter.numel() for parameter in network.trunk.parameters()) == 21_665_664
    assert sum(parameter.numel() for parameter in network.parameters()) == 22_061_706
    with torch.no_grad():
        assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 11, 17)])
def test_features_equal_the_definition_token_by_token(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = make_tiny()
    for parameter in network.parameters():  # far from where they start, so that every term counts
        nn.init.normal_(parameter, std=0.5)
    images = torch.randn(2, *shape)
    with torch.no_grad():
        features = network.features(images)
        logits = network(images)
        network.double()
        expected = torch.stack([naive_features(network, image) for image in images.double()])
        torch.testing.assert_close(features, expected.float(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, network.head(expected).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (5, 5), (1, 13), (14, 7), (20, 15)])
def test_positions_are_resized_as_interpolate_does(rows: int, columns: int) -> None:
    positions = torch.randn(14, 14, 6, generator=torch.Generator().manual_seed(0))
    resized = resize_positions(positions, rows, columns)
    assert resized.shape == (rows, columns, 6)
    factors = ((rows + 0.1) / 14, (columns + 0.1) / 14)
    expected = F.interpolate(positions.permute(2, 0, 1)[None], scale_factor=factors, mode="bicubic")
    torch.testing.assert_close(resized, expected[0].permute(1, 2, 0), rtol=1e-5, atol=1e-5)


def test_positions_of_the_grid_they_were_made_for_are_used_as_they_are() -> None:
    positions = torch.randn(14, 14, 6)
    assert resize_positions(positions, 14, 14) is positions


def test_the_positions_are_trained_through_the_resize() -> None:
    network = make_tiny()
    network(torch.randn(2, 2, 8, 8)).square().sum().backward()
    gradient = network.trunk.patch_position.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_every_parameter_of_the_network_gets_a_gradient() -> None:
    network = make_tiny()
    network(torch.randn(2, 2, 8, 8)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_initial_weights_are_the_ones_of_the_reference() -> None:
    network = ViTSmall(100, depth=1, last_blocks=1)
    assert isinstance(network.head, nn.Linear)
    assert network.head.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert network.head.bias.abs().max() == 0
    hidden = network.trunk.get_submodule("blocks.0.perceptron.0")
    assert isinstance(hidden, nn.Linear)
    assert hidden.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert hidden.bias.abs().max() == 0
    assert network.trunk.patch_position.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("embedding_dim", [0, 24])
def test_an_embedding_of_zero_or_its_own_size_is_left_out(embedding_dim: int) -> None:
    network = make_tiny(embedding_dim=embedding_dim)
    assert network.feature_dim == 24  # 2 blocks × 12
    assert len(network.embedding) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 5}, "num_heads must divide token_dim, which is 12; got 5"),
        ({"last_blocks": 4}, "last_blocks must be at most depth, which is 3; got 4"),
        ({"patch_size": 225}, "patch_size must be at most 224 pixels; got 225"),
        ({"depth": 0}, "depth must be an integer of at least 1; got 0"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_tiny(**arguments)


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    message = r"at least one patch of 4 pixels high and wide; got images of shape \(1, 2, 8, 3\)"
    with pytest.raises(ValueError, match=message):
        make_tiny()(torch.zeros(1, 2, 8, 3))
