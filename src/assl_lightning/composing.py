"""From overrides to a validated configuration, or one line that says what is wrong with which override.

Hydra's own messages take several lines, and not all of them name the override at fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from assl_lightning.schema import Config, ConfigurationError, nearest, read, unknown_key

_BY_ACCIDENT = (ValueError, TypeError, AttributeError, AssertionError)  # Hydra's, for group=5, group=[5], …
_REFUSALS = (HydraException, OmegaConfBaseException, YAMLError, *_BY_ACCIDENT)


def compose(hydra: Any, overrides: Sequence[str]) -> Config:
    """The validated configuration of one run; `hydra` is `GlobalHydra.instance().hydra`."""
    with one_line_errors(hydra, overrides):
        return validate(hydra.compose_config("config", list(overrides), RunMode.RUN, from_shell=False))


def validate(composed: DictConfig) -> Config:
    """What Hydra composed, resolved and read."""
    job = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    _count_classes(job)
    return read(OmegaConf.to_container(job, resolve=True, throw_on_missing=True))  # type: ignore[arg-type]


def _count_classes(job: DictConfig) -> None:
    """Fill in data.num_classes where it has no value yet, and the names of the classes have one."""
    names = OmegaConf.select(job, "data.source.class_names")
    if OmegaConf.is_list(names) and names and OmegaConf.is_missing(job.data, "num_classes"):
        job.data.num_classes = len(names)


@contextmanager
def one_line_errors(hydra: Any, overrides: Sequence[str], mode: RunMode = RunMode.RUN) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into a `ConfigurationError` of one line; `mode` says if this is a sweep."""
    try:
        yield
    except ConfigurationError:
        raise
    except _REFUSALS as error:
        raise ConfigurationError(_explain(hydra, overrides, mode, error)) from error


def quote(text: str) -> str:
    """`text` as a quoted value of Hydra's override grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _explain(hydra: Any, overrides: Sequence[str], mode: RunMode, error: Exception) -> str:
    """One line that names the override at fault and says what to do."""
    key = getattr(error, "full_key", None)
    if isinstance(error, MissingMandatoryValue):
        return f"{key}=???: has no value yet; give it with {key}=VALUE"
    before, override = _first_at_fault(hydra, overrides, mode)
    if override is None:  # it composes, but a value cannot be had
        missing = re.search(r"key '([^']+)' not found", str(error))  # ${missing}, which other keys may pass on
        marks = [f"${{{missing[1]}}}"] if missing else []
        said = next((text for text in overrides if any(mark in text for mark in marks)), None)
        said = said or next((text for text in overrides if text.lstrip("+").startswith(f"{key}=")), key)
        return f"{said}: {_first_line(error)}" if said else _first_line(error)
    if isinstance(error, _UNREADABLE):
        return f"{override}: {_explain_unreadable(error)}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = list(error.options or hydra.config_loader.get_group_options(group))
        return f"{override}: there is no {group} {name!r}{nearest(name, options)}; choose from {', '.join(options)}"
    (parsed,) = OverridesParser.create().parse_overrides([override])
    if parsed.is_sweep_override() and mode == RunMode.RUN:
        return f"{override}: several values; add -m to run each of them, or write [1,2] for a list"
    return f"{override}: {_explain_parsed(hydra, before, parsed, error)}"


_UNREADABLE = (OverrideParseException, YAMLError, UnicodeDecodeError)


def _explain_unreadable(error: Exception) -> str:
    if isinstance(error, OverrideParseException):
        return "must be key=value; a value that holds spaces, commas or brackets is quoted, key='\"a, b\"'"
    return f"its file cannot be read ({' '.join(str(error).split())}); correct it"  # YAML's names it, and the line


def _explain_parsed(hydra: Any, before: Sequence[str], override: Override, error: Exception) -> str:
    group = override.key_or_group
    groups = sorted(name for name in hydra.list_all_config_groups() if not name.startswith("hydra"))
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
    return _no_such_key(hydra, before, group)


def _no_such_key(hydra: Any, before: Sequence[str], key: str) -> str:
    node = hydra.compose_config("config", list(before), RunMode.RUN, from_shell=False)
    section, _, name = key.rpartition(".")
    if section:
        node = OmegaConf.select(node, section)
    if not isinstance(node, DictConfig):
        return f"{section} is no group of keys; --cfg job shows what there is"
    return unknown_key(section, name, [str(known) for known in node if known != "hydra"])


def _first_at_fault(hydra: Any, overrides: Sequence[str], mode: RunMode) -> tuple[list[str], str | None]:
    """The first override that cannot be composed, and those before it; groups come first, whatever the order given."""
    groups = hydra.list_all_config_groups()
    ranks = [
        (not text.startswith("hydra.searchpath="), text.lstrip("+~").partition("=")[0] not in groups)
        for text in overrides
    ]
    before: list[str] = []
    for _, override in sorted(zip(ranks, overrides, strict=True), key=lambda pair: pair[0]):
        try:
            hydra.compose_config("config", [*before, override], mode, from_shell=False)
        except _REFUSALS:
            return before, override
        before.append(override)
    return before, None


def _first_line(error: BaseException) -> str:
    line = " ".join(str(error).strip().partition("\n")[0].split())
    return re.sub(r"^\w+ raised while resolving interpolation: ", "", line) or type(error).__name__
