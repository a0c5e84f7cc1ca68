"""How long ``import sj_lowlat`` takes once torch and spikingjelly are loaded; prints one JSON line.

Run: ``python benchmarks/import_time.py [runs]``
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

ONE_RUN = """
import time
import torch
import spikingjelly.activation_based.neuron
start = time.perf_counter()
import sj_lowlat
print(time.perf_counter() - start)
"""


def main(runs: int = 5) -> None:
    command = [sys.executable, "-c", ONE_RUN]
    seconds = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        for _ in range(runs)
    ]
    record = {"runs": runs, "median_s": round(statistics.median(seconds), 4), "max_s": round(max(seconds), 4)}
    print(json.dumps(record))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
