"""``python -m sj_lowlat`` is ``sj-lowlat``."""

import sys

from sj_lowlat.cli import main

if __name__ == "__main__":
    sys.exit(main())
