"""The command line ``sj-lowlat``: one file per verb."""

from sj_lowlat.cli.entry import main

__all__ = ["main"]
