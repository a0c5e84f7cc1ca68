"""Small cfgs of our own."""

from __future__ import annotations

import pytest

NET = "[net]\nbatch=1\nwidth=64\nheight=64\nchannels=3\n"


def conv(
    filters: int, size: int = 3, stride: int = 1, activation: str = "leaky", norm: int = 1, extra: str = ""
) -> str:
    return (
        f"[convolutional]\nbatch_normalize={norm}\nfilters={filters}\nsize={size}\nstride={stride}\npad=1\n"
        f"activation={activation}\n{extra}\n"
    )


def head(classes: int, anchors: int) -> str:
    return conv((5 + classes) * anchors, size=1, activation="linear", norm=0)


@pytest.fixture
def yolo_cfg() -> str:
    """Every kind of layer of YOLOv3: groups, slices, shortcut, upsampling, two heads."""
    return (
        f"{NET}"
        f"{conv(8)}"  # 0
        "[maxpool]\nsize=2\nstride=2\n"  # 1
        f"{conv(8, extra='groups=4')}"  # 2
        f"{conv(8, size=1, activation='relu')}"  # 3
        "[shortcut]\nfrom=-2\nactivation=leaky\n"  # 4
        f"{conv(16, stride=2, activation='mish')}"  # 5
        "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n"  # 6
        f"{conv(8, size=1)}"  # 7
        "[route]\nlayers=-1,-2,5\n"  # 8
        "[maxpool]\nsize=2\nstride=1\n"  # 9
        f"{head(3, 2)}"  # 10
        "[yolo]\nmask=2,0\nanchors=4,6, 8,10, 20,30\nclasses=3\nnum=3\n"  # 11
        "[route]\nlayers=9\n"  # 12
        "[upsample]\nstride=2\n"  # 13
        "[route]\nlayers=-1,1\n"  # 14
        f"{head(3, 1)}"  # 15
        "[yolo]\nmask=1\nanchors=4,6, 8,10, 20,30\nclasses=3\nnum=3\n"  # 16
    )


@pytest.fixture
def region_cfg() -> str:
    """YOLOv2's layers: reorg, joined with a coarser branch, and a region head."""
    return (
        f"{NET}"
        f"{conv(8, stride=2)}"  # 0
        f"{conv(8)}"  # 1
        f"{conv(16, stride=2)}"  # 2
        "[route]\nlayers=1\n"  # 3
        "[reorg]\nstride=2\n"  # 4
        "[route]\nlayers=-1,2\n"  # 5
        f"{head(2, 2)}"  # 6
        "[region]\nanchors=1.5,2, 3,4.25\nclasses=2\ncoords=4\nnum=2\nsoftmax=1\n"  # 7
    )
