"""What the tests of the conversion share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sj_lowlat.conversion.additions import complete_sums
from sj_lowlat.conversion.analysis import make_plan
from sj_lowlat.conversion.equalise import equalise_channels
from sj_lowlat.conversion.plan import Plan
from sj_lowlat.conversion.spike import activation_types
from sj_lowlat.conversion.statistics import collect_scales
from sj_lowlat.graph.edit import one_call_each
from sj_lowlat.network import GraphNetwork


@pytest.fixture(scope="session")
def trained() -> Callable[..., Any]:
    """Gives batch norms statistics and gains as if the network had been trained; returns it in eval mode."""

    def run(model: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.3, 2, generator=generator)
                if module.affine:
                    nn.init.uniform_(module.weight, 0.5, 2, generator=generator)
                    nn.init.normal_(module.bias, 0, 0.3, generator=generator)
        return model.eval()

    return run


@pytest.fixture(scope="session")
def snapshot() -> Callable[..., Any]:
    """All that a conversion could change in a network: structure, flags, attributes, values."""

    def run(model: nn.Module) -> tuple[Any, ...]:
        structure = [
            (name, id(module), type(module), module.training, getattr(module, "inplace", None))
            for name, module in model.named_modules()
        ]
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
        notes = {key: value for key, value in vars(model).items() if not key.startswith("_")}
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return structure, hooks, dict(notes), _Tensors(state)

    return run


class _Tensors:
    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, _Tensors)
        same = list(self.state) == list(other.state)
        return same and all(
            torch.equal(a, b) for a, b in zip(self.state.values(), other.state.values(), strict=True)
        )


@pytest.fixture(scope="session")
def equalised() -> Callable[..., Any]:
    """Equalises a network without quantising it."""

    def run(net: nn.Module, images: torch.Tensor) -> tuple[GraphNetwork, Plan, dict[str, torch.Tensor]]:
        """The network, equalised and not quantised; its plan; and its scales from before."""
        network = GraphNetwork.of(net, images[:1]).eval()
        one_call_each(network)
        complete_sums(network, activation_types("signed"), images[:1])
        plan = make_plan(network, activation_types("signed"))
        scales = collect_scales(network, plan.activations, images, "max", True)
        equalise_channels(network, plan, scales, images[:1])
        return network, plan, scales

    return run
