"""Images that come and go between the rounds of a run, while every sample keeps its index."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from assl_lightning.base.words import first_few
from assl_lightning.data.image_stream import take_images
from assl_lightning.data.outputs import is_output_name
from assl_lightning.data.same_names import SameNames
from assl_lightning.data.sample_names import SampleNames
from assl_lightning.data.sources.base import PoolSource

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PoolOnDisk:
    """The samples that a run has written down, and which of their images it needs."""

    names: SampleNames
    size: int  # samples of the round under way, the first of `names.pool`; the others join the next round
    between_rounds: bool  # True while labels are waited for: the round is trained, and the next one has no pool yet
    unused: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # (U,) the round needs no image


def reindex_source(source: PoolSource, known: PoolOnDisk) -> PoolSource:
    """Reorder the source, so that each sample has the index that its run has given it.

    Between two rounds, new images are put behind the others, in the order of their names, and missing images become
    the source's `absent`. Within a round, new images wait for the next one, and a missing image is an error, unless it
    is unused.

    Raises:
        ValueError: the round under way, or the test set, needs an image that is missing.
    """
    source = _with_known_forms(source, known.names)
    source = _reindex_test(source, known.names.test)
    of_round = known.names.pool[: known.size]
    if source.sample_ids == (known.names.pool if known.between_rounds else of_round):
        return source
    index_of = {name: index for index, name in enumerate(source.sample_ids)}
    new = sorted(index_of.keys() - set(of_round))
    if not known.between_rounds:
        unused = {of_round[index] for index in known.unused.tolist()}
        if index_of.keys().isdisjoint(of_round):
            _refuse_outputs(of_round)
            raise ValueError(
                f"the data have none of the run's images, such as {of_round[0]}; give the run's own data, "
                f"or choose another run_dir for others"
            )
        _refuse_missing([name for name in of_round if name not in index_of and name not in unused])
        if new:
            log.warning(
                "images that have come since: %s (%s); they join after the next query", len(new), first_few(new)
            )
        return _keep_missing(source, of_round, index_of)
    names = [*known.names.pool, *(name for name in new if name not in set(known.names.pool))]
    if len(names) > known.size:
        joining = names[known.size :]
        log.info("images that have come since: %s (%s); they join the next round", len(joining), first_few(joining))
    _log_missing([name for name in names if name not in index_of])
    return _keep_missing(source, names, index_of)


def _refuse_missing(missing: Sequence[str]) -> None:
    if missing:
        _refuse_outputs(missing)
        raise ValueError(
            f"the pool lacks {len(missing)} of the images that the round under way has in it, such as {missing[0]}; "
            f"restore them (they may go while a round that was trained waits for labels)"
        )


def _log_missing(missing: Sequence[str]) -> None:
    outputs = [name for name in missing if is_output_name(name)]
    if outputs:
        log.warning(
            "samples that are pictures which a run has written itself: %s (%s); an older version took them for images, "
            "and the next round leaves them out. Some may be copies of test images: where accuracies matter, begin "
            "anew in another run_dir",
            len(outputs),
            first_few(outputs),
        )
    gone = [name for name in missing if not is_output_name(name)]
    if gone:
        log.warning("images that are gone: %s (%s); the next round leaves them out", len(gone), first_few(gone))


def _with_known_forms(source: PoolSource, known: SampleNames) -> PoolSource:
    """Rename images to the run's names where these differ in their Unicode form alone.

    Raises:
        ValueError: images changed sides between pool and test, because the test is drawn by the names.
    """
    pool, renamed_pool = _in_known_form(source.sample_ids, known.pool)
    test, renamed_test = _in_known_form(source.test_ids, known.test)
    changed = [*_changed_sides(pool, known.pool, test, known.test), *_changed_sides(test, known.test, pool, known.pool)]
    if changed:
        raise ValueError(
            f"the names of {len(changed)} images are in another Unicode form (NFC or NFD) than the run has them in, "
            f"such as {min(changed)}, and the test is drawn by the names; rename the files back, as with "
            f"convmv -r -f utf8 -t utf8 --nfc --notest DIRECTORY (or --nfd)"
        )
    renamed = [*renamed_pool, *renamed_test]
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
    """Return the names, each in its known form, and the known forms of those that changed."""
    present, expected = set(names), set(known)
    missing = SameNames(name for name in known if name not in present)
    known_form = {name: same for name in names if name not in expected and (same := missing.find(name)) is not None}
    if len(set(known_form.values())) < len(known_form):  # two files for one name
        return tuple(names), []
    return tuple(known_form.get(name, name) for name in names), list(known_form.values())


def _changed_sides(
    names: Sequence[str], known: Sequence[str], others: Sequence[str], known_others: Sequence[str]
) -> list[str]:
    """Return the names of images that moved here from `others`: new here, missing there in another Unicode form."""
    missing = SameNames(set(known_others) - set(others))
    expected = set(known)
    return [name for name in names if name not in expected and missing.find(name) is not None]


def _reindex_test(source: PoolSource, known: Sequence[str]) -> PoolSource:
    """Keep the test images that the run began with, in their order: all rounds are tested on the same images."""
    if not known or source.test_ids == tuple(known):
        return source
    index_of = {name: index for index, name in enumerate(source.test_ids)}
    missing = [name for name in known if name not in index_of]
    if missing:
        _refuse_outputs(missing)
        raise ValueError(
            f"the test set lacks {len(missing)} of the images that the run began with, such as {missing[0]}; restore "
            f"them, or begin a new run"
        )
    if len(index_of) > len(known):
        log.info("images that have come to the test set since: %s; they are left out of it", len(index_of) - len(known))
    indices = torch.tensor([index_of[name] for name in known], dtype=torch.int64)
    return replace(
        source,
        test_images=take_images(source.test_images, indices),
        test_labels=source.test_labels[indices],
        test_ids=tuple(known),
    )


def _refuse_outputs(missing: Sequence[str]) -> None:
    """Raise where pictures that a run has written are missing: an older version took them for images."""
    outputs = [name for name in missing if is_output_name(name)]
    if outputs:
        raise ValueError(
            f"the run has samples that are pictures which a run has written itself, {len(outputs)} of them, such as "
            f"{outputs[0]}; an older version took them for images: begin anew in another run_dir, and take what people "
            f"have labelled along as data.source.labels"
        )


def _keep_missing(source: PoolSource, names: Sequence[str], index_of: Mapping[str, int]) -> PoolSource:
    """Reorder the source to `names`; a missing image keeps its place, with the pixels of image 0 and the label −1."""
    is_missing = torch.tensor([name not in index_of for name in names])
    indices = torch.tensor([index_of.get(name, 0) for name in names], dtype=torch.int64)
    paths = tuple(source.paths[index] for index in indices.tolist()) if source.paths else ()
    return replace(
        source,
        pool_images=take_images(source.pool_images, indices),
        hidden_labels=torch.where(is_missing, -1, source.hidden_labels[indices]),
        sample_ids=tuple(names),
        unreadable=(~is_missing & torch.isin(indices, source.unreadable)).nonzero()[:, 0],
        reasons=source.reasons_at([index_of[name] for name in names if name in index_of]),
        absent=is_missing.nonzero()[:, 0],
        paths=paths,
    )
