"""Commands as they are printed, so that a shell takes them as they stand; and values as Hydra takes them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def command(module: str, *arguments: Path | str) -> str:
    """The command of one of the package's modules with its arguments, each quoted where a shell needs it.

    A path that begins with a hyphen is written so that it is not taken for an option.

    >>> command("status", Path("runs/my run (1)/seed_0"), "--wait")
    "python -m assl_lightning.status 'runs/my run (1)/seed_0' --wait"
    """
    words = [f"./{one}" if isinstance(one, Path) and str(one).startswith("-") else str(one) for one in arguments]
    return shlex.join(["python", "-m", f"assl_lightning.{module}", *words])


def quote(text: str, mark: str = "'") -> str:
    """`text` as a quoted value of Hydra's override grammar, in which backslashes count before a quotation mark alone.

    >>> print(quote("müll"), quote("it's", '"'))
    'müll' "it's"
    """
    escaped = re.sub(rf"(\\*){mark}", lambda found: found[1] * 2 + "\\" + mark, text)
    trailing = len(text) - len(text.rstrip("\\"))
    return mark + escaped + "\\" * trailing + mark
