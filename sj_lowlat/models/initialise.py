"""First weights of a detector."""

from __future__ import annotations

import math

import torch
from torch import nn

from sj_lowlat.detect import HeadSpec

OBJECTNESS = 0.01
"""Objectness of an untrained head: most cells hold nothing (the prior of RetinaNet, arXiv 1708.02002)."""


def initialise(block: nn.Module, slope: float = 0.0) -> None:
    """He initialisation of every convolution, for a following leaky ReLU of this slope (0: a ReLU)."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, slope, "fan_in", "leaky_relu")
        elif isinstance(module, nn.ConvTranspose2d):
            # an output sums in * k^2 / stride^2 products; torch's own fan_in takes axis 1, the outputs
            fan = module.weight[:, 0].numel() / math.prod(module.stride) / module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / (1 + slope**2) / fan))
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def initialise_head(conv: nn.Conv2d, spec: HeadSpec) -> None:
    """Small weights, and a bias that lets the objectness start near :data:`OBJECTNESS`."""
    nn.init.normal_(conv.weight, std=0.01)
    bias = torch.zeros(len(spec.anchors), 5 + spec.num_classes)
    bias[:, 4] = -math.log(1 / OBJECTNESS - 1)
    conv.bias = nn.Parameter(bias.flatten())
