"""Layer replacement: what takes a layer's place starts as close to it as it can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sj_lowlat.conversion import POOL_HANDLERS, replace_layers
from sj_lowlat.conversion.fit import fit_to_pool, match_batch_norm, upsampling_convolution
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.models import tiny_yolov3


def smooth(count: int, size: int = 24, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Images with neighbours alike, as photos have."""
    coarse = torch.rand(count, channels, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def net_with(layer: nn.Module, act: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), act or nn.ReLU(), layer, nn.Conv2d(6, 4, 1)
    ).eval()


@settings(max_examples=30)
@given(
    factor=st.integers(1, 4), channels=st.integers(1, 5), height=st.integers(1, 6), width=st.integers(1, 6)
)
def test_transposed_convolution_equals_nearest_upsampling(
    factor: int, channels: int, height: int, width: int
) -> None:
    x = torch.randn(2, channels, height, width)
    assert torch.equal(upsampling_convolution(channels, factor)(x), F.interpolate(x, scale_factor=factor))


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("calibrated", [False, True])
def test_network_with_upsampling_stays_the_same(
    trained: Callable[..., Any], factor: int, calibrated: bool
) -> None:
    net = trained(net_with(nn.Upsample(scale_factor=factor)))
    images = torch.rand(4, 3, 5, 7)
    new = replace_layers(net, images if calibrated else None, example=images)
    assert new.replaced == {"3": "Upsample -> ConvTranspose2d"}
    torch.testing.assert_close(new(images), net(images), rtol=1e-4, atol=1e-5)
    if calibrated:  # in train mode too, on images like those it has seen
        new[3].train()
        torch.testing.assert_close(new(images), net(images), rtol=1e-4, atol=1e-5)


def test_upsampling_to_a_size_and_by_the_old_class() -> None:
    for layer in (nn.Upsample(size=(10, 10)), nn.UpsamplingNearest2d(scale_factor=2)):
        net, images = net_with(layer), torch.rand(2, 3, 5, 5)
        torch.testing.assert_close(replace_layers(net, images)(images), net(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("pool", "size", "kernel"),
    [
        (nn.MaxPool2d(2), 24, (3, 3)),
        (nn.MaxPool2d(2), 23, (2, 2)),
        (nn.MaxPool2d(2, ceil_mode=True), 23, (3, 3)),
        (nn.MaxPool2d(3, 2, 1), 23, (3, 3)),
        (nn.MaxPool2d(3, 2, ceil_mode=True), 24, (3, 3)),
        (nn.MaxPool2d((2, 3), (2, 1), (0, 1)), 24, (2, 3)),
        (nn.MaxPool2d(2, 1), 24, (2, 2)),
        (nn.MaxPool2d(3, 3), 24, (3, 3)),
    ],
)
def test_fit_beats_the_average_on_images_not_seen(
    trained: Callable[..., Any], pool: nn.MaxPool2d, size: int, kernel: tuple[int, int]
) -> None:
    net = trained(net_with(pool))
    seen, unseen = smooth(8, size, seed=1), smooth(8, size, seed=2)
    with torch.no_grad():
        want = net[:4](unseen)
        errors = {}
        for name, calibration in (("fitted", seen), ("average", None)):
            new = replace_layers(net, calibration, example=seen)
            assert new.replaced == {"3": "MaxPool2d -> Conv2d"} and new[3][0].kernel_size == kernel
            assert new[3][0].bias is None and isinstance(new[3][2], nn.ReLU)
            got = new[:4](unseen)
            assert got.shape == want.shape
            errors[name] = float((got - want).square().mean())
    scale = float(want.var())
    assert errors["fitted"] < 0.8 * errors["average"]
    assert errors["fitted"] < 0.2 * scale


def test_start_without_images_is_the_average_over_the_window() -> None:
    x = torch.rand(2, 6, 8, 8)
    for pool in (nn.MaxPool2d(2), nn.MaxPool2d(3, 3), nn.MaxPool2d(2, 1)):
        new = replace_layers(net_with(pool), example=torch.rand(1, 3, 8, 8))
        want = F.avg_pool2d(x, pool.kernel_size, pool.stride)
        torch.testing.assert_close(new[3](x), want, rtol=1e-4, atol=1e-5)


def test_fit_solves_the_ridge_problem() -> None:
    """The gradient of the loss in the docstring vanishes: bias free, weights with the given decay."""
    x = smooth(3, 9, channels=2).double()
    layer, norm = nn.Conv2d(2, 2, 3, 2, 1, bias=False).double(), nn.BatchNorm2d(2).double()
    pool = nn.MaxPool2d(2, ceil_mode=True)
    ridge = 1e-2
    fit_to_pool(layer, norm, pool, x, ridge)
    patches = F.unfold(x, 3, padding=1, stride=2)
    squares = torch.cat([patches, torch.ones_like(patches[:, :1])], 1).square().sum((0, 2))
    bias = norm.bias.detach().clone().requires_grad_()
    out = layer(x) + bias[:, None, None]
    loss = (out - pool(x)).square().sum() + ridge * squares.mean() * layer.weight.square().sum()
    weight_gradient, bias_gradient = torch.autograd.grad(loss, (layer.weight, bias))
    assert float(weight_gradient.abs().max()) < 1e-8 and float(bias_gradient.abs().max()) < 1e-8


def test_matched_norm_only_adds_its_bias() -> None:
    x = torch.rand(16, 2, 6, 6)
    layer, norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    nn.init.uniform_(norm.bias)
    want = (layer(x) + norm.bias.detach()[:, None, None]).detach()
    match_batch_norm(layer, norm, x)
    torch.testing.assert_close(norm.eval()(layer(x)), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.train()(layer(x)), want, rtol=1e-4, atol=1e-5)


def test_train_mode_stays_close_on_images_not_seen(trained: Callable[..., Any]) -> None:
    net = trained(
        nn.Sequential(net_with(nn.MaxPool2d(2)), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1))
    )
    new = replace_layers(net, smooth(16, seed=1)).eval()
    images = smooth(16, seed=2)
    with torch.no_grad():
        want = new(images)
        for name in new.replaced:
            new.get_submodule(name).train()
        got = new(images)
    assert float((got - want).norm() / want.norm()) < 0.1


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(5, 1, 2)])
def test_pools_of_stride_1_that_keep_the_size_are_dropped(pool: nn.Module) -> None:
    net = net_with(pool)
    new = replace_layers(net, torch.rand(2, 3, 8, 8))
    assert new.replaced == {"3": "MaxPool2d -> dropped"}
    assert isinstance(new[3], nn.Identity)


@pytest.mark.parametrize(
    "act",
    [nn.LeakyReLU(0.1), nn.SiLU(), nn.ReLU6(), nn.Hardswish(), nn.GELU(), nn.ELU(), nn.Mish(), nn.PReLU()],
)
def test_activations_give_way_to_relu(act: nn.Module) -> None:
    net = net_with(nn.Identity(), act).train()
    net[2].eval()
    new = replace_layers(net, example=torch.rand(1, 3, 8, 8))
    assert new.replaced == {"2": f"{type(act).__name__} -> ReLU"}
    assert type(new[2]) is nn.ReLU and not new[2].training and new.training
    images = torch.rand(2, 3, 8, 8)
    reference = nn.Sequential(*net[:2], nn.ReLU(), *net[3:])
    torch.testing.assert_close(new.eval()(images), reference.eval()(images))


def test_what_works_on_the_image_or_the_output_stays() -> None:
    net = nn.Sequential(
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3),
        nn.LeakyReLU(),
        nn.Conv2d(4, 2, 1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.SiLU(),
    )
    new = replace_layers(net, torch.rand(2, 3, 8, 8))
    assert new.replaced == {"2": "LeakyReLU -> ReLU"}
    assert [type(layer) for layer in new] == [
        nn.MaxPool2d,
        nn.Conv2d,
        nn.ReLU,
        nn.Conv2d,
        nn.Upsample,
        nn.SiLU,
    ]


@pytest.mark.parametrize("size", [64, 96])
def test_tiny_yolo_becomes_the_papers_network(size: int) -> None:
    net = tiny_yolov3(num_classes=2, width=0.25, input_size=size).train()
    new = replace_layers(net, torch.rand(2, 3, size, size))
    kinds = list(new.replaced.values())
    assert kinds.count("MaxPool2d -> Conv2d") + kinds.count("SameMaxPool -> Conv2d") == 5
    assert kinds.count("SameMaxPool -> dropped") == 1
    assert kinds.count("Upsample -> ConvTranspose2d") == 1
    assert kinds.count("LeakyReLU -> ReLU") == 11
    assert new.input_shape == net.input_shape and all(module.training for module in new.modules())
    assert [out.shape for out in new(torch.rand(2, 3, 64, 64))] == [(2, 21, 2, 2), (2, 21, 4, 4)]


class Functional(nn.Module):
    def __init__(self, call: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.body = nn.Module()
        self.first, self.last, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.LeakyReLU()
        self.inner = Inner(call)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(self.act(self.first(x))))


class Inner(nn.Module):
    def __init__(self, call: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.call = [call]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call[0](x)


@pytest.mark.parametrize(
    ("call", "name", "remedy"),
    [
        (lambda x: F.adaptive_max_pool2d(x, 4), "", "self.pool = nn.MaxPool2d"),
        (lambda x: F.interpolate(x, scale_factor=2), "interpolate", "self.up = nn.Upsample"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), "interpolate", "self.up = nn.Upsample"),
        (lambda x: torch.sin(x), "sin", "self.act = nn.ReLU"),
        (lambda x: x.round(), "round", "self.act = nn.ReLU"),
    ],
)
def test_functional_operations_are_refused(
    snapshot: Callable[..., Any], call: Callable[[torch.Tensor], torch.Tensor], name: str, remedy: str
) -> None:
    net = Functional(call)
    before = snapshot(net)
    with pytest.raises(ConversionError) as caught:
        replace_layers(net, torch.rand(2, 3, 8, 8))
    message = str(caught.value)
    assert "the forward of 'inner' (test_replace.py:" in message
    assert f"calls {name}" in message and remedy in message
    assert snapshot(net) == before


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.MaxPool2d(2, dilation=2), "dilated, .*POOL_HANDLERS"),
        (nn.MaxPool2d(7, 4, ceil_mode=True), "turns 8 x 8 into 2 x 2 pixels, which no convolution"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "only for mode='nearest' and whole factors"),
        (nn.Upsample(scale_factor=1.5), "only for mode='nearest' and whole factors"),
        (nn.Upsample(scale_factor=(2.0, 1.0)), "only for mode='nearest' and whole factors"),
        (nn.Softmax(1), r"'3' \(Softmax\) has no spiking form"),
    ],
)
def test_layers_without_a_replacement(layer: nn.Module, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        replace_layers(net_with(layer), torch.rand(2, 3, 8, 8))


def test_one_pool_for_many_calls() -> None:
    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.Conv2d(8, 2, 1)
            self.act1, self.act2, self.pool = nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.pool(self.act1(self.conv1(x)))
            return self.head(self.pool(self.act2(self.conv2(x))))

    new = replace_layers(Reused(), torch.rand(2, 3, 16, 16))
    assert new.replaced == dict.fromkeys(("pool", "pool_call"), "MaxPool2d -> Conv2d")


def test_nothing_to_replace_is_an_error() -> None:
    with pytest.raises(ConversionError, match="nothing to replace: the network has no activation"):
        replace_layers(net_with(nn.Identity()), torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(0, 3, 8, 8), "holds no images"),
        (torch.full((2, 3, 8, 8), torch.nan), "NaN"),
        ([torch.rand(2, 3, 8, 8), torch.full((2, 3, 8, 8), torch.nan)], "NaN"),
        (iter([torch.rand(2, 3, 8, 8)]), "read only once"),
        (None, "shape of the input is unknown"),
    ],
)
def test_bad_images(images: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace_layers(net_with(nn.MaxPool2d(2)), images)


def test_a_handler_of_ones_own() -> None:
    def sample(pool: nn.Module, channels: int, size: tuple[int, int], out_size: tuple[int, int]) -> nn.Module:
        assert (channels, size, out_size) == (6, (8, 8), (4, 4))
        return nn.AvgPool2d(2)

    POOL_HANDLERS[nn.FractionalMaxPool2d] = sample
    try:
        new = replace_layers(net_with(nn.FractionalMaxPool2d(2, output_size=4)), torch.rand(2, 3, 8, 8))
    finally:
        del POOL_HANDLERS[nn.FractionalMaxPool2d]
    assert new.replaced == {"3": "FractionalMaxPool2d -> AvgPool2d"} and isinstance(new[3], nn.AvgPool2d)


def test_a_second_replacement_adds_to_the_record() -> None:
    first = replace_layers(net_with(nn.MaxPool2d(2)), torch.rand(2, 3, 8, 8))
    first[2] = nn.SiLU()
    second = replace_layers(first, torch.rand(2, 3, 8, 8))
    assert second.replaced == {"3": "MaxPool2d -> Conv2d", "2": "SiLU -> ReLU"}


def test_replacement_in_double_precision() -> None:
    net = net_with(nn.MaxPool2d(2)).double()
    new = replace_layers(net, torch.rand(2, 3, 8, 8))
    assert {tensor.dtype for tensor in new.parameters()} == {torch.float64}
    assert new(torch.rand(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64
