from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assl_lightning.base import paths
from assl_lightning.base.paths import common_directory, expand, expanded, path_argument
from assl_lightning.commands import ingest, label, status
from assl_lightning.config.classifier import load_classifier
from assl_lightning.config.schema import Config, ConfigurationError

Compose = Callable[..., Config]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory beside an empty working directory."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_a_leading_tilde_is_the_home_directory_and_any_other_stays(home: Path) -> None:
    given = ["~", "~/a/b", "~root/x", "a/~/b", "b~", "/~", "", "a b", "./a/", "müll"]
    root = os.path.expanduser("~root")  # noqa: PTH111  the oracle: the standard library's other function

    assert [expand(path) for path in given] == [str(home), f"{home}/a/b", f"{root}/x", *given[3:]]
    assert expanded(Path("~/a")) == home / "a"


@pytest.mark.parametrize("name", ["~", "~x", "$x"])
def test_a_directory_of_that_very_name_may_be_meant_and_expanding_again_changes_nothing(name: str) -> None:
    meant = expanded(f"./{name}/y")

    assert meant == Path.cwd() / name / "y"
    assert expanded(meant) == meant


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("~no_such_user/x", "~no_such_user/x begins with a home directory, but there is no user 'no_such_user'"),
        ("$SCRATCH/x", "$SCRATCH/x begins with a variable, which is not looked up here; let the shell fill it in, or"),
        ("$SCRATCH/x", "${oc.env:SCRATCH}/x in a configuration, or ./$SCRATCH/x for"),
        ("${SCRATCH}/x", "${oc.env:SCRATCH}/x in a configuration"),
    ],
)
def test_what_stands_for_no_directory_is_refused_with_the_words_that_would_do(path: str, words: str) -> None:
    with pytest.raises(ValueError, match="begins with") as caught:
        expand(path)

    assert words in str(caught.value)


def test_without_a_home_directory_the_tilde_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", none)

    with pytest.raises(ValueError, match="but this process has none; write the whole path"):
        expand("~/x")


GIVEN = [  # overrides, the key
    ([], "run_dir"),
    (["data=cifar10"], "data.root"),
    (["data=folder", "data.num_classes=2", "data.root=x"], "data.source.test_root"),
    (["data=folder", "data.num_classes=2", "data.root=x"], "data.source.labels"),
    (["data=folder", "data.num_classes=2", "data.root=x"], "data.source.cache"),
    (["data=manifest", "data.num_classes=2"], "data.source.manifest"),
    (["data=huggingface", "data.num_classes=2"], "data.source.path"),
    (["network=torchvision", "data.channels=3", "data.mean=null", "data.std=null"], "network.weights"),
    (["oracle=label_studio"], "oracle.tool.image_root"),
]


@pytest.mark.parametrize(("overrides", "key"), GIVEN, ids=[key for _, key in GIVEN])
def test_every_path_of_a_configuration_is_expanded_where_it_is_read(
    compose_run: Compose, home: Path, overrides: list[str], key: str
) -> None:
    plain: Any = compose_run(*overrides, f"{key}='~/given'").as_dict()
    for part in key.split("."):
        plain = plain[part]

    assert plain == str(home / "given")


def test_a_path_of_a_nested_class_is_expanded_too(compose_run: Compose, home: Path) -> None:
    pool = "data.source.pool={_target_: my.Photos, root: '~/photos', names: ['~/a']}"

    config = compose_run("data=dataset", "data.num_classes=2", pool)

    assert config.data.source["pool"] == {"_target_": "my.Photos", "root": str(home / "photos"), "names": ["~/a"]}


def test_a_path_that_cannot_be_expanded_is_refused_at_its_key(compose_run: Compose) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compose_run("run_dir='~no_such_user/x'", "data.root=$DATA")

    assert sorted(line.partition(" ")[0] for line in caught.value.lines) == ["data.root:", "run_dir:"]


def test_the_commands_expand_their_paths_also_behind_an_equals_sign(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from assl_lightning.check import __main__ as checking
    from assl_lightning.commands import train
    from assl_lightning.report import __main__ as reporting

    missing = str(home / "missing")
    calls: list[tuple[Callable[[list[str]], int], list[str]]] = [
        (status.main, ["~/missing"]),
        (label.main, ["~/missing"]),
        (ingest.main, ["~/missing"]),
        (reporting.main, ["--output=~/out", "~/missing"]),
        (train.main, ["--config-dir=~/missing"]),
        (checking.main, ["--config-dir=~/missing"]),
    ]
    for main, arguments in calls:
        assert main(arguments) == 1
        assert missing in capsys.readouterr().err
    with pytest.raises(ValueError, match=missing):
        load_classifier("~/missing")
    assert path_argument("~/x") == home / "x"
    assert list(Path.cwd().iterdir()) == []


def test_no_command_takes_a_path_as_it_is() -> None:
    files = Path(paths.__file__).parents[1].rglob("*.py")

    assert [file.name for file in files if "type=Path" in file.read_text(encoding="utf-8")] == []


def test_the_deepest_directory_that_holds_all_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path.resolve()
    assert common_directory([Path("runs/a/seed_0"), root / "runs/ab"]) == root / "runs"
    assert common_directory([Path("runs/a")]) == root / "runs/a"
    assert common_directory([root, Path(root.anchor)]) is None
