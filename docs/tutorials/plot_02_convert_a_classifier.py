r"""
Convert a classifier, the SpikingJelly way
==========================================

A small VGG-like network (max-pool, batch norm, ReLU, linear) learns to tell persons, bicycles, cars and
buses apart, is prepared for conversion, and becomes a spiking network through SpikingJelly's
``ModuleConverter``. Then we look at the accuracy after every time step, for four kinds of neuron.
"""

import matplotlib.pyplot as plt
import torch
from spikingjelly.activation_based import ann2snn, functional
from torch import nn
from torchvision.transforms.v2.functional import resized_crop

import sj_lowlat
from sj_lowlat.data import TrafficDataset
from sj_lowlat.plots import plot_images
from sj_lowlat.plots.style import PALETTE

torch.manual_seed(0)

# %%
# The data: the objects of generated street scenes, cropped and resized to 32 x 32 pixels.


def crops(scenes: TrafficDataset, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 pictures ``[M, 3, side, side]`` and labels ``[M]`` of all objects of at least 10 pixels."""
    pictures, labels = [], []
    for sample in (scenes[i] for i in range(len(scenes))):
        for box, label in zip(sample.boxes, sample.labels, strict=True):
            x1, y1, x2, y2 = box.round().int().tolist()
            if min(x2 - x1, y2 - y1) >= 10:
                pictures.append(resized_crop(sample.image, y1, x1, y2 - y1, x2 - x1, [side, side]))
                labels.append(label)
    return torch.stack(pictures), torch.stack(labels)


train_pictures, train_labels = crops(TrafficDataset(500, size=128, seed=0))
test_pictures, test_labels = crops(TrafficDataset(150, size=128, seed=1))
train_images, test_images = train_pictures / 255, test_pictures / 255  # [M, 3, 32, 32] in [0, 1]
names = TrafficDataset.class_names
print(f"{len(train_images)} pictures to learn from, {len(test_images)} to test on: {', '.join(names)}")

figure = plot_images(list(test_pictures[:12]), [names[k] for k in test_labels[:12]], columns=6)
figure.set_size_inches(8, 3.2)
figure

# %%
# The network and its training
# ----------------------------
# Nothing special, but one rule: every activation is a module of its own (``nn.ReLU()``, never ``F.relu``),
# because modules are what gets replaced.


def block(before: int, after: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]


ann = nn.Sequential(
    *block(3, 16),
    *block(16, 32),
    *block(32, 64),
    nn.Flatten(),
    nn.Linear(64 * 4 * 4, 64),
    nn.ReLU(),
    nn.Linear(64, len(names)),
)


def train(network: nn.Module, epochs: int, lr: float) -> None:
    network.train()
    steps = epochs * (len(train_images) // 64)
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)
    order = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for picked in torch.randperm(len(train_images), generator=order).split(64)[: len(train_images) // 64]:
            loss = nn.functional.cross_entropy(network(train_images[picked]), train_labels[picked])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()


def accuracy(scores: torch.Tensor) -> float:
    """In percent, of class scores ``[M, classes]``."""
    return 100 * (scores.argmax(1) == test_labels).float().mean().item()


train(ann, epochs=6, lr=3e-3)
with torch.no_grad():
    print(f"ANN: {accuracy(ann(test_images)):.1f} % right")

# %%
# Replace, prepare, fine-tune
# ---------------------------
# ``replace_layers`` (section 4.2 of the paper) puts a strided convolution in place of each max-pool: the
# maximum of firing *rates* is not the maximum of *spikes*. With calibration images it starts as the
# least-squares fit to the pool.
#
# ``prepare`` (section 4.3) then swaps ReLU for Quant-ReLU,
#
# .. math:: q(z) = \lambda \, \mathrm{clip}(\lfloor z L / \lambda + 1/2 \rfloor, 0, L) / L,
#
# with as many levels :math:`L` as the spiking network will have time steps :math:`T`; the clip
# :math:`\lambda` of each layer starts as a percentile of its output and is trained with the weights. A
# short training follows each change.

T = 8
strided = sj_lowlat.replace_layers(ann, calibration=train_images[:64])
with torch.no_grad():
    print(f"max-pools replaced:     {accuracy(strided(test_images)):.1f} %")
train(strided, epochs=2, lr=1e-3)
with torch.no_grad():
    print(f"  trained:              {accuracy(strided(test_images)):.1f} %")

quant = sj_lowlat.prepare(strided, levels=T, calibration=train_images[:256])
with torch.no_grad():
    print(f"{T} levels:               {accuracy(quant(test_images)):.1f} %")
train(quant, epochs=4, lr=1e-3)
with torch.no_grad():
    quant_scores = quant(test_images)
print(f"  trained (Quant ANN):  {accuracy(quant_scores):.1f} %")

# %%
# Convert
# -------
# ``LowLatencyRecipe`` takes the options of ``sj_lowlat.convert`` and plugs it into SpikingJelly. Batch
# norms are folded and weights normalised by the clips (Eq. 13 to 15 of the paper),
#
# .. math:: \hat w^l = w^l \, \lambda^{l-1} / \lambda^l, \qquad \hat b^l = b^l / \lambda^l,
#    \qquad V_\mathrm{th} = 1,
#
# so that spikes are 0 and 1 (or -1). The network's forward was captured as a graph by the first verb, and
# every later one edits that graph; ``example`` gives the shape of its input. The report says what each layer
# became.

recipe = sj_lowlat.LowLatencyRecipe(neuron="signed", example=test_images[:1])
snn = ann2snn.ModuleConverter(recipe).convert(quant)
print(snn.conversion_report)

# %%
# Run it step by step
# -------------------
# This is the loop that SpikingJelly users know. The image is a constant current. The head does not fire: at
# step :math:`t` its output is that of the mean of the spikes so far, so the loop has nothing to add up.
#
# A Quant-ReLU of :math:`L` levels never counts higher than :math:`L`; in a loop of your own, set this limit
# as ``max_count`` of the signed neurons.

for module in snn.modules():
    if isinstance(module, sj_lowlat.SignedIFNode):
        module.max_count = T

functional.reset_net(snn)
with torch.no_grad():
    for t in range(1, T + 1):
        scores = snn(test_images)  # the answer after t steps
        print(f"t = {t}: {accuracy(scores):.1f} %")

# %%
# ``sj_lowlat.simulate`` does the same: it resets, computes the convolution of the constant image once, runs
# several steps in one batch, and reads the head at every step of ``readout``. It also limits the counts.
# (Compared in double precision, because in float32 rounding may move a spike that is just at
# the threshold.)

snn, few = snn.double(), test_images[:64].double()
functional.reset_net(snn)
with torch.no_grad():
    by_hand = [snn(few) for _ in range(T)]
result = sj_lowlat.simulate(snn, few, T, readout=range(1, T + 1))
differences = [(a - b).abs().max().item() for a, b in zip(by_hand, result.outputs, strict=True)]
print(f"largest difference from the loop: {max(differences):.1e}")

# %%
# Four kinds of neuron
# --------------------
# * *plain IF* starts at V(0) = 0, Eq. (2) to (5): its rate is rounded down in every layer;
# * *residual fix* starts at half its threshold (section 4.3): rounded to the nearest step;
# * *signed* may also take back a spike that came too early, by a spike of -1. This is not in the paper;
# * *signed + flush* runs a few more steps without input, in which late corrections reach the head. They
#   count as latency.

FLUSH = 4
kinds = {
    "plain IF": ("if", 0),
    "residual fix": ("residual-fix", 0),
    "signed": ("signed", 0),
    "signed + flush": ("signed", FLUSH),
}
accuracies, errors = {}, {}  # label -> steps -> percent
for label, (neuron, flush) in kinds.items():
    recipe = sj_lowlat.LowLatencyRecipe(neuron=neuron, example=test_images[:1])
    snn = ann2snn.ModuleConverter(recipe).convert(quant)
    steps = range(T, T + flush + 1) if flush else range(1, T + 1)
    result = sj_lowlat.simulate(snn, test_images, T, flush=flush, readout=steps)
    answers = dict(zip(result.steps, result.outputs, strict=True))
    accuracies[label] = {t: accuracy(scores) for t, scores in answers.items()}
    errors[label] = {
        t: 100 * ((scores - quant_scores).norm() / quant_scores.norm()).item()
        for t, scores in answers.items()
    }

print(f"{'':<16}steps   right   error of the scores against the Quant ANN")
for label, curve in accuracies.items():
    t = max(curve)
    print(f"{label:<16}{t:>5}  {curve[t]:>5.1f} %  {errors[label][t]:6.2f} %")

# %%
# Each remedy brings the scores closer to those of the Quant ANN, and the last one makes them equal. The right
# class needs less than equal scores: it is found several steps earlier.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for label, colour in zip(kinds, PALETTE, strict=False):
    style = {"marker": "o", "markersize": 4, "color": colour, "label": label}
    left.plot(accuracies[label].keys(), accuracies[label].values(), **style)
    right.plot(errors[label].keys(), errors[label].values(), **style)
left.axhline(accuracy(quant_scores), color="black", linestyle=":", label="Quant ANN")
left.set(ylabel="right (%)", ylim=(0, 102))
right.set(ylabel="error of the scores (%)", yscale="log")
right.legend(*left.get_legend_handles_labels(), frameon=False, loc="lower left")
for axes in (left, right):
    axes.axvline(T, color="0.8", linewidth=1, zorder=0)
    axes.text(T, 0.02, " input ends", color="0.4", transform=axes.get_xaxis_transform())
    axes.set(xlabel="latency in time steps (flush included)")
    axes.spines[["top", "right"]].set_visible(False)
