"""Workload of the shipped detector as NeuroBench counts it: python docs/neurobench_run.py PHOTOS [COUNT]"""

import json
import sys
from pathlib import Path

from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import Footprint
from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
from torch.utils.data import DataLoader

from sj_lowlat import load_pretrained
from sj_lowlat.data import read_image
from sj_lowlat.data.letterbox import letterbox
from sj_lowlat.evaluation import neurobench_model

files = sorted(Path(sys.argv[1]).glob("*.jpg"))[: int(sys.argv[2]) if len(sys.argv) > 2 else 2]
photos = [(letterbox(read_image(file), 416)[0], 0) for file in files]  # NeuroBench wants a label beside each
model = neurobench_model(load_pretrained("snn-tiny-yolov3-coco"))
metrics = [[Footprint], [SynapticOperations, ActivationSparsity]]
found = Benchmark(model, DataLoader(photos), [], [], metrics).run(quiet=True)
print(json.dumps(found, indent=2))
