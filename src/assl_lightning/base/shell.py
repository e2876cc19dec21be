"""Commands to print, quoted for a shell, and values quoted for Hydra."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def command(module: str, *arguments: Path | str) -> str:
    """Return the command of a module of this package with its arguments, quoted for a shell.

    A path that begins with a hyphen gets a `./`, so that it is not read as an option.

    >>> command("status", Path("runs/my run (1)/seed_0"), "--wait")
    "python -m assl_lightning.status 'runs/my run (1)/seed_0' --wait"
    """
    words = [f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in arguments]
    return shlex.join(["python", "-m", f"assl_lightning.{module}", *words])


def quote(text: str, mark: str = "'") -> str:
    """Return `text` quoted for Hydra's override grammar, where a backslash escapes only before a quotation mark.

    >>> print(quote("müll"), quote("it's", '"'))
    'müll' "it's"
    """
    escaped = re.sub(rf"(\\*){mark}", lambda found: found[1] * 2 + "\\" + mark, text)
    trailing = len(text) - len(text.rstrip("\\"))
    return mark + escaped + "\\" * trailing + mark
