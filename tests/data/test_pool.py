from __future__ import annotations

import pytest
import torch

from assl_lightning.data.pool import EXCLUDED, UNLABELLED, Pool


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def test_a_new_pool_knows_no_label() -> None:
    pool = Pool(4, 3)
    assert pool.labelled.tolist() == []
    assert pool.unlabelled.tolist() == [0, 1, 2, 3]
    assert pool.labels.tolist() == [-1] * 4
    assert pool.sample_ids == ("0", "1", "2", "3")


def test_labelled_unlabelled_and_excluded_part_the_pool() -> None:
    pool = Pool(5, 3, ["a", "b", "c", "d", "e"])
    pool.label(ints(3, 1), ints(2, 0), 0)
    pool.exclude(ints(4))
    pool.label(ints(0), ints(1), 1)
    assert pool.labelled.tolist() == [0, 1, 3]
    assert pool.unlabelled.tolist() == [2]
    assert pool.labelled_in_round.tolist() == [1, 0, UNLABELLED, 0, EXCLUDED]
    assert pool.labels.tolist() == [1, 0, -1, 2, -1]


def test_labelling_an_index_twice_names_it() -> None:
    pool = Pool(5, 3, ["a", "b", "c", "d", "e"])
    pool.label(ints(3), ints(2), 0)
    with pytest.raises(ValueError, match=r"sample 3 \(d\) is labelled since round 0; it cannot be labelled again"):
        pool.label(ints(1, 3), ints(0, 0), 1)
    with pytest.raises(ValueError, match="sample 2 was named twice in one request"):
        pool.label(ints(2, 1, 2), ints(0, 0, 0), 1)
    pool.exclude(ints(4))
    with pytest.raises(ValueError, match=r"sample 4 \(e\) is excluded"):
        pool.label(ints(4), ints(0), 1)
    assert pool.labelled.tolist() == [3]


def test_a_wrong_label_or_index_changes_nothing() -> None:
    pool = Pool(5, 3)
    with pytest.raises(ValueError, match="sample 2 was given the label 3; labels are 0 … 2"):
        pool.label(ints(1, 2), ints(0, 3), 0)
    with pytest.raises(IndexError, match="sample 5 lies outside the pool's 0 … 4"):
        pool.label(ints(1, 5), ints(0, 0), 0)
    with pytest.raises(IndexError, match="sample -1"):
        pool.label(ints(-1), ints(0), 0)
    with pytest.raises(ValueError, match="2 samples need 2 labels"):
        pool.label(ints(1, 2), ints(0), 0)
    with pytest.raises(ValueError, match="index must be int64"):
        pool.label(torch.tensor([True, False, False, False, False]), ints(0), 0)
    with pytest.raises(ValueError, match="labelled for a round ≥ 0; got -1"):
        pool.label(ints(1), ints(0), -1)
    assert pool.labelled.tolist() == []


def test_names_must_be_distinct_and_enough() -> None:
    with pytest.raises(ValueError, match="3 distinct names, one for each sample; got 3, 2 of them distinct"):
        Pool(3, 2, ["a", "a", "b"])
    with pytest.raises(ValueError, match="at least one sample and one class"):
        Pool(0, 2)


def test_a_state_is_of_the_names_that_it_was_saved_for() -> None:
    pool = Pool(3, 2, ["a", "b", "c"])
    pool.label(ints(1), ints(1), 0)
    state = pool.state_dict()
    Pool(3, 2, ["a", "b", "c"]).load_state_dict(state)
    for names in (["a", "c", "b"], ["a", "b", "d"], ["a", "bc", ""]):
        other = Pool(3, 2, names)
        with pytest.raises(ValueError, match="of 3 samples with other names than this pool's, or in another order"):
            other.load_state_dict(state)
        assert other.labelled.tolist() == []
    before_there_were_digests = {name: state[name] for name in ("labelled_in_round", "labels")}
    other.load_state_dict(before_there_were_digests)
    assert other.labelled.tolist() == [1]


def test_a_state_comes_back_and_another_pools_state_is_refused() -> None:
    pool, again = Pool(4, 3), Pool(4, 3)
    pool.label(ints(2), ints(1), 0)
    state = pool.state_dict()
    again.load_state_dict(state)
    pool.label(ints(0), ints(1), 1)
    assert again.labelled.tolist() == [2]
    assert state["labels"].tolist() == [-1, -1, 1, -1]
    with pytest.raises(ValueError, match=r"this pool has 5 samples, but the saved labelled_in_round has shape \(4,\)"):
        Pool(5, 3).load_state_dict(state)


def test_what_is_held_out_is_for_the_test_alone() -> None:
    pool = Pool(5, 3, ["a", "b", "c", "d", "e"])
    pool.hold_out(ints(1, 4))
    assert pool.unlabelled.tolist() == [0, 2, 3]
    assert pool.held_out.tolist() == []  # nobody knows their labels yet
    with pytest.raises(ValueError, match=r"sample 4 \(e\) is held out for the test; it cannot be labelled again"):
        pool.label(ints(4), ints(0), 0)
    pool.settle(ints(1, 4, 0), ints(2, -1, 1), 0)
    assert (pool.held_out.tolist(), pool.labelled.tolist()) == ([1], [0])
    assert pool.labels.tolist() == [1, 2, -1, -1, -1]


def test_settling_takes_over_what_holds_now() -> None:
    pool = Pool(7, 3)
    pool.label(ints(0, 1, 2, 3), ints(0, 0, 0, 0), 1)
    pool.exclude(ints(5))
    #           as before  corrected  taken back  bad  answered late  not bad after all
    pool.settle(ints(0, 1, 2, 3, 4, 5), ints(0, 2, -1, -2, 1, 2), 3)
    assert pool.labelled_in_round.tolist() == [1, 1, UNLABELLED, EXCLUDED, 3, 3, UNLABELLED]
    assert pool.labels.tolist() == [0, 2, -1, -1, 1, 2, -1]
    before = pool.state_dict()
    for index, label, message in (
        (ints(0, 0), ints(1, 1), "named twice"),
        (ints(0), ints(3), "given the label 3"),
        (ints(0), ints(-3), "given the label -3"),
        (ints(7), ints(0), "lies outside"),
    ):
        with pytest.raises((ValueError, IndexError), match=message):
            pool.settle(index, label, 3)
    for name, value in pool.state_dict().items():
        assert torch.equal(value, before[name])


def test_settling_twice_is_settling_once() -> None:
    pool, again = Pool(4, 3), Pool(4, 3)
    for one, times in ((pool, 1), (again, 2)):
        one.label(ints(0, 1), ints(0, 1), 0)
        for _ in range(times):
            one.settle(ints(0, 1, 2), ints(2, -1, 1), 1)
    assert torch.equal(pool.labelled_in_round, again.labelled_in_round)
    assert torch.equal(pool.labels, again.labels)


def test_withdrawing_takes_labelled_samples_out_too() -> None:
    pool = Pool(4, 3)
    pool.label(ints(0, 1), ints(2, 1), 0)
    pool.withdraw(ints(1, 3))
    assert (pool.labelled.tolist(), pool.unlabelled.tolist(), pool.excluded.tolist()) == ([0], [2], [1, 3])
    assert pool.labels.tolist() == [2, -1, -1, -1]


def test_a_pool_that_has_grown_keeps_what_was_known_of_the_first() -> None:
    pool = Pool(3, 2, ["c", "a", "b"])
    pool.label(ints(1), ints(1), 0)
    pool.note_asked(ints(1, 2), 0)
    state = pool.state_dict()
    grown = Pool(5, 2, ["c", "a", "b", "0", "d"])
    with pytest.raises(ValueError, match=r"this pool has 5 samples, but the saved labelled_in_round has shape \(3,\)"):
        grown.load_state_dict(state)
    grown.load_state_dict(state, joining=3)
    assert grown.labelled_in_round.tolist() == [UNLABELLED, 0, UNLABELLED, UNLABELLED, UNLABELLED]
    assert grown.labels.tolist() == [-1, 1, -1, -1, -1]
    assert grown.asked_in_round.tolist() == [-1, 0, 0, -1, -1]
    known = Pool(5, 2, ["c", "a", "b", "0", "d"])
    known.label(torch.tensor([0, 4]), torch.tensor([1, 1]), 0)
    known.load_state_dict(state, joining=3)
    assert known.labelled_in_round.tolist() == [UNLABELLED, 0, UNLABELLED, UNLABELLED, 3]
    assert known.labels.tolist() == [-1, 1, -1, -1, 1]
    for names, message in (
        (["c", "b", "a", "0"], "of 3 samples with other names"),
        (["c", "a"], "this pool has 2 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            Pool(len(names), 2, names).load_state_dict(state, joining=3)
    uneven = state | {"labels": grown.labels}
    with pytest.raises(ValueError, match=r"has 3 samples, but the saved labels has shape \(5,\)"):
        Pool(5, 2, ["c", "a", "b", "0", "d"]).load_state_dict(uneven, joining=3)


def test_a_state_with_a_label_that_cannot_be_is_refused() -> None:
    pool = Pool(3, 2)
    for since, label, is_right in ((-3, 1, True), (-3, -1, True), (-3, 2, False), (-4, -1, False), (-2, 0, False)):
        state = pool.state_dict()
        state["labelled_in_round"][1], state["labels"][1] = since, label
        if is_right:
            Pool(3, 2).load_state_dict(state)
            continue
        with pytest.raises(ValueError, match=f"sample 1 is saved as labelled in round {since} with the label {label}"):
            Pool(3, 2).load_state_dict(state)
