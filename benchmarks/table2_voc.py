"""Table 2 of Qiu & Zhu on the VOC subset: mAP50 against time steps; their figures beside ours.

All-point AP, difficult boxes ignored, COCO networks scored on the 20 shared class names.

    python benchmarks/table2_voc.py --data ../shared/data --kernel compiled \\
      --networks relu=runs/pooled/relu quant8=runs/pooled/quant8 --schedule quant8=8+4
"""

from __future__ import annotations

from collections.abc import Sequence

from inputs import voc_photos
from paper_table import Table, make

# The captions of the paper's Tables 1 and 2 are swapped; its section 5 and Spiking-YOLO's own figures tell.
TABLE = Table(
    title="Table 2, VOC",
    name="table2_voc",
    photos=voc_photos,
    quoted={
        "paper: Spiking-YOLO, full VOC": {3500: 51.83},
        "paper: residual fix, full VOC": {100: 48.7, 150: 52.0, 200: 53.1, 250: 53.8, 300: 54.2},
        "paper: without residual fix, full VOC": {300: 53.7},
    },
)


def main(argv: Sequence[str] | None = None) -> None:
    """Score, print, draw."""
    make(TABLE, __doc__, argv)


if __name__ == "__main__":
    main()
