from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer

from assl_lightning.data.pool import HELD_OUT, Pool
from assl_lightning.learning.fixmatch import FixMatch
from assl_lightning.learning.image_predictions import ImagePredictions
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.networks.small import SmallCNN
from tests.stripes import CLASSES, IMAGES, LABELS, POOL_SIZE, SGD, make_datamodule

SILENT: dict[str, Any] = {
    **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
    "num_sanity_val_steps": 0,
}


def test_images_come_in_the_order_of_their_positions_without_what_pads_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, label = 3 * torch.randn(7, 4, generator=generator), torch.tensor([0, 1, 2, 3, -1, 1, -1])
    position = torch.tensor([5, 0, 3, 1, 2, 4, -1])
    predictions = ImagePredictions()
    for rows in (slice(0, 3), slice(3, 7)):
        predictions.update(logits[rows], position[rows], label[rows])
    found = predictions.take()
    assert found is not None
    assert found.position.tolist() == [0, 1, 3, 4, 5]
    assert found.label.tolist() == [1, 3, 2, 1, 0]
    order = torch.tensor([1, 3, 2, 5, 0])
    exponentials = logits[order].double().exp()
    expected = (exponentials / exponentials.sum(1, keepdim=True)).max(1)
    assert torch.equal(found.predicted, expected.indices)
    torch.testing.assert_close(found.confidence.double(), expected.values, rtol=1e-6, atol=0)
    assert predictions.take() is None, "they were forgotten"


def test_a_fit_leaves_the_predictions_of_both_weights() -> None:
    pool = Pool(POOL_SIZE, CLASSES)
    pool.label(torch.arange(6), LABELS[:6], 0)
    datamodule = make_datamodule(pool, steps_per_round=6, test_batch_size=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        algorithm = FixMatch(SmallCNN(CLASSES, width=4), optimizer=SGD)
    weight_ema = WeightEMA(0.5)
    trainer = Trainer(accelerator="cpu", max_epochs=1, log_every_n_steps=1, callbacks=[weight_ema], **SILENT)
    trainer.fit(algorithm, datamodule=datamodule)
    images = datamodule.normalise(IMAGES[POOL_SIZE:])
    averaged = weight_ema.averaged(algorithm.network, prefix="network.")
    for tested, network in ((algorithm.tested, algorithm.network), (weight_ema.tested, averaged)):
        with torch.no_grad():
            probabilities = network.eval()(images).softmax(1)
        assert tested is not None
        assert tested.position.tolist() == list(range(30))
        assert torch.equal(tested.label, LABELS[POOL_SIZE:])
        torch.testing.assert_close(tested.confidence, probabilities.amax(1))
        assert torch.equal(tested.predicted, probabilities.argmax(1))
    assert algorithm.tested is not None
    assert weight_ema.tested is not None
    assert not torch.equal(algorithm.tested.confidence, weight_ema.tested.confidence)
    logged = {name: trainer.callback_metrics[f"test_accuracy_{name}"].item() for name in ("raw", "ema")}
    right = {
        name: (tested.predicted == tested.label).float().mean().item()
        for name, tested in (("raw", algorithm.tested), ("ema", weight_ema.tested))
    }
    assert logged == right


def test_held_out_samples_are_named_by_the_pool_and_a_test_set_by_its_own_names() -> None:
    pool = Pool(POOL_SIZE, CLASSES, [f"{number}.png" for number in range(POOL_SIZE)])
    pool.label(torch.tensor([9, 4]), LABELS[[9, 4]], 0)
    pool.labelled_in_round[[20, 11]] = HELD_OUT
    pool.labels[[20, 11]] = 1
    held_out = make_datamodule(pool, test_images=IMAGES[:0], test_labels=LABELS[:0])
    position = torch.tensor([1, 0])
    assert held_out.tested_names(position) == ("20.png", "11.png")
    assert torch.equal(held_out.tested_images(position), IMAGES[[20, 11]])
    unnamed = make_datamodule(pool)
    assert unnamed.tested_names(position) == ("test image 1", "test image 0")
    assert torch.equal(unnamed.tested_images(position), IMAGES[[61, 60]])
    named = make_datamodule(pool, test_ids=[f"test/{number}.png" for number in range(30)])
    assert named.tested_names(position) == ("test/1.png", "test/0.png")
