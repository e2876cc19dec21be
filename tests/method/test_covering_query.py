"""`ASSLScoreCallback.query` with labelled samples: the picks of `Herding` where features are kept, else the top-k."""

from __future__ import annotations

import pytest
import torch

from assl_lightning.method.callback import ASSLScoreCallback
from assl_lightning.method.candidates import Candidates, LabelledSamples
from assl_lightning.method.features import SampleFeatures
from assl_lightning.method.herding import Herding
from assl_lightning.method.statistics import SampleStatistics

NUM_SAMPLES = 30
LABELLED = [0, 7, 29]


def trained(
    *, keep_features: bool = True, seen: int = NUM_SAMPLES, with_features: int | None = None
) -> ASSLScoreCallback:
    """A callback with random statistics and features of the first `seen` samples, and the labelled ones unvisited.

    Features may be of fewer, the first `with_features`.
    """
    generator = torch.Generator().manual_seed(0)
    table, features = SampleStatistics(NUM_SAMPLES), SampleFeatures(NUM_SAMPLES)
    unlabelled = torch.tensor([index for index in range(seen) if index not in LABELLED])
    table.update(unlabelled, *torch.rand(2, len(unlabelled), generator=generator))
    known = torch.arange(seen if with_features is None else with_features)
    features.update(known, torch.randn(seen, 4, generator=generator)[known])
    callback = ASSLScoreCallback(NUM_SAMPLES, keep_features=keep_features)
    callback.load_state_dict({"statistics": table.state_dict(), "features": features.state_dict()})
    return callback


@pytest.mark.parametrize("candidates", [None, [3, 21, 5, 11, 4, 28, 1]])
def test_the_picks_are_those_of_herding_where_features_are_kept(candidates: list[int] | None) -> None:
    callback = trained()
    index = torch.tensor(sorted(candidates or set(range(NUM_SAMPLES)) - set(LABELLED)))
    labelled = torch.tensor(LABELLED)
    expected = Herding(c_u=callback.c_u, c_i=callback.c_i).acquire(
        Candidates(
            index,
            statistics=callback.statistics.rows(index),
            features=callback.features.rows(index),
            labelled=LabelledSamples(labelled, torch.zeros(3).long(), None, callback.features.rows(labelled)),
        ),
        5,
        torch.Generator(),
    )
    picks = callback.query(5, candidates, LABELLED)
    assert picks.tolist() == expected.index.tolist()
    assert picks.tolist() != callback.query(5, candidates or index).tolist()
    mask = torch.zeros(NUM_SAMPLES, dtype=torch.bool).index_fill(0, labelled, True)
    assert callback.query(5, candidates, mask).equal(picks)


def test_without_kept_features_they_are_the_largest_scores_of_the_others() -> None:
    callback = trained(keep_features=False)
    others = [index for index in range(NUM_SAMPLES) if index not in LABELLED]
    assert callback.query(5, labelled=LABELLED).equal(callback.query(5, others))


def test_without_labelled_samples_they_are_the_largest_scores() -> None:
    callback, without = trained(), trained(keep_features=False)
    assert callback.query(5).equal(without.query(5))


def test_an_empty_labelled_set_is_covered_from_nothing() -> None:
    assert len(trained().query(5, candidates=range(1, 7), labelled=[])) == 5


def test_labelled_samples_without_features_are_refused() -> None:
    with pytest.raises(ValueError, match="1 of the 3 labelled samples have no features, such as sample 29; return"):
        trained(seen=29).query(5, labelled=LABELLED)


def test_visited_candidates_without_features_are_left_out() -> None:
    callback = trained(with_features=12)
    candidates = range(1, 20)
    assert callback.query(10, candidates, [0]).equal(callback.query(10, [*range(1, 7), *range(8, 12)], [0]))
    with pytest.raises(ValueError, match="asked for 11 samples, but only 10 of the 18 visited candidates have feat"):
        callback.query(11, candidates, [0])


def test_candidates_that_are_labelled_too_are_refused() -> None:
    with pytest.raises(ValueError, match="2 of them are labelled too, such as 0"):
        trained().query(2, candidates=[0, 1, 2, 7], labelled=LABELLED)


def test_more_than_were_visited_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="asked for 8 samples, but training visited only 6 of the 20 candidates"):
        trained(seen=8).query(8, candidates=range(1, 21), labelled=[0])


@pytest.mark.parametrize(
    ("labelled", "error", "message"),
    [
        ([0.5], TypeError, "labelled samples must be pool indices"),
        ([30], IndexError, r"labelled sample 30 lies outside the pool's 0 … 29"),
        ([3, 3], ValueError, "labelled samples must be distinct"),
    ],
)
def test_a_wrong_list_of_labelled_samples_is_refused(labelled: list[int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trained().query(2, labelled=labelled)
