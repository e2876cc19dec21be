"""A run that asks people, under whatever order of arrivals, losses, answers, corrections, kills and calls.

`run_rounds` is the real one, with all its files; `Quick` stands for the training of a round, which here is a table of
statistics and a network that has not learned. It checks that each image it is given is that of its index.
"""

from __future__ import annotations

import functools
import io
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from PIL import Image
from torch import Tensor, nn

from assl_lightning import FixMatch, PoolDataModule
from assl_lightning.augment import Normalise
from assl_lightning.base.run_files import LEDGER
from assl_lightning.config.unreadable import check_readable
from assl_lightning.data.answers import Answer, Incoming
from assl_lightning.data.growth import reindex_source
from assl_lightning.data.pool import EXCLUDED, HELD_OUT, UNLABELLED, Pool
from assl_lightning.data.sample_names import read_samples
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.learning.trained_model import TrainedModel
from assl_lightning.loop import RoundSettings, ScoreSettings, rounds
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import RoundRecord, read_records
from assl_lightning.loop.training import RoundTraining
from assl_lightning.method.assl import ASSL
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.people import ledger as ledger_module
from assl_lightning.people.batch import LabelBatch, find_batches
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.oracle import People

pytestmark = pytest.mark.e2e  # it makes whole runs, over and over

CLASS_NAMES = ("ok", "dent", "scratch")
PEOPLE = ("Ann", "Bo")
SGD = functools.partial(torch.optim.SGD, lr=0.05)
FIRST, ROUNDS, BUDGET, INITIAL, HOLD_OUT = 16, 3, 2, 4, 3
LEAST = HOLD_OUT + INITIAL + ROUNDS * BUDGET  # images, for a run to begin
FEWEST = 8  # images that are left when it has begun
NAMES = [f"{number:03d}.png" for number in random.Random(7).sample(range(1, 200), 60)]
ROLES = {"ok": 0, "dent": 1, "scratch": 2, "bad": EXCLUDED, None: UNLABELLED}


def pixels_of(name: str) -> Tensor:
    """(1, 2, 2) uint8: the name, drawn into the pixels."""
    return torch.full((1, 2, 2), int(name[:3]), dtype=torch.uint8)


# --- a process that dies ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is dead: it gets no further."""


@contextmanager
def dying(after: int | None) -> Iterator[None]:
    """Kill what runs here at its step number `after` that changes the disk; from then on it can change nothing."""
    left = after

    def step(*_: object) -> None:
        nonlocal left
        if left is not None:
            left -= 1
            if left < 0:
                raise Killed

    def killable(make: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            step()
            return make(*arguments, **keywords)

        return call

    changing: Any = {name: killable(getattr(os, name)) for name in ("unlink", "rename", "replace", "mkdir", "rmdir")}
    insert = killable(ledger_module._insert)
    with mock.patch.multiple(os, fsync=step, **changing), mock.patch.object(ledger_module, "_insert", insert):
        try:
            yield
        except Killed:
            if after is None:
                raise


# --- a training that takes no time -----------------------------------------------------------------------------------


class Level(FeatureNetwork):
    """The mean of the pixels."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, len(CLASS_NAMES)), 1, len(CLASS_NAMES))

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1).mean(1, keepdim=True)


class Quick(RoundTraining):
    """Every unlabelled sample is visited once a round; the rest is the real thing, down to its files."""

    def train(self, number: int) -> tuple[TrainedModel, RoundRecord]:
        self._start_round(number)
        algorithm, pool = self._new_algorithm(number), self.datamodule.pool
        score = self._score_callback(algorithm, number)
        assert score is not None
        score.setup(
            cast(Any, SimpleNamespace(strategy=None, precision_plugin=SimpleNamespace(convert_input=None))),
            algorithm,
            "fit",
        )
        self._look(pool)
        visited, table = self.datamodule.streamed, score.statistics
        table.update(visited, *torch.rand(2, len(visited), generator=torch.Generator().manual_seed(number)))
        state = {"state_dict": algorithm.state_dict(), "callbacks": {score.state_key: score.state_dict()}}
        self.directory.save_tensors(number, "final.ckpt", state)
        self.directory.save_tensors(number, "statistics.pt", table.state_dict())
        record = RoundRecord(number, len(pool.labelled), len(pool.unlabelled), 1, 0.5, 0.5)
        return TrainedModel(algorithm.network, table, nullcontext), record

    def _look(self, pool: Pool) -> None:
        """What trains and what tests, against the images that the names say."""
        tested = pool.held_out if self.settings.hold_out else pool.held_out[:0]
        for index in torch.cat([pool.labelled, self.datamodule.streamed, tested]).tolist():
            image = self.datamodule.pool_images[torch.tensor([index])][0]
            assert torch.equal(image, pixels_of(pool.sample_ids[index])), "another image under a name"

    def _new_trainer(self, number: int, callbacks: object) -> Any:
        precision = SimpleNamespace(forward_context=nullcontext)
        return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), precision_plugin=precision)


# --- the machine -----------------------------------------------------------------------------------------------------


class ByHand:
    """Answers are put into the ledger by hand, or lie in a file that is read at each call."""

    def __init__(self, file: Sequence[Incoming]) -> None:
        self.file = file

    def check(self, class_names: Sequence[str]) -> None: ...

    def offer(self, batch: LabelBatch) -> str:
        return f"Label {batch.directory}."

    def collect(self, batch: LabelBatch) -> Sequence[Incoming]:
        asked = {sample.sample_id for sample in batch.samples}
        return [one for one in self.file if one.sample_id in asked]


@dataclass(frozen=True)
class Place:
    """Where a sample is in a round."""

    since: int = UNLABELLED
    label: int = -1


class Run(RuleBasedStateMachine):
    """The images, the people and the run, and what must hold of it."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.run_dir = Path(self.temporary.name) / "run"
        self.ledger = Ledger(self.run_dir / LEDGER)
        self.images = dict.fromkeys(NAMES[:FIRST], True)  # name → whether it can be decoded
        self.coming = NAMES[FIRST:]
        self.file: list[Incoming] = []
        self.indices: tuple[str, ...] = ()
        self.places: dict[int, dict[str, Place]] = {}  # by round
        self.pools: dict[int, bytes] = {}
        self.shown: set[Path] = set()
        self.records: list[RoundRecord] = []
        self.rounds = ROUNDS
        self.held_out_before: set[str] = set()

    @initialize(
        hold_out=st.sampled_from([0, HOLD_OUT]),
        min_fraction=st.sampled_from([1.0, 0.5]),
        relabel=st.sampled_from([0.0, 1.0]),
        reset=st.booleans(),
        init=st.sampled_from(["rand", "continue"]),
        cold_start=st.booleans(),
        complete=st.sampled_from([0, 1, 2, ROUNDS + 1]),
    )
    def begin(
        self,
        hold_out: int,
        min_fraction: float,
        relabel: float,
        reset: bool,
        init: Any,
        cold_start: bool,
        complete: int,
    ) -> None:
        self.hold_out = hold_out
        self.people = {"min_fraction": min_fraction, "relabel_fraction": relabel, "conflicts": "latest"}
        self.settings = RoundSettings(
            rounds=ROUNDS,
            initial_labels=INITIAL,
            initial_acquisition="kmeans_plus_plus" if cold_start else "random",
            labels_per_round=BUDGET,
            hold_out=hold_out,
            score=ScoreSettings(reset=reset),
            init=init,
        )
        for _ in range(complete):
            self.finish_a_batch()

    def teardown(self) -> None:
        """Whatever happened: once all images are there and each question has an answer, the run comes to its end."""
        try:
            if hasattr(self, "settings"):
                self.finish()
        finally:
            self.temporary.cleanup()

    def finish(self) -> None:
        self.images = dict.fromkeys([*self.images, *self.indices], True)
        if not any(self.verdicts().get(name) in CLASS_NAMES for name in self.held_out()):
            for batch in self.batches()[:1]:  # the labels of the test may all have been taken back
                self.answer(batch)
        for _ in range(3 * ROUNDS):
            self.call(None)
            if len(self.records) > self.rounds or self.is_exhausted:
                break
            self.answer_everything()
        assert len(self.records) == self.rounds + 1 or self.is_exhausted

    # ---- what happens to the images

    @precondition(lambda self: self.coming)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            if self.coming:
                self.images[self.coming.pop()] = data.draw(st.booleans()) or data.draw(st.booleans())

    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        if self.may_lose_one:
            self.images.pop(self.some_image(data))

    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        gone = [name for name in self.indices if name not in self.images]
        if gone:
            self.images[data.draw(st.sampled_from(gone))] = True

    @rule(data=st.data())
    def spoil_or_mend(self, data: st.DataObject) -> None:
        name = self.some_image(data)
        if not self.images[name] or self.may_lose_one:
            self.images[name] = not self.images[name]

    @property
    def may_lose_one(self) -> bool:
        return sum(self.images.values()) > (FEWEST if self.indices else LEAST)

    def some_image(self, data: st.DataObject) -> str:
        """One that people were asked for, rather than another."""
        prefers_asked: bool = data.draw(st.booleans())
        asked = [name for batch in self.batches() for name in names_of(batch) if name in self.images]
        return data.draw(st.sampled_from(asked if asked and prefers_asked else sorted(self.images)))

    # ---- what people do

    def batches(self) -> list[LabelBatch]:
        return find_batches(self.run_dir) if self.run_dir.exists() else []

    @precondition(lambda self: self.batches())
    @rule(data=st.data())
    def answer_some(self, data: st.DataObject) -> None:
        batches = self.batches()
        batch = batches[-1] if data.draw(st.booleans()) else data.draw(st.sampled_from(batches))
        names = data.draw(st.lists(st.sampled_from(names_of(batch)), unique=True, min_size=1))
        for name in names:
            said = data.draw(st.sampled_from([*CLASS_NAMES, *CLASS_NAMES, "skip", "bad"]))
            self.say(batch.round, name, said, data.draw(st.sampled_from(PEOPLE)))

    @precondition(lambda self: self.batches())
    @rule()
    def answer_everything(self) -> None:
        for batch in self.batches()[-1:]:
            self.answer(batch)

    def answer(self, batch: LabelBatch) -> None:
        for name in names_of(batch):
            self.say(batch.round, name, "ok", "Ann")

    @precondition(lambda self: self.batches())
    @rule(data=st.data())
    def write_into_the_file(self, data: st.DataObject) -> None:
        batch = self.batches()[-1]
        name = data.draw(st.sampled_from(names_of(batch)))
        said = data.draw(st.sampled_from(CLASS_NAMES))
        where = f"{batch.round}.csv, line {batch.samples.index(sample_of(batch, name)) + 2}"
        self.file = [one for one in self.file if one.where != where]
        self.file.append(Incoming(where, name, "label", said, "Cleo"))

    @precondition(lambda self: self.ledger.active_answers())
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        answers = [answer for answer in self.ledger.active_answers() if answer.annotator in PEOPLE]
        if answers:
            answer = data.draw(st.sampled_from(answers))
            assert answer.id is not None
            self.ledger.revoke([answer.id], answer.annotator, "undo")

    def say(self, number: int, name: str, said: str, annotator: str) -> None:
        kind: Any = said if said in ("skip", "bad") else "label"
        label = said if kind == "label" else None
        self.ledger.append([Answer(name, kind, annotator, "by hand", number, label=label)])

    # ---- the run

    @rule()
    def call_it(self) -> None:
        self.call(None)

    @rule()
    def finish_a_batch(self) -> None:
        self.call(None)
        self.answer_everything()
        self.call(None)

    @rule(kills=st.lists(st.integers(0, 60), min_size=1, max_size=4))
    def kill_it(self, kills: list[int]) -> None:
        self.answer_everything()
        for after in kills:
            self.call(after)

    @precondition(lambda self: len(self.records) > self.rounds == ROUNDS and len(self.indices) >= LEAST + BUDGET)
    @rule(kills=st.lists(st.integers(0, 60), max_size=4))
    def extend_it(self, kills: list[int]) -> None:
        self.rounds += 1
        self.call(None)
        self.kill_it(kills)

    def call(self, kill_after: int | None) -> None:
        """The same command once more; what must hold is looked at whether it ended, was killed or refused."""
        refused = ""
        with dying(kill_after):
            try:
                self.run()
            except ValueError as error:
                refused = str(error)
        self.check()
        if refused:
            assert self.is_rightly(refused), refused

    def run(self) -> None:
        run_dir = RunDirectory(self.run_dir)
        source = self.load()
        known = run_dir.pool_on_disk()
        if known is not None:
            source = reindex_source(source, known)
        pool = Pool(len(source.pool_images), len(CLASS_NAMES), source.sample_ids)
        check_readable(run_dir, source)
        pool.exclude(torch.cat([source.unreadable, source.absent]).unique())
        plain: Any = lambda images, draws: images  # noqa: E731
        datamodule = PoolDataModule(
            pool,
            pool_images=source.pool_images,
            test_images=source.test_images,
            test_labels=source.test_labels,
            test_ids=source.test_ids,
            normalise=Normalise((0.5,), (0.3,)),
            weak=plain,
            strong=plain,
            batch_size=2,
            mu=1,
        )
        oracle = People(source, ByHand(self.file), **self.people)  # type: ignore[arg-type]
        with mock.patch.object(rounds, "RoundTraining", Quick):
            rounds.run_rounds(
                pool=pool,
                datamodule=datamodule,
                make_network=Level,
                make_algorithm=lambda network: FixMatch(network, optimizer=SGD),
                make_trainer=cast(Any, None),
                acquisition=ASSL(),
                oracle=oracle,
                settings=RoundSettings(**{**vars(self.settings), "rounds": self.rounds}),
                run_dir=self.run_dir,
            )

    def load(self) -> PoolSource:
        """As a folder is read: in the order of the names."""
        names = sorted(self.images)
        is_readable = torch.tensor([self.images[name] for name in names])
        images = torch.stack([pixels_of(name) for name in names])
        num_test = 0 if self.hold_out else 2
        return PoolSource(
            pool_images=torch.where(is_readable[:, None, None, None], images, 0),
            hidden_labels=torch.full((len(names),), -1),
            test_images=torch.zeros(num_test, 1, 2, 2, dtype=torch.uint8),
            test_labels=torch.zeros(num_test, dtype=torch.int64),
            class_names=CLASS_NAMES,
            sample_ids=tuple(names),
            unreadable=(~is_readable).nonzero()[:, 0],
            test_ids=("t0", "t1")[:num_test],
        )

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to ask for, as images have gone for good."""
        last = self.places[max(self.places)] if self.places else {"": Place()}
        return all(place.since != UNLABELLED for place in last.values())

    # ---- what must hold

    def is_rightly(self, refused: str) -> bool:
        """Whether an error is one that the images, or people, have caused."""
        spoilt = {name for name in self.indices if not self.images.get(name, False)}
        if "images that the round under way has in it" in refused or "cannot be decoded any more" in refused:
            number = max(self.places, default=None)
            needed = {*self.indices} if number is None else in_use(self.places[number])
            return bool(spoilt & needed)
        if "has nothing to ask for" in refused:
            return self.is_exhausted
        if "has a label" in refused:
            holds = self.verdicts()
            labelled = {name for name, said in holds.items() if said in CLASS_NAMES and name not in spoilt}
            held_out = self.held_out()
            return not (labelled & held_out if "held out" in refused else labelled - held_out)
        return False

    def check(self) -> None:
        self.check_names()
        assert not self.held_out_before or self.held_out() == self.held_out_before
        self.held_out_before = self.held_out()
        assert len(self.held_out_before) in (0, self.hold_out)
        self.check_rounds()
        self.check_batches()
        self.check_records()

    def check_names(self) -> None:
        names = read_samples(self.run_dir)
        assert names.pool[: len(self.indices)] == self.indices, "an index changed"
        assert names.test in ((), ("t0", "t1"))
        self.indices = names.pool

    def check_rounds(self) -> None:
        """Each round's pool follows from the one before, by what people said and what was there as it was written."""
        for number in range(self.rounds + 1):
            path = self.run_dir / f"round_{number:02d}" / "pool.pt"
            content = path.read_bytes() if path.exists() else b""
            if not content or self.pools.get(number) == content:
                continue
            assert number + 1 not in self.places, "a round's pool changed after the next began"
            state = torch.load(io.BytesIO(content), weights_only=True)
            found = {
                name: Place(since, label)
                for name, since, label in zip(
                    self.indices, state["labelled_in_round"].tolist(), state["labels"].tolist(), strict=False
                )
            }
            assert found == self.expected(number, tuple(found))
            self.places[number], self.pools[number] = found, content

    def expected(self, number: int, names: Sequence[str]) -> dict[str, Place]:
        before, holds, held_out = self.places.get(number - 1, {}), self.verdicts(), self.held_out()
        asked = {name for batch in self.batches() if batch.round <= number for name in names_of(batch)}
        return {
            name: after(before.get(name, Place()), holds.get(name), number, name in asked, name in held_out)
            if self.images.get(name, False)
            else Place(HELD_OUT if name in held_out else EXCLUDED)
            for name in names
        }

    def verdicts(self) -> Mapping[str, str | None]:
        """Name → what was said last by who did not skip; None where everybody did."""
        last: dict[str, dict[str, str]] = {}
        for answer in self.ledger.active_answers():
            of_sample = last.setdefault(answer.sample_id, {})
            of_sample.pop(answer.annotator, None)
            of_sample[answer.annotator] = answer.label or answer.kind
        return {
            name: next((one for one in reversed([*said.values()]) if one != "skip"), None)
            for name, said in last.items()
        }

    def held_out(self) -> set[str]:
        noted = RunDirectory(self.run_dir).read_initial()
        return set() if noted is None else {self.indices[index] for index in noted[0].tolist()}

    def check_batches(self) -> None:
        held_out = self.held_out()
        for batch in self.batches():
            before = self.places.get(batch.round - 1, {})
            if batch.directory in self.shown:
                continue
            assert batch.round == 0 or before, "asked for before the round began that asks"
            for sample in batch.samples:
                assert self.indices[sample.index] == sample.sample_id
                assert self.images.get(sample.sample_id, False), "asked for an image that is not there"
                with Image.open(batch.image_path(sample)) as image:
                    assert np.unique(np.asarray(image)).tolist() == [int(sample.sample_id[:3])]
                place = before.get(sample.sample_id, Place())
                assert place.since >= 0 if sample.again else place.since == UNLABELLED
                assert batch.round == 0 or sample.sample_id not in held_out
            self.check_not_at_once(batch, before)
            self.shown.add(batch.directory)

    def check_not_at_once(self, batch: LabelBatch, before: Mapping[str, Place]) -> None:
        """What was asked for last, in vain, is not asked for at once while others are enough."""
        (before_it,) = [one for one in self.batches() if one.round == batch.round - 1] or [batch]
        last = {sample.sample_id for sample in before_it.samples if not sample.again} if before_it != batch else set()
        others = [name for name, place in before.items() if place.since == UNLABELLED and name not in last]
        if len(others) >= BUDGET:
            assert not last & {sample.sample_id for sample in batch.samples if not sample.again}

    def check_records(self) -> None:
        self.records = read_records(self.run_dir)
        for record in self.records:
            before, then = self.places[record.round], self.places.get(record.round + 1)
            asked = [self.indices[index] for index in record.queried]
            left = [place for place in before.values() if place.since == UNLABELLED]
            assert len(asked) == (min(BUDGET, len(left)) if then is not None else 0)
            assert all(before[name].since == UNLABELLED for name in asked)
            if then is not None:
                assert record.queried_labels == [then[name].label for name in asked]


def after(before: Place, said: str | None, number: int, was_asked: bool, is_held_out: bool) -> Place:
    """Where a sample is in round `number`, whose image is there."""
    role = ROLES[said]
    if is_held_out:
        return Place(HELD_OUT, max(role, -1))
    if not was_asked:
        return before
    if role < 0:
        return Place(role)
    return Place(before.since if before.since >= 0 else number, role)


def in_use(places: Mapping[str, Place]) -> set[str]:
    """Whose image a round needs."""
    return {name for name, place in places.items() if place.since >= UNLABELLED or place.label >= 0}


def names_of(batch: LabelBatch) -> list[str]:
    return [sample.sample_id for sample in batch.samples]


def sample_of(batch: LabelBatch, name: str) -> Any:
    return next(sample for sample in batch.samples if sample.sample_id == name)


def test_a_run_whose_test_has_lost_its_labels_waits_for_them() -> None:
    state = Run()
    state.begin(3, 1.0, 0.0, True, "rand", False, complete=1)
    held_out = sorted(state.held_out())
    taken = [answer for answer in state.ledger.active_answers() if answer.sample_id in held_out]
    state.ledger.revoke([answer.id for answer in taken if answer.id is not None], "Ann", "undo")
    state.answer_everything()
    with pytest.raises(
        ValueError, match="none of the 3 samples that were held out has a label to test with"
    ) as refused:
        state.run()
    assert all(name in str(refused.value) for name in held_out)
    state.say(0, held_out[0], "dent", "Bo")
    state.call(None)
    assert len(state.records) == 1
    state.teardown()


def run_it(max_examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Run,
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=steps,
            phases=[Phase.explicit, Phase.generate],  # an example takes a second: to make it smaller takes minutes
            suppress_health_check=[*HealthCheck],
        ),
    )


def test_no_order_of_events_mixes_anything_up() -> None:
    run_it(max_examples=12, steps=20)


@pytest.mark.slow
def test_no_longer_order_of_events_mixes_anything_up() -> None:
    run_it(max_examples=150, steps=40)
