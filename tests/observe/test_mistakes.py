"""Mistakes with the makers are one sentence each, at the first batch or before it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from assl_lightning import ASSLScoreCallback, IndexedDataset, observe
from assl_lightning.method import scores
from assl_lightning.method.contracts import TrainingStep
from assl_lightning.method.view_scores import as_logits, check_kind
from assl_lightning.observe.module_calls import part_of
from tests.observe.fits import C, Module, N, Network, fit, images, labels, pool

SOME: Any = "some"
NO_MAKER: Any = 3
NOTHING: Any = lambda images: None  # noqa: E731


class Outputs(Module):
    """Returns what `make` makes of two views' logits, under the keys."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, _ = batch
        weak, strong = self.model(x), self.model(x + 0.3)
        self.note(weak=weak, strong=strong)
        return {"loss": weak.square().mean(), "logits_weak": self.make(weak), "logits_strong": self.make(strong)}


def fit_outputs(make: Any, **settings: Any) -> tuple[ASSLScoreCallback, Outputs]:
    module = Outputs(make)
    callback = ASSLScoreCallback(observe=observe.keys(**settings))
    fit(module, DataLoader(IndexedDataset(pool()), batch_size=8), callback)
    return callback, module


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_probabilities_given_as_logits_are_refused_with_what_to_do(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"'logits_weak' must be logits.*keys\(from_probabilities=True\)"):
        fit_outputs(lambda z: z.softmax(1).to(dtype))
    fit_outputs(lambda z: z.to(dtype))


def test_probabilities_by_name_have_the_scores_of_their_logits() -> None:
    by_name, _ = fit_outputs(lambda z: z.softmax(1), from_probabilities=True)
    by_logits, _ = fit_outputs(lambda z: z)
    torch.testing.assert_close(by_name.scores(), by_logits.scores(), rtol=1e-4, atol=1e-6)
    assert by_name.query(5).tolist() == by_logits.query(5).tolist()
    with pytest.raises(ValueError, match=r"should be probabilities, as from_probabilities=True says.*sum to -?\d"):
        fit_outputs(lambda z: 3 * z, from_probabilities=True)


def test_logits_that_happen_to_lie_in_the_unit_interval_are_logits() -> None:
    check_kind("z", torch.tensor([[0.2, 0.9], [0.5, 0.5]]), from_probabilities=False)
    check_kind("z", torch.tensor([[0.5, 0.5], [1.5, -0.5]]), from_probabilities=False)
    check_kind("z", torch.empty(0, 3), from_probabilities=False)
    assert as_logits(torch.tensor([[0.0, 1.0]])).isfinite().all()


def test_classes_on_another_axis_are_told() -> None:
    with pytest.raises(ValueError, match=r"'logits_weak' must have shape \(B, C\).*got \(8, 4, 5\).*observe\.dense"):
        fit_outputs(lambda z: z[:, :, None].expand(-1, -1, 5))
    sizes = iter([4, 4, 3, 3])
    with pytest.raises(ValueError, match=r"had 4 classes in the first batch and has 3 now.* cannot be the cl"):
        fit_outputs(lambda z: z[:, : next(sizes)])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda z: z[:5], ValueError, r"'logits_weak' has 5 rows, but the batch has 8 samples .*; got shape \(5, 4\)"),
        (lambda z: z.detach().numpy(), TypeError, r"'logits_weak' must be a tensor of shape \(B, C\); got ndarray"),
        (lambda z: nn.functional.one_hot(z.argmax(1)), TypeError, "a floating-point tensor, .* got torch.int64"),
    ],
)
def test_what_is_no_row_of_logits_for_each_sample_is_told(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit_outputs(make)


def test_logarithms_of_probabilities_have_the_scores_of_their_logits() -> None:
    of_logarithms, of_logits = (fit_outputs(make)[0] for make in (lambda z: z.log_softmax(1), lambda z: z))
    torch.testing.assert_close(of_logarithms.scores(), of_logits.scores(), rtol=1e-4, atol=1e-6)


def test_scores_of_four_axes_want_a_dim_and_take_it() -> None:
    z = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    other = z.flip(0)
    for function in (scores.pseudo_el2n, scores.entropy, scores.margin, scores.least_confidence):
        with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\) may have their classes on axis 1.*dim=1 or dim=-1"):
            function(z)
        torch.testing.assert_close(function(z, dim=1), function(z.movedim(1, -1).reshape(-1, 3)).reshape(2, 4, 5))
        torch.testing.assert_close(function(z, dim=-1), function(z.reshape(-1, 5)).reshape(2, 3, 4))
        with pytest.raises(ValueError, match="have no axis dim=4"):
            function(z, dim=4)
    of_rows = scores.symmetric_kl(z.movedim(1, -1).reshape(-1, 3), other.movedim(1, -1).reshape(-1, 3))
    torch.testing.assert_close(scores.symmetric_kl(z, other, dim=1), of_rows.reshape(2, 4, 5))
    with pytest.raises(ValueError, match="may have their classes on axis 1"):
        scores.symmetric_kl(z, other)


class Calls(Module):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, _ = batch
        loss: Tensor = self.model(x).square().mean() + self.model(torch.cat([x, x])).square().mean()
        return loss


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: observe.forward("modle", 0), r"Calls has no part 'modle' \(did you mean 'model'\?\)"),
        (
            lambda: observe.forward("model", 0, 2),
            r"call 2 of 'model' was asked for.* 2 times \(outputs 0: \(8, 4\)",
        ),
        (lambda: observe.forward("model", 0, 1), r"call 1 of 'model' has 16 rows, but the batch has 8 samples"),
        (
            lambda: observe.split("model", ["labelled", "weak", "strong"]),
            r"has 8 rows, which cannot be labelled, we",
        ),
        (lambda: observe.split("model", ["weak"], call=1), r"has 16 rows, which cannot be weak of 8 samples"),
        (lambda: observe.split("model", interleave=3, call=1), r"has 16 rows, .*, interleaved by 3"),
        (
            lambda: observe.binary(observe.forward("model", 0)),
            r"must have one logit for each sample.*\(8, 4\)",
        ),
        (lambda: observe.dense(observe.forward("model", 0)), r"a row of classes for each place.*\(8, 4\) with the"),
        (
            lambda: observe.dense(observe.forward("model.body", 0), ignore_index=0, target="mask"),
            r"target='mask' must be a key or position of the batch; it has list",
        ),
        (
            lambda: observe.dense(observe.forward("model.body", 0), ignore_index=0, target=1),
            r"target=1 has the shape \(8,\), but the predictions have 8 samples of 16 places",
        ),
        (
            lambda: observe.forward("model", 0, output="logits"),
            r"returned \(8, 4\), in which there is no output=",
        ),
        (
            lambda: observe.second_view("model", view=lambda x: x[1:]),
            r"another view of each of the 8 samples, .* it returned shape \(7,",
        ),
        (lambda: observe.second_view("model", view=NOTHING), "as many rows; it returned NoneType"),
        (lambda: lambda outputs, batch, module: {"index": 0}, "must return an assl_lightning.Observation.*ed dict"),
    ],
)
def test_what_does_not_fit_the_training_is_told_at_its_first_batch(make: Any, message: str) -> None:
    callback = ASSLScoreCallback(observe=make())
    with pytest.raises((ValueError, KeyError, TypeError), match=message):
        fit(Calls(), DataLoader(IndexedDataset(pool()), batch_size=8), callback)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: observe.forward("model", weak=SOME), TypeError, "weak must be a whole number"),
        (lambda: observe.forward("model", rows=SOME), ValueError, "rows must be one of all, first, last"),
        (lambda: observe.forward("model", features="a", head="b"), ValueError, "not both"),
        (lambda: observe.split("model", ["strong"]), ValueError, "one of them 'weak'; got strong"),
        (lambda: observe.binary(NO_MAKER), TypeError, "binary goes around another maker, such as observe.binary"),
        (
            lambda: observe.dense(observe.keys(), reducer=SOME),
            ValueError,
            "one of mean, top, per_class",
        ),
        (lambda: observe.dense(observe.keys(), ignore_index=255), ValueError, "ignore_index and target go together"),
        (lambda: observe.second_view("model", every=0), ValueError, "every must be at least 1"),
        (
            lambda: observe.second_view("model", view=SOME),
            TypeError,
            r"view must be a function of a batch, .*; got 'some'",
        ),
        (lambda: observe.second_view("model", undo=NO_MAKER), TypeError, "undo must be a function of a batch"),
        (
            lambda: ASSLScoreCallback(N, observe=lambda outputs, batch: None),
            TypeError,
            r"must be a function observe\(outputs, batch, module\).*<lambda>\(outputs, batch\) cannot be called so",
        ),
        (lambda: ASSLScoreCallback(N, observe=observe.forward), TypeError, r"needs arguments: call it"),
        (
            lambda: ASSLScoreCallback(N, observe="nowhere.observe"),
            ValueError,
            "or its import path.* cannot be imported",
        ),
        (lambda: ASSLScoreCallback(N, observe="observe"), ValueError, "or its import path"),
        (
            lambda: ASSLScoreCallback(N, observe=NO_MAKER),
            TypeError,
            "must be a maker of assl_lightning.observe, .*; got 3",
        ),
    ],
)
def test_what_cannot_be_is_refused_where_it_was_written(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


class Forward(Module):
    """Calls its network past the hooks."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.model.forward(batch[0]).square().mean()
        return loss


def test_calls_that_no_hook_can_see_are_told() -> None:
    compiled_before = r"torch\.compiler\.reset\(\) first$"
    for module, advice in ((Forward(), "cannot be seen$"), (compiled(Forward()), compiled_before)):
        callback = ASSLScoreCallback(observe=observe.forward("model"))
        with pytest.raises(ValueError, match=rf"0 times .*calls of self\.part\.forward\(x\), or of oth.* {advice}"):
            fit(module, DataLoader(IndexedDataset(pool()), batch_size=8), callback)


def compiled(module: Module) -> Module:
    other: Any = torch.compile(nn.Sequential(nn.Linear(1, 1)), backend="eager")
    module.other = other
    return module


def test_a_part_within_a_compiled_one_keeps_its_name() -> None:
    module = compiled(Forward())
    inner: Any = module.other
    assert part_of(module, "other.0") is part_of(module, "other._orig_mod.0") is inner._orig_mod[0]
    assert part_of(module, "other") is inner


def test_a_module_that_steps_by_hand_may_skip_a_batch_once_it_has_called_its_network() -> None:
    class InTurn(Module):
        """Trains its network and something else in turn, as adversarial trainings do."""

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            if batch_idx % 2 == 0:
                self.manual_backward(self.model(batch[0]).square().mean())

    callback = ASSLScoreCallback(observe=observe.forward("model"))
    fit(InTurn(), DataLoader(IndexedDataset(pool()), batch_size=8), callback, max_epochs=1)
    assert callback.statistics.visits.tolist() == [1] * 8 + [0] * 8 + [1] * 8


def test_a_network_with_one_logit_is_told_its_maker() -> None:
    module = Outputs(lambda z: z[:, :1])
    with pytest.raises(ValueError, match=r"at least 2 classes; got shape \(8, 1\).*observe\.binary"):
        fit(module, DataLoader(IndexedDataset(pool()), batch_size=8), ASSLScoreCallback())


@pytest.mark.parametrize("from_probabilities", [False, True])
def test_one_output_after_a_sigmoid_is_refused_unless_it_is_said(from_probabilities: bool) -> None:
    class Sigmoid(Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = torch.nn.Sequential(Network(1), torch.nn.Sigmoid())  # type: ignore[assignment]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return torch.nn.functional.binary_cross_entropy(self.model(batch[0])[:, 0], (batch[1] % 2).float())

    maker = observe.binary(observe.forward("model", from_probabilities=from_probabilities))
    callback = ASSLScoreCallback(observe=maker)
    told: Any = pytest.raises(ValueError, match=r"'logits_weak' must be logits.*ends in a Sigmoid.*from_probabilities")
    with nullcontext() if from_probabilities else told:
        fit(Sigmoid(), DataLoader(IndexedDataset(pool()), batch_size=8), callback, max_epochs=1)
        assert callback.statistics.visits.tolist() == [1] * N


class Keywords(Module):
    """Calls its network with arguments of which the batch alone is the first."""

    by_name = True

    def __init__(self) -> None:
        super().__init__()
        self.net = Scaled(self.model)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.net(x=x, factor=1.0 + y) if self.by_name else self.net(x, 1.0 + y)
        return torch.nn.functional.cross_entropy(logits, y)


class Scaled(torch.nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        return self.network(x) * factor[:, None]  # type: ignore[no-any-return]


@pytest.mark.parametrize("by_name", [True, False])
def test_a_second_view_has_the_other_arguments_of_the_call(by_name: bool) -> None:
    module = Keywords()
    module.by_name = by_name
    callback = ASSLScoreCallback(observe=observe.second_view("net", head="net"), alpha=1.0)
    fit(module, DataLoader(IndexedDataset(pool()), batch_size=N), callback, max_epochs=1)
    module.eval()
    with torch.no_grad():
        weak, strong = (module.net(x, 1.0 + labels()) for x in (images(), images().flip(-1)))
    torch.testing.assert_close(callback.statistics.uncertainty_mean, scores.pseudo_el2n(weak))
    torch.testing.assert_close(callback.statistics.inconsistency_mean, scores.symmetric_kl(weak, strong))
    torch.testing.assert_close(callback.features.rows(torch.arange(N)).float(), images().flatten(1).half().float())


@pytest.mark.parametrize(
    "make",
    [lambda: observe.forward("model"), lambda: observe.second_view("model"), lambda: observe.split("model", "weak")],
)
@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_batch_that_the_module_skips_before_it_calls_its_network_is_skipped(make: Any) -> None:
    class Skipping(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx != 1 else super().training_step(batch, batch_idx)

    callback = ASSLScoreCallback(observe=make())
    fit(Skipping(), DataLoader(IndexedDataset(pool()), batch_size=8), callback, max_epochs=1)
    assert callback.statistics.visits.tolist() == [0] * 8 + [1] * 8 + [0] * 8


def function_of_a_package(outputs: Any, batch: Any, module: Any, index: Tensor) -> Any:
    from assl_lightning import Observation

    return Observation(index, batch[0].mean((1, 2, 3)), torch.ones(len(index)))


def test_an_import_path_and_a_class_are_makers_too() -> None:
    for given in (f"{__name__}.function_of_a_package", function_of_a_package):
        callback = ASSLScoreCallback(observe=given)
        fit(Calls(), DataLoader(IndexedDataset(pool()), batch_size=8), callback)
        assert callback.statistics.visits.tolist() == [2] * N
    module = Outputs(lambda z: z)
    callback = ASSLScoreCallback(observe=observe.keys)
    fit(module, DataLoader(IndexedDataset(pool()), batch_size=8), callback)
    assert callback.statistics.visits.tolist() == [2] * N


def test_no_maker_reads_a_number_on_the_host_after_the_first_batch() -> None:
    """Tensors on the meta device have shapes but no numbers, so whatever would wait for a device raises."""

    class Hooked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = torch.nn.Linear(3, C, device="meta")
            self.head = torch.nn.Linear(3, 1, device="meta")
            self.map = torch.nn.Conv2d(3, C, 1, device="meta")

    module, x = Hooked(), torch.empty(8, 3, device="meta")
    makers: list[Any] = [
        observe.keys(from_probabilities=True),
        observe.forward("model", 0, 1, head="model"),
        observe.split("model", ["weak", "strong"], call=2, interleave=2),
        observe.teacher_student("model", "model", student_call=1),
        observe.binary(observe.forward("head", 0)),
        observe.dense(observe.forward("map", 0), reducer="top", ignore_index=255, target="mask"),
        observe.dense(observe.forward("map", 0), reducer="per_class"),
        observe.regions(observe.forward("map", 0), 2, 2, region_map="mask", ignore_index=255, target="mask"),
    ]
    outputs = {name: torch.empty(8, C, device="meta") for name in ("logits_weak", "logits_strong")}
    index = torch.empty(8, dtype=torch.int64, device="meta")
    mask = torch.empty(8, 2, 2, device="meta")
    for maker in makers:
        maker.start(module)
        maker.begin_step()
        for batch in (x, x, torch.cat([x, x])):
            module.model(batch)
        module.head(x)
        module.map(x[:, :, None, None].expand(-1, -1, 2, 2))
        with torch.no_grad():
            observation = maker.observe(TrainingStep(outputs, {"mask": mask}, module, {"": index}))
        assert observation.uncertainty.shape == (8 * (1 if maker.grid is None else maker.grid.count),), maker
        maker.stop()
