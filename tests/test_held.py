"""The shipped network fires as it did: net counts of every layer at every step, in float64, held as numbers.

``python tests/test_held.py`` writes the record anew; a change of it needs a reason.
"""

from __future__ import annotations

import json
from pathlib import Path

from sj_lowlat.data import TrafficDataset, letterbox
from sj_lowlat.layers import LowLatencyIFNode
from sj_lowlat.pretrained import load
from sj_lowlat.simulation import simulate

RECORD = Path(__file__).with_name("held.json")


def counts() -> dict[str, list[int]]:
    """Layer -> sum of the net counts of its neurons after each step."""
    image = letterbox(TrafficDataset(1, 96, seed=3)[0].image, 96)[0][None].double()
    snn = load("snn-tiny-yolov3-coco").double()
    nodes = {name: node for name, node in snn.named_modules() if isinstance(node, LowLatencyIFNode)}
    found: dict[str, list[int]] = {name: [] for name in nodes}

    def note(read: object) -> None:
        for name, node in nodes.items():
            found[name].append(int(node.count.sum()))

    simulate(snn, image, "4+2b4", readout=range(1, 7), chunk=1, callback=note)
    return found


def test_counts_are_those_that_were_held() -> None:
    assert counts() == json.loads(RECORD.read_text())


if __name__ == "__main__":
    rows = (f"{json.dumps(name)}: {json.dumps(sums)}" for name, sums in counts().items())
    RECORD.write_text("{\n" + ",\n".join(rows) + "\n}\n")
