r"""
A detector from end to end
==========================

Train a narrow SNN-Tiny-YOLOv3 on generated street scenes, quantise it with the trained network as its
teacher, convert it, and score it at several latencies. These are the verbs of the package in their order:
``finetune``, ``prepare``, ``convert``, ``simulate``, ``evaluate``, ``save``. Everything here is small and
short, so that it runs in a minute on one core; the detector is therefore weak.
"""

import tempfile

import torch

import sj_lowlat
from sj_lowlat import Schedule
from sj_lowlat.data import TrafficDataset, batches
from sj_lowlat.detect import Detections, detections_from_maps, draw
from sj_lowlat.plots import plot_images, plot_map_curve, plot_rates

torch.manual_seed(0)

# %%
# Scenes and the network
# ----------------------
# Any dataset with ``len()``, ``[i] -> Sample`` and ``class_names`` will do; ``CocoDataset`` and
# ``VocDataset`` read real ones. ``width`` scales the channels of the network, which has strided
# convolutions in place of max-pools and a transposed convolution in place of the upsampling (section 4.2 of
# the paper). To start from trained darknet weights instead, take ``models.tiny_yolov3(weights=...)`` and
# ``replace_layers``.

SIZE, T = 96, 8
train_scenes = TrafficDataset(400, size=SIZE, seed=0)
test_scenes = TrafficDataset(60, size=SIZE, seed=1)
names = train_scenes.class_names

ann = sj_lowlat.models.snn_tiny_yolov3(len(names), width=0.25, class_names=names, input_size=SIZE)
print(f"{sum(p.numel() for p in ann.parameters()):,} parameters, classes: {', '.join(names)}")

# %%
# Train
# -----
# ``finetune`` learns from boxes, from a teacher, or from both. Here from boxes; it changes the network in
# place.

config = sj_lowlat.FinetuneConfig(iterations=400, size=SIZE, lr=4e-3, ema=0.98)
sj_lowlat.finetune(ann, train_scenes, config=config)
ann_score = sj_lowlat.evaluate(ann, test_scenes, batch_size=20)
print(ann_score)

# %%
# Quantise
# --------
# Each ReLU becomes a Quant-ReLU with :math:`L = T` levels (section 4.3). Its clip starts from calibration
# images and is trained along with the weights, with the network from above as the teacher.

calibration = next(iter(batches(train_scenes, 32, SIZE))).images  # [32, 3, SIZE, SIZE] in [0, 1]
quant = sj_lowlat.prepare(ann, levels=T, calibration=calibration)
config = sj_lowlat.FinetuneConfig(iterations=120, size=SIZE, lr=1e-3, ema=0.97)
sj_lowlat.finetune(quant, train_scenes, teacher=ann, config=config)
quant_score = sj_lowlat.evaluate(quant, test_scenes, batch_size=20)
print(quant_score)

# %%
# Convert and score
# -----------------
# ``convert`` folds batch norms, scales the weights (Eq. 13 to 15) and replaces each Quant-ReLU by neurons.
# ``evaluate`` then runs each spiking network once: the heads are linear and read the mean of the spikes,
#
# .. math:: \mathrm{out}(t) = w \, \frac{1}{t} \sum_{s \le t} \Theta_s + b,
#
# so they can be read after any step, and the whole curve comes from one simulation. A ``Schedule`` is how a
# network is run: T steps with input, then the flush, steps without input in which signed neurons settle. Both
# count as latency. Its written form here is ``8+8``, which every verb takes as well.

plain, flushed = Schedule(T), Schedule(T, flush=8)
kinds = {
    "plain IF": ("if", plain),
    "residual fix": ("residual-fix", plain),
    "signed": ("signed", plain),
    "signed + flush": ("signed", flushed),
}
scores = {}
for label, (neuron, schedule) in kinds.items():
    snn = sj_lowlat.convert(quant, neuron=neuron)
    readout = (T, T + 2, T + 4, schedule.total) if schedule.flush else (2, 4, 6, T)
    scores[label] = sj_lowlat.evaluate(snn, test_scenes, schedule, readout=readout, batch_size=20)

# %%
# The networks differ in their neurons only. Energy counts the spikes of the run against the multiplications
# of the ANN (45 nm, 32 bit; memory traffic is left out).

print(f"mAP50 in %: ANN {100 * ann_score.final.map50:.1f}, Quant ANN {100 * quant_score.final.map50:.1f}\n")
print(f"{'':<16}steps  mAP50   spikes per neuron   energy / ANN")
for label, score in scores.items():
    for point in score.points:
        print(f"{label:<16}{point.steps:>5}  {100 * point.ap.map50:>5.1f}", end="")
        last = point is score.points[-1]
        print(f"{score.energy.spikes_per_neuron_and_image:>16.2f}{score.energy.ratio:>16.2f}" if last else "")

figure = plot_map_curve(
    {label: [(p.steps, 100 * p.ap.map50) for p in score.points] for label, score in scores.items()},
    ann=100 * ann_score.final.map50,
    quant=100 * quant_score.final.map50,
    title=f"{len(test_scenes)} generated scenes, {SIZE} px",
)
figure

# %%
# What it sees
# ------------
# One simulation, read at several steps. Decoding and non-maximum suppression work on the mean; the letterbox
# maps boxes back to the pixels of the picture.

large_scenes = TrafficDataset(3, size=3 * SIZE, seed=2)  # large for the eye; the network sees SIZE pixels
images, letterboxes, samples = next(iter(batches(large_scenes, 3, SIZE)))
result = sj_lowlat.simulate(snn, images, flushed, readout=(4, T, flushed.total))
with torch.no_grad():
    runs = {f"SNN, {step} steps": maps for step, maps in zip(result.steps, result.outputs, strict=True)}
    runs["Quant ANN"] = quant.eval()(images)

pictures, titles = [], []
for title, maps in runs.items():
    found = detections_from_maps(maps, snn.head_specs, score_threshold=0.3)
    for sample, box, each in zip(samples, letterboxes, found, strict=True):
        on_picture = Detections(box.to_image(each.boxes), each.scores, each.labels)
        pictures.append(draw(sample.image, on_picture, names, min_score=0.3))
        titles.append(f"{title}: {len(each)} found")
figure = plot_images(pictures, titles, columns=len(samples))
figure.set_size_inches(7.5, 10.6)
figure

# %%
# Firing rates
# ------------
# ``evaluate`` also counts spikes. Negative ones count like the others, and so do those of the flush.

figure = plot_rates(
    {
        label: {
            row["name"].removeprefix("layers.").removesuffix(".act"): row["spikes_per_neuron_and_image"]
            for row in score.rates["layers"]
        }
        for label, score in scores.items()
    },
    ylabel="spikes per neuron and image",
)
figure.set_size_inches(9, 3.8)
figure

# %%
# Keep it
# -------
# A folder with ``model.safetensors`` (weights) and ``config.json`` (the graph and its layers, as rows).
# Nothing in it is pickled, and loading it needs no code of the network's own class.

with tempfile.TemporaryDirectory() as folder:
    sj_lowlat.save(snn, folder)
    again = sj_lowlat.load(folder)
weights, loaded = snn.state_dict(), again.state_dict()
print("loaded as it was saved:", all(torch.equal(weights[key], loaded[key]) for key in weights))
