"""The oracle is the network itself, before it was wrapped."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from assl_lightning.networks.adapt import with_features
from assl_lightning.networks.small import SmallCNN

FAMILIES = {
    "resnet18": 512,
    "mobilenet_v3_small": 1024,
    "densenet121": 1024,
    "convnext_tiny": 768,
    "efficientnet_b0": 1280,
    "shufflenet_v2_x0_5": 1024,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_torchvision_network_gives_the_logits_it_gave_before(name: str) -> None:
    network = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    parameters = {id(parameter) for parameter in network.parameters()}
    with torch.no_grad():
        expected = network(images)
        adapted = with_features(network, 7)
        features = adapted.features(images)
        torch.testing.assert_close(adapted(images), expected, rtol=0, atol=0)
        torch.testing.assert_close(adapted.head(features), expected, rtol=0, atol=0)
    assert features.shape == (2, FAMILIES[name]) == (2, adapted.feature_dim)
    assert adapted.num_classes == 7
    assert {id(parameter) for parameter in adapted.parameters()} == parameters


def test_a_hidden_layer_as_wide_as_the_classes_is_not_the_head() -> None:
    hidden, last = nn.Linear(6, 4), nn.Linear(4, 4)
    network = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), last)
    images = torch.randn(3, 6, 1, 1)
    expected = network(images)
    adapted = with_features(network, 4)
    assert adapted.head is last
    torch.testing.assert_close(adapted(images), expected)


def test_a_linear_layer_by_itself_is_its_own_head() -> None:
    layer = nn.Linear(6, 4)
    inputs = torch.randn(3, 6)
    adapted = with_features(layer, 4)
    torch.testing.assert_close(adapted.features(inputs), inputs)
    torch.testing.assert_close(adapted(inputs), layer(inputs))


def test_a_feature_network_is_returned_as_it_is() -> None:
    network = SmallCNN(10)
    assert with_features(network, 10) is network
    adapted = with_features(nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), 10)
    assert with_features(adapted, 10) is adapted


def test_a_copy_of_an_adapted_network_is_independent() -> None:
    adapted = with_features(nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), 10)
    twin = copy.deepcopy(adapted)
    nn.init.zeros_(twin.head.get_parameter("weight"))
    assert adapted.head.get_parameter("weight").abs().sum() > 0


def test_a_feature_network_of_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="the network must have 100 classes, as the data; SmallCNN has 10"):
        with_features(SmallCNN(10), 100)


def test_a_network_of_another_number_of_classes_names_its_linear_layers() -> None:
    network = torchvision.models.mobilenet_v3_small(weights=None, num_classes=10)
    message = r"MobileNetV3 must end in an nn.Linear with 100 outputs.*classifier\.0 → 1024, classifier\.3 → 10;"
    with pytest.raises(ValueError, match=message):
        with_features(network, 100)


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Sequential must end in an nn\.Linear with 10 outputs.*layers are: none;"):
        with_features(nn.Sequential(nn.Conv2d(3, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 10)


def test_a_network_for_other_images_is_refused_with_the_shape_of_those_that_there_are() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    message = r"Sequential must take images of 1 × 16 × 16 \(channels × height × width\).* raises: mat1 and mat2 shapes"
    with pytest.raises(ValueError, match=message):
        with_features(network, 10, (1, 16, 16))
    lazy = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(ValueError, match=r"must take images of 1 × 8 × 8 .* to have 3 channels, but got 1 channels"):
        with_features(lazy, 10, (1, 8, 8))


@pytest.mark.parametrize("maps", [4, 8])
def test_features_that_are_not_rows_are_refused_with_their_shape(maps: int) -> None:
    adapted = with_features(nn.Sequential(nn.Conv2d(3, maps, 1), nn.Linear(8, 10)), 10)
    with pytest.raises(ValueError, match=rf"features of shape \(B, 8\); it gave shape \(2, {maps}, 8, 8\)"):
        adapted(torch.zeros(2, 3, 8, 8))


def test_features_that_are_not_a_tensor_are_refused_with_their_type() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 10)

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features = images.flatten(1)
            return self.fc(features), features

    adapted = with_features(Pair(), 10)
    with pytest.raises(ValueError, match=r"Pair without its last linear layer .* it gave a tuple"):
        adapted(torch.zeros(2, 1, 2, 2))


class Net(nn.Module):
    """A convolution, batch norm, dropout and `fc`; what `end` makes of the logits follows."""

    def __init__(self, end: str = "logits") -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3))
        self.fc = nn.Linear(6, 4)
        self.end = end
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        self.calls = self.calls + 1
        features = self.stem(images).mean((2, 3))
        logits: Tensor = self.fc(features)
        match self.end:
            case "softmax":
                return logits.softmax(-1)
            case "log_softmax":
                return nn.functional.log_softmax(logits, -1)
            case "dropout":
                return nn.functional.dropout(logits, 0.1, self.training)
            case "temperature":
                return logits / 2
            case "pair while trained":
                return (logits, logits) if self.training else logits
            case "noise of Python":
                logits = self.fc(features + random.random()) if self.training else logits
            case "two views":
                logits = (logits + self.fc(self.stem(images.flip(-1)).mean((2, 3)))) / 2
        return logits


SHAPE = (3, 8, 8)
ENDINGS = {
    "softmax": "in evaluation it gives their softmax",
    "log_softmax": "in evaluation it gives their log-softmax",
    "dropout": "while it is trained it gives something else",
    "temperature": "in evaluation it gives something else",
}


@pytest.mark.parametrize("end", ENDINGS)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_follows_the_last_layer_is_refused_at_once_or_at_the_first_pass(end: str, at_once: bool) -> None:
    message = f"Net must give the logits that its last linear layer fc computes; {ENDINGS[end]}; return the layer's own"
    with pytest.raises(ValueError, match=message):
        with_features(Net(end), 4, SHAPE if at_once else None)(torch.randn(3, *SHAPE))


@pytest.mark.parametrize("end", [nn.Softmax(-1), nn.LogSoftmax(-1), nn.Dropout(0.5), nn.ReLU(), nn.BatchNorm1d(4)])
def test_a_module_behind_the_last_layer_is_refused_with_weights_that_begin_at_zero(end: nn.Module) -> None:
    head = nn.Linear(192, 4)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    with pytest.raises(ValueError, match=r"Sequential must give the logits that its last linear layer 1 computes; "):
        with_features(nn.Sequential(nn.Flatten(), head, end), 4, SHAPE)
    assert not head.weight.any()


def test_another_output_while_it_is_trained_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Net without its last linear layer must give features .* it gave a tuple"):
        with_features(Net("pair while trained"), 4, SHAPE)


@pytest.mark.parametrize("end", ["logits", "two views", "noise of Python"])
def test_a_comparison_leaves_weights_buffers_modes_and_generators_as_they_were(end: str) -> None:
    network = Net(end).train()
    network.stem[1].eval()
    state, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    drawn = torch.random.get_rng_state()
    adapted = with_features(network, 4, SHAPE)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    after = {name.removeprefix("body.").replace("head", "fc"): value for name, value in adapted.state_dict().items()}
    assert after.keys() == state.keys()
    assert all(torch.equal(after[name], value) for name, value in state.items())
    assert [module.training for name, module in network.named_modules() if name != "fc"] == modes[:-1]


def test_an_unchecked_network_is_compared_once_without_a_trace_in_the_step() -> None:
    images = torch.randn(4, *SHAPE)
    trained = []
    for shape in (SHAPE, None):
        torch.manual_seed(1)
        adapted = with_features(Net(), 4, shape).train()
        torch.manual_seed(2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            adapted(images).float().square().mean().backward()
        assert adapted.state_dict()["body.calls"] == 1
        trained.append([*adapted.buffers(), *(parameter.grad for parameter in adapted.parameters())])
    for one, other in zip(*trained, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


class Heads(nn.Module):
    """Two layers with an output for each class, of which `used` makes the logits; `twice` names the first again."""

    def __init__(self, used: str) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(192, 4), nn.Linear(192, 4)
        self.used = used
        if used == "twice":
            self.second = self.first
            self.used = "second"

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.get_submodule(self.used)(images.flatten(1))
        return logits


def test_the_last_of_several_heads_must_be_the_one_that_is_used() -> None:
    with_features(Heads("second"), 4, SHAPE)
    message = (
        r"layer second computes, of 2 layers with 4 outputs the last one defined; in evaluation it gives something "
        r"else, without calling the layer; return the layer's own output from forward, or define first last, or"
    )
    with pytest.raises(ValueError, match=message):
        with_features(Heads("first"), 4, SHAPE)


def test_a_head_with_two_names_is_taken_out_under_both() -> None:
    network, images = Heads("twice"), torch.randn(2, *SHAPE)
    expected = network(images)
    adapted = with_features(network, 4, SHAPE)
    assert len(list(adapted.parameters())) == 2
    torch.testing.assert_close(adapted(images), expected)


class Tied(nn.Module):
    """The head and a layer before it share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(192, 4, bias=False), nn.Linear(4, 192)
        self.head = nn.Linear(192, 4)
        self.head.weight = self.encode.weight

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.decode(self.encode(images.flatten(1))).relu())
        return logits


def test_weights_that_head_and_body_share_stay_shared() -> None:
    network, images = Tied(), torch.randn(2, *SHAPE)
    expected, weights = network(images), network.encode.weight.clone()
    adapted = with_features(network, 4, SHAPE)
    torch.testing.assert_close(adapted(images), expected)
    assert adapted.head.get_parameter("weight") is network.encode.weight
    assert torch.equal(network.encode.weight, weights)


def test_layers_without_a_size_get_it_from_an_image_of_the_data() -> None:
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    with pytest.raises(ValueError, match=r"has layers without a size yet, such as nn\.LazyLinear; pass an image"):
        with_features(network, 4)
    assert with_features(network, 4, SHAPE).feature_dim == 192


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_is_compared_in_its_own_precision(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).to(dtype)
    assert with_features(network, 4, (3, 2, 2)).feature_dim == 12
    with pytest.raises(ValueError, match="softmax"):
        with_features(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Softmax(1)).to(dtype), 4, (3, 2, 2))


def test_a_network_without_numbers_is_compared_at_its_first_forward_pass() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    adapted = with_features(network, 4, (3, 2, 2))
    assert not adapted.is_checked


def in_place(network: nn.Module) -> nn.Module:
    network.compile()
    return network


@pytest.mark.e2e  # torch 2.6 starts a process to compile
@pytest.mark.parametrize("compiled", [torch.compile, in_place])
def test_a_compiled_network_is_refused_since_nothing_compiled_would_run(
    compiled: Callable[[nn.Module], nn.Module],
) -> None:
    with pytest.raises(ValueError, match="must not be compiled as a whole; got a compiled SmallCNN, of which nothing"):
        with_features(compiled(SmallCNN(4)), 4)
