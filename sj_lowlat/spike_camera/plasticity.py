r"""Texture from short-term plasticity (TFSTP): each pixel drives a synapse, whose state tells its rate.

The model of Y. Zheng, L. Zheng, Z. Yu, B. Shi, Y. Tian, T. Huang, "High-speed image reconstruction through
short-term plasticity for spiking cameras", CVPR 2021. A spike releases the share u of a synapse's resources
R. Up to the next one, :math:`\Delta` frames later, R recovers towards 1 and u falls back towards U:

.. math:: R_{n+1} = 1 - [1 - R_n (1 - u_n)]\, e^{-\Delta / \tau_D}, \quad
    u_{n+1} = U + [u_n + C (1 - u_n) - U]\, e^{-\Delta / \tau_F}

In terms of what is spent, s = 1 - R, and what is raised, w = u - U, a spike takes s to s' and w to w', and
both then decay:

.. math:: s' = s + u (1 - s), \quad w' = w + C (1 - u), \quad
    s_{n+1} = s'_n e^{-\Delta / \tau_D}, \quad w_{n+1} = w'_n e^{-\Delta / \tau_F}

Where :math:`\Delta` does not change, s and w settle. The decay then takes back just what the spike did, so
each of them tells the interval:

.. math:: \Delta = \tau_D \ln \frac{s'}{s} = \tau_F \ln \frac{w'}{w}

The logarithms of s and w are kept, since R and u themselves round to 1 and U where spikes are rare.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sj_lowlat.errors import InputError
from sj_lowlat.spike_camera.reconstruct import whole_intervals

__all__ = ["after_interval", "after_spike", "tfstp"]

_Values = npt.NDArray[np.float64]


def tfstp(
    planes: npt.NDArray[Any],
    centre: int,
    U: float = 0.15,
    C: float = 0.15,
    tau_D: float = 1.0,
    tau_F: float = 10.0,
) -> npt.NDArray[np.float32]:
    r"""Texture from short-term plasticity: the rate that explains the state of a synapse behind each pixel.

    Each pixel's spikes up to the first one after frame ``centre`` go through a synapse that facilitates and
    depresses. Facilitation and depression each have an interval at which they would stay as they are then,

    .. math:: \Delta_D = \tau_D \ln \frac{1 - R (1 - u)}{1 - R}, \quad
        \Delta_F = \tau_F \ln \frac{u + C (1 - u) - U}{u - U}, \quad
        x = \frac{1}{2} \left(\frac{1}{\Delta_D} + \frac{1}{\Delta_F}\right)

    after [9] of Qiu & Zhu (Zheng et al., CVPR 2021). The authors' program (``TFSTP`` of SpikeCV) adds the two
    rates, with :math:`\tau_F - U + u (1 - C)` as the numerator of :math:`\Delta_F`, and stretches the sum to
    the range of a picture; half the sum is in spikes a frame. The defaults are that program's, in frames of
    0.05 ms.

    It is :func:`~sj_lowlat.spike_camera.tfi` with a memory: at constant intervals both give the same rate;
    intervals that differ are averaged, the last one counting most. With the defaults, 1 / x is off by less
    than 1.35 frames in a still scene without noise. Each spike leaves the share
    :math:`(1 - C) e^{-\Delta / \tau_F}` of what u was off by, so a bright pixel takes some spikes to follow a
    change, and to start: give some 30 frames before ``centre``.

    A missing spike is taken to be just outside the planes, at -1 or at T, as ``tfi`` takes it.

    :param planes: ``[T, H, W]``, 0 or 1
    :param centre: a frame
    :param U: share of its resources that a rested synapse releases, in (0, 1)
    :param C: share of the rest by which a spike raises it, in (0, 1)
    :param tau_D: time constant of depression, in frames; a longer one averages more
    :param tau_F: time constant of facilitation, in frames; a longer one averages more
    :return: ``[H, W]`` in (0, 1], spikes a frame
    :raises InputError: if ``centre`` does not lie within the planes, or for a value out of range
    """
    _, last_interval = whole_intervals(planes, centre, 1)
    _check(U, C, tau_D, tau_F)
    fired = planes[: centre + 1].reshape(centre + 1, -1) != 0  # [T, H*W]
    before = np.full(fired.shape[1], -1)  # when each pixel fired last
    log_s = np.full(fired.shape[1], -np.inf)  # at rest nothing is spent, nothing raised
    log_w = log_s.copy()
    for time, frame in enumerate(fired):
        which = frame.nonzero()[0]
        after = after_spike(log_s[which], log_w[which], U, C)
        log_s[which], log_w[which] = after_interval(*after, time - before[which], tau_D, tau_F)
        before[which] = time

    after = after_spike(log_s, log_w, U, C)
    log_s, log_w = after_interval(*after, last_interval.ravel(), tau_D, tau_F)
    after_s, after_w = after_spike(log_s, log_w, U, C)
    # no pixel fires more than once a frame, whatever the synapse makes of sudden changes
    by_depression = np.maximum(1, tau_D * (after_s - log_s))
    by_facilitation = np.maximum(1, tau_F * (after_w - log_w))
    rate = (1 / by_depression + 1 / by_facilitation) / 2
    return rate.reshape(planes.shape[1:]).astype(np.float32)


def after_spike(log_s: _Values, log_w: _Values, U: float, C: float) -> tuple[_Values, _Values]:
    r"""What a spike makes of a synapse: :math:`\ln s'` and :math:`\ln w'` of :math:`\ln s` and :math:`\ln w`.

    .. math:: s' = s + u (1 - s), \quad w' = w + C (1 - u), \quad u = U + w
    """
    s, w = np.exp(log_s), np.exp(log_w)
    u = U + w
    return np.log(s + u * (1 - s)), np.log(w + C * (1 - u))


def after_interval(
    log_s: _Values, log_w: _Values, interval: npt.NDArray[Any], tau_D: float, tau_F: float
) -> tuple[_Values, _Values]:
    r"""What some frames without a spike leave of :math:`s'` and :math:`w'`, as logarithms.

    .. math:: \ln s = \ln s' - \Delta / \tau_D, \quad \ln w = \ln w' - \Delta / \tau_F
    """
    return log_s - interval / tau_D, log_w - interval / tau_F


def _check(U: float, C: float, tau_D: float, tau_F: float) -> None:
    """The synapse's constants.

    :raises InputError: if one is out of range
    """
    for name, share in {"U": U, "C": C}.items():
        if not 0 < share < 1:
            raise InputError(f"{name} {share} came: give a share between 0 and 1, e.g. 0.15")
    for name, frames in {"tau_D": tau_D, "tau_F": tau_F}.items():
        if not 0 < frames < np.inf:
            raise InputError(f"{name} {frames} came: give a positive number of frames, e.g. 10")
