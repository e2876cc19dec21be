"""Whatever comes and goes, an index stays with its image."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assl_lightning.data.growth import PoolOnDisk, reindex_source
from assl_lightning.data.sample_names import SampleNames, read_samples, write_samples
from assl_lightning.data.sources.base import PoolSource


def source_of(*names: str, test: tuple[str, ...] = ("t",), unreadable: tuple[str, ...] = ()) -> PoolSource:
    """An image's grey level and label follow from its name, so that a mix-up shows."""
    level = {name: sum(map(ord, name)) % 251 for name in (*names, *test)}
    images = {part: torch.tensor([level[name] for name in part], dtype=torch.uint8) for part in (names, test)}
    return PoolSource(
        pool_images=images[names].view(-1, 1, 1, 1).expand(-1, 1, 2, 2),
        hidden_labels=images[names].long() % 3,
        test_images=images[test].view(-1, 1, 1, 1).expand(-1, 1, 2, 2),
        test_labels=images[test].long() % 3,
        class_names=("a", "b", "c"),
        sample_ids=names,
        test_ids=test,
        unreadable=torch.tensor([number for number, name in enumerate(names) if name in unreadable], dtype=torch.int64),
        paths=tuple(Path(name) for name in names),
    )


def check(source: PoolSource, names: tuple[str, ...], absent: tuple[str, ...] = ()) -> None:
    assert source.sample_ids == names
    assert tuple(names[index] for index in source.absent.tolist()) == absent
    for index, name in enumerate(names):
        if name not in absent:
            assert source.pool_images[torch.tensor([index])].unique().tolist() == [sum(map(ord, name)) % 251]
            assert source.hidden_labels[index] == sum(map(ord, name)) % 251 % 3
            assert source.paths[index] == Path(name)
        else:
            assert source.hidden_labels[index] == -1


KNOWN = SampleNames(("c", "a", "d"), ("t",))


def test_what_came_is_put_behind_the_others_in_the_order_of_the_names() -> None:
    check(reindex_source(source_of("a", "b", "c", "d", "e"), PoolOnDisk(KNOWN, 3, True)), ("c", "a", "d", "b", "e"))


def test_what_is_gone_keeps_its_place(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        check(reindex_source(source_of("a", "b", "c"), PoolOnDisk(KNOWN, 3, True)), ("c", "a", "d", "b"), absent=("d",))
    assert "images that have come since: 1 (b); they join the next round" in caplog.text
    assert "images that are gone: 1 (d); the next round leaves them out" in caplog.text


def test_in_a_round_what_came_waits_and_what_is_gone_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    check(reindex_source(source_of("a", "b", "c", "d"), PoolOnDisk(KNOWN, 3, False)), ("c", "a", "d"))
    assert "images that have come since: 1 (b); they join after the next query" in caplog.text
    with pytest.raises(
        ValueError, match="the pool lacks 1 of the images that the round under way has in it, such as d"
    ):
        reindex_source(source_of("a", "b", "c"), PoolOnDisk(KNOWN, 3, False))


def test_other_data_in_a_round_are_refused_as_such() -> None:
    with pytest.raises(ValueError, match="the data have none of the run's images, such as c; give the run's own data"):
        reindex_source(source_of("x", "y", "z"), PoolOnDisk(KNOWN, 3, False))


PICTURE = "runs/a/seed_0/round_00/to_label/images/0000.png"


def test_pictures_of_a_run_that_an_older_version_took_for_images_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    known = SampleNames(("c", PICTURE, "a", "d"), ("t",))
    check(reindex_source(source_of("a", "c"), PoolOnDisk(known, 4, True)), known.pool, absent=(PICTURE, "d"))
    assert f"samples that are pictures which a run has written itself: 1 ({PICTURE})" in caplog.text
    assert "images that are gone: 1 (d)" in caplog.text


def test_a_round_and_a_test_set_that_have_pictures_of_a_run_in_them_cannot_go_on() -> None:
    message = f"pictures which a run has written itself, 1 of them, such as {PICTURE}; an older version took"
    with pytest.raises(ValueError, match=message):
        reindex_source(source_of("a", "c"), PoolOnDisk(SampleNames(("c", PICTURE, "a"), ("t",)), 3, False))
    with pytest.raises(ValueError, match=message):
        reindex_source(source_of("a", "c"), PoolOnDisk(SampleNames(("c", "a"), ("t", PICTURE)), 2, True))


COMPOSED, DECOMPOSED = "\u00e9", "e\u0301"


def test_images_whose_names_change_their_unicode_form_are_the_same_images(caplog: pytest.LogCaptureFixture) -> None:
    known = SampleNames(("c", f"{COMPOSED}1", f"{COMPOSED}2"), (f"t{COMPOSED}",))
    source = source_of(f"{DECOMPOSED}1", f"{DECOMPOSED}2", "c", f"{DECOMPOSED}3", test=(f"t{DECOMPOSED}",))
    with caplog.at_level(logging.INFO):
        aligned = reindex_source(source, PoolOnDisk(known, 3, True))
    assert aligned.sample_ids == (*known.pool, f"{DECOMPOSED}3")
    assert aligned.test_ids == known.test
    assert aligned.absent.tolist() == []
    assert aligned.paths == (Path("c"), *(Path(f"{DECOMPOSED}{number}") for number in (1, 2, 3)))
    assert f"(NFC or NFD): 3 (t{COMPOSED}, {COMPOSED}1, {COMPOSED}2); they are taken for the same images" in caplog.text
    assert reindex_source(source, PoolOnDisk(known, 3, False)).sample_ids == known.pool


def test_two_files_in_both_unicode_forms_are_two_images() -> None:
    known = SampleNames((COMPOSED, "c"))
    assert reindex_source(source_of(COMPOSED, DECOMPOSED, "c"), PoolOnDisk(known, 2, True)).sample_ids == (
        COMPOSED,
        "c",
        DECOMPOSED,
    )


def test_pool_and_test_may_have_the_same_names() -> None:
    known = SampleNames((f"{COMPOSED}1", "c"), (f"{COMPOSED}1", f"{COMPOSED}2"))
    source = source_of("c", f"{DECOMPOSED}1", f"{DECOMPOSED}2", test=(f"{DECOMPOSED}1", f"{DECOMPOSED}2"))
    aligned = reindex_source(source, PoolOnDisk(known, 2, True))
    assert (aligned.sample_ids, aligned.test_ids) == ((*known.pool, f"{DECOMPOSED}2"), known.test)


def test_an_image_that_changes_sides_with_its_unicode_form_is_an_error_that_says_how_to_go_back() -> None:
    known = SampleNames((f"{COMPOSED}1", "c"), (f"{COMPOSED}2",))
    source = source_of("c", f"{DECOMPOSED}2", test=(f"{DECOMPOSED}1",))
    with pytest.raises(ValueError, match=r"2 images are in another Unicode form .* the test is drawn .* convmv -r"):
        reindex_source(source, PoolOnDisk(known, 2, True))


def test_names_that_were_written_down_and_not_used_yet_keep_their_places_too() -> None:
    known = SampleNames(("c", "a", "d", "z", "b"))
    check(
        reindex_source(source_of("a", "b", "c", "d", "e", "z"), PoolOnDisk(known, 3, True)),
        ("c", "a", "d", "z", "b", "e"),
    )
    check(reindex_source(source_of("a", "b", "c", "d", "e", "z"), PoolOnDisk(known, 3, False)), ("c", "a", "d"))


def test_what_cannot_be_decoded_stays_so_wherever_it_is() -> None:
    source = replace(source_of("a", "b", "c", "d", unreadable=("a", "d", "b")), reasons=("a (x)", "b (y)", "d (z)"))
    aligned = reindex_source(source, PoolOnDisk(SampleNames(("d", "gone", "b", "a")), 4, True))
    assert [aligned.sample_ids[index] for index in aligned.unreadable.tolist()] == ["d", "b", "a"]
    assert aligned.reasons == ("d (z)", "b (y)", "a (x)")


def test_the_test_set_stays_what_it_was() -> None:
    known = SampleNames(("a",), ("u", "t"))
    aligned = reindex_source(source_of("a", test=("s", "t", "u")), PoolOnDisk(known, 1, True))
    assert aligned.test_ids == ("u", "t")
    assert aligned.test_images[torch.arange(2)][:, 0, 0, 0].tolist() == [ord("u"), ord("t")]
    assert aligned.test_labels.tolist() == [ord("u") % 3, ord("t") % 3]
    with pytest.raises(ValueError, match="the test set lacks 1 of the images that the run began with, such as u"):
        reindex_source(source_of("a", test=("t",)), PoolOnDisk(known, 1, True))


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.booleans()), min_size=1), st.randoms())
def test_no_index_ever_changes_its_image(days: list[tuple[set[str], bool]], order: random.Random) -> None:
    """Images come and go in any way, and on some days a round begins with what is there."""
    known: SampleNames | None = None
    size = 0
    for present, begins_round in days:
        names = sorted(present)
        order.shuffle(names)
        if known is None:
            known, size = SampleNames(tuple(names), ("t",)), len(names)
        aligned = reindex_source(source_of(*names), PoolOnDisk(known, size, True))
        assert aligned.sample_ids[: len(known.pool)] == known.pool
        assert set(aligned.sample_ids) == set(known.pool) | present
        check(aligned, aligned.sample_ids, tuple(name for name in aligned.sample_ids if name not in present))
        known = SampleNames(aligned.sample_ids, ("t",))
        size = len(known.pool) if begins_round else size


def test_names_are_read_as_they_were_written(tmp_path: Path) -> None:
    names = SampleNames(("a,b", 'quo"te', "line\nbreak", "carriage\rreturn", "ü", " space ", "=1+1"), ("t", "\u2028"))
    assert read_samples(tmp_path) == SampleNames()
    write_samples(tmp_path, names)
    assert read_samples(tmp_path) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "cannot be read"),
        (b"", None),
        (b"sample_id\na\n", "row 1 must be split,sample_id"),
        (b"split,sample_id\npool\n", "row 2 must be pool or test, a comma and a sample's name; got 'pool'"),
        (b"split,sample_id\ntrain,a\n", "row 2 must be pool or test"),
        (b"split,sample_id\npool,a\npool,a\n", "must name each sample once"),
    ],
)
def test_a_damaged_list_is_named(tmp_path: Path, content: bytes, message: Any) -> None:
    (tmp_path / "samples.csv").write_bytes(content)
    if message is None:
        assert read_samples(tmp_path) == SampleNames()
        return
    with pytest.raises(ValueError, match=message) as caught:
        read_samples(tmp_path)
    assert str(tmp_path / "samples.csv") in str(caught.value)
