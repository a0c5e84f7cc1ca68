"""Which kernel runs, and what is said where one cannot."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from sj_lowlat import kernels
from sj_lowlat.errors import InputError
from sj_lowlat.kernels import FireRule, cpp_kernel, cupy_kernel, multi_step, select
from sj_lowlat.kernels.cuda_source import OPTIONS, cuda_source
from sj_lowlat.kernels.source import Variant

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(select.VARIABLE, raising=False)


def test_every_device_has_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, kernel in ((False, "reference"), (True, "cpp")):
        monkeypatch.setattr(cpp_kernel, "available", lambda found=available: found)
        assert select.choose(CPU) == kernel
    assert select.choose(torch.device("meta")) == "reference"
    monkeypatch.setattr(cupy_kernel, "available", lambda: True)
    assert (select.choose(GPU), select.choose(CPU)) == ("cupy", "cpp")
    monkeypatch.setattr(cupy_kernel, "available", lambda: False)
    assert select.choose(GPU) == "reference"


def test_the_variable_decides_for_auto_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernels.KERNELS, "silent", lambda currents, *rest: torch.zeros_like(currents))
    monkeypatch.setenv(select.VARIABLE, "silent")
    assert select.choose(CPU) == select.choose(GPU) == "silent"
    arguments = torch.ones(2, 1, 3), torch.ones(1, 3), torch.ones(()), FireRule.plain(), None
    assert not multi_step(*arguments, "auto").any()
    assert multi_step(*arguments, "reference").any()


@pytest.mark.parametrize("value", ["", "auto"])
def test_a_variable_that_leaves_it_open(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(select.VARIABLE, value)
    monkeypatch.setattr(cpp_kernel, "available", lambda: False)
    assert select.choose(CPU) == "reference"


def test_a_variable_that_names_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(select.VARIABLE, "fast")
    with pytest.raises(InputError, match="SJ_LOWLAT_KERNEL is 'fast'.*auto, reference, cpp, cupy"):
        select.choose(CPU)


def test_cupy_on_the_cpu() -> None:
    with pytest.raises(InputError, match='"cupy" runs on a GPU, the tensors are on cpu.*reference'):
        multi_step(torch.ones(2, 1, 3), torch.ones(1, 3), torch.ones(()), FireRule.plain(), None, "cupy")


def test_cpp_elsewhere() -> None:
    tensors = (torch.ones(shape, device="meta") for shape in ((2, 1, 3), (1, 3), ()))
    with pytest.raises(InputError, match='"cpp" runs on the CPU, the tensors are on meta.*reference'):
        multi_step(*tensors, FireRule.plain(), None, "cpp")


def test_currents_and_state_on_two_devices() -> None:
    with pytest.raises(InputError, match="currents are on meta, the state of the neurons is on cpu"):
        multi_step(
            torch.ones(2, 1, 3, device="meta"),
            torch.ones(1, 3),
            torch.ones(()),
            FireRule.plain(),
            None,
            "cupy",
        )


def test_what_cupy_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []

    class Kernel:
        def __init__(self, *source: object) -> None:
            self.source = source

        def __call__(self, *launch: object) -> None:
            launched.append((self.source, launch))

    cupy = SimpleNamespace(RawKernel=Kernel, cuda=SimpleNamespace(Device=lambda index: nullcontext()))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cupy_kernel, "_current_stream", lambda device: nullcontext())
    cupy_kernel._compiled.cache_clear()
    variant, tensor = Variant(torch.bfloat16), torch.zeros(3)
    for size in (0, 1, 257, 2**33):
        cupy_kernel.launch("neurons", variant, size, (size, tensor, None, 0.5), GPU)
    cupy_kernel._compiled.cache_clear()
    sources, launches = zip(*launched, strict=True)
    assert set(sources) == {(cuda_source(variant), "neurons", OPTIONS)}
    assert launches == tuple(
        ((blocks,), (256,), (size, tensor.data_ptr(), 0, 0.5))
        for size, blocks in ((1, 1), (257, 2), (2**33, 2**16))
    )


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    cupy_kernel._compiled.cache_clear()
    with pytest.raises(InputError, match=r"needs CuPy.*pip install .sj-lowlat\[cuda12\]"):
        cupy_kernel.launch("neurons", Variant(torch.float32), 1, (), GPU)
