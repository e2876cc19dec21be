"""What one machine holds: `python -m benchmarks.scale [N …]`, by default 10⁶ and 10⁷ samples.

Each part is measured in a process of its own: the growth of its memory, and the seconds of a core that it worked, which
other work on the machine does not change much. Parts are the statistics and a query of them, a whole query of the
loop, the names and paths of images, and the order of a pass. With more than `--all-up-to` samples only the statistics
are measured: N = 10⁸ takes 2.1 GB for them, and more than ten for the other parts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from PIL import Image

from assl_lightning.acquisition import ASSL
from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.data.decoding import ImageFormat, decode, read_all
from assl_lightning.data.folders import Found
from assl_lightning.data.image_table import UNKNOWN, _make_table
from assl_lightning.data.pool import Pool
from assl_lightning.data.remote import RemoteFolder, list_files
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.samplers import PermutedStream
from assl_lightning.learning.trained_model import TrainedModel
from assl_lightning.loop.querying import query
from assl_lightning.method.statistics import SampleStatistics
from assl_lightning.networks.small import SmallCNN
from benchmarks.figures import this_machine
from benchmarks.measuring import in_fresh_process, peak_bytes

_CPU = torch.device("cpu")
_PICKS = 1_000
_IMAGES = 256


def measure_statistics(num_samples: int) -> dict[str, tuple[float, float]]:
    """The table as a training leaves it, and a query of it: Eq. 6 and the top 1,000."""
    _filled(SampleStatistics(2_000)).query(_PICKS)  # what the first call of anything takes
    start = peak_bytes(_CPU)
    table = _filled(SampleStatistics(num_samples))
    made = peak_bytes(_CPU)
    elapsed = _seconds(lambda: table.query(_PICKS))
    queried = peak_bytes(_CPU)
    copied = _seconds(table.state_dict)
    return {
        "statistics: the table": (0.0, made - start),
        "statistics: a query of it": (elapsed, queried - made),
        "statistics: its state for a checkpoint": (copied, peak_bytes(_CPU) - made),
    }


def measure_loop(num_samples: int) -> dict[str, tuple[float, float]]:
    """A pool of the loop, and the whole query of a round with ASSL: candidates, picks, histograms."""
    start = peak_bytes(_CPU)
    pool = Pool(num_samples, 10)
    made = peak_bytes(_CPU)
    pool.label(torch.arange(1_000), torch.arange(1_000) % 10, 0)
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    datamodule = PoolDataModule(
        pool,
        pool_images=image.expand(num_samples, 1, 8, 8),  # one image's memory
        test_images=image,
        test_labels=torch.zeros(1, dtype=torch.int64),
        normalise=Normalise(mean=(0.5,), std=(0.5,)),
        weak=WeakAugment(),
        strong=StrongAugment(),
    )
    trained = TrainedModel(SmallCNN(10, width=4), _filled(SampleStatistics(num_samples)), nullcontext)
    before = peak_bytes(_CPU)
    elapsed = _seconds(lambda: query(ASSL(0.5, 2.0), datamodule, trained, budget=_PICKS, unvisited="exclude"))
    return {
        "loop: a pool that numbers its samples": (0.0, made - start),
        "loop: a query of a round": (elapsed, peak_bytes(_CPU) - before),
    }


def measure_names(num_samples: int) -> dict[str, tuple[float, float]]:
    """The table of images of a folder, and of a store, without the look into it; names of 24 characters."""
    start = peak_bytes(_CPU)
    names = tuple(f"2026/camera_3/{number:06x}.jpg" for number in range(num_samples))
    listed = peak_bytes(_CPU)
    root = Path("/data/photographs")

    def make() -> None:
        files = tuple(root / name for name in names)
        tables.append(_make_table(Found(names, files, {}), [UNKNOWN] * num_samples, ["a", "b"]))

    elapsed = _seconds(make)
    return {
        "images: names": (0.0, listed - start),
        "images: their paths and table": (elapsed, peak_bytes(_CPU) - listed),
    }


def _seconds(call: Callable[[], object]) -> float:
    before = time.process_time()
    call()
    return time.process_time() - before


tables: list[object] = []
"""What is to be kept while memory is measured."""


def measure_order(num_samples: int) -> dict[str, tuple[float, float]]:
    """The indices of the unlabelled samples, and the order of one pass over them."""
    start = peak_bytes(_CPU)
    stream = PermutedStream(torch.arange(num_samples), 0, "unlabelled_permutation", 0)
    elapsed = _seconds(lambda: stream.permutation(0))
    return {"sampler: indices and the order of a pass": (elapsed, peak_bytes(_CPU) - start)}


def measure_store(num_images: int) -> dict[str, tuple[float, float]]:
    """Measure reads of images from a web server on this machine that answers after 20 ms, in seconds by the clock."""

    class Slow(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(0.02)
            super().do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with tempfile.TemporaryDirectory() as directory:
        for number in range(num_images):
            Image.new("RGB", (32, 32), (number % 256, 0, 0)).save(Path(directory) / f"{number:06d}.png")
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=directory))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        files = list_files(RemoteFolder(f"http://127.0.0.1:{server.server_port}"))
        read, form = {}, ImageFormat((32, 32), 3)
        for threads in (1, 8, 32):
            started = time.perf_counter()
            for _ in read_all(files, partial(decode, form=form), form, threads):
                pass
            read[f"store: read and decoded, {threads} at once"] = (time.perf_counter() - started, 0.0)
        server.shutdown()
        server.server_close()
    return read


_MEASURES: dict[str, Callable[[int], dict[str, tuple[float, float]]]] = {
    "statistics": measure_statistics,
    "loop": measure_loop,
    "names": measure_names,
    "order": measure_order,
    "store": measure_store,
}


_OF_A_POOL = ("statistics", "loop", "names", "order")


def as_json(name: str, num_samples: str) -> str:
    """What a fresh process prints."""
    return json.dumps(_MEASURES[name](int(num_samples)))


def _filled(table: SampleStatistics) -> SampleStatistics:
    """Visit every sample, a part at a time, which leaves no trace in the peak."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, table.num_samples, 2**16):
        index = torch.arange(start, min(start + 2**16, table.num_samples))
        uncertainty, inconsistency = torch.rand(2, len(index), generator=generator)
        table.update(index, uncertainty, inconsistency, assume_unique=True)
    return table


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=lambda text: int(float(text)), metavar="N", default=[10**6, 10**7])
    parser.add_argument("--all-up-to", type=lambda text: int(float(text)), default=10**7, metavar="N")
    given = parser.parse_args(arguments)
    machine = this_machine(_CPU)
    print(f"{machine.processor}, {machine.cores} cores, {machine.threads} threads, torch {machine.packages['torch']}\n")
    print("| what | N | seconds of a core | memory, MB | bytes a sample |", "|---|--:|--:|--:|--:|", sep="\n")
    code = "import sys; from benchmarks.scale import as_json; print(as_json(*sys.argv[1:]))"
    parts = [(number, name) for number in given.sizes for name in _parts(number, given.all_up_to)]
    for number, name in [*parts, (_IMAGES, "store")]:
        for what, (elapsed, grown) in json.loads(in_fresh_process(code, name, str(number))).items():
            took = f"{elapsed:.2f}" if elapsed else "–"
            print(f"| {what} | {number:,} | {took} | {grown / 1e6:,.0f} | {grown / number:,.0f} |", flush=True)


def _parts(num_samples: int, all_up_to: int) -> tuple[str, ...]:
    return _OF_A_POOL if num_samples <= all_up_to else _OF_A_POOL[:1]


if __name__ == "__main__":
    main()
