"""Table 1 of Qiu & Zhu on the COCO subset: mAP50 against time steps; their figures beside ours.

    python benchmarks/table1_coco.py --data ../shared/data --kernel compiled \\
      --networks relu=runs/pooled/relu quant8=runs/pooled/quant8 --schedule quant8=8+4
"""

from __future__ import annotations

from collections.abc import Sequence

from inputs import coco_photos
from paper_table import Table, make

# The captions of the paper's Tables 1 and 2 are swapped; its section 5 and Spiking-YOLO's own figures tell.
TABLE = Table(
    title="Table 1, COCO",
    name="table1_coco",
    photos=coco_photos,
    quoted={
        "paper: Spiking-YOLO, full COCO": {3500: 25.66},
        "paper: residual fix, full COCO": {100: 14.8, 150: 26.3, 200: 31.5, 250: 34.2, 300: 36.2},
        "paper: without residual fix, full COCO": {300: 35.7},
    },
)


def main(argv: Sequence[str] | None = None) -> None:
    """Score, print, draw."""
    make(TABLE, __doc__, argv)


if __name__ == "__main__":
    main()
