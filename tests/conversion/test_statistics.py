"""Scales of activations on calibration images."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sj_lowlat.conversion.statistics import (
    ScaleCollector,
    collect_scales,
    image_batches,
    parse_statistic,
)
from sj_lowlat.errors import InputError
from sj_lowlat.functional import quant_relu
from sj_lowlat.record import evaluating


@pytest.mark.parametrize(
    ("statistic", "fraction"), [("max", 1.0), ("99.9%", 0.999), ("100%", 1.0), ("50 %", 0.5), ("0.5%", 0.005)]
)
def test_statistics_by_name(statistic: str, fraction: float) -> None:
    assert parse_statistic(statistic) == pytest.approx(fraction)


@pytest.mark.parametrize("statistic", ["", "mean", "0%", "101%", "-1%", "99.9", "99,9%", "%"])
def test_other_statistics_are_refused(statistic: str) -> None:
    with pytest.raises(InputError, match="statistic is .*'max', 'mse' or a percentage"):
        parse_statistic(statistic)


@settings(max_examples=30)
@given(
    parts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    fraction=st.floats(0.01, 1),
    per_channel=st.booleans(),
    seed=st.integers(0, 99),
)
def test_small_maps_are_ranked_exactly(
    parts: list[int], fraction: float, per_channel: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.rand(n, 3, 4, 2, generator=generator) for n in parts]
    collector = ScaleCollector(fraction, per_channel)
    for part in maps:
        collector.add(part)
    rows = torch.cat(maps).transpose(0, 1).reshape(3 if per_channel else 1, -1)
    ranked = rows.sort(1).values
    place = max(1, round(fraction * rows.shape[1])) - 1
    want = ranked[:, place]
    assert torch.equal(collector.result(), want if per_channel else want[0])


def test_a_sample_of_large_maps_is_close_and_repeatable() -> None:
    values = torch.rand(4, 2, 400, 400)
    first, second, exact = (ScaleCollector(fraction, True) for fraction in (0.9, 0.9, 1.0))
    for collector in (first, second, exact):
        collector.add(values)
    assert torch.equal(first.result(), second.result())
    # 2 ** 15 of 640,000 values per channel: 4 standard deviations of the rank
    torch.testing.assert_close(first.result(), torch.full((2,), 0.9), rtol=0, atol=4 * 0.3 / 2**7.5)
    assert sum(sample.numel() for sample in first.samples) <= 2**16
    assert torch.equal(exact.result(), values.amax((0, 2, 3)))


def test_silent_and_seldom_active_channels_have_a_scale() -> None:
    values = torch.zeros(1, 2, 40, 40)
    values[0, 1, 0, 0] = 0.5
    collector = ScaleCollector(0.9, per_channel=True)
    collector.add(values)
    assert collector.result().tolist() == [0.5, 0.5]
    silent = ScaleCollector(0.9, per_channel=True)
    silent.add(0 * values)
    assert silent.result().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_least_square_clip_is_that_of_the_quantised_activation(slope: float, per_channel: bool) -> None:
    levels = 5
    before = torch.randn(2, 3, 20, 20) * torch.tensor([0.2, 1.0, 4.0]).view(3, 1, 1) - 1.0
    after = before.relu() if not slope else torch.where(before < 0, slope * before, before)
    collector = ScaleCollector(None, per_channel, levels, slope)
    collector.add(after.abs() if slope == 1 else after)
    clip = collector.result()

    def error(at: torch.Tensor) -> torch.Tensor:
        clips = at.view(-1, 1, 1) if at.dim() else at
        square = (after - quant_relu(before, clips, levels, slope)).square()
        return square.mean((0, 2, 3)) if per_channel else square.mean()

    highest = after.abs().amax((0, 2, 3)) if per_channel else after.abs().max()
    tried = torch.stack([error(part * highest) for part in torch.linspace(0.05, 1, 400)])
    assert bool((error(clip) <= 1.02 * tried.amin(0)).all())


def test_scales_are_those_of_the_eval_mode_and_of_any_batching() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.9)).train()
    images = torch.rand(9, 1, 6, 6)
    nn.init.uniform_(net[1].bias, 0.1, 0.5)
    want = net.eval()(images).amax((0, 2, 3)).detach()
    net.train()
    batches = [images[:2], images[:0], (images[2:7], "label"), [images[7:]]]
    for given_as in (images, batches, images.double()):
        scales = collect_scales(net, ["2"], given_as, "max", per_channel=True)  # type: ignore[arg-type]
        torch.testing.assert_close(scales["2"], want)
    assert collect_scales(net, ["2"], images, "max", per_channel=False)["2"] == want.max()
    assert all(module.training for module in net.modules())
    assert not net[2]._forward_hooks


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(0, 3, 8, 8), "holds no images"),
        ([], "holds no images"),
        ([torch.rand(0, 3, 8, 8)], "holds no images"),
        (torch.full((2, 3, 8, 8), torch.nan), "NaN"),
        ([torch.rand(1, 3, 8, 8), torch.full((1, 3, 8, 8), torch.inf)], "NaN or infinite"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (["image.png"], "str"),
    ],
)
def test_bad_images_are_refused(images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(image_batches(images))  # type: ignore[arg-type]


def test_generators_of_batches_are_read_once() -> None:
    def batches() -> Iterator[torch.Tensor]:
        yield torch.rand(2, 1, 4, 4)
        yield torch.rand(1, 1, 4, 4)

    assert [len(batch) for batch in image_batches(batches())] == [2, 1]
    assert [len(batch) for batch in image_batches(torch.rand(11, 1, 4, 4))] == [8, 3]


def test_flags_come_back_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(1)).train()
    net[1].eval()
    with pytest.raises(ZeroDivisionError), evaluating(net):
        assert not net[0].training
        raise ZeroDivisionError
    assert [module.training for module in net.modules()] == [True, True, False]
