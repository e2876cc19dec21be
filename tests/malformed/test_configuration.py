"""Configurations that are wrong, from the command line: one line for each thing, exit code 1, and nothing written.

`BEFORE_CLASSES` is refused by Hydra's grammar and by the schema, `BY_CLASSES` by what the classes say to their
arguments, `SWEEPS` job by job, `EXPERIMENTS` are files in a directory of one's own.
"""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assl_lightning.base import command_line
from assl_lightning.commands import jobs, running
from assl_lightning.commands.train import main
from assl_lightning.config.reading import read
from tests.config.test_schema import changed, plain  # noqa: F401  (a fixture)
from tests.malformed.trees import MADE, contents, error_lines, problem_of

pytestmark = pytest.mark.e2e


class AcceptedError(Exception):
    pass


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a loop that does not begin."""

    def begin(**keywords: Any) -> None:
        raise AcceptedError

    monkeypatch.setattr(running, "run_rounds", begin)
    monkeypatch.setattr("assl_lightning.commands.jobs.gc.collect", int)
    for name in ("LOCAL_RANK", jobs.RUN_IN_CHILD, *command_line.SHOW_TRACEBACK):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_refused(where: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    before = contents(where)
    assert main(arguments) == 1
    lines = error_lines(capsys.readouterr().err)
    assert [line for line in lines if words in line], lines
    assert not [line for line in lines if "AcceptedError" in line]
    assert contents(where) == before
    assert not Path(MADE).exists()


QUOTED = "must be key=value"
NEEDS_QUOTES = " needs quotes; write s"

BEFORE_CLASSES: list[tuple[str, str]] = [
    # grammar
    ("rounds", QUOTED),
    ("score.alpha='a", NEEDS_QUOTES),
    ("score.alpha={a", NEEDS_QUOTES),
    ("score.alpha=[1,[2", NEEDS_QUOTES),
    ("score.alpha=foo(1)", NEEDS_QUOTES),
    ("score.alpha=int(abc)", NEEDS_QUOTES),
    ("score.alpha=${", NEEDS_QUOTES),
    ("score..alpha=1", QUOTED),
    (".=1", QUOTED),
    ("a==b", "'=' needs quotes; write a='\"=b\"'"),
    ("+score", QUOTED),
    ("=5", "=5: Config group override must be"),
    ("score.alpha=choice(1,2)", "several values; add -m"),
    ("score.alpha=range(1,3)", "several values; add -m"),
    # interpolation
    ("score.alpha=${nowhere}", "Interpolation key 'nowhere' not found"),
    ("score.alpha=${score.alpha}", "Recursive interpolation"),
    ("score.alpha=${score.c_u.x}", "score.c_u"),
    ("score.alpha=${oc.env:NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE"),
    ("score.alpha=${nothing:1}", "Unsupported interpolation type nothing"),
    ("score.alpha=???", "has no value yet"),
    # groups and keys
    ("data=nope", "there is no data 'nope'"),
    ("data=", "there is no data ''"),
    ("data=/etc/passwd", "choose from cifar10"),
    ("data=null", "must name one option of the group data"),
    ("data@x=digits", "must name one option of the group data"),
    ("network=[1]", "must name one option of the group network"),
    ("network=[{a: 1}]", "network=[{a: 1}]"),
    ("+experiment=../../etc", "choose from alpha"),
    ("+experiment=[a,b]", "+experiment=[a,b]"),
    ("trainer/nope=csv", "there is no group 'trainer/nope'"),
    ("+a.b.c.d=1", "the configuration has no key 'a'"),
    ("~nothing", "'nothing' does not exist"),
    ("~score", "score.c_u"),
    ("~network", "network: is missing"),
    ("score=5", "score"),
    ("score=[1,2]", "score=[1,2]: "),
    ("hydra.searchpath=5", "hydra.searchpath"),
    # types and ranges
    ("score.alpha=nan", "score.alpha=nan: must be a number, in (0, 1]"),
    ("score.alpha=0x10", "score.alpha=0x10: must be a number"),
    ("score.c_u=-inf", "score.c_u=-inf: must be a number, at least 0"),
    ("score.c_u=1e400", "score.c_u=inf: must be a number"),
    ("seed=1e3", "seed=1000.0: must be an integer"),
    ("rounds=[1]", "rounds=[1]: must be an integer"),
    ("rounds={a: {b: [1]}}", "rounds={a: {b: [1]}}: must be an integer"),
    ("rounds=99999999999999999999", "initial_labels + rounds × labels_per_round"),
    ("steps_per_round=100000000000000000000000", "must be at least 1 and at most 1000000000"),
    ("algorithm.batch_size=99999999999999", "must be at least 1 and at most 1000000000"),
    ("algorithm.mu=99999999999999", "must be at least 0 and at most 1000000000"),
    ("network._target_=5", "must name the class to build in network._target_"),
    ("network._target_=[a]", "must name the class to build in network._target_"),
    ("data.mean=[nan]", "data.mean=[nan]: must be a list of numbers"),
    ("run_dir=[a]", "run_dir=[a]: must be a text"),
]


@pytest.mark.parametrize(("override", "words"), BEFORE_CLASSES, ids=[override for override, _ in BEFORE_CLASSES])
def test_an_override_that_is_wrong_is_one_line(
    where: Path, capsys: pytest.CaptureFixture[str], override: str, words: str
) -> None:
    check_refused(where, capsys, [override] if "run_dir" in override else [override, "run_dir=run"], words)


def test_the_nearest_divisor_of_very_many_steps_is_found_at_once(
    where: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["steps_per_round=1000000000", "steps_per_epoch=7", "run_dir=run"]
    check_refused(where, capsys, arguments, "the nearest that does is 8")


TOUCH = f"open('{MADE}','w')"

BY_CLASSES: list[tuple[str, str]] = [
    # not a class, or none that there is
    ("network._target_=os", "network._target_=os: cannot be imported"),
    ("network._target_=nope.Nope", "network._target_=nope.Nope: cannot be imported"),
    ("network._target_=assl_lightning.networks.small.Nope", "has no attribute 'Nope'"),
    ("network._target_=assl_lightning..small", "cannot be imported"),
    ("network._target_='small cnn'", "cannot be imported"),
    ("network._target_=math.pi", "cannot be imported"),
    ("trainer._target_=builtins.dict", "trainer._target_=builtins.dict: cannot be imported"),
    # of another kind
    ("acquisition.strategy._target_=torch.nn.Identity", "must make an object of assl_lightning.method.candidates."),
    ("trainer._target_=torch.nn.Identity", "must make an object of lightning.pytorch.trainer.trainer.Trainer"),
    ("+network._partial_=true", "network._target_="),
    ("+trainer.callbacks=[1]", "trainer.callbacks=[1]: must be a list of callbacks"),
    ("+trainer.callbacks=5", "trainer.callbacks=5: must be a list of callbacks"),
    ("+trainer.plugins=x", "plugins=x)"),
    # that would do something else
    ("network._target_=os.system", "Target 'os.system' is blocklisted"),
    ("network._target_=builtins.eval", "Target 'builtins.eval' is blocklisted"),
    ("network._target_=subprocess.run", "blocklisted"),
    ("network._target_=shutil.rmtree", "Target 'shutil.rmtree' is blocklisted"),
    ("network._target_=pickle.loads", "Target 'pickle.loads' is blocklisted"),
    (f"network.width={{_target_: os.system, command: 'touch {MADE}'}}", "Target 'os.system' is blocklisted"),
    (f'network.width={{_target_: builtins.eval, _args_: ["{TOUCH}"]}}', "Target 'builtins.eval' is blocklisted"),
    (f'+trainer.callbacks=[{{_target_: builtins.exec, _args_: ["{TOUCH}"]}}]', "Target 'builtins.exec' is blocklisted"),
    ("trainer._target_=subprocess.run", "Target 'subprocess.run' is blocklisted"),
    ("oracle._target_=os.system", "Target 'os.system' is blocklisted"),
    ("algorithm.module.optimizer._target_=os.system", "Target 'os.system' is blocklisted"),
    # arguments
    ("network.width=1e30", "width must be an integer of at least 1"),
    ("network.width=100000000000", "(with data.num_classes=10, data.channels=1, width=100000000000)"),
    ("+network._args_=5", "Unsupported _args_ type"),
    ("data.image_size=[99999999,99999999]", "(with channels=1, image_size=[99999999, 99999999])"),
    ("oracle.seed=x", "seed must be an integer of at least 0; got 'x'"),
    ("algorithm.module.optimizer=5", "optimizer=5,"),
    ("trainer.accelerator={_target_: torch.nn.Identity}", "invalid accelerator name"),
]


@pytest.mark.parametrize(("override", "words"), BY_CLASSES, ids=[override for override, _ in BY_CLASSES])
def test_what_a_class_refuses_is_named_by_its_key(
    where: Path, capsys: pytest.CaptureFixture[str], override: str, words: str
) -> None:
    check_refused(where, capsys, [override, "run_dir=run"], words)


SWEEPS: list[tuple[str, str]] = [
    ("seed=range(1,0)", "seed=range(1,0): is a sweep over no value at all"),
    ("seed=glob(x)", "seed=glob(x): is a sweep over no value at all"),
    ("seed=range(1,3,0)", "seed=range(1,3,0): cannot be swept over"),
    ("seed=interval(0,1)", "seed=interval(0,1): cannot be swept over"),
    ("seed=choice()", NEEDS_QUOTES),
    ("seed=", "job 1 (seed=): seed='': must be an integer"),
    ("rounds=-1,-2", "job 2 (rounds=-2): rounds=-2: must be at least 0"),
    ("hydra/sweeper=nope", "hydra/sweeper=nope: there is no hydra/sweeper 'nope'"),
    ("hydra.sweeper=nope", "hydra.sweeper=nope: must be a group of keys"),
    ("hydra.launcher=nope", "hydra.launcher=nope: must be a group of keys"),
    ("+hydra.sweeper.params={seed: 5}", "+hydra.sweeper.params={seed: 5}: "),
    ("+hydra.sweeper.params.seed=5", "+hydra.sweeper.params.seed=5: "),
    ("network._target_=os.system,builtins.eval", "job 2 (network._target_=builtins.eval): network: Target"),
]


@pytest.mark.parametrize(("override", "words"), SWEEPS, ids=[override for override, _ in SWEEPS])
def test_a_sweep_that_is_wrong_is_told_by_its_override(
    where: Path, capsys: pytest.CaptureFixture[str], override: str, words: str
) -> None:
    check_refused(where, capsys, ["-m", override, "run_dir=run"], words)


OF_PACKAGE = "# @package _global_\n"

FOLDER = f"{OF_PACKAGE}defaults:\n  - override /data: folder\n"

EXPERIMENTS: dict[str, tuple[bytes, str]] = {
    "no YAML": (b"rounds: [1\n", "wrong.yaml"),
    "bytes": (b"\xff\xfe\xfd\x00", "+experiment=wrong: its file cannot be read"),
    "a tab": (b"score:\n\talpha: 1\n", "wrong.yaml"),
    "a list": (b"- 1\n", "+experiment=wrong: its file must begin with the line # @package _global_"),
    "a text": (b"rounds", "+experiment=wrong: its file must begin with the line # @package _global_"),
    "two documents": (b"a: 1\n---\nb: 2\n", "wrong.yaml"),
    "a key twice": (f"{OF_PACKAGE}seed: 1\nseed: 2\n".encode(), "wrong.yaml"),
    "an object of Python": (
        f"seed: !!python/object/apply:os.system ['touch {MADE}']\n".encode(),
        "+experiment=wrong: ",
    ),
    "an unknown tag": (b"seed: !surprise 3\n", 'wrong.yaml", line 1'),
    "no package": (b"seed: 3\n", "+experiment=wrong: its file must begin with the line # @package _global_"),
    "an unknown key": (f"{OF_PACKAGE}sede: 3\n".encode(), "did you mean 'seed'?"),
    "an unknown group": (f"{OF_PACKAGE}defaults:\n  - override /data: nope\n".encode(), "+experiment=wrong: "),
    "defaults that are a text": (f"{OF_PACKAGE}defaults: nope\n".encode(), "+experiment=wrong: "),
    "defaults that are numbers": (f"{OF_PACKAGE}defaults: [1]\n".encode(), "+experiment=wrong: "),
    "a directory with a zero": (f'{OF_PACKAGE}run_dir: "a\\0b"\n'.encode(), "run_dir"),
    "an infinite number": (f"{OF_PACKAGE}score: {{alpha: .inf}}\n".encode(), "score.alpha=inf: must be a number"),
    "a date for a seed": (f"{OF_PACKAGE}seed: 2024-01-01\n".encode(), "seed=2024-01-01: must be an integer"),
    "names of classes that are no texts": (
        f"{FOLDER}data: {{source: {{class_names: [yes, no]}}}}\n".encode(),
        "data.source.class_names=[true, false]: class_names must be texts that are not empty; 2 things are wrong: True "
        "is no text; quote it, as in ['yes', 'no']",
    ),
    "names of classes that are other numbers": (
        f"{FOLDER}data: {{source: {{class_names: [0010, 0020]}}}}\n".encode(),
        "wrong.yaml, line 4 has 0010, which YAML reads as 8: quote it, '0010'",
    ),
    "names of classes that are one text": (
        f"{FOLDER}data: {{source: {{class_names: ok}}}}\n".encode(),
        "data.source.class_names=ok: class_names must be a list, such as [ok, dent]; got the text 'ok': write [ok]",
    ),
    "a class that runs": (
        f"{OF_PACKAGE}network: {{_target_: os.system, command: 'touch {MADE}'}}\n".encode(),
        "network",
    ),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_file_that_is_wrong_is_told(where: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, words = EXPERIMENTS[name]
    (where / "mine" / "experiment").mkdir(parents=True)
    (where / "mine" / "experiment" / "wrong.yaml").write_bytes(content)
    given = [] if "run_dir" in words else ["run_dir=run"]
    given += ["data.root=photos", "data.num_classes=2"] if content.decode(errors="replace").startswith(FOLDER) else []
    check_refused(where, capsys, ["--config-dir", "mine", "+experiment=wrong", *given], words)


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/below"])
def test_a_run_dir_that_cannot_be_one_is_named(capsys: pytest.CaptureFixture[str], place: str) -> None:
    assert main([f"run_dir={place}", "rounds=0", "warm_up=none", "steps_per_round=1"]) == 1
    (line,) = error_lines(capsys.readouterr().err)
    assert place in line


KEYS = (
    *("name", "seed", "run_dir", "rounds", "initial_labels", "steps_per_round", "steps_per_epoch", "init", "score"),
    *("score.alpha", "score.reset", "data", "data.mean", "data.image_size", "data.num_classes", "data.source"),
    *("network", "algorithm", "algorithm.batch_size", "algorithm.module", "acquisition"),
    *("acquisition.weights", "trainer", "trainer.devices", "trainer.logger", "oracle", "checkpoint", "change_devices"),
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(nan),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(KEYS), value=JUNK)
def test_whatever_a_key_holds_is_read_or_named(plain: dict[str, Any], key: str, value: object) -> None:  # noqa: F811
    problem = problem_of(lambda: read(changed(plain, {key: value})))
    if problem is not None:
        assert key.partition(".")[0] in problem
