from __future__ import annotations

import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch import nn
from torchmetrics.classification import MulticlassStatScores

from assl_lightning.learning.algorithm import accuracies_by_name, parameter_groups
from assl_lightning.learning.settings import WeightDecayExempt
from assl_lightning.networks.resnet import ResNet18
from assl_lightning.networks.small import SmallCNN
from assl_lightning.networks.wide_resnet import WideResNet


def free_names(network: nn.Module, exempt: WeightDecayExempt) -> set[str]:
    groups = parameter_groups(network, 5e-4, exempt)
    assert [group["weight_decay"] for group in groups] == [5e-4, 0.0]
    free = {id(parameter) for parameter in groups[1]["params"]}
    assert len(free) + len(groups[0]["params"]) == len(list(network.parameters()))
    return {name for name, parameter in network.named_parameters() if id(parameter) in free}


def test_by_module_every_bias_and_every_normalisation_is_free() -> None:
    network = SmallCNN(3, width=4)
    norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    expected = {f"{name}.{leaf}" for name in norms for leaf in ("weight", "bias")}
    expected |= {name for name, _ in network.named_parameters() if name.endswith("bias")}
    assert free_names(network, "by_module") == expected


def kekmodels_names(depth: int) -> dict[str, bool]:
    """Parameters of kekmodel's WideResNet (FixMatch-pytorch, models/wideresnet.py) → whether each decays.

    Its rule is "bias" or "bn" in the name, and it calls every batch norm bn.
    """
    names = ["conv1.weight"]
    for block in (1, 2, 3):
        for layer in range((depth - 4) // 6):
            prefix = f"block{block}.layer.{layer}"
            for leaf in ("bn1.weight", "bn1.bias", "conv1.weight", "bn2.weight", "bn2.bias", "conv2.weight"):
                names.append(f"{prefix}.{leaf}")
        names.append(f"block{block}.layer.0.convShortcut.weight")
    names += ["bn1.weight", "bn1.bias", "fc.weight", "fc.bias"]
    return {name: not ("bias" in name or "bn" in name) for name in names}


def test_by_module_decays_in_our_wide_resnet_what_kekmodels_rule_decays_in_theirs() -> None:
    network = WideResNet(10)
    free = free_names(network, "by_module")
    decays = [name not in free for name, _ in network.named_parameters()]
    expected = kekmodels_names(28).values()
    assert (len(decays), sum(decays)) == (len(expected), sum(expected)) == (80, 29)


class CalledBN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, bias=False)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 2)


def test_by_name_takes_a_network_that_calls_its_batch_norms_bn() -> None:
    assert free_names(CalledBN(), "by_name") == {"bn.weight", "bn.bias", "fc.bias"}


@pytest.mark.parametrize(
    ("network", "decaying", "of"),
    [(WideResNet(10), 25, 25), (SmallCNN(3, width=4), 4, 4), (ResNet18(10), 3, 20)],
)
def test_by_name_is_refused_where_it_would_decay_a_normalisation(network: nn.Module, decaying: int, of: int) -> None:
    said = f"does not fit the names of {type(network).__name__}: {decaying} scales of its {of} normalisation layers"
    with pytest.raises(ValueError, match=rf"{said} would decay, such as .+\.weight.*use 'by_module'"):
        parameter_groups(network, 5e-4, "by_name")


def test_free_vectors_such_as_a_class_token_do_not_decay() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.class_token = nn.Parameter(nn.Linear(2, 1).weight.detach())
            self.attention = nn.MultiheadAttention(4, 2)
            self.norm = nn.LayerNorm(4)

    assert free_names(Tokens(), "by_module") == {
        "class_token",
        "attention.in_proj_bias",
        "attention.out_proj.bias",
        "norm.weight",
        "norm.bias",
    }


@pytest.mark.parametrize(
    "network",
    [
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 4, bias=False)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4, bias=False)),
        nn.LSTM(3, 3, bias=False),
    ],
)
def test_weights_decay_whatever_they_are_called(network: nn.Module) -> None:
    assert free_names(network, "by_module") == set()


def test_a_negative_decay_is_refused() -> None:
    with pytest.raises(ValueError, match="weight_decay must be at least 0"):
        parameter_groups(nn.Linear(2, 2), -0.1)


@pytest.mark.parametrize("classes", [(0, 1, 2, 3), (0, 0, 0, 1), (2,)])
def test_the_accuracies_are_scikit_learns_also_where_a_class_is_missing(classes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(len(classes))
    label = torch.tensor(classes)[torch.randint(len(classes), (50,), generator=generator)]
    logits = torch.randn(50, 4, generator=generator) + 2 * torch.nn.functional.one_hot(label, 4)
    counts = MulticlassStatScores(4, average="none", ignore_index=-1, validate_args=False)
    counts.update(
        torch.cat([logits, logits[:3]]), torch.cat([label, torch.full((3,), -1)])
    )  # the last three are padding
    found = {name: value.item() for name, value in accuracies_by_name(counts.compute(), "raw").items()}
    predicted = logits.argmax(-1)
    recalls = torch.stack([(predicted[label == c] == c).float().mean() for c in label.unique()])
    assert found["test_accuracy_raw"] == pytest.approx(accuracy_score(label, predicted))
    assert found["test_balanced_accuracy_raw"] == pytest.approx(recalls.mean().item())
    if set(predicted.tolist()) <= set(label.tolist()):  # else scikit-learn warns
        assert found["test_balanced_accuracy_raw"] == pytest.approx(balanced_accuracy_score(label, predicted))
