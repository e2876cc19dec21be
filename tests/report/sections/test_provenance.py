from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.report.sections.provenance import flattened, provenance_blocks
from assl_lightning.report.views import Fold, Table

if TYPE_CHECKING:
    from tests.report.conftest import Runs


def test_a_configuration_is_dotted_keys_with_their_values() -> None:
    config = {
        "seed": 0,
        "oracle": {"seed": 0, "noise": None},
        "data": {"size": [16, 16], "name": "ä"},
        "environment": {},
    }
    expected = {"oracle.seed": "${seed}", "oracle.noise": "null", "data.size": "[16, 16]", "data.name": "ä"}
    assert flattened(config) == expected


def test_what_differs_stands_apart_from_what_is_common(runs: Runs) -> None:
    runs.add("assl", 0, [0.5], steps=5, changes={"algorithm.mu": 5})
    runs.add("random", 0, [0.5])
    runs.add("random", 1, [0.5], steps=90)
    table, different, common, versions = provenance_blocks(runs.setting())
    assert isinstance(table, Table)
    assert [row[1:] for row in table.rows] == [("0", "1", "5"), ("0, 1", "1", "90 to 100")]
    assert isinstance(different, Fold)
    assert isinstance(different.blocks[0], Table)
    assert different.summary == "Settings that differ: 2 keys"
    assert different.blocks[0].rows == (("algorithm.mu", "5", "7"), ("acquisition.name", "assl", "random"))
    assert isinstance(common, Fold)
    assert isinstance(common.blocks[0], Table)
    assert ("initial_labels", "10") in common.blocks[0].rows
    assert not {"seed", "run_dir", "environment.torch", "algorithm.mu"} & {key for key, _ in common.blocks[0].rows}
    assert isinstance(versions, Table)
    assert versions.rows == (("python", "3.11.7"), ("git_commit", "unknown"), ("torch", "2.15.0"))
    assert versions.caption == "Versions (3 runs)"


def test_a_key_that_only_one_method_has_differs(runs: Runs) -> None:
    runs.add("assl", 0, [0.5], changes={"acquisition.c_u": 0.5})
    runs.add("random", 0, [0.5])
    _, different, *_ = provenance_blocks(runs.setting())
    assert isinstance(different, Fold)
    assert isinstance(different.blocks[0], Table)
    assert ("acquisition.c_u", "0.5", "–") in different.blocks[0].rows


def test_one_method_has_its_settings_in_one_fold(runs: Runs) -> None:
    runs.add("assl", 0, [0.5])
    _, settings, _ = provenance_blocks(runs.setting())
    assert isinstance(settings, Fold)
    assert settings.summary.startswith("Settings: ")
    assert isinstance(settings.blocks[0], Table)
    assert ("acquisition.name", "assl") in settings.blocks[0].rows


def test_versions_that_differ_are_counted(runs: Runs) -> None:
    for seed in range(3):
        run = runs.add("assl", seed, [0.5])
        config = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(config.replace("2.15.0", "2.6.0") if seed == 1 else config)
    *_, versions = provenance_blocks(runs.setting())
    assert isinstance(versions, Table)
    assert ("torch", "2.15.0 (2 runs); 2.6.0 (1 run)") in versions.rows
