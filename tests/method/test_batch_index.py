"""The index leaves each batch before the module and its hooks see it, in whatever trainer."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from assl_lightning import ASSLScoreCallback, IndexedDataset, observe

N = 20
Named = namedtuple("Named", ["x", "y"])


class Samples(Dataset[Any]):
    def __init__(self, make: Any, count: int = N) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Any:
        return self.make(torch.tensor([float(i), 1.0]), i % 2)


class Module(LightningModule):
    """Every hook and step sees the batch as its data set makes it; `find` gives the images (B, 2) in it."""

    def __init__(self, find: Any) -> None:
        super().__init__()
        self.model = nn.Linear(2, 3)
        self.find = find
        self.trained: list[float] = []
        self.validated = 0

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.find(batch)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.find(batch)
        return batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.find(batch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = self.find(batch)
        self.trained += x[:, 0].tolist()
        loss: Tensor = self.model(x).square().mean() + self.model(x + 1).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Validated(Module):
    """With calls of the network between the steps."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated += len(self.find(batch))
        self.model(self.find(batch))


def trainer(*callbacks: Any, **settings: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", callbacks=list(callbacks), **(quiet | {"max_epochs": 1} | settings))


def unpack(batch: Any) -> Tensor:
    x, _ = batch
    assert isinstance(x, Tensor)
    return x


def only_key(batch: Any) -> Tensor:
    assert batch.keys() == {"x", "y"}
    x: Tensor = batch["x"]
    return x


def bare(batch: Any) -> Tensor:
    assert isinstance(batch, Tensor)
    return batch


KINDS: dict[str, tuple[Any, Any]] = {
    "tuple": (lambda x, y: (x, y), unpack),
    "list": (lambda x, y: [x, y], unpack),
    "dict": (lambda x, y: {"x": x, "y": y}, only_key),
    "named tuple": (Named, lambda batch: batch.x),
    "tensor": (lambda x, _: x, bare),
}


def forward() -> ASSLScoreCallback:
    return ASSLScoreCallback(observe=observe.forward("model", 0, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_sees_the_batches_of_its_own_data_set(kind: str) -> None:
    make, find = KINDS[kind]
    module, callback = Validated(find), forward()
    data = DataLoader(IndexedDataset(Samples(make)), batch_size=6, shuffle=True)
    validation = DataLoader(Samples(make), batch_size=5)
    fitted = trainer(callback, max_epochs=3, val_check_interval=2)
    fitted.fit(module, data, validation)
    assert sorted(module.trained) == sorted([*range(N)] * 3)
    assert callback.statistics.visits.tolist() == [3] * N
    assert module.validated
    assert "convert_input" not in fitted.precision_plugin.__dict__, "the trainer is as it was"


def test_each_row_belongs_to_its_sample() -> None:
    """One step of a network that is not trained: the uncertainty follows from the first number of the sample."""

    class Still(Module):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    module, callback = Still(unpack), forward()
    trainer(callback).fit(module, DataLoader(IndexedDataset(Samples(KINDS["tuple"][0])), batch_size=6, shuffle=True))
    x = torch.stack([torch.arange(float(N)), torch.ones(N)], dim=1)
    p = module.model(x).double().softmax(1)
    expected = (p - nn.functional.one_hot(p.argmax(1), 3)).norm(dim=1)
    torch.testing.assert_close(callback.statistics.uncertainty_mean.double() / 0.8, expected, rtol=1e-5, atol=1e-6)


class Streams(Module):
    """Labelled and unlabelled batches side by side, as FixMatch's trainers have them."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        labelled, unlabelled = self.find(batch)
        self.trained += unlabelled[:, 0].tolist()
        loss: Tensor = (
            self.model(labelled).mean() + (self.model(unlabelled) - self.model(unlabelled + 1)).square().mean()
        )
        return loss


def of_dict(batch: Any) -> Any:
    assert batch.keys() == {"labelled", "unlabelled"}
    return unpack(batch["labelled"]), unpack(batch["unlabelled"])


def of_list(batch: Any) -> Any:
    labelled, unlabelled = batch
    return unpack(labelled), unpack(unlabelled)


def loaders(workers: int = 0) -> list[DataLoader[Any]]:
    pool = IndexedDataset(Samples(KINDS["tuple"][0]))
    settings: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    labelled = DataLoader(Subset(pool, [0, 1, 2]), batch_size=2, shuffle=True, **settings)
    return [labelled, DataLoader(Subset(pool, range(3, N)), batch_size=4, shuffle=True, **settings)]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["max_size_cycle", "min_size", "max_size"])
@pytest.mark.parametrize("structure", ["dict", "list"])
def test_of_several_loaders_each_has_its_index(structure: str, mode: str, workers: int) -> None:
    parts = loaders(workers)
    data = dict(zip(("labelled", "unlabelled"), parts, strict=True)) if structure == "dict" else parts
    module = Streams(of_dict if structure == "dict" else of_list)
    if mode == "max_size":  # the loader that ends first gives None
        module.find = lambda batch: (
            torch.zeros(1, 2),
            unpack([*(batch.values() if structure == "dict" else batch)][1]),
        )
        maker = observe.forward("model", 1, 2, stream="unlabelled" if structure == "dict" else "1")
    else:
        maker = observe.forward("model", 1, 2, stream=None if structure == "dict" else "1")
    callback = ASSLScoreCallback(observe=maker)
    trainer(callback, max_epochs=2).fit(module, CombinedLoader(data, mode))  # type: ignore[arg-type]
    visits = torch.zeros(N, dtype=torch.int32)
    visits.index_add_(0, torch.tensor(module.trained).long(), torch.ones(len(module.trained), dtype=torch.int32))
    assert callback.statistics.visits.tolist() == visits.tolist()
    assert visits[:3].sum() == 0
    assert visits[3:].sum() > 0


@pytest.mark.parametrize("name", ["unlabelled", "unlabeled"])
def test_a_stream_that_ends_before_the_others_is_not_scored_any_more(name: str) -> None:
    """Both loaders have an index, and that of the labelled ones is never taken for the other's."""

    def find(batch: Any) -> Any:
        if batch[name] is not None:
            return unpack(batch["labelled"]), unpack(batch[name])
        return unpack(batch["labelled"]), torch.empty(0, 2)

    pool = IndexedDataset(Samples(KINDS["tuple"][0]))
    data = {
        "labelled": DataLoader(Subset(pool, range(12)), batch_size=2),
        name: DataLoader(Subset(pool, range(12, N)), batch_size=4),
    }
    module, callback = Streams(find), ASSLScoreCallback(observe=observe.forward("model", 1, 2))
    trainer(callback).fit(module, CombinedLoader(data, "max_size"))
    assert callback.statistics.visits.tolist() == [0] * 12 + [1] * 8


class Evaluated(Module):
    """Has every kind of step that there is."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validated += len(self.find(batch))

    test_step = validation_step

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.find(batch)[:, 0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_that_is_wrapped_and_split_validates_and_predicts_as_before(kind: str) -> None:
    make, find = KINDS[kind]
    pool = IndexedDataset(Samples(make))
    training, validation = (Subset(pool, part) for part in (range(14), range(14, N)))
    module, callback = Evaluated(find), forward()
    fitted = trainer(callback, val_check_interval=1)
    fitted.fit(module, DataLoader(training, batch_size=7), DataLoader(validation, batch_size=3))
    assert callback.statistics.visits.tolist() == [1] * 14 + [0] * 6
    assert module.validated == 6 * 3, "once to begin with, and after each batch"
    fitted.validate(module, DataLoader(Samples(make, 5), batch_size=5), verbose=False)  # others than the fit's
    fitted.test(module, [DataLoader(validation, batch_size=3), DataLoader(pool, batch_size=9)], verbose=False)
    assert module.validated == 18 + 5 + 6 + N
    assert torch.cat(fitted.predict(module, DataLoader(pool, batch_size=9))).tolist() == [*range(N)]  # type: ignore[arg-type]
    assert callback.statistics.visits.tolist() == [1] * 14 + [0] * 6, "no evaluation is observed"
    assert "convert_input" not in fitted.precision_plugin.__dict__


def test_several_loaders_of_a_validation() -> None:
    pool, plain = IndexedDataset(Samples(KINDS["tuple"][0])), Samples(KINDS["tuple"][0], 4)
    side_by_side = {"a": DataLoader(pool, batch_size=5), "b": DataLoader(plain, batch_size=1)}
    module = Evaluated(lambda batch: unpack(batch["a"]) + unpack(batch["b"]))
    trainer(forward()).validate(module, CombinedLoader(side_by_side, "min_size"), verbose=False)
    with pytest.warns(UserWarning, match="1 of the 2 loaders of this evaluation have an IndexedDataset"):
        trainer(forward()).validate(Evaluated(lambda batch: batch[0]), [*side_by_side.values()], verbose=False)


@pytest.mark.filterwarnings("ignore:`weights_only` was not set", "ignore:TypedStorage")
def test_a_search_for_a_learning_rate_sees_the_batches_of_the_data_set_too(tmp_path: Path) -> None:
    """It takes the trainer's callbacks away while it trains."""
    from lightning.pytorch.tuner.tuning import Tuner

    class WithRate(Module):
        lr = 0.1

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    module, callback, data = WithRate(unpack), forward(), DataLoader(IndexedDataset(Samples(KINDS["tuple"][0])), 5)
    fitted = trainer(callback, enable_checkpointing=True, default_root_dir=tmp_path)
    Tuner(fitted).lr_find(module, data, num_training=8)
    assert len(module.trained) >= 8
    fitted.fit(module, data)
    assert callback.statistics.visits.tolist() == [1] * N


def test_one_indexed_loader_beside_one_that_is_not() -> None:
    parts = loaders()
    plain = DataLoader(Samples(KINDS["tuple"][0], 3), batch_size=2)
    module = Streams(of_dict)
    callback = ASSLScoreCallback(observe=observe.forward("model", 1, 2))
    trainer(callback).fit(module, {"labelled": plain, "unlabelled": parts[1]})
    assert callback.statistics.visits.tolist() == [0] * 3 + [1] * (N - 3)


def test_several_indexed_loaders_must_be_told_apart() -> None:
    with pytest.raises(KeyError, match=r"several loaders have an IndexedDataset: '0', '1'; name the one .* stream=…"):
        trainer(ASSLScoreCallback(observe=observe.forward("model", 1, 2))).fit(Streams(of_list), loaders())
    with pytest.raises(KeyError, match=r"stream='u' must name a loader .* there are: '0', '1'"):
        trainer(ASSLScoreCallback(observe=observe.forward("model", 1, 2, stream="u"))).fit(Streams(of_list), loaders())


def test_two_callbacks_share_the_index() -> None:
    first = ASSLScoreCallback(observe=observe.forward("model", 0, 1), name="first")
    second = ASSLScoreCallback(observe=observe.forward("model", 1, 0), name="second", alpha=0.5)
    trainer(first, second).fit(Module(unpack), DataLoader(IndexedDataset(Samples(KINDS["tuple"][0])), batch_size=6))
    assert first.statistics.visits.tolist() == second.statistics.visits.tolist() == [1] * N


def test_without_an_index_the_error_says_what_to_wrap() -> None:
    callback = ASSLScoreCallback(N, observe=observe.forward("model", 0, 1))
    with pytest.raises(ValueError, match=r"wrap the data set that the loader loads, IndexedDataset\(pool\)"):
        trainer(callback).fit(Module(unpack), DataLoader(Samples(KINDS["tuple"][0]), batch_size=6))
    with pytest.raises(
        ValueError, match="needs the size of the pool: pass num_samples, or wrap the pool in IndexedDat"
    ):
        trainer(forward()).fit(Module(unpack), DataLoader(Samples(KINDS["tuple"][0]), batch_size=6))


def test_a_collate_fn_that_drops_the_index_is_told() -> None:
    data = DataLoader(
        IndexedDataset(Samples(KINDS["tuple"][0])),
        batch_size=6,
        collate_fn=lambda rows: (torch.stack([row[0] for row in rows]), torch.tensor([row[1] for row in rows]).float()),
    )
    with pytest.raises(
        ValueError, match=r"the batch should end with the positions .* got torch.float32 of shape \(6,\)"
    ):
        trainer(forward()).fit(Module(unpack), data)


def test_labels_in_the_place_of_the_index_are_warned_of() -> None:
    """A collate_fn that makes two of three parts leaves whole numbers last, and a module may read the first alone."""

    def two_of_three(rows: list[Any]) -> Any:
        return torch.stack([row[0] for row in rows]), torch.tensor([row[1] for row in rows])

    def first(batch: Any) -> Tensor:
        return batch[0]  # type: ignore[no-any-return]

    data = IndexedDataset(Samples(KINDS["tuple"][0]))
    with pytest.warns(UserWarning, match="the batch has 8 samples, but only 2 distinct positions.*such as the labels"):
        trainer(forward()).fit(Module(first), DataLoader(data, batch_size=8, collate_fn=two_of_three))


def parts(*sizes: int, **settings: Any) -> list[IndexedDataset]:
    return [IndexedDataset(Samples(KINDS["tuple"][0], size), **settings) for size in sizes]


@pytest.mark.parametrize(
    ("make", "num_samples", "message"),
    [
        (
            lambda: ConcatDataset(parts(6, 6)),
            None,
            "the loader has samples of 2 IndexedDatasets that each count from 0",
        ),
        (
            lambda: ConcatDataset([*parts(6), Samples(KINDS["tuple"][0], 6)]),
            6,
            "2 parts, and only 1 of them an IndexedDataset: wrap it as a whole",
        ),
        (
            lambda: parts(6)[0],
            N,
            rf"of the loader has 6 samples, which count from 0, and the pool has {N} .*: wrap the whole pool, and then",
        ),
    ],
    ids=["two wholes", "one part of two", "a part that counts from 0"],
)
def test_positions_that_cannot_be_those_of_one_pool_are_refused(
    make: Any, num_samples: int | None, message: str
) -> None:
    callback = ASSLScoreCallback(num_samples, observe=observe.forward("model", 0, 1))
    with pytest.raises(ValueError, match=message):
        trainer(callback).fit(Module(unpack), DataLoader(make(), batch_size=6))


@pytest.mark.parametrize("form", ["dictionary", "combined", "list"])
def test_a_part_among_several_loaders_is_named(form: str) -> None:
    part, whole = parts(6, N)
    loaders: Any = {"labelled": DataLoader(part, batch_size=3), "unlabelled": DataLoader(whole, batch_size=5)}
    loaders = {"dictionary": loaders, "combined": CombinedLoader(loaders), "list": [*loaders.values()]}[form]
    name = "'0'" if form == "list" else "'labelled'"
    callback = ASSLScoreCallback(N, observe=observe.forward("model", 0, 1))
    with pytest.raises(ValueError, match=f"IndexedDataset of the loader {name} has 6 samples, .* no part of the pool"):
        trainer(callback).fit(Module(unpack), loaders)


def test_parts_of_one_pool_are_accepted() -> None:
    whole = IndexedDataset(Samples(KINDS["tuple"][0]))
    cut: Any = ConcatDataset([Subset(whole, range(3, 7)), Subset(whole, range(9, 12))])
    callback = ASSLScoreCallback(N, observe=observe.forward("model", 0, 1))
    trainer(callback).fit(Module(unpack), DataLoader(cut, batch_size=7))
    assert callback.statistics.visits.nonzero()[:, 0].tolist() == [3, 4, 5, 6, 9, 10, 11]
    two: Any = ConcatDataset([*parts(2, index=[0, 1]), *parts(2, index=[5, 4])])
    trainer(callback).fit(Module(unpack), DataLoader(two, batch_size=4))
    assert callback.statistics.visits.nonzero()[:, 0].tolist() == [0, 1, 4, 5]


class Iterating(LightningModule):
    """A module that fetches its batches itself."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(2, 3)

    def training_step(self, dataloader_iter: Any) -> Tensor:
        batch, _, _ = next(dataloader_iter)
        x, _, _ = batch  # here the position is last
        loss: Tensor = self.model(x).mean() + self.model(x + 1).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter`", "ignore:Found `dataloader_iter` argument")
def test_a_module_that_fetches_its_batches_finds_the_index_in_them() -> None:
    callback = forward()
    trainer(callback).fit(Iterating(), DataLoader(IndexedDataset(Samples(KINDS["tuple"][0])), batch_size=5))
    assert callback.statistics.visits.tolist() == [1] * N


BOTH_HOOKS = pytest.mark.filterwarnings("ignore:You have overridden `on_(before|after)_batch_transfer`")


class Data(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.epochs = 0

    def train_dataloader(self) -> DataLoader[Any]:
        self.epochs += 1
        return DataLoader(
            IndexedDataset(Samples(KINDS["tuple"][0]), names=[f"{i}.png" for i in range(N)]), batch_size=4
        )

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        unpack(batch)
        return batch


@BOTH_HOOKS
def test_loaders_of_a_datamodule_that_are_made_anew_in_each_epoch() -> None:
    callback, data = forward(), Data()
    trainer(callback, max_epochs=3, reload_dataloaders_every_n_epochs=1).fit(Module(unpack), datamodule=data)
    assert data.epochs == 3
    assert callback.statistics.visits.tolist() == [3] * N
    assert callback.query(2, names=True) == [f"{i}.png" for i in callback.query(2).tolist()]


def whole_and_resumed(make: Callable[[], ASSLScoreCallback], checkpoint: Path) -> tuple[Any, Any]:
    """Return the callbacks of three epochs at once, and of two that go on from a checkpoint of the first."""

    def seeded() -> Module:
        torch.manual_seed(0)
        return Module(unpack)

    whole, first, rest = make(), make(), make()
    trainer(whole, max_epochs=3).fit(seeded(), datamodule=Data())
    begun = trainer(first, max_epochs=1)
    begun.fit(seeded(), datamodule=Data())
    begun.save_checkpoint(checkpoint)
    safely: dict[str, Any] = {"weights_only": True} if "weights_only" in signature(Trainer.fit).parameters else {}
    trainer(rest, max_epochs=3).fit(seeded(), datamodule=Data(), ckpt_path=checkpoint, **safely)
    return whole, rest


@BOTH_HOOKS
def test_a_fit_that_goes_on_keeps_its_table(tmp_path: Path) -> None:
    whole, rest = whole_and_resumed(forward, tmp_path / "one.ckpt")
    assert rest.statistics.visits.tolist() == [3] * N
    assert torch.equal(rest.scores(), whole.scores())


@BOTH_HOOKS
def test_a_fit_that_goes_on_observes_the_steps_that_one_alone_would(tmp_path: Path) -> None:
    """Five batches an epoch, of which every second one is observed, by a view that is drawn."""

    def every_second() -> ASSLScoreCallback:
        return ASSLScoreCallback(observe=observe.second_view("model", lambda x: x + torch.randn_like(x), every=2))

    whole, rest = whole_and_resumed(every_second, tmp_path / "one.ckpt")
    assert rest.statistics.visits.tolist() == whole.statistics.visits.tolist()
    assert {*rest.statistics.visits.tolist()} == {1, 2}
    assert torch.equal(rest.scores(), whole.scores())


def test_an_index_of_the_pool_for_a_data_set_that_was_cut_before() -> None:
    cut = IndexedDataset(Samples(KINDS["tuple"][0], 4), index=[9, 3, 5, 17])
    callback = ASSLScoreCallback(N, observe=observe.forward("model", 0, 1))
    trainer(callback).fit(Module(unpack), DataLoader(cut, batch_size=2))
    assert callback.statistics.visits.nonzero()[:, 0].tolist() == [3, 5, 9, 17]
    with pytest.raises(ValueError, match="needs the size of the pool"):
        trainer(forward()).fit(Module(unpack), DataLoader(cut, batch_size=2))


def test_a_fit_that_ends_with_an_error_leaves_the_trainer_and_the_module_as_they_were() -> None:
    class Fails(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise RuntimeError("within the step")

    module, failing = Fails(unpack), trainer(forward())
    with pytest.raises(RuntimeError, match="within the step"):
        failing.fit(module, DataLoader(IndexedDataset(Samples(KINDS["tuple"][0])), batch_size=6))
    assert "convert_input" not in failing.precision_plugin.__dict__
    assert not module.model._forward_hooks


def test_the_index_leaves_the_batches_of_pytorch_lightning_too() -> None:
    import pytorch_lightning

    class Other(pytorch_lightning.LightningModule):
        training_step = Module.training_step
        configure_optimizers = Module.configure_optimizers

        def __init__(self) -> None:
            super().__init__()
            self.model, self.find = nn.Linear(2, 3), unpack
            self.trained: list[float] = []

    callback: Any = forward()
    quiet: Any = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    other = pytorch_lightning.Trainer(accelerator="cpu", max_epochs=2, callbacks=[callback], **quiet)
    other.fit(Other(), DataLoader(IndexedDataset(Samples(KINDS["tuple"][0])), batch_size=6))
    assert callback.statistics.visits.tolist() == [2] * N
