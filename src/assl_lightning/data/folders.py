"""Find the image files below a directory; other files and directories are ignored and counted in a message."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from assl_lightning.base.problems import refuse
from assl_lightning.base.suggestions import Suggestions, nearest_path
from assl_lightning.base.tables import is_utf8
from assl_lightning.base.words import first_few
from assl_lightning.data.file_reading import ImageFile
from assl_lightning.data.outputs import output_above, written_by
from assl_lightning.data.remote import RemoteFolder, list_files
from assl_lightning.data.same_names import SameNames

log = logging.getLogger(__name__)

Folder = Path | RemoteFolder
"""Where a folder of images is."""

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif"),
        *(".tif", ".tiff", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".icb", ".vda", ".vst"),
        *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".pcx", ".qoi", ".sgi"),
    )
)
"""Suffixes of image files, in lower case: formats of photographs that Pillow reads."""

_CANNOT_BE_READ = frozenset(
    (
        *(".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".raw"),
        *(".psd", ".svg", ".pdf", ".eps", ".ai", ".exr", ".hdr", ".dcm", ".nii", ".mp4", ".mov", ".avi"),
    )
)
"""Suffixes of images and films that cannot be read, for which an error advises to convert them."""


@dataclass(frozen=True)
class Found:
    """The images below a directory, and the other files there."""

    images: tuple[str, ...]  # N paths from the directory, with slashes, sorted: the order on the disk does not matter
    files: tuple[ImageFile, ...]  # the N files
    passed_over: Mapping[str, int]  # suffix in lower case, or "no suffix" → number of other files


def find_images(root: Folder) -> Found:
    """Return the images, by their `SUFFIXES`, and the other files below `root`, a directory or a folder of a store.

    Names that begin with a dot are ignored, and so are directories whose pictures are no data (`outputs`). These
    directories and the other files are counted in a message.

    Raises:
        OSError: `root` is no directory.
        ValueError: there is no image, a name that cannot be written as UTF-8, or `root` lies in a run's own directory.
    """
    passed_over: dict[str, list[str]] = {}
    places = _places_in_store(root) if isinstance(root, RemoteFolder) else _places_on_disk(root, passed_over)
    images = sorted(name for name in places if Path(name).suffix.lower() in SUFFIXES)
    refuse(f"{root} must have names that UTF-8 can write", [f"{name!a}" for name in images if not is_utf8(name)])
    others = Counter(Path(name).suffix.lower() or "no suffix" for name in places) - Counter(
        Path(name).suffix.lower() for name in images
    )
    in_words = ", ".join(f"{count} × {suffix}" for suffix, count in sorted(others.items()))
    without = _describe(passed_over)
    if not images:
        raise ValueError(
            f"{root} must have image files in it ({', '.join(sorted(SUFFIXES))}); it has {in_words or 'no file at all'}"
            f"{', and directories that are no data: ' if without else ''}{without}{_advice(others)}"
        )
    if without:
        log.info("%s: directories that are no data are passed over: %s", root, without)
    if others:
        log.info("%s: files that are no images by their names are passed over: %s", root, in_words)
    return Found(tuple(images), tuple(places[name] for name in images), dict(sorted(others.items())))


def _places_in_store(root: RemoteFolder) -> dict[str, ImageFile]:
    return {file.name: file for file in list_files(root)}


def _places_on_disk(root: Path, passed_over: dict[str, list[str]]) -> dict[str, ImageFile]:
    if root.is_file():
        raise NotADirectoryError(
            f"{root} must be a directory of images, and is a file; name the directory that it is in"
        )
    if not root.is_dir():
        raise FileNotFoundError(f"{root} must be a directory of images; there is no such directory{nearest_path(root)}")
    output = output_above(root)
    if output is not None:
        raise ValueError(
            f"{root} must be a directory of images of your own; {output} was written by a run, whose pictures are "
            f"copies: name the directory that the images came from"
        )
    names = _walk(root, passed_over)
    return {name: root / name for name in names if not name.rpartition("/")[2].startswith(".")}


def _advice(passed_over: Mapping[str, int]) -> str:
    kinds = sorted(_CANNOT_BE_READ & passed_over.keys())
    return f"; save {', '.join(kinds)} as JPEG or PNG first" if kinds else ""


class ImageFiles:
    """Find files below `root` by the paths in a table, in any Unicode form of their names."""

    most_names = 100_000
    """Largest number of files among which a name like a missing one is looked for."""

    most_hints = 20
    """Largest number of hints: a table may be wrong in every line, and a message names only the first lines."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[Path, SameNames] = {}  # directory → names in it
        self._paths: dict[str, Path] = {}  # path in the table → path on the disk
        self._hints = 0

    def path(self, text: str) -> Path:
        """Return the path of the file `text`, below `root` or absolute; unchanged where there is no such file."""
        if text not in self._paths:
            self._paths[text] = self._find(self.root / text)
        return self._paths[text]

    def hint(self, text: str) -> str:
        """Return a hint at a file below `root` that `text` may stand for, or ""."""
        self._hints += 1
        return self._suggestions.hint(text) if self._hints <= self.most_hints else ""

    def _find(self, path: Path) -> Path:
        if path.exists():
            return path
        found = Path(path.anchor)
        for part in path.parts[len(found.parts) :]:
            if not found.is_dir() and str(found) != ".":
                return path
            same = None if (found / part).exists() else self._in(found).find(part)
            found = found / (same or part)
        return found if found.exists() else path

    @cached_property
    def _suggestions(self) -> Suggestions:
        try:
            return Suggestions(islice(_walk(self.root, {}), self.most_names))
        except (OSError, ValueError):
            return Suggestions(())

    def _in(self, directory: Path) -> SameNames:
        if directory not in self._listed:
            try:
                names = [path.name for path in directory.iterdir()]
            except OSError:
                names = []
            self._listed[directory] = SameNames(names)
        return self._listed[directory]


def _describe(passed_over: Mapping[str, Sequence[str]]) -> str:
    """Return the number of directories of each kind, with the first names."""
    parts = []
    for kind, names in sorted(passed_over.items()):
        parts.append(f"{len(names)} {kind} ({first_few(sorted(names))})")
    return "; ".join(parts)


def _walk(root: Path, passed_over: dict[str, list[str]]) -> Iterator[str]:
    """Yield the files' paths from `root`; directories that are no data are put into `passed_over`, by their kind."""
    above: dict[str, frozenset[str]] = {}  # directory → real paths of all directories above it
    for directory, subdirectories, files in os.walk(root, followlinks=True, onerror=_raise):
        kind = _kind_of(Path(directory)) if directory != str(root) else ""
        if kind:
            passed_over.setdefault(kind, []).append(Path(directory).relative_to(root).as_posix())
            subdirectories.clear()
            continue
        real_paths = above.pop(directory, frozenset()) | {os.path.realpath(directory)}
        subdirectories[:] = [name for name in subdirectories if not name.startswith(".")]
        for name in subdirectories:
            below = os.path.join(directory, name)  # noqa: PTH118  # as os.walk joins them
            if os.path.realpath(below) in real_paths:
                raise ValueError(f"{below} is a link that leads back to a directory above it; remove the link")
            above[below] = real_paths
        yield from (Path(directory, name).relative_to(root).as_posix() for name in files)


def _kind_of(directory: Path) -> str:
    is_linked_output = directory.is_symlink() and output_above(directory) is not None
    return "of runs" if is_linked_output else written_by(directory)


def _raise(error: OSError) -> None:
    raise error
