"""A pool whose images come and go between the rounds of a run, while every index stays what it was."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from assl_lightning.base.words import first_few
from assl_lightning.data.image_stream import take_images
from assl_lightning.data.outputs import is_output_name
from assl_lightning.data.same_names import SameNames
from assl_lightning.data.sample_names import SampleNames
from assl_lightning.data.sources.base import PoolSource

log = logging.getLogger(__name__)


def align(
    source: PoolSource, known: SampleNames, size: int, may_change: bool, unused: Sequence[int] = ()
) -> PoolSource:
    """The source with its images at the indices that a run has given them.

    Args:
        source: as the data are now.
        known: what the run has written down.
        size: images of the pool in the round that is under way, the first of `known`.
        may_change: the run stands between two rounds, so that images that came since are put behind the others, in the
            order of their names, and those that are gone are the source's `absent`. Otherwise what came waits
            for the next round, which is told, and what is gone is an error.
        unused: indices whose images the round that is under way does without, so that they may be gone at any time.

    Raises:
        ValueError: an image is gone that the round that is under way, or the test set, needs.
    """
    source = _with_known_forms(source, known)
    source = _align_test(source, known.test)
    if source.sample_ids == (known.pool if may_change else known.pool[:size]):
        return source
    place = {name: number for number, name in enumerate(source.sample_ids)}
    new = sorted(place.keys() - set(known.pool[:size]))
    if not may_change:
        unneeded = {known.pool[index] for index in unused}
        gone = [name for name in known.pool[:size] if name not in place and name not in unneeded]
        if gone:
            _refuse_outputs(gone)
            raise ValueError(
                f"the pool lacks {len(gone)} of the images that the round under way has in it, such as {gone[0]}; "
                f"restore them (they may go while a round that was trained waits for labels)"
            )
        if new:
            log.warning(
                "images that have come since: %s (%s); they join after the next query", len(new), first_few(new)
            )
        return _with_gaps(source, known.pool[:size], place)
    names = [*known.pool, *(name for name in new if name not in set(known.pool))]
    gone = [name for name in names if name not in place]
    outputs = [name for name in gone if is_output_name(name)]
    if outputs:
        log.warning(
            "samples that are pictures which a run has written itself: %s (%s); an older version took them for images, "
            "and the next round leaves them out. Some may be copies of test images: where accuracies matter, begin "
            "anew in another run_dir",
            len(outputs),
            first_few(outputs),
        )
        gone = [name for name in gone if not is_output_name(name)]
    if len(names) > size:
        log.info(
            "images that have come since: %s (%s); they join the next round", len(names) - size, first_few(names[size:])
        )
    if gone:
        log.warning("images that are gone: %s (%s); the next round leaves them out", len(gone), first_few(gone))
    return _with_gaps(source, names, place)


def _with_known_forms(source: PoolSource, known: SampleNames) -> PoolSource:
    """The source with the names that the run has for its images, where its own are in another Unicode form.

    Raises:
        ValueError: images have changed between pool and test, which were drawn by the names.
    """
    pool, of_pool = _in_known_form(source.sample_ids, known.pool)
    test, of_test = _in_known_form(source.test_ids, known.test)
    parted = [*_changed_sides(pool, known.pool, test, known.test), *_changed_sides(test, known.test, pool, known.pool)]
    if parted:
        raise ValueError(
            f"the names of {len(parted)} images are in another Unicode form (NFC or NFD) than the run has them in, "
            f"such as {min(parted)}, and the test is drawn by the names; rename the files back, as with "
            f"convmv -r -f utf8 -t utf8 --nfc --notest DIRECTORY (or --nfd)"
        )
    renamed = [*of_pool, *of_test]
    if not renamed:
        return source
    log.info(
        "images whose names are in another Unicode form than the run has them in (NFC or NFD): %s (%s); they are taken "
        "for the same images, and keep the names that the run has",
        len(renamed),
        first_few(sorted(renamed)),
    )
    return replace(source, sample_ids=pool, test_ids=test)


def _in_known_form(names: Sequence[str], known: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The names, each as it is `known`, and those of them that it changed."""
    there = set(names)
    gone = SameNames(name for name in known if name not in there)
    others = set(known)
    found = {name: same for name in names if name not in others and (same := gone.find(name)) is not None}
    if len(set(found.values())) < len(found):  # two files for one name
        return tuple(names), []
    return tuple(found.get(name, name) for name in names), list(found.values())


def _changed_sides(
    names: Sequence[str], known: Sequence[str], others: Sequence[str], known_others: Sequence[str]
) -> list[str]:
    """The names of images that went from `others` to here: new here, and missing there in another Unicode form."""
    missing = SameNames(set(known_others) - set(others))
    here = set(known)
    return [name for name in names if name not in here and missing.find(name) is not None]


def _align_test(source: PoolSource, known: Sequence[str]) -> PoolSource:
    """The test images that the run began with, so that the rounds' accuracies are of the same images."""
    if not known or source.test_ids == tuple(known):
        return source
    place = {name: number for number, name in enumerate(source.test_ids)}
    gone = [name for name in known if name not in place]
    if gone:
        _refuse_outputs(gone)
        raise ValueError(
            f"the test set lacks {len(gone)} of the images that the run began with, such as {gone[0]}; restore them, "
            f"or begin a new run"
        )
    if len(place) > len(known):
        log.info("images that have come to the test set since: %s; they are left out of it", len(place) - len(known))
    places = _places(place, known)
    return replace(
        source,
        test_images=take_images(source.test_images, places),
        test_labels=source.test_labels[places],
        test_ids=tuple(known),
    )


def _refuse_outputs(gone: Sequence[str]) -> None:
    """Refuse to go on without pictures of a run, which an older version took for images and this one passes over.

    Raises:
        ValueError: there is one, and the round that is under way, or the test, cannot do without it.
    """
    outputs = [name for name in gone if is_output_name(name)]
    if outputs:
        raise ValueError(
            f"the run has samples that are pictures which a run has written itself, {len(outputs)} of them, such as "
            f"{outputs[0]}; an older version took them for images: begin anew in another run_dir, and take what people "
            f"have labelled along as data.source.labels"
        )


def _with_gaps(source: PoolSource, names: Sequence[str], place: dict[str, int]) -> PoolSource:
    """The source in the order of `names`; any image stands for one that is gone."""
    is_gone = torch.tensor([name not in place for name in names])
    places = torch.tensor([place.get(name, 0) for name in names], dtype=torch.int64)
    paths = tuple(source.paths[number] for number in places.tolist()) if source.paths else ()
    return replace(
        source,
        pool_images=take_images(source.pool_images, places),
        hidden_labels=torch.where(is_gone, -1, source.hidden_labels[places]),
        sample_ids=tuple(names),
        unreadable=(~is_gone & torch.isin(places, source.unreadable)).nonzero()[:, 0],
        reasons=source.reasons_at([place[name] for name in names if name in place]),
        absent=is_gone.nonzero()[:, 0],
        paths=paths,
    )


def _places(place: dict[str, int], names: Sequence[str]) -> Tensor:
    return torch.tensor([place[name] for name in names], dtype=torch.int64)
