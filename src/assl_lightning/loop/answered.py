"""The samples of earlier queries that were answered, for a strategy that learns from its own picks."""

from __future__ import annotations

import torch

from assl_lightning.base.run_files import QUERIED
from assl_lightning.data.pool import Pool
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.queried import STATISTICS, read_queried
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import AnsweredSamples


def answered_samples(directory: RunDirectory, pool: Pool, number: int) -> AnsweredSamples:
    """Return the samples of the queries before round `number` that have a label now, with the statistics of their time.

    Those that training had never visited are left out, and so are those whose predicted class was since divided.

    Raises:
        FileNotFoundError: a round's queried.csv is missing.
        ValueError: one has other samples than the round's record, or no numbers where they are needed.
    """
    records = directory.records()
    history = read_history(directory.path)
    numbers: list[list[float]] = []
    visits: list[int] = []
    wrong: list[bool] = []
    rounds_ago: list[int] = []
    for earlier in range(number):
        path = directory.require(earlier, QUERIED)
        present = range(pool.num_classes) if history is None else history.present_labels(earlier)
        with directory.reading(earlier, QUERIED):
            rows = read_queried(path)
            if earlier < len(records) and [int(row["index"]) for row in rows] != records[earlier].queried:
                raise ValueError(f"it has {len(rows)} rows, not one for each sample that was queried, in their order")
            for row in rows:
                label, predicted = int(pool.labels[int(row["index"])]), present[int(row["prediction"])]
                if label >= 0 and predicted is not None and int(row["visits"] or 0):
                    numbers.append([float(row[name]) for name in STATISTICS])
                    visits.append(int(row["visits"]))
                    wrong.append(predicted != label)
                    rounds_ago.append(number - earlier)
    columns = torch.tensor(numbers).reshape(-1, len(STATISTICS)).unbind(1)
    statistics = CandidateStatistics(**dict(zip(STATISTICS, columns, strict=True)), visits=torch.tensor(visits).int())
    return AnsweredSamples(statistics, torch.tensor(wrong).bool(), torch.tensor(rounds_ago).long())
