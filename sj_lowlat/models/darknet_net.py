"""A network built from a darknet cfg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from sj_lowlat.models.darknet_cfg import Section, parse_cfg, read_cfg
from sj_lowlat.models.darknet_layers import ConvBlock, DetectionHead, Product, Route, Shortcut
from sj_lowlat.models.darknet_plan import MOST_VALUES, Plan
from sj_lowlat.models.darknet_weights import load_darknet_weights, room_in
from sj_lowlat.models.detector import Detector
from sj_lowlat.models.registry import register


@register
def darknet(
    cfg: str | Path, weights: str | Path | None = None, class_names: Sequence[str] | None = None
) -> DarknetNet:
    """Any network of darknet's YOLO family, from its cfg.

    :param cfg: path of a .cfg file, or its text
    :param weights: path of a .weights file made for this cfg; fresh weights without it
    :param class_names: one name per class; by default the COCO names for 80 classes, else "class 0" ...
    :raises FileNotFoundError: if a file does not exist
    :raises InputError: if the cfg is not understood or the weights are not made for it
    """
    text = read_cfg(cfg)
    most = (room_in(weights) if weights is not None else None) or MOST_VALUES
    net = DarknetNet(parse_cfg(text, "" if text == cfg else cfg), class_names, most)
    net.build_config = {"builder": "darknet", "kwargs": {"cfg": text, "class_names": list(net.class_names)}}
    if weights is not None:
        load_darknet_weights(net, weights)
    return net


class DarknetNet(Detector):
    """The layers of a cfg, in its order and under its numbers, in ``layers``.

    ``forward`` returns the raw maps that reach the yolo and region layers, in the order of the cfg.

    :raises InputError: if sections do not fit together; the message names the section and its line
    """

    def __init__(
        self,
        sections: Sequence[Section],
        class_names: Sequence[str] | None = None,
        most: int = MOST_VALUES,
    ) -> None:
        if not {"yolo", "region"} & {section.kind for section in sections}:
            raise sections[0].error(
                " is followed by no [yolo] or [region] section, so the network would detect nothing"
            )
        plan = Plan(sections[0], most)
        layers = [plan.add(section) for section in sections[1:]]
        super().__init__(tuple(plan.heads), class_names, plan.input_size, plan.channels, plan.stride)
        self.info = self.info.with_shape((plan.channels, plan.input_height, plan.input_size))
        self.layers = nn.ModuleList(layers)
        self._kept = frozenset(plan.used)

    def conv_blocks(self) -> list[tuple[int, ConvBlock]]:
        """(layer number, block) of every convolution, in the order in which darknet stores weights."""
        return [(i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, ConvBlock)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images ``[N, C, H, W]`` in [0, 1] to one raw map ``[N, A * (5 + K), H / s, W / s]`` per head.

        :raises InputError: if sides are not multiples of ``stride``, or the channels differ
        """
        self.check_input(x)
        kept: dict[int, Tensor] = {}
        maps: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            if isinstance(layer, Route):
                x = layer([kept[source] for source in layer.sources])
            elif isinstance(layer, Shortcut | Product):
                x = layer(x, kept[layer.source])
            elif isinstance(layer, DetectionHead):
                maps.append(layer(x))
            else:
                x = layer(x)
            if number in self._kept:
                kept[number] = x
        return tuple(maps)
