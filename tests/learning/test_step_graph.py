"""Steps that a CUDA graph replays, on an emulated GPU: all that a training leaves equals that of one without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from assl_lightning import ASSLScoreCallback, FixMatch
from assl_lightning.base.seeding import Draws
from assl_lightning.data.pool import Pool
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.graph_conditions import _reasons, why_not
from assl_lightning.learning.latest_predictions import LatestPredictions
from assl_lightning.learning.non_finite import NonFinite
from assl_lightning.learning.pseudo_label_loss import PseudoLabels
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.learning.step_graph import WARM_UP_STEPS, StepGraph, _stream_of
from assl_lightning.learning.step_seed import StepSeed
from assl_lightning.learning.supervised import Supervised
from assl_lightning.learning.view_pairs import ViewPairDataModule
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.networks.base import FeatureNetwork
from tests.emulated_device import CUDA, EmulatedTensor, emulated_cuda_gpu
from tests.emulated_graph import emulated_graphs
from tests.learning import contract
from tests.learning.test_contract import BALANCED, OF_FILES, SWITCHED, TEACHER
from tests.stripes import CLASSES, LABELS, POOL_SIZE, SGD, make_datamodule

STEPS = 6
PSEUDO_LABELLING = [name for name in OF_FILES if name != "supervised" and not name.endswith("_small")]
IN_SHORT = ("freematch", "flexmatch", f"fixmatch {BALANCED} {TEACHER}")

pytestmark = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")


class Network(FeatureNetwork):
    """Has what a graph may break: batch norm with its counters, and dropout with a generator's state."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(8, CLASSES), 8, CLASSES)
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=4),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(),
        )

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)
        return features


def make_network() -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network()


def weak(images: Tensor, draws: Draws) -> Tensor:
    return images


def strong(images: Tensor, draws: Draws) -> Tensor:
    """Turn some images upside down; the package's own views take a hundred times as long on an emulated device."""
    return torch.where(draws.bernoulli(0, 0.5)[:, None, None, None], images.flip(2), images)


def make_data(**changes: Any) -> PoolDataModule:
    pool = Pool(POOL_SIZE, CLASSES)
    labelled = torch.arange(0, POOL_SIZE, 7)
    pool.label(labelled, LABELS[labelled], 0)
    return make_datamodule(pool, **({"weak": weak, "strong": strong, "steps_per_round": STEPS} | changes))


def make_fixmatch(**changes: Any) -> FixMatch:
    arguments: dict[str, Any] = {"optimizer": SGD, "threshold": 0.35}
    return FixMatch(make_network(), **(arguments | changes))


def few_callbacks() -> list[Callback]:
    return [StepSeed(0, 0), NonFinite(), WeightEMA(0.9)]


def all_callbacks(**score: Any) -> list[Callback]:
    """Those of a round."""
    keeping = [ASSLScoreCallback(POOL_SIZE, **score), LatestPredictions(POOL_SIZE, CLASSES)]
    return [StepSeed(0, 0), NonFinite("skip" if "skip_non_finite" in score else "stop"), *keeping, WeightEMA(0.9)]


class Fit:
    """A training on the emulated GPU, and all that it leaves."""

    def __init__(
        self,
        directory: Path,
        make: Callable[[], Any],
        graph: StepGraph | None,
        *,
        callbacks: list[Callback] | None = None,
        data: Any = None,
        resume: Path | None = None,
        **settings: Any,
    ) -> None:
        callbacks = few_callbacks() if callbacks is None else callbacks
        data = data or make_data()
        with emulated_cuda_gpu(), emulated_graphs():
            self.trainer = Trainer(
                accelerator="gpu",
                devices=1,
                max_epochs=getattr(data, "num_epochs", 1),
                callbacks=[*callbacks, *([graph] if graph else [])],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                log_every_n_steps=2,
                reload_dataloaders_every_n_epochs=1,
                **({"limit_val_batches": 0} | settings),
            )
            self.module = make()
            self.trainer.fit(self.module, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
            path = directory / f"{len(list(directory.iterdir()))}.ckpt"
            self.trainer.save_checkpoint(path)
        self.left: dict[str, Any] = torch.load(path, weights_only=True)


def check_equal(mine: Any, other: Any, where: str) -> None:
    """Raise unless two trees of tensors and numbers are equal, to the last bit."""
    if isinstance(other, Tensor):
        assert torch.equal(mine.cpu().nan_to_num(7), other.cpu().nan_to_num(7)), where
    elif isinstance(other, Mapping):
        assert list(mine) == list(other), where
        for name in other:
            check_equal(mine[name], other[name], f"{where}.{name}")
    elif isinstance(other, (list, tuple)):
        assert len(mine) == len(other), where
        for number, (one, two) in enumerate(zip(mine, other, strict=True)):
            check_equal(one, two, f"{where}.{number}")
    else:
        assert mine == other, where


def check_same(mine: Fit, other: Fit) -> None:
    """Weights, averages, optimizer, statistics, latest predictions, sums of the log, metrics."""
    for part in ("state_dict", "current_model_state", "optimizer_states", "callbacks", "assl_lightning_since_logged"):
        if part in other.left:
            check_equal(mine.left[part], other.left[part], part)
    metrics = mine.trainer.callback_metrics  # since the last epoch began, or this training
    check_equal(metrics, {name: other.trainer.callback_metrics[name] for name in metrics}, "metrics")
    assert mine.trainer.global_step == other.trainer.global_step


def check_replays(directory: Path, make: Callable[[], Any], **changes: Any) -> Fit:
    """Train with a graph and without, and compare; `changes` with callbacks are functions that make them."""
    fits, graph = [], StepGraph()
    for one in (None, graph):
        made = {name: value() if name in ("callbacks", "data") else value for name, value in changes.items()}
        fits.append(Fit(directory, make, one, **made))
    assert graph.reason is None
    assert graph.replayed_steps == fits[1].trainer.global_step - WARM_UP_STEPS
    check_same(fits[1], fits[0])
    assert not vars(fits[1].module).keys() & {"training_step", "backward", "optimizer_zero_grad", "optimizer_step"}
    return fits[1]


def check_algorithm(name: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "make_network", make_network)
    has_threshold = name.split(maxsplit=1)[0] not in ("freematch", "softmatch")
    make = contract.make_of_configuration(f"{name} algorithm.module.threshold=0.35" if has_threshold else name)
    check_replays(directory, make)


@pytest.mark.parametrize("name", IN_SHORT)
def test_an_algorithm_trains_as_without_a_graph_to_the_last_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_algorithm(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in (*PSEUDO_LABELLING, *SWITCHED) if name not in IN_SHORT])
def test_every_other_one_does(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_algorithm(name, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "score",
    [
        {"further": ["forgetting", "view_variance", "mean_probabilities"], "variance": "pre"},
        {"keep_features": True, "assume_unique": True},
    ],
    ids=["further statistics", "features"],
)
def test_every_statistic_is_the_same(score: dict[str, Any], tmp_path: Path) -> None:
    fit = check_replays(tmp_path, make_fixmatch, callbacks=partial(all_callbacks, **score))
    assert fit.left["callbacks"]["assl_lightning.ASSLScoreCallback[default]"]["statistics"]["updates"] == STEPS


@pytest.mark.parametrize(
    "changes",
    [
        {"data": partial(make_data, batch_size=20)},
        {"make": partial(make_fixmatch, optimizer=partial(torch.optim.AdamW, lr=1e-3))},
        {"gradient_clip_val": 0.1},
    ],
    ids=["samples come twice in a batch", "AdamW", "clipping"],
)
def test_other_settings(changes: dict[str, Any], tmp_path: Path) -> None:
    callbacks = all_callbacks if "data" in changes else few_callbacks
    check_replays(tmp_path, **({"make": make_fixmatch, "callbacks": callbacks} | changes))


class Kinds(FixMatch):
    """Notes the types of what a step returns."""

    can_be_captured = True
    kinds: ClassVar[dict[str, torch.dtype]] = {}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        outputs: Any = super().training_step(batch, batch_idx)
        self.kinds.update({name: value.dtype for name, value in outputs.items() if value.is_floating_point()})
        return outputs


def test_in_bf16_a_step_is_replayed_whose_network_computes_in_16_bits(tmp_path: Path) -> None:
    def make() -> Kinds:
        return Kinds(make_network(), optimizer=SGD, threshold=0.35)

    check_replays(tmp_path, make, precision="bf16-mixed", callbacks=all_callbacks)
    assert Kinds.kinds.pop("loss") == torch.float32
    assert set(Kinds.kinds.values()) == {torch.bfloat16}


def test_the_warm_up_of_a_run(tmp_path: Path) -> None:
    def make() -> SimCLR:
        network = make_network()
        torch.manual_seed(0)  # for the projection
        return SimCLR(network, optimizer=SGD, steps=STEPS, batch_size=8)

    def make_pairs() -> ViewPairDataModule:
        return ViewPairDataModule(make_data(), torch.arange(POOL_SIZE), steps=STEPS, batch_size=8)

    check_replays(tmp_path, make, data=make_pairs, callbacks=lambda: few_callbacks()[:2])


class Spoil(Callback):
    """Make the labelled images of a step infinite."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == WARM_UP_STEPS + 1:
            batch["labelled_image"].fill_(torch.inf)


def test_a_step_that_is_left_out_is_left_out_in_a_replay(tmp_path: Path) -> None:
    def make_callbacks() -> list[Callback]:
        return [Spoil(), *all_callbacks(skip_non_finite=True)]

    assert check_replays(tmp_path, make_fixmatch, callbacks=make_callbacks).left["callbacks"]["NonFinite"] == {
        "skipped": 1
    }


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=f"the loss of step {WARM_UP_STEPS + 1} of round 0 was not finite"):
        Fit(tmp_path, make_fixmatch, StepGraph(), callbacks=[Spoil(), *few_callbacks()])


def test_an_observation_that_is_not_finite_is_noted_in_a_replay(tmp_path: Path) -> None:
    for graph in (None, StepGraph()):
        callbacks = [Spoil(), StepSeed(0, 0), NonFinite("skip"), ASSLScoreCallback(POOL_SIZE)]
        with pytest.raises(ValueError, match=f"update {WARM_UP_STEPS + 1} observed uncertainty nan"):
            Fit(tmp_path, make_fixmatch, graph, callbacks=callbacks)
        assert graph is None or graph.replayed_steps == 3


def test_a_batch_of_another_shape_is_trained_on_without_the_graph(tmp_path: Path) -> None:
    def data() -> PoolDataModule:
        made = make_data(labelled_stream="passes", steps_per_round=9)
        made.pool.label(torch.tensor([1]), LABELS[1:2], 0)  # ten: passes of 4, 4 and 2
        return made

    graph = StepGraph()
    fits = [Fit(tmp_path, make_fixmatch, one, data=data()) for one in (None, graph)]
    assert (graph.reason, graph.replayed_steps) == (None, 9 - WARM_UP_STEPS - 3)
    check_same(fits[1], fits[0])


class Save(Callback):
    """Save a checkpoint after a step."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)


@pytest.mark.parametrize("step", [4, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 2, 3, 5, 6, 7, 8))])
def test_a_training_goes_on_from_any_step_with_a_graph_or_without(step: int, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"limit_val_batches": 1.0}
    data = partial(make_data, steps_per_round=9, steps_per_epoch=5)
    ends = []
    for number, graph in enumerate((None, StepGraph())):
        callbacks = [*all_callbacks(), Save(step, tmp_path / f"{number}.saved")]
        ends.append(Fit(tmp_path, make_fixmatch, graph, callbacks=callbacks, data=data(), **settings))
    check_same(ends[1], ends[0])
    for number, graph in ((0, StepGraph()), (1, StepGraph()), (1, None)):
        saved = tmp_path / f"{number}.saved"
        resumed = Fit(tmp_path, make_fixmatch, graph, callbacks=all_callbacks(), data=data(), resume=saved, **settings)
        assert graph is None or graph.replayed_steps == max(9 - step - WARM_UP_STEPS, 0)
        check_same(resumed, ends[0])


# ---- what the emulation would find ----------------------------------------------------------------------------------


class Frozen(FixMatch):
    can_be_captured = True

    def further_loss(self, strong: Tensor, pseudo: PseudoLabels) -> Tensor | None:
        return strong.mean() * self.trainer.global_step


class Rebound(FixMatch):
    can_be_captured = True

    def further_loss(self, strong: Tensor, pseudo: PseudoLabels) -> Tensor | None:
        self.seen = getattr(self, "seen", torch.zeros((), device=strong.device)) + 1
        return strong.mean() * self.seen


@pytest.mark.parametrize("kind", [Frozen, Rebound])
def test_the_emulation_finds_a_number_that_freezes_and_a_tensor_that_is_bound_anew(
    kind: type[FixMatch], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="state_dict"):
        check_replays(tmp_path, lambda: kind(make_network(), optimizer=SGD, threshold=0.35))


# ---- what a capture could not do ------------------------------------------------------------------------------------


class Places(FixMatch):
    """Notes where in memory the tensors of a batch lie, at each call of the step's Python."""

    can_be_captured = True

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.places: list[tuple[int, ...]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.places.append(
            tuple(value.held.data_ptr() for value in batch.values() if isinstance(value, EmulatedTensor))
        )
        return super().training_step(batch, batch_idx)


def test_the_steps_before_a_capture_read_the_batch_where_the_graph_will(tmp_path: Path) -> None:
    """Triton compiles a kernel for each alignment of its tensors, and the driver loads none during a capture."""
    fit = Fit(tmp_path, lambda: Places(make_network(), optimizer=SGD), StepGraph(), data=make_data(batch_size=5))
    assert len(fit.module.places) == WARM_UP_STEPS + 1
    assert len(set(fit.module.places)) == 1


def test_all_captures_share_one_stream() -> None:
    with emulated_cuda_gpu(), emulated_graphs():
        assert _stream_of(CUDA) is _stream_of(torch.device("cuda", 0))


# ---- where there is no graph ----------------------------------------------------------------------------------------


class Waiting(FixMatch):
    can_be_captured = True

    def further_loss(self, strong: Tensor, pseudo: PseudoLabels) -> Tensor | None:
        return strong.mean() * float(pseudo.weight.sum())


def test_a_step_that_waits_for_the_device_is_found_before_it_is_captured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = StepGraph()
    fits = [Fit(tmp_path, lambda: Waiting(make_network(), optimizer=SGD, threshold=0.35), one) for one in (None, graph)]
    assert graph.replayed_steps == 0
    assert "without a CUDA graph, since a step waits for the device (" in caplog.text
    check_same(fits[1], fits[0])


class Schedule(Callback):
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        trainer.optimizers[0].param_groups[0]["lr"] = 0.05 if trainer.global_step < STEPS - 1 else 0.01


def test_a_learning_rate_that_changes_ends_the_replaying(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    graph = StepGraph()
    fits = [Fit(tmp_path, make_fixmatch, one, callbacks=[Schedule(), *few_callbacks()]) for one in (None, graph)]
    assert graph.replayed_steps == STEPS - WARM_UP_STEPS - 1
    assert "since the optimizer's settings have changed during the training" in caplog.text
    check_same(fits[1], fits[0])


class Inherits(FixMatch):
    """Says nothing of graphs."""


class Scheduled(FixMatch):
    can_be_captured = True

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1)}


class Watch(Callback):
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at gradients."""


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (
            "Inherits does not say that its steps can be captured",
            {"make": lambda: Inherits(make_network(), optimizer=SGD)},
        ),
        ("Supervised does not say", {"make": lambda: Supervised(make_network(), optimizer=SGD)}),
        ("the learning rate changes", {"make": lambda: Scheduled(make_network(), optimizer=SGD)}),
        ("the callback Watch has on_after_backward", {"callbacks": [Watch()]}),
        (
            "RMSprop may count its steps on the host",
            {"make": partial(make_fixmatch, optimizer=partial(torch.optim.RMSprop, lr=0.1))},
        ),
        (
            "the host decides under non_finite=skip",
            {"callbacks": [NonFinite("skip")], "make": partial(make_fixmatch, optimizer=partial(SGD, foreach=True))},
        ),
    ],
)
def test_a_warning_says_why_there_is_no_graph(
    reason: str, changes: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = StepGraph()
    arguments: dict[str, Any] = {"make": make_fixmatch, "data": make_data(steps_per_round=1)}
    Fit(tmp_path, graph=graph, **(arguments | changes))
    assert graph.replayed_steps == 0
    assert "steps are made without a CUDA graph, since " + reason in caplog.text


def test_there_is_none_where_the_host_reads_the_scale_of_gradients() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module = make_fixmatch()
    trainer.strategy.connect(module)
    module.trainer = trainer
    trainer.strategy.setup_optimizers(trainer)
    without = list(_reasons(trainer, module))
    trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cuda", torch.amp.GradScaler("cpu"))
    (further,) = [reason for reason in _reasons(trainer, module) if reason not in without]
    assert further == "the host reads the scale of gradients under trainer.precision=16-mixed; bf16-mixed has none"


def test_on_a_cpu_there_is_none_nor_for_several_processes_nor_where_a_step_has_several_batches() -> None:
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    trainer = Trainer(devices=2, strategy="ddp", accumulate_grad_batches=2, **settings)
    module = Supervised(make_network(), optimizer=SGD)
    assert why_not(trainer, module) == "the training runs on cpu, and only CUDA devices have them"
    further = list(islice(_reasons(trainer, module), 1, 4))
    assert [reason.partition(" ")[0] for reason in further] == ["several", "Supervised", "a"]
    assert further[2].startswith("a step of the optimizer is not one batch")
