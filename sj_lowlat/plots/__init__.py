"""Figures drawn from plain records; each function returns a :class:`matplotlib.figure.Figure`."""

from sj_lowlat.plots.curves import plot_map_curve, plot_map_panels
from sj_lowlat.plots.grid import plot_images
from sj_lowlat.plots.neuron_response import neuron_response, plot_neuron_response
from sj_lowlat.plots.rates import plot_rates
from sj_lowlat.plots.scores import plot_against_score, plot_precision_recall
from sj_lowlat.plots.spikes import plot_activity, plot_count_maps, plot_neurons
from sj_lowlat.plots.training import plot_training

__all__ = [
    "neuron_response",
    "plot_activity",
    "plot_against_score",
    "plot_count_maps",
    "plot_images",
    "plot_map_curve",
    "plot_map_panels",
    "plot_neuron_response",
    "plot_neurons",
    "plot_precision_recall",
    "plot_rates",
    "plot_training",
]
