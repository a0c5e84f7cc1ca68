"""Time steps and read-outs."""

from sj_lowlat.simulate.plan import check_steps
from sj_lowlat.simulate.run import Readout, SimulationResult, simulate, simulate_steps

__all__ = ["Readout", "SimulationResult", "check_steps", "simulate", "simulate_steps"]
