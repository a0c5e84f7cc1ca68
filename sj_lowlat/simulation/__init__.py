"""Simulation: a schedule of time steps, and read-outs."""

from sj_lowlat.simulation.plan import check_readout
from sj_lowlat.simulation.result import Readout, SimulationResult
from sj_lowlat.simulation.run import simulate, simulate_steps

__all__ = ["Readout", "SimulationResult", "check_readout", "simulate", "simulate_steps"]
