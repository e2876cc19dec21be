"""Problems of a loaded data set: classes without an example, test images in the pool, repeated images.

Pure functions from tensors to findings. Data that cannot be loaded, such as damaged files, images of several sizes and
labels out of range, have been refused by their source before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from scipy.stats import hypergeom
from torch import Tensor

from assl_lightning.base.words import counted, first_few, per_cent
from assl_lightning.check.findings import Finding, remark, wrong
from assl_lightning.data.class_names import oddities
from assl_lightning.data.decoding import count_links
from assl_lightning.data.image_stream import StoredImages, images_in_parts
from assl_lightning.data.sources.base import PoolSource

_LARGEST_LEAK = 0.01  # share of the test set; methods differ by about as much

_EXPECTED_MISSES = 0.5  # classes

_AT_ONCE = 256  # images; a pool in files must not be loaded as a whole


def check_images(source: PoolSource, initial_labels: int, *, may_exclude: bool, hold_out: int = 0) -> list[Finding]:
    """Run all checks of this module.

    Args:
        source: the data set. Of its pool, the images that can be decoded are checked.
        initial_labels: the number of labels that the run begins with.
        may_exclude: images that cannot be decoded are no problem.
        hold_out: if above 0, the test set will be drawn from the pool, and its classes are not known yet.
    """
    readable = torch.ones(len(source.pool_images), dtype=torch.bool)
    readable[torch.cat([source.unreadable, source.absent])] = False
    index = readable.nonzero()[:, 0]
    pool = group_by_content(source.pool_images, index)
    test = group_by_content(source.test_images, torch.arange(len(source.test_images)))
    labels = source.hidden_labels[index]
    counts = labels.bincount(minlength=len(source.class_names)) if bool((labels >= 0).all()) else None
    return [
        *find_unreadable(source, may_exclude=may_exclude),
        *find_passed_over(source),
        *(remark(f"{sentence}.") for sentence in oddities(source.class_names)),
        *find_missing_classes(source, counts, hold_out=hold_out),
        *find_leaks(source, pool, test),
        *find_repeats(source, pool),
        *([] if counts is None else find_expected_misses(counts, initial_labels)),
    ]


def group_by_content(images: StoredImages, index: Tensor) -> dict[bytes, list[int]]:
    """Return digest of the pixels → those of `index` (K,) int64 whose images have these pixels.

    `images` are (N, channels, height, width) uint8. The digest is BLAKE2b with 128 bits; 60,000 images of 3 × 32 × 32
    in memory take about half a second.
    """
    groups: dict[bytes, list[int]] = {}
    for part, found in images_in_parts(images, index, _AT_ONCE):
        for position, pixels in zip(part.tolist(), found.contiguous().numpy(), strict=True):
            groups.setdefault(hashlib.blake2b(pixels, digest_size=16).digest(), []).append(position)
    return groups


def find_unreadable(source: PoolSource, *, may_exclude: bool) -> list[Finding]:
    """Find pool images that cannot be decoded."""
    if not len(source.unreadable):
        return []
    names = first_few([source.sample_ids[index] for index in source.unreadable.tolist()])
    listed = "; --unreadable FILE lists all" if len(source.unreadable) > 3 else ""
    count = f"{len(source.unreadable)} of the pool's {len(source.pool_images):,} images"
    found = f"{count} cannot be decoded ({names}{listed}){count_links(source.reasons)}"
    if may_exclude:
        return [remark(f"{found} and will be left out of the run, since data.unreadable=exclude.")]
    return [wrong(f"{found}; fetch them again, or leave them out of the run with data.unreadable=exclude.")]


def find_passed_over(source: PoolSource) -> list[Finding]:
    """Find files whose names are not those of images; texts, tables and archives are not mentioned."""
    counts = {suffix: count for suffix, count in source.passed_over.items() if suffix not in _NO_IMAGES}
    if not counts:
        return []
    in_words = ", ".join(f"{count} × {suffix}" for suffix, count in sorted(counts.items()))
    total = sum(counts.values())
    is_one = total == 1
    found = "file is passed over, since its name is" if is_one else "files are passed over, since their names are"
    expected = "that of an image" if is_one else "those of images"
    return [
        remark(
            f"{total:,} {found} not {expected}: {in_words}; if some are images, "
            f"save them as JPEG or PNG, with one of the suffixes that docs/your_own_images.md lists."
        )
    ]


_NO_IMAGES = frozenset(
    (
        *(".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".ini", ".db", ".log"),
        *(".parquet", ".sqlite", ".npy", ".npz", ".images", ".ckpt", ".pt", ".py", ".ipynb", ".zip", ".tar", ".gz"),
        ".7z",
    )
)


def find_missing_classes(source: PoolSource, counts: Tensor | None, *, hold_out: int = 0) -> list[Finding]:
    """Find classes without an example in the test set or the pool; `counts` (C,) are the pool's, None if unknown."""
    in_test = None if hold_out else source.test_labels.bincount(minlength=len(source.class_names))
    findings = []
    for part_counts, part, consequence in (
        (counts, "pool", "no label can ever be asked for"),
        (in_test, "test set", "no accuracy can be measured on"),
    ):
        if part_counts is None:
            continue
        names = [source.class_names[number] for number in (part_counts == 0).nonzero()[:, 0].tolist()]
        if names:
            have, them = ("has", "it") if len(names) == 1 else ("have", "them")
            findings.append(
                wrong(
                    f"{len(names)} of the {len(source.class_names)} classes {have} no example in the {part} "
                    f"({first_few(names)}), so {consequence} {them}; add examples, or lower data.num_classes."
                )
            )
    return findings


def find_leaks(
    source: PoolSource, pool: Mapping[bytes, Sequence[int]], test: Mapping[bytes, Sequence[int]]
) -> list[Finding]:
    """Find test images whose pixels are in the pool too; more than 1 % of the test set is a problem."""
    leaked = [(position, pool[digest][0]) for digest, group in test.items() if digest in pool for position in group]
    if not leaked:
        return []
    position, index = min(leaked)
    share = len(leaked) / len(source.test_images)
    found = (
        f"{len(leaked)} of the {len(source.test_images):,} test images ({per_cent(share, digits=2)} %) "
        f"{'is' if len(leaked) == 1 else 'are'} in the pool too, pixel for pixel, such as test image "
        f"{position}, which is {source.sample_ids[index]}"
    )
    if share > _LARGEST_LEAK:
        return [wrong(f"{found}; accuracy would be measured on training images: take them out of one of the two.")]
    return [remark(f"{found}; accuracy can be too high by {per_cent(share, digits=2)} points at most.")]


def find_repeats(source: PoolSource, pool: Mapping[bytes, Sequence[int]]) -> list[Finding]:
    """Find pool images with the same pixels, and differing labels among them."""
    groups = [group for group in pool.values() if len(group) > 1]
    if not groups:
        return []
    labels = source.hidden_labels
    contrary = [group for group in groups if len(set(labels[list(group)].tolist()) - {-1}) > 1]
    first, second, *_ = (contrary or groups)[0]
    repeats = sum(len(group) - 1 for group in groups)
    have = "has" if len(contrary) == 1 else "have"
    disagree = f"; {counted(len(contrary), 'picture')} {have} copies with other labels" if contrary else ""
    return [
        remark(
            f"{repeats:,} of the pool's images {'is a copy' if repeats == 1 else 'are copies'}, pixel for pixel, of "
            f"{'another' if repeats == 1 else 'others'}{disagree}, such as {source.sample_ids[second]}, a copy of "
            f"{source.sample_ids[first]}; people would label the same picture more than once."
        )
    ]


def find_expected_misses(counts: Tensor, initial_labels: int) -> list[Finding]:
    """Report how many classes a uniform draw of the initial labels is expected to miss."""
    if initial_labels > int(counts.sum()):
        return []  # this is reported as another problem
    present = int((counts > 0).sum())
    expected = expected_misses(counts.tolist(), initial_labels)
    if expected < _EXPECTED_MISSES:
        return []
    enough = labels_for(counts.tolist(), _EXPECTED_MISSES)
    return [
        remark(
            f"Of the {present} classes, {expected:.1f} can be expected to have no example among "
            f"{counted(initial_labels, 'initial label')}, drawn uniformly; from initial_labels={enough} on it is less "
            f"than {_EXPECTED_MISSES:g}."
        )
    ]


def expected_misses(counts: Sequence[int], drawn: int) -> float:
    """Return the expected number of classes, of `counts` examples, that `drawn` uniform draws without replacement miss.

    Σ_c C(N − n_c, drawn) / C(N, drawn), the hypergeometric probabilities of drawing none.

    >>> round(expected_misses([2, 2], 1), 6), round(expected_misses([2, 2], 2), 6)
    (1.0, 0.333333)
    """
    present = [count for count in counts if count > 0]
    return float(hypergeom.pmf(0, sum(present), present, drawn).sum())


def labels_for(counts: Sequence[int], misses: float) -> int:
    """Return the fewest labels that are expected to miss fewer than `misses` classes."""
    low, high = 0, sum(counts)  # enough labels are in (low, high]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if expected_misses(counts, middle) < misses else (middle, high)
    return high
