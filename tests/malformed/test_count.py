"""How many malformed inputs the tables of this directory hold; properties of hypothesis draw hundreds more.

553: 117 configurations, 149 data files, 213 run directories, 74 runs and snapshots that a report or an analysis reads.
"""

from __future__ import annotations

from tests.malformed import test_configuration as configuration
from tests.malformed import test_data_files as data
from tests.malformed import test_reports as reports
from tests.malformed import test_run_directories as directories

TABLES = {
    "configuration": (
        *(configuration.BEFORE_CLASSES, configuration.BY_CLASSES, configuration.SWEEPS),
        [(name, content) for name, (content, _) in configuration.EXPERIMENTS.items()],
    ),
    "data files": (
        *(data.TABLES, data.IMAGES, data.OF_A_CACHE, data.PICKLES, data.PACKED, data.IMAGE_SHAPES),
        [(name, damage) for name in data.CIFAR_FILES for damage in data.OF_BYTES],
    ),
    "run directories": (
        *(directories.OF_A_RECORD, directories.LINES, directories.STATES, directories.CONFIGS, directories.HISTORIES),
        *(directories.POOLS, directories.STATISTICS, directories.FINALS, directories.NAMES, directories.CHECKPOINTS),
        [(name, damage) for name in directories.FILES for damage in directories.OF_BYTES],
    ),
    "reports": (reports.OF_A_RUN, [*reports.OF_A_CONFIG.items()], reports.METRICS, reports.SNAPSHOTS),
}


def test_at_least_three_hundred_malformed_inputs_are_in_tables_and_no_two_of_a_table_are_the_same() -> None:
    for tables in TABLES.values():
        for table in tables:
            assert len({repr(entry) for entry in table}) == len(table)
    counts = {kind: sum(map(len, tables)) for kind, tables in TABLES.items()}
    assert counts == {"configuration": 117, "data files": 149, "run directories": 213, "reports": 74}
    assert sum(counts.values()) >= 300
