"""Writes a page for each verb of ``sj-lowlat`` from its own ``--help``, when the documentation is built."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

from sj_lowlat.cli import main
from sj_lowlat.cli.entry import VERBS

PAGE = Path(__file__).parent / "generated" / "cli.rst"
WIDTH = "88"


def help_of(*words: str) -> str:
    """What ``sj-lowlat WORDS --help`` prints."""
    printed, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*words, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return printed.getvalue()


def page() -> str:
    """All verbs as reStructuredText."""
    parts = []
    for verb in VERBS:
        block = "\n".join(f"   {line}".rstrip() for line in help_of(verb).splitlines())
        parts.append(f".. _cli-{verb}:\n\n{verb}\n{'-' * len(verb)}\n\n.. code-block:: text\n\n{block}\n")
    return "\n".join(parts)


def setup(app: object) -> dict[str, bool]:
    """Called by Sphinx before it reads the pages."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return {"parallel_read_safe": True}
