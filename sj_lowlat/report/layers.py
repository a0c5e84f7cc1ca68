"""What the page shows of single layers: feature maps at every reading, a raster, traces of potentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sj_lowlat.data import spaced
from sj_lowlat.monitors import LayerSpikes
from sj_lowlat.report.images import tiles
from sj_lowlat.report.picture import PictureRun
from sj_lowlat.report.shapes import labelled, raster_paths, step_places, trace_points

_MAP_BYTES = 3_000_000
# layers, channels, side of a map in pixels: the first whose maps all fit
_SIZES = ((24, 12, 64), (24, 12, 40), (24, 8, 32), (12, 8, 24), (6, 8, 24), (3, 4, 16))
_COLUMNS = 6
_NEURONS = 16
_TRACES = 3
_TRACE_HEIGHT = 130.0  # as in page.html
_ROW = 14.0


@dataclass(frozen=True)
class LayerView:
    """One layer in the drawings of one picture.

    :param maps: the address of a sheet of maps for every reading
    :param channels: that the maps show, busiest first
    :param most: net spikes of the last colour, which only few neurons exceed
    :param signed: whether counts can be negative
    :param positive: path of the positive spikes in the raster; ``negative`` of the others
    :param neurons: rows of the raster, which is ``high``
    :param traces: polylines of potentials
    :param zero: place of potential 0; ``threshold`` of potential 1
    :param places: of the steps that are read, across the raster
    :param labels: places and numbers of those that are written
    """

    name: str
    shape: tuple[int, ...]
    maps: list[str]
    channels: list[int]
    most: float
    signed: bool
    positive: str
    negative: str
    neurons: int
    high: float
    traces: list[str]
    zero: float
    threshold: float
    places: list[float]
    labels: list[tuple[float, int]]


def layer_views(runs: Sequence[PictureRun]) -> list[list[LayerView]]:
    """Views of the layers of every picture; of many or large ones fewer layers, channels and pixels."""
    for layers, channels, side in _SIZES:
        views = [
            [_view(run, each[place], channels, side) for place in spaced(len(each), layers)]
            for run, each in ((run, run.spikes.layers()) for run in runs)
        ]
        if sum(len(sheet) for picture in views for view in picture for sheet in view.maps) <= _MAP_BYTES:
            break
    return views


def _view(run: PictureRun, layer: LayerSpikes, channels: int, side: int) -> LayerView:
    steps = [reading.step for reading in run.readings]
    chosen = layer.busiest_channels(channels)
    counts = layer.counts()[:, chosen]
    # not the largest: a few busy neurons would leave all others without colour
    most = max(float(counts[-1].abs().flatten().quantile(0.995)), 1e-9)
    signed = bool((counts < 0).any())
    neurons = layer.chosen_neurons(_NEURONS)
    traces: list[str] = []
    positive, negative, zero, threshold = "", "", 0.0, 0.0
    if neurons:
        positive, negative = raster_paths(layer.spikes[:, neurons], _ROW)
        few = [neurons[place] for place in spaced(len(neurons), _TRACES)]
        traces, zero, threshold = trace_points(layer.potentials[:, few], _TRACE_HEIGHT)
    all_places = step_places(len(layer.totals))
    places = [all_places[step - 1] for step in steps]
    kept = labelled(places)
    return LayerView(
        name=layer.name,
        shape=layer.shape,
        maps=[tiles(counts[step - 1], most, side, _COLUMNS, signed) for step in steps],
        channels=chosen,
        most=most,
        signed=signed,
        positive=positive,
        negative=negative,
        neurons=len(neurons),
        high=len(neurons) * _ROW,
        traces=traces,
        zero=zero,
        threshold=threshold,
        places=places,
        labels=[(places[index], steps[index]) for index in sorted(kept)],
    )
