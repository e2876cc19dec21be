"""Compose and validate the configuration of a run; a mistake is one line that names the override at fault.

Hydra's own messages take several lines, and not all of them name the override at fault.
"""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from yaml import YAMLError  # type: ignore[import-untyped]

from assl_lightning.base.shell import quote
from assl_lightning.base.versions import require_versions
from assl_lightning.base.words import first_line, listed, nearest, one_line
from assl_lightning.config.hydra_keys import refuse_without_effect
from assl_lightning.config.reading import explain_wrong, read, unknown_key
from assl_lightning.config.replaced import leave_out_foreign, with_open_nodes
from assl_lightning.config.schema import Config, ConfigurationError, join_key
from assl_lightning.config.values import show
from assl_lightning.config.yaml_numbers import find_misread

_OF_FILES = ("_suffix", "_steps")
"""Keys that YAML files use among themselves; they are resolved and left out of a run's configuration."""

_UNLESS = "_unless"
"""Such a key of warm_up=auto: the weights that the network is given."""

KEY_NOT_OPTION = "a key of the configuration is written without dashes, as {name}=VALUE"
"""What to do where somebody gives a key as an option, as `--rounds 3`."""


def compose(hydra: Any, overrides: Sequence[str]) -> Config:
    """Return the validated configuration of one run; `hydra` is `GlobalHydra.instance().hydra`.

    Raises:
        ConfigurationError: a line for each mistake, or for a Hydra or Lightning that is too old for the loop.
    """
    try:
        require_versions("lightning", "hydra-core")
    except ImportError as error:
        raise ConfigurationError(str(error)) from error
    with one_line_errors(hydra, overrides), _without_job():
        composed = hydra.compose_config("config", in_order(overrides), RunMode.RUN, from_shell=False)
        refuse_without_effect(composed.hydra)
        config = validate(composed, overrides)
        _refuse_unused_root(composed, overrides)
        _refuse_unused_warm_up(config, overrides)
        _refuse_misread_names(config, [str(place) for place in composed.hydra.searchpath])
        return config


def validate(composed: DictConfig, overrides: Sequence[str] = ()) -> Config:
    """Resolve and read the configuration that Hydra composed from `overrides`."""
    job = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    leave_out_foreign(job, overrides)
    _count_classes(job)
    plain: Any = OmegaConf.to_container(job, resolve=True, throw_on_missing=True)
    for group in ("experiment", "variant"):
        if group in plain:
            name = next((text for text in overrides if text.startswith(f"+{group}=")), group)
            raise ConfigurationError(
                f"{name}: its file must begin with the line # @package _global_, and have keys below"
            )
    plain["warm_up"] = _warm_up_of(plain["warm_up"])
    return read({key: value for key, value in plain.items() if key not in _OF_FILES})


def _warm_up_of(node: Any) -> Any:
    """Return the node of warm_up, without the key that warm_up=auto has; None if what that key names has a value."""
    if not isinstance(node, dict) or _UNLESS not in node:
        return node
    return None if node[_UNLESS] is not None else {key: value for key, value in node.items() if key != _UNLESS}


def _refuse_unused_root(composed: DictConfig, overrides: Sequence[str]) -> None:
    """Raise if data.root is given and nothing refers to it: the default data, digits, would be trained on instead."""
    given = next((text for text in overrides if text.lstrip("+").startswith("data.root=")), None)
    content = str(OmegaConf.to_container(composed, resolve=False))
    if given is None or composed.data.root is None or re.search(r"\$\{(data|\.*)\.root\}", content):
        return
    instead = OmegaConf.select(composed, "data.source.root")
    if instead is not None:
        raise ConfigurationError(
            f"{given}: has no effect, since {show('data.source.root', instead)} is given too; leave the latter out"
        )
    raise ConfigurationError(
        f"{given}: has no effect on data={composed.data.name}, which has no files; name the kind of data too, such as "
        f"data=folder for a directory of images, or data=image_folder where each class has a directory"
    )


def _refuse_unused_warm_up(config: Config, overrides: Sequence[str]) -> None:
    key = next((override for override in overrides if override.lstrip("+").startswith("warm_up.")), None)
    if key is not None and config.warm_up is None:
        raise ConfigurationError(
            f"{key.lstrip('+')}: there is no warm-up, since network.weights is given; add warm_up=simclr to train "
            f"those weights on all images before the first label"
        )


def in_order(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with variants last: Hydra lets the last win, and a variant changes its experiment.

    A key of a class that was named on the command line gets a plus-plus (`with_open_nodes`). `stop=null` chooses the
    option `none`, since Hydra takes no null for a group.

    >>> in_order(["+variant=continue", "+experiment=svhn_vit", "seed=1"])
    ['+experiment=svhn_vit', 'seed=1', '+variant=continue']
    """
    overrides = ["stop=none" if override == "stop=null" else override for override in overrides]
    return with_open_nodes(sorted(overrides, key=lambda override: override.startswith("+variant=")))


def _count_classes(job: DictConfig) -> None:
    """Fill in data.num_classes where it has no value and the names of the classes are given."""
    names = OmegaConf.select(job, "data.source.class_names")
    if OmegaConf.is_list(names) and names and OmegaConf.is_missing(job.data, "num_classes"):
        job.data.num_classes = len(names)


@contextmanager
def _without_job() -> Iterator[None]:
    """Hide the job that a launcher ran in this process before: ${hydra:job.num} would give its number."""
    settings = HydraConfig.instance()
    before, settings.cfg = settings.cfg, None
    try:
        yield
    finally:
        settings.cfg = before


def _refuse_misread_names(config: Config, search_path: Sequence[str]) -> None:
    """Raise where a file of the user's has class names such as 0010, which YAML reads as another number.

    Raises:
        ConfigurationError: with the file and the line.
    """
    names = config.data.source.get("class_names")
    if not isinstance(names, list) or not any(isinstance(name, int) for name in names):
        return
    places = [Path(place.removeprefix("file://")) for place in search_path if not place.startswith("pkg://")]
    misread = find_misread(places, "class_names", names)
    if misread is not None:
        raise ConfigurationError(
            f"data.source.class_names: a class's name must be a text; {misread.file}, line {misread.line} has "
            f"{misread.text}, which YAML reads as {misread.value}: quote it, '{misread.text}'"
        )


@contextmanager
def one_line_errors(hydra: Any, overrides: Sequence[str], mode: RunMode = RunMode.RUN) -> Iterator[None]:
    """Turn every error of Hydra and OmegaConf into a `ConfigurationError`; `mode` says if this is a sweep.

    They raise exceptions of many kinds: `KeyError` for hydra.job.env_copy, `AssertionError` for group=[5], and so on.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="provider=.* is not available")
        try:
            yield
        except ConfigurationError:
            raise
        except UserWarning as warning:
            place = str(warning).partition(", path=")[2].removesuffix(" is not available.")
            line = f"hydra.searchpath: there is no {place} to look for groups in; name a directory as file://DIRECTORY"
            raise ConfigurationError(line) from warning
        except Exception as error:
            raise ConfigurationError(_explain_or_repeat(hydra, overrides, mode, error)) from error


def with_config_dir(overrides: Sequence[str], directory: Path | None) -> list[str]:
    """Return the overrides; before them, if there is a `directory`, one that lets Hydra look for groups there too.

    Raises:
        ConfigurationError: it is no directory.
    """
    if directory is None:
        return list(overrides)
    if not directory.is_dir():
        raise ConfigurationError(f"--config-dir {directory}: is not a directory; give one that exists")
    return [f"hydra.searchpath=[{quote(f'file://{directory.resolve()}')}]", *overrides]


def in_shell(key: str, value: str) -> str:
    """Write `key=value` for a shell, with quotes around a `value` that Hydra would refuse without them.

    >>> print(in_shell("data.root", "müll"))
    data.root='"müll"'
    """
    quoted = quote(value, '"')
    return f"{key}={shlex.quote(quoted)}"


def _explain_or_repeat(hydra: Any, overrides: Sequence[str], mode: RunMode, error: Exception) -> str:
    """Explain an error in one line, or repeat its first line where finding the override at fault fails too."""
    try:
        return _explain(hydra, overrides, mode, error)
    except Exception:
        return _first_line(error)


def _explain(hydra: Any, overrides: Sequence[str], mode: RunMode, error: Exception) -> str:
    """Return a line that names the override at fault and says what to do."""
    key = getattr(error, "full_key", None)
    if isinstance(error, MissingMandatoryValue):
        return f"{key}=???: has no value yet; give it with {key}=VALUE"
    before, override = _first_at_fault(hydra, overrides, mode)
    if override is None:
        return _explain_value(overrides, key, error)
    if isinstance(error, _UNREADABLE) or _NO_MAPPING in str(error):
        return f"{override}: {_explain_unreadable(error, override, mode)}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        return f"{override}: {_explain_missing(hydra, overrides, error)}"
    (parsed,) = OverridesParser.create().parse_overrides([override])
    if parsed.is_sweep_override() and (mode == RunMode.RUN or parsed.key_or_group.startswith("hydra.")):
        return f"{override}: {_explain_several(override, mode)}"
    return f"{override}: {_explain_parsed(hydra, before, parsed, mode, error)}"


def _explain_value(overrides: Sequence[str], key: str | None, error: Exception) -> str:
    """Explain an error where all overrides can be composed, but a value cannot be resolved."""
    missing = re.search(r"key '([^']+)' not found", str(error))  # ${missing}, which other keys may pass on
    marks = [f"${{{missing[1]}}}"] if missing else []
    at_fault = next((text for text in overrides if any(mark in text for mark in marks)), None)
    if at_fault is None and (written := _override_below(overrides, error)):
        text, place = written
        (parsed,) = OverridesParser.create().parse_overrides([text])
        wrong = explain_wrong(parsed.key_or_group, parsed.value())
        return wrong or f"{text}: must have a value at {place}, which {key} takes; give {place}=VALUE instead"
    at_fault = at_fault or next((text for text in overrides if text.lstrip("+").startswith(f"{key}=")), key)
    why = _OF_HYDRA if _NEEDS_HYDRA.search(str(error)) else _first_line(error)
    return f"{at_fault}: {why}" if at_fault else why


_ACCESS = re.compile(r"trying to access ([^:\s]+):|key '([^']+)' not found")


def _override_below(overrides: Sequence[str], error: Exception) -> tuple[str, str] | None:
    """Return the override that took away the place to which another key refers, and that place; None if none did.

    So does data.image_size=8, where data.source.image_size is ${data.image_size[0]}.
    """
    found = _ACCESS.search(str(error))
    place = (found[1] or found[2]) if found else ""
    outer = {place[:end] for end, sign in enumerate(place) if sign in ".["}
    override = next((text for text in reversed(overrides) if text.lstrip("+").partition("=")[0] in outer), None)
    return None if override is None else (override, place)


_NEEDS_HYDRA = re.compile(r"HydraConfig was not set|key 'hydra\.[^']*' not found")
_OF_HYDRA = (
    "Hydra's own values are none of a run's; use the run's keys, such as ${seed}. Jobs of a sweep that would share a "
    "run_dir get directories of their own"
)
_NO_MAPPING = "raised while composing config"
_UNREADABLE = (OverrideParseException, YAMLError, UnicodeDecodeError)


def _explain_unreadable(error: Exception, override: str, mode: RunMode) -> str:
    if isinstance(error, OverrideParseException):
        key, _, value = override.partition("=")
        if not value or not _parses(f"{key}=x"):
            return "must be key=value"
        of_lists = "[]{}" if value[:1] + value[-1:] in ("[]", "{}") else ""
        found = next((sign for sign in value if sign not in of_lists and not _parses(f"{key}=a{sign}a")), None)
        what = "its value" if found is None else repr(found)
        return f"{what} needs quotes; write {_in_quotes(key, value, mode)}"
    if _NO_MAPPING in str(error):
        return "its file must have keys with values, such as rounds: 3; correct it"
    return f"its file cannot be read ({one_line(error)}); correct it"  # YAML's names it, and the line


def _explain_missing(hydra: Any, overrides: Sequence[str], error: MissingConfigException) -> str:
    group, name = _group_and_name(str(error.missing_cfg_file))
    options = list(error.options or hydra.config_loader.get_group_options(group))
    experiment, _, variant = _FORMER_NAMES.get(name, name).rpartition("_")
    if group == "experiment" and experiment in options and variant in hydra.config_loader.get_group_options("variant"):
        return f"is a variant of an experiment; write +experiment={experiment} +variant={variant}"
    if hint := _hint_at_file(group, name, overrides):
        return f"there is no {group} {name!r}; {hint}"
    return f"there is no {group} {name!r}{nearest(name, options)}; choose from {', '.join(options)}"


def _group_and_name(path: str) -> tuple[str, str]:
    """Return the group and the name of a missing file; for experiments and variants, what was given for a name."""
    for group in ("experiment", "variant"):
        if path.startswith(f"{group}/"):
            return group, path.removeprefix(f"{group}/")
    group, _, name = path.rpartition("/")
    return group, name


def _hint_at_file(group: str, name: str, overrides: Sequence[str]) -> str:
    """Return a hint at a file of that name which is not where it is looked for, or ""."""
    given = [Path(place) for text in overrides for place in _SEARCHED.findall(text)]
    stem = Path(name).name.removesuffix(".yaml").removesuffix(".yml")
    nearby = [directory / rest for directory in (*given, Path("conf"), Path()) for rest in (group, "")]
    files = [Path(name), *(place / f"{stem}{suffix}" for place in nearby for suffix in (".yaml", ".yml"))]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        return ""
    in_place = found.parent.name == group and found.suffix == ".yaml"
    directory = found.parent.parent if found.parent.name == group else (given or [found.parent])[0]
    move = "" if in_place else f"move it to {directory / group / stem}.yaml and "
    return f"to use {found}, {move}give --config-dir {directory} +{group}={stem}"


_SEARCHED = re.compile(r"^hydra\.searchpath=.*file://([^]'\"]+)")


_FORMER_NAMES = {"digits_short_al": "digits_short_supervised", "fig1_al_small": "fig1_small_supervised"}
"""Experiments whose earlier name does not end in the variant's → the experiment and the variant."""


def _explain_several(override: str, mode: RunMode) -> str:
    if mode == RunMode.RUN:
        return "several values; add -m to run each of them, or write [1,2] for a list"
    key, _, value = override.partition("=")
    return f"Hydra's own keys take one value; if the commas belong to it, write {in_shell(key, value)}"


_ITEMS = re.compile(r"[^][{},:\s][^][{},:]*")


def _in_quotes(key: str, value: str, mode: RunMode) -> str:
    """Write `key=value` with the quotes that it needs; in a list or a sweep, only around the items that need them."""
    is_composite = value[:1] + value[-1:] in ("[]", "{}") or mode == RunMode.MULTIRUN
    if is_composite:
        inner = _ITEMS.sub(lambda item: item[0] if _parses(f"{key}={item[0]}") else quote(item[0], '"'), value)
        if inner != value and _parses(f"{key}={inner}"):
            return f"{key}={shlex.quote(inner)}"
    return in_shell(key, value)


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([override])
    except HydraException:
        return False
    return True


def _explain_parsed(hydra: Any, before: Sequence[str], override: Override, mode: RunMode, error: Exception) -> str:
    group = override.key_or_group
    groups = sorted(name for name in list_groups(hydra) if not name.startswith("hydra"))
    if override.is_add():
        return f"{_first_line(error).rstrip('.')}; to change what is there, leave the plus out"
    if group in groups and "defaults list" in str(error):
        return f"is not part of the default configuration; add it with a plus, +{override.input_line}"
    if group in groups:
        options = hydra.config_loader.get_group_options(group)
        return f"must name one option of the group {group}; choose from {', '.join(options)}"
    if "Could not override" not in str(error):
        return _first_line(error.__cause__ or error)
    if "/" in group:
        return f"there is no group {group!r}{nearest(group, groups)}; the groups are {', '.join(groups)}"
    return _no_such_key(hydra, before, mode, group)


def _no_such_key(hydra: Any, before: Sequence[str], mode: RunMode, key: str) -> str:
    config = hydra.compose_config("config", list(before), mode, from_shell=False)
    section, _, name = key.rpartition(".")
    node = OmegaConf.select(config, section) if section else config
    if node is None and section in list_groups(hydra):
        options = [option for option in hydra.config_loader.get_group_options(section) if option != "none"]
        return f"there is no {section} whose {name} it could be; choose one of {', '.join(options)}, {section}=OPTION"
    if not isinstance(node, DictConfig):
        return f"{section} is no group of keys{_nearest_section(config, section)}; --cfg job shows what there is"
    line = unknown_key(section, name, [str(known) for known in node if known not in ("hydra", *_OF_FILES)])
    outer = section.rpartition(".")[0]
    if outer and name in OmegaConf.select(config, outer):
        return f"{line}; there is {outer}.{name}"
    below = list(_below(section, OmegaConf.to_container(node, resolve=False), name))
    return f"{line}; there is {listed(below)}" if below else line


def _below(section: str, node: Any, name: str) -> Iterator[str]:
    """Yield the keys called `name` in the groups below a `section` with the content `node`."""
    for key, content in node.items():
        if isinstance(content, dict) and key != "hydra":
            path = join_key(section, key)
            yield from [f"{path}.{name}"] if name in content else _below(path, content, name)


def _nearest_section(config: Any, section: str) -> str:
    """Return a hint at the group of keys that the first part of `section` that does not exist may stand for, or ""."""
    for part in section.split("."):
        if not isinstance(config, DictConfig):
            return ""
        if part not in config:
            return nearest(part, [str(key) for key in config if key != "hydra"])
        config = OmegaConf.select(config, part)
    return ""


def _first_at_fault(hydra: Any, overrides: Sequence[str], mode: RunMode) -> tuple[list[str], str | None]:
    """Return the first override that cannot be composed, and those before it; groups come first, in any order given."""
    groups = list_groups(hydra)
    ranks = [
        (not text.startswith("hydra.searchpath="), text.lstrip("+~").partition("=")[0] not in groups)
        for text in overrides
    ]
    before: list[str] = []
    for _, override in sorted(zip(ranks, overrides, strict=True), key=lambda pair: pair[0]):
        try:
            hydra.compose_config("config", [*before, override], mode, from_shell=False)
        except Exception:
            return before, override
        before.append(override)
    return before, None


def list_groups(hydra: Any, parent: str = "") -> list[str]:
    """List the groups that have options, as `hydra.list_all_config_groups` does in 0.12 s instead of 0.01 s."""
    repository = hydra.config_loader.repository
    found: list[str] = []
    for name in repository.get_group_options(parent, ObjectType.GROUP):
        group = f"{parent}/{name}" if parent else name
        if repository.get_group_options(group, ObjectType.CONFIG):
            found.append(group)
        found += list_groups(hydra, group)
    return found


def _first_line(error: BaseException) -> str:
    return re.sub(r"^\w+ (raised )?while resolving interpolation: ", "", first_line(error)) or type(error).__name__


def conf_dir() -> Path:
    """Return the directory of the YAML files: inside an installed wheel, else at the top of the checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "conf", package.parents[1] / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise FileNotFoundError(
        f"conf/config.yaml was found neither in {package} nor in {package.parents[1]}; install assl-lightning again"
    )
