"""`python -m assl_lightning.export` on a real run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assl_lightning.commands import exporting
from assl_lightning.commands.export import main
from assl_lightning.commands.exporting import published_names
from assl_lightning.commands.predicting import RunPredictor
from assl_lightning.commands.train import main as train
from assl_lightning.config.classifier import load_classifier
from assl_lightning.networks.adapt import with_features
from tests.commands.checks import assert_refused
from tests.commands.finished_run import COUNT, RUN, RUN_DIR

pytestmark = pytest.mark.e2e

FILES = {"onnx": "model.onnx", "torch_export": "model.pt2", "safetensors": "model.safetensors"}


def pixels() -> torch.Tensor:
    """Return all photos as (n, 3, 16, 16) uint8."""
    form = load_classifier(RUN_DIR).form
    images = [Image.open(path).convert("RGB").resize((16, 16)) for path in sorted(Path("photos").rglob("*.png"))]
    assert form.shape == (3, 16, 16)
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()


def expected(images: torch.Tensor) -> torch.Tensor:
    """Return the calibrated probabilities (n, 2) of the run's network."""
    predictor = RunPredictor(RUN_DIR)
    classifier = predictor.classifier
    with torch.inference_mode():
        logits: torch.Tensor = classifier.network(classifier.normalise(images))
    return (logits / predictor.temperature).softmax(1)


@pytest.mark.skipif(torch.__version__ < "2.7", reason="the exporter of torch 2.6 fails")
def test_onnx_takes_any_number_of_images_and_tells_its_classes(place: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert main([str(RUN_DIR), "--format", "onnx", "--output", "out"]) == 0

    session = onnxruntime.InferenceSession(place / "out" / FILES["onnx"])
    for images in (pixels(), pixels()[:1]):
        (found,) = session.run(None, {"pixels": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected(images), atol=1e-4, rtol=0)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["blue", "red"]
    assert (json.loads(metadata["height"]), json.loads(metadata["width"])) == (16, 16)


def test_torch_export_takes_any_number_of_images(place: Path) -> None:
    assert main([str(RUN_DIR), "--format", "torch_export", "--output", "out"]) == 0

    extra = {"metadata.json": ""}
    model = torch.export.load(place / "out" / FILES["torch_export"], extra_files=extra).module()
    for images in (pixels(), pixels()[:1]):
        torch.testing.assert_close(model(images).detach(), expected(images), atol=1e-4, rtol=0)
    assert json.loads(json.loads(extra["metadata.json"])["class_names"]) == ["blue", "red"]


def test_the_card_says_what_the_model_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(RUN_DIR), "--format", "safetensors", "--output", "out"]) == 0

    card = (place / "out/README.md").read_text()
    assert card.startswith("---\nlicense: other  # fill in")
    assert "in the order of its outputs: blue, red." in card
    assert "Trained on 16 labelled images" in card
    assert "of 40 held-out images are classified rightly, 95 % interval [" in card
    assert "(B, 3, 16, 16)" in card
    assert "out/README.md: the model's card; fill in its licence" in capsys.readouterr().out


def test_weights_of_a_torchvision_network_have_its_names(place: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    import torchvision

    rest = [item for item in RUN if not item.startswith(("network.", "name", "rounds", "steps"))]
    run = ["network=torchvision", "network.name=mobilenet_v3_small", "rounds=0", "steps_per_round=2", "name=library"]
    assert train([*rest, *run]) == 0
    assert main(["runs/library/seed_0", "--format", "safetensors", "--output", "out"]) == 0

    network = torchvision.models.mobilenet_v3_small(num_classes=2).eval()
    network.load_state_dict(safetensors.load_file(place / "out" / FILES["safetensors"]))
    classifier = load_classifier("runs/library/seed_0")
    with torch.inference_mode():
        images = classifier.normalise(pixels()[:COUNT])
        torch.testing.assert_close(network(images), classifier.network(images))


def test_weights_of_classes_that_were_merged_since_are_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RunPredictor, "groups", ((0, 1),))
    monkeypatch.setattr(RunPredictor, "_merged", lambda _, logits: logits.logsumexp(1, keepdim=True).expand(-1, 2))
    assert main([str(RUN_DIR), "--format", "safetensors"]) == 1
    assert "--format safetensors: classes were merged since the newest training" in capsys.readouterr().err


def test_a_network_that_is_one_layer_keeps_its_names() -> None:
    adapted = with_features(torch.nn.Linear(3, 2), 2)
    assert published_names(adapted) == {"head.weight": "weight", "head.bias": "bias"}


def test_an_own_network_keeps_its_names() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert published_names(layers) == {"0.weight": "0.weight", "0.bias": "0.bias"}


def test_an_export_that_disagrees_is_refused_and_nothing_is_written(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exact = exporting._WRITERS["torch_export"]
    monkeypatch.setitem(exporting._WRITERS, "torch_export", lambda *arguments: exact(*arguments).flip(1))
    before = sorted(place.rglob("*"))

    assert main([str(RUN_DIR), "--format", "torch_export"]) == 1
    assert (
        "model.pt2 must give the network's probabilities, but on 32 images they differ by up to"
        in capsys.readouterr().err
    )
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([str(RUN_DIR), "--format", "onnx", "--output", "photos"], "--output photos: is there already; remove it"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert_refused(main, arguments, line, place, capsys)
