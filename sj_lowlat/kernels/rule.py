"""What a neuron does with its potential, as numbers that every kernel reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sj_lowlat.errors import InputError


@dataclass(frozen=True)
class FireRule:
    r"""When an integrate-and-fire neuron fires: its net spike count N follows the level of its charge.

    .. math::
        V &\leftarrow V + current \\
        spike &= \mathrm{clip}(\mathrm{clip}(level(V, N), lowest, highest) - N, -down, up) \\
        V &\leftarrow V - (charge(N + spike) - charge(N)) \\
        N &\leftarrow N + spike

    :math:`charge(N)` is what a count stands for: a threshold each; with a slope :math:`\alpha`, below zero a
    threshold / :math:`\alpha` each. The level is that of the whole charge :math:`U = V + charge(N)`:

    - ``"linear"``: :math:`N + \lfloor V / V_{th} \rfloor`, which is :math:`\lfloor U / V_{th} \rfloor`
      without the rounding of U
    - ``"leaky"``: :math:`\lfloor \max(U / V_{th}, \alpha U / V_{th} + 1/2) \rfloor`
    - ``"imbalanced"``: :math:`V / V_{th}`, below zero :math:`\alpha V / V_{th}`, rounded towards zero
    - ``"table"``: what a :class:`~sj_lowlat.kernels.LevelTable` says of U; V is U itself, spikes take nothing

    V and the charge are kept apart, so that a large count costs V no precision. Build a rule with one of the
    constructors below. A new target needs an entry in ``LEVELS`` (``kernels/source.py``) and a case in
    ``_level`` (``kernels/reference.py``), for training also in ``_border`` (``layers/surrogate.py``).

    :param counts: whether a neuron remembers N; otherwise N is 0 in every step
    :param lowest: limit of N, or ``None``; so is ``highest``
    :param up: most spikes of +1 in one step
    :param down: most spikes of -1 in one step
    :param slope: negative slope of the leaky ReLU that the neuron stands for; 0 for a ReLU
    :param target: name of the function that gives the level
    :param hard_reset: whether a spike sets V to 0, whatever V was
    :param powers: whether the spikes of one step are a signed power of two, the largest that is not more than
        what the equations above ask for: :math:`sign(spike) \, 2^{\lfloor \log_2 |spike| \rfloor}`. What is
        left is due in the steps that follow: one event with k in it stands for :math:`2^k` spikes
    :raises InputError: for a hard reset of anything but single positive spikes
    """

    counts: bool = False
    lowest: int | None = None
    highest: int | None = None
    up: int = 1
    down: int = 0
    slope: float = 0.0
    target: str = "linear"
    hard_reset: bool = False
    powers: bool = False

    def __post_init__(self) -> None:
        if self.hard_reset and (self.counts or self.target != "linear" or (self.down, self.up) != (0, 1)):
            raise InputError(
                f"a hard reset came with {-self.down} to {self.up} spikes a step, counts={self.counts} and "
                f"the target {self.target!r}: it is for the plain neuron of single spikes (burst 1, slope 0)"
            )

    @classmethod
    def plain(cls, burst: int = 1) -> FireRule:
        """IF neuron with soft reset (:func:`~sj_lowlat.functional.soft_reset_step`).

        :param burst: most spikes in one step
        :raises InputError: for ``burst`` below 1
        """
        if burst < 1:
            raise InputError(f"burst is {burst}, it must be at least 1 (1 for an imbalanced neuron)")
        return cls(up=burst)

    @classmethod
    def hard(cls) -> FireRule:
        """IF neuron with hard reset (Cao et al. 2015, Diehl et al. 2015): V = 0 after a spike, so that what
        was above the threshold is lost; has no bursts."""
        return cls(hard_reset=True)

    @classmethod
    def signed(cls, max_count: int | None = None, slope: float = 0.0, burst: int = 1) -> FireRule:
        """Neuron that takes back spikes that came too early (:func:`~sj_lowlat.functional.signed_step`).

        :param max_count: limit of N, with a slope on both sides of 0; or ``None``
        :param slope: in [0, 0.5); 0 for a ReLU, 1 for the identity
        :param burst: most spikes of either sign in one step
        :raises InputError: for numbers out of range
        """
        cls.plain(burst)  # checks it
        if max_count is not None and max_count < 1:
            raise InputError(f"max_count is {max_count}, it must be at least 1, or None for no limit")
        if not 0 <= slope < 0.5 and slope != 1:
            raise InputError(f"slope is {slope}, it must lie in [0, 0.5) (0 for a ReLU), or be 1 (identity)")
        if not slope:
            return cls(True, 0, max_count, burst, burst)
        lowest = None if max_count is None else -max_count
        if slope == 1:
            return cls(True, lowest, max_count, burst, burst)
        return cls(True, lowest, max_count, burst, burst, slope, "leaky")

    @classmethod
    def table(cls, levels: int, burst: int = 1) -> FireRule:
        """Neuron of any function of its whole charge, which a table gives in levels; V is never reset.

        :param levels: L, the limit of N on both sides of 0
        :param burst: most spikes of either sign in one step
        :raises InputError: for numbers out of range
        """
        return replace(cls.signed(levels, 1.0, burst), target="table")

    @property
    def resets(self) -> bool:
        """Whether spikes carry charge away."""
        return self.target != "table"

    @classmethod
    def imbalanced(cls, slope: float, burst: int = 1) -> FireRule:
        """Neuron with imbalanced threshold (:func:`~sj_lowlat.functional.imbalanced_step`); has no bursts.

        :param slope: in (0, 1]
        :raises InputError: for numbers out of range
        """
        if burst != 1:
            raise InputError(f"burst is {burst}, it must be at least 1 (1 for an imbalanced neuron)")
        if not 0 < slope <= 1:
            raise InputError(f"slope is {slope}, it must lie in (0, 1], as that of a leaky ReLU")
        return cls(down=1, slope=slope, target="imbalanced")
