"""The temperature that makes a confidence say how often it is right."""

from __future__ import annotations

import math

import pytest
import torch

from assl_lightning.learning.calibration import fit_temperature


def draws(count: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits, and labels that are drawn from the softmax of the logits over the temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, 5, generator=generator)
    labels = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_it_finds_the_temperature_that_the_labels_were_drawn_with(temperature: float) -> None:
    assert fit_temperature(*draws(20_000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_it_is_the_best_of_a_fine_grid() -> None:
    logits, labels = draws(40, 2.0)

    def loss(log_temperature: float) -> float:
        chosen = (logits.double() / math.exp(log_temperature)).log_softmax(1)[torch.arange(40), labels]
        return -float(chosen.sum()) + log_temperature**2 / 2

    best = min((step / 1000 for step in range(-3000, 3001)), key=loss)
    assert math.log(fit_temperature(logits, labels)) == pytest.approx(best, abs=2e-3)


def test_confidence_and_accuracy_are_equal_afterwards() -> None:
    logits, labels = draws(20_000, 3.0)
    confidence, label = (logits / fit_temperature(logits, labels)).softmax(1).max(1)

    assert float(confidence.mean()) == pytest.approx(float((label == labels).double().mean()), abs=0.01)
    assert float(logits.softmax(1).amax(1).mean()) > float(confidence.mean()) + 0.1, "it was too sure before"


def test_a_few_images_that_are_all_right_do_not_make_it_certain() -> None:
    logits = torch.tensor([[2.0, 0.0]] * 3)
    temperature = fit_temperature(logits, torch.zeros(3, dtype=torch.int64))

    assert 0.2 < temperature < 1
    assert float((logits / temperature).softmax(1)[0, 0]) < 0.999


def test_multiplied_logits_have_a_multiplied_temperature() -> None:
    logits, labels = draws(5_000, 1.0)

    assert fit_temperature(4 * logits, labels) == pytest.approx(4 * fit_temperature(logits, labels), rel=0.01)


def test_no_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one labelled image"):
        fit_temperature(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
