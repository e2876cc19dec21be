"""A run's newest network as one module of pixels, for programs that know nothing of this package."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from assl_lightning.base.extras import install_command
from assl_lightning.commands.predicting import RunPredictor
from assl_lightning.networks.adapt import AdaptedNetwork

Format = Literal["onnx", "torch_export", "safetensors"]

FILES: dict[Format, str] = {"onnx": "model.onnx", "torch_export": "model.pt2", "safetensors": "model.safetensors"}
"""The name of the model's file in each format."""

_PIXELS, _PROBABILITIES, _METADATA = "pixels", "probabilities", "metadata.json"
_LARGEST_DIFFERENCE = 1e-3  # of a probability, between the network and what was exported
_IMAGES = 32  # on which they are compared


class PixelClassifier(nn.Module):
    """Pixels → probabilities: normalisation, network, merged classes and temperature in one forward pass.

    Args:
        predictor: has the network, and the temperature by which its confidence is calibrated.
    """

    mean: Tensor  # (1, channels, 1, 1)
    std: Tensor

    def __init__(self, predictor: RunPredictor) -> None:
        super().__init__()
        classifier = predictor.classifier
        self.network = classifier.network
        self.temperature = predictor.temperature
        self.groups = predictor.groups
        for name in ("mean", "std"):
            values = torch.tensor(getattr(classifier.normalise, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, channels, height, width) uint8 → (B, C) float32 probabilities."""
        logits = self.network((pixels.float() / 255 - self.mean) / self.std)
        if any(len(group) > 1 for group in self.groups):
            logits = torch.stack([logits[:, list(group)].logsumexp(1) for group in self.groups], dim=1)
        probabilities: Tensor = (logits / self.temperature).softmax(1)
        return probabilities


@dataclass(frozen=True)
class Metadata:
    """The classes, sizes and numbers that a program needs to use the model."""

    class_names: tuple[str, ...]  # in the order of the probabilities
    channels: int
    height: int
    width: int
    resize: str  # crop: cover height × width and keep the middle | squash: fit into it
    mean: tuple[float, ...]  # of pixels in [0, 1]; in onnx and torch_export the model normalises by itself
    std: tuple[float, ...]
    temperature: float  # by which logits are divided; 1: not calibrated

    def as_text(self) -> dict[str, str]:
        """Return each value as JSON."""
        return {name: json.dumps(value) for name, value in vars(self).items()}


def metadata_of(predictor: RunPredictor) -> Metadata:
    """Return the metadata of a run's newest network."""
    classifier = predictor.classifier
    channels, height, width = classifier.form.shape
    return Metadata(
        class_names=predictor.class_names,
        channels=channels,
        height=height,
        width=width,
        resize=classifier.form.resize,
        mean=classifier.normalise.mean,
        std=classifier.normalise.std,
        temperature=predictor.temperature,
    )


def write_model(predictor: RunPredictor, kind: Format, path: Path) -> float:
    """Write the model, read it back, and compare it with the network on real images.

    After an error the file may be there: `path` is to lie in a directory that is removed then.

    Returns:
        the largest difference of a probability.

    Raises:
        ImportError: a package is missing.
        ValueError: the two disagree, or the format cannot hold classes that were merged.
    """
    if kind == "safetensors" and any(len(group) > 1 for group in predictor.groups):
        raise ValueError(
            "--format safetensors: classes were merged since the newest training, so that the network has more outputs "
            "than there are classes; train another round, or use another --format, which adds up their probabilities"
        )
    model = PixelClassifier(predictor).eval()
    images = _real_images(predictor)
    with torch.inference_mode():
        expected = model(images)
    metadata = metadata_of(predictor).as_text()
    found = _WRITERS[kind](model, images, metadata, path)
    return _compare(found, expected, path.name)


def _compare(found: Tensor, expected: Tensor, name: str) -> float:
    """Return the largest difference of two tensors of probabilities (n, C), or raise where they disagree."""
    difference = float((found - expected).abs().max())
    if not difference <= _LARGEST_DIFFERENCE:
        raise ValueError(
            f"{name} must give the network's probabilities, but on {len(expected)} images they differ by up to "
            f"{difference:.2g}; nothing was written; try another --format"
        )
    return difference


def _real_images(predictor: RunPredictor) -> Tensor:
    """Return at least two images (n, channels, height, width) uint8: test images, or else those of the pool."""
    source = predictor.source
    if len(source.test_images) > 1:
        return source.test_images[torch.arange(min(_IMAGES, len(source.test_images)))]
    readable = torch.ones(len(source.pool_images), dtype=torch.bool)
    readable[torch.cat([source.unreadable, source.absent])] = False
    return source.pool_images[readable.nonzero()[:_IMAGES, 0]]


def _any_number_of_images() -> tuple[Any, ...]:
    """Return the dynamic shapes of the one argument."""
    return ({0: torch.export.Dim("images", min=1)},)


def _export_onnx(model: PixelClassifier, images: Tensor, metadata: dict[str, str], path: Path) -> Tensor:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise ImportError(
            f"--format onnx needs packages that are not installed ({error.name}); install them with "
            f"{install_command('onnx')}"
        ) from error
    program = torch.onnx.export(
        model,
        (images,),
        dynamo=True,
        dynamic_shapes=_any_number_of_images(),
        input_names=[_PIXELS],
        output_names=[_PROBABILITIES],
        verbose=False,
    )
    assert program is not None
    content = program.model_proto
    onnx.helper.set_model_props(content, metadata)
    onnx.save(content, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run([_PROBABILITIES], {_PIXELS: images.numpy()})[0])


def _export_torch(model: PixelClassifier, images: Tensor, metadata: dict[str, str], path: Path) -> Tensor:
    with torch.no_grad():
        program = torch.export.export(model, (images,), dynamic_shapes=_any_number_of_images())
    with warnings.catch_warnings():  # torch 2.14 warns of weights that share memory, of which there are none
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(program, path, extra_files={_METADATA: json.dumps(metadata)})
    probabilities: Tensor = torch.export.load(path).module()(images)
    return probabilities.detach()


def _export_safetensors(model: PixelClassifier, images: Tensor, metadata: dict[str, str], path: Path) -> Tensor:
    try:
        from safetensors.torch import load_file, save_file
    except ImportError as error:
        raise ImportError(
            f"--format safetensors needs the package safetensors; install it with {install_command('timm')}"
        ) from error
    names = published_names(model.network)
    state = {names[name]: value.contiguous().clone() for name, value in model.network.state_dict().items()}
    save_file(state, path, metadata=metadata)
    read = load_file(path)
    model.network.load_state_dict({name: read[published] for name, published in names.items()})
    with torch.inference_mode():
        probabilities: Tensor = model(images)
    return probabilities


def published_names(network: nn.Module) -> dict[str, str]:
    """Return for each weight of a network the name that it has in its library.

    An adapted classifier has its own weights below `body`, and its last layer as `head`.
    """
    names = list(network.state_dict())
    if not isinstance(network, AdaptedNetwork):
        return {name: name for name in names}
    head = f"{network.names[0]}." if network.names else ""
    return {
        name: f"{head}{name.removeprefix('head.')}" if name.startswith("head.") else name.removeprefix("body.")
        for name in names
    }


_WRITERS = {"onnx": _export_onnx, "torch_export": _export_torch, "safetensors": _export_safetensors}
