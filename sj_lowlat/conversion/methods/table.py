"""The table of methods."""

from __future__ import annotations

from sj_lowlat.conversion.methods import calibration, classic, graded, own, spike_norm, trained, waiting
from sj_lowlat.conversion.methods.method import Method
from sj_lowlat.errors import InputError

#: name -> method
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        own.SIGNED,
        trained.RESIDUAL_FIX,
        trained.PLAIN_IF,
        own.IMBALANCED,
        classic.CAO,
        classic.DIEHL,
        classic.RUECKAUER,
        spike_norm.SPIKE_NORM,
        classic.SPIKING_YOLO,
        trained.RATE_NORM,
        calibration.LIGHT,
        calibration.ADVANCED,
        trained.QCFS,
        trained.SRP,
        trained.COS,
        trained.FAST_SNN,
        graded.BURSTS,
        graded.GROUP_NEURONS,
        graded.MULTI_THRESHOLD,
        graded.DIFFERENTIAL,
        waiting.WAIT,
        waiting.BIT_SERIAL,
        own.GRADED,
        own.POWERS,
        own.SINGLE_SPIKE,
    )
}


def find_method(method: str | Method) -> Method:
    """The method of a name.

    :raises InputError: for an unknown one
    """
    if isinstance(method, Method):
        return method
    if method not in METHODS:
        raise InputError(f"method is {method!r}, it must be one of {', '.join(METHODS)}, or a Method")
    return METHODS[method]


def register_method(method: Method) -> None:
    """Add a method to the table, so that ``convert``, the command line and the benchmarks know its name.

    :raises InputError: if there is one of that name
    """
    if method.name in METHODS:
        raise InputError(f"there is a method {method.name!r} already: give yours another name")
    METHODS[method.name] = method
