"""What has no spiking form is refused with module (or line) and remedy, and nothing is changed by that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based.neuron import IFNode
from torch import Tensor, nn
from torch.nn import functional as F

from sj_lowlat.conversion import ACTIVATIONS, convert, prepare, register_activation, replace_layers
from sj_lowlat.errors import ConversionError
from sj_lowlat.graph.operations import LEAF_TYPES
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def conv(into: int = 3, out: int = 4, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, stride, padding=1)


class Body(nn.Module):
    """Two convolutions with an activation each, a head, and a hole in between that a test fills."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act1 = conv(), nn.ReLU()
        self.conv2, self.act2 = conv(4), nn.ReLU()
        self.head = conv(4, 2)
        self.extra = nn.Identity()

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.act2(self.conv2(self.between(self.act1(self.conv1(x))))))

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return self.extra(x)


def body(extra: nn.Module) -> Body:
    net = Body()
    net.extra = extra
    return net


class FunctionalRelu(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.conv2(self.act1(self.conv1(x)))))


class TorchRelu(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv2(self.act1(self.conv1(x)))))


class Clamped(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.clip(self.conv2(self.conv1(x).clamp(min=0)), 0, 6))


class Rounded(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv2(self.act1(self.conv1(x))).round())


class Plus(Body):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.extra(x).flip(1)


class TorchAdd(Body):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(x, x.flip(1))


class PlusInPlace(Body):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        y = x.flip(1)
        y += x
        return y


class Scaled(Body):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x


class FunctionalPool(Body):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, 2)


class FunctionalLeaky(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act2(self.conv2(F.leaky_relu(self.conv1(x), 0.1))))


class Bilinear(Body):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear")


class AssignedSlice(Body):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(x.shape)
        y[:, 1:] = x[:, 1:]
        return y


class ThroughNumpy(Body):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy())


class OneReluTwice(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act1(self.conv2(self.act1(self.conv1(x)))))


class OneConvTwice(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act2(self.conv2(self.act1(self.conv2(self.conv1(x))))))


class SharedPreActivation(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        return self.head(torch.cat([self.act1(y)[:, :2], self.act2(y)[:, :2]], 1))


class ReadsInPlaceResult(Body):
    """The in-place activation changes what the second reader sees; neurons would not."""

    def __init__(self) -> None:
        super().__init__()
        self.act1 = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        z = self.act2(self.conv2(self.act1(y)))
        return self.head(z), self.extra(y)


class CurrentMeetsSpike(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act1(self.conv1(x))
        return self.head(torch.cat([y[:, :2], self.conv2(y)[:, :2]], 1))


class ImageMeetsSpike(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act1(self.conv1(x))
        return self.head(torch.cat([y[:, :1], x], 1))


class ReturnsActivation(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act2(self.conv2(self.act1(self.conv1(x))))


class ReturnsFeatures(Body):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.conv2(self.act1(self.conv1(x)))
        return self.head(self.act2(y)), y


class ReturnsImage(Body):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return super().forward(x), x * 2


class ResidualOfTheImage(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :2] - super().forward(x)


class ReturnsRecord(Body):
    def forward(self, x: torch.Tensor) -> object:
        class Record:
            out = super(ReturnsRecord, self).forward(x)

        return Record()


class ReturnsPixels(Body):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).flatten(0, 1)


class MeanOfTheBatch(Body):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(0, keepdim=True)


class StandardisedConv(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight / self.weight.std(), self.bias, padding=1)


class ShiftedRelu(nn.ReLU):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - 1)


class HalvedPool(nn.MaxPool2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 2


def with_conv2(layer: nn.Module) -> Body:
    net = Body()
    net.conv2 = layer
    return net


def with_act2(layer: nn.Module) -> Body:
    net = Body()
    net.act2 = layer
    return net


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "round": (Rounded, r"test_refusals.py:\d+\) calls round: .*make it a module"),
    "nested": (
        lambda: nn.Sequential(Rounded(), nn.Identity()),
        r"the forward of '0' \(test_refusals.py",
    ),
    "factor": (Scaled, "calls .*mul"),
    "F.interpolate": (Bilinear, r"calls interpolate with a mode other than nearest: make it self.up"),
    "slice assignment": (AssignedSlice, "calls __setitem__"),
    "numpy": (
        ThroughNumpy,
        r"forward of ThroughNumpy cannot be followed at test_refusals.py:\d+ .*without NumPy",
    ),
    "max-pool": (
        lambda: body(HalvedPool(2)),
        r"'extra' \(HalvedPool\) has no spiking form: a max-pool can count spikes only behind activations",
    ),
    "bilinear": (
        lambda: body(nn.Upsample(scale_factor=2, mode="bilinear")),
        r"'extra' \(Upsample\) has no spiking form: run replace_layers",
    ),
    "group norm": (
        lambda: body(nn.GroupNorm(2, 4)),
        r"'extra' \(GroupNorm\) has no spiking form: it divides by statistics of the image",
    ),
    "norm without statistics": (
        lambda: with_conv2(nn.Sequential(conv(4), nn.BatchNorm2d(4, track_running_stats=False))),
        r"'conv2.1' \(BatchNorm2d\) has no running statistics to fold: .*track_running_stats=True",
    ),
    "two norms": (
        lambda: with_conv2(nn.Sequential(conv(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4))),
        r"'conv2.2' \(BatchNorm2d\) .*folded only",
    ),
    "in place": (ReadsInPlaceResult, "the activation 'act1' itself"),
    "image and spike": (ImageMeetsSpike, r"'cat' \(test_refusals.py:\d+\) joins input and spike: put a conv"),
    "features returned": (ReturnsFeatures, "returns 'conv2', which goes on .*of its own"),
    "image returned": (ReturnsImage, "returns '.*mul.*', which no layer has computed: return the heads only"),
    "image and output": (ResidualOfTheImage, "joins the network's output and the image: .*join them outside"),
    "record returned": (ReturnsRecord, "returns nothing that could be followed .*return a tensor"),
    "batch flattened": (ReturnsPixels, "returns 'flatten' with dimension 0 of size 4 for 2 images: leave"),
    "batch averaged": (
        MeanOfTheBatch,
        r"'conv2' \(Conv2d\) reads a batch of 1 for 2 images: .*leave dimension 0",
    ),
    "own conv": (
        lambda: with_conv2(StandardisedConv(4, 4, 3)),
        r"'conv2' \(StandardisedConv\) overrides the forward of torch's layer: use",
    ),
    "own ReLU": (lambda: with_act2(ShiftedRelu()), r"'act2' \(ShiftedRelu\) overrides .*register_activation"),
    "weight norm": (
        lambda: with_conv2(nn.utils.parametrizations.weight_norm(conv(4))),
        "forward of 'conv2",
    ),
}


class NormBehindActivation(Body):
    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.BatchNorm2d(4)


class TwoRelus(Body):
    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.ReLU()


class PreActivation(Body):
    """The sum is read by a batch norm and by the next sum."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv3 = nn.BatchNorm2d(4), conv(4, 4)
        self.act3 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        y = y + self.conv2(self.act1(y))
        y = y + self.conv3(self.act2(self.norm(y)))
        return self.head(self.act3(y))


class DeadBranch(Body):
    """A function of spikes that nobody reads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act1(self.conv1(x))
        self.extra(y + y)
        return self.head(self.act2(self.conv2(y)))

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.ReLU6()


class OneHeadForAll(Body):
    """One head and one activation for two maps, as in RetinaNet."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.act1(self.conv1(x))
        z = self.act1(self.conv2(y))
        return self.head(self.act2(self.conv2(y))), self.head(self.act2(self.conv2(z)))


@pytest.mark.parametrize(
    "kind",
    [FunctionalRelu, TorchRelu, Clamped, Plus, TorchAdd, PlusInPlace, FunctionalPool, FunctionalLeaky,
     OneReluTwice, OneConvTwice, OneHeadForAll, NormBehindActivation, TwoRelus, PreActivation,
     SharedPreActivation, CurrentMeetsSpike, ReturnsActivation, DeadBranch],
)  # fmt: skip
def test_what_is_not_a_layer_after_a_layer(kind: type[Body]) -> None:
    """Activations and pools as functions, additions, layers that are called again, norms of spikes."""
    images = IMAGES.double()
    quant = prepare(kind().double(), 8, images).eval()
    out = simulate(convert(quant), images, 8, flush=60).final
    with torch.no_grad():
        torch.testing.assert_close(out, quant(images), rtol=1e-9, atol=1e-12)


def test_sums_of_currents_need_spikes_of_both_signs() -> None:
    quant = prepare(PreActivation(), 8, IMAGES)
    with pytest.raises(ConversionError, match="'conv1_identity' .*below 0, .*: take 'signed'"):
        convert(quant, neuron="residual-fix")


@pytest.mark.parametrize("verb", ["convert", "prepare"])
@pytest.mark.parametrize("case", sorted(REFUSED))
def test_refused_with_name_and_remedy(snapshot: Callable[..., Any], case: str, verb: str) -> None:
    make, message = REFUSED[case]
    net = make()
    net.train()
    next(net.children()).eval()
    before = snapshot(net)
    with pytest.raises(ConversionError, match=message):
        if verb == "convert":
            convert(net, scale="max", calibration=IMAGES)
        else:
            prepare(net, 8, IMAGES)
    assert snapshot(net) == before


def test_weights_computed_in_each_forward_are_refused() -> None:
    net = with_conv2(nn.utils.spectral_norm(conv(4)))
    with pytest.raises(
        ConversionError, match=r"'conv2' \(Conv2d\) computes its weight anew .*remove the weight"
    ):
        prepare(net, 8, IMAGES)


def test_all_reasons_are_given_at_once() -> None:
    class Several(Scaled):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.sin(self.conv2(self.between(self.act1(self.conv1(x))))))

    with pytest.raises(ConversionError) as caught:
        prepare(Several(), 8, IMAGES)
    assert [line[:2] for line in str(caught.value).splitlines()[1:]] == ["- ", "- "]
    assert "mul" in str(caught.value) and "sin" in str(caught.value)


@pytest.mark.parametrize("net", [nn.Sequential(conv()), nn.Sequential(conv(), nn.BatchNorm2d(4), conv(4))])
def test_nothing_to_convert_is_an_error(net: nn.Module) -> None:
    with pytest.raises(ConversionError, match="nothing to prepare: .*run replace_layers first"):
        prepare(net, 8, IMAGES)
    with pytest.raises(ConversionError, match="nothing to convert: .*run replace_layers first"):
        convert(net, scale="max", calibration=IMAGES)


def test_a_spiking_network_is_refused(snapshot: Callable[..., Any]) -> None:
    snn = convert(Body(), scale="max", calibration=IMAGES)
    before = snapshot(snn)
    for verb in (
        lambda: convert(snn, scale="max", calibration=IMAGES),
        lambda: prepare(snn, 4, IMAGES),
        lambda: replace_layers(snn, IMAGES),
    ):
        with pytest.raises(ConversionError, match="spiking already: give the network that prepare"):
            verb()
    assert snapshot(snn) == before


def test_a_network_with_spikingjellys_neurons_is_refused() -> None:
    for verb in (prepare, convert):
        with pytest.raises(ConversionError, match="spiking already"):
            verb(with_act2(IFNode()), 8) if verb is prepare else verb(with_act2(IFNode()))


def test_registered_modules_may_be_called_from_a_plain_list() -> None:
    """The graph calls layers by their names, wherever forward finds them."""

    class Listed(Body):
        def __init__(self) -> None:
            super().__init__()
            self.order = [self.conv1, self.act1, self.conv2, self.act2, self.head]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.order:
                x = layer(x)
            return x

    images = IMAGES.double()
    quant = prepare(Listed().double(), 8, images).eval()
    out = simulate(convert(quant), images, 8, flush=40).final
    with torch.no_grad():
        torch.testing.assert_close(out, quant(images), rtol=1e-9, atol=1e-12)


def test_modules_out_of_reach_are_refused() -> None:
    """A layer that is registered nowhere has no name, so nothing can take its place."""

    class Hidden(Body):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = [conv(4)]

        def between(self, x: torch.Tensor) -> torch.Tensor:
            return self.hidden[0](x)

    for verb in (
        lambda: prepare(Hidden(), 8, IMAGES),
        lambda: convert(Hidden(), scale="max", calibration=IMAGES),
    ):
        with pytest.raises(ConversionError, match="calls conv2d: make it a module .*nn.ModuleList"):
            verb()


def test_a_module_with_two_names_is_replaced_under_both() -> None:
    class Twice(Body):
        def __init__(self) -> None:
            super().__init__()
            self.order = nn.ModuleList([self.conv1, self.act1, self.conv2, self.act2, self.head])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.order:
                x = layer(x)
            return x

    quant = prepare(Twice(), 8, IMAGES)
    assert quant.act1 is quant.order[1] and type(quant.act1).__name__ == "QuantReLU"
    snn = convert(quant)
    assert snn.act2 is snn.order[3] and type(snn.act2).__name__ == "SignedIFNode"


def test_an_activation_of_ones_own_can_be_registered() -> None:
    class Rectifier(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 0, x, 0.0)

    net = with_act2(Rectifier())
    with pytest.raises(ConversionError, match="forward of 'act2'"):
        convert(net, scale="max", calibration=IMAGES)
    register_activation(Rectifier)
    try:
        snn = convert(net, scale="max", calibration=IMAGES)
        assert [row.neuron for row in snn.conversion_report.layers] == [
            "SignedIFNode",
            "SignedIFNode",
            "RateReadout",
        ]
    finally:
        ACTIVATIONS.discard(Rectifier)
        LEAF_TYPES.discard(Rectifier)


class Allowed(Body):
    """Preprocessing of the image, operations that carry spikes, and post-processing behind the head."""

    def __init__(self) -> None:
        super().__init__()
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear")
        self.norm = nn.GroupNorm(1, 3)
        self.empty = nn.Sequential()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = F.max_pool2d(self.norm(self.resize(x)), 2) + 0.1
        x = F.dropout(self.empty(self.act1(self.conv1(x))), training=False)
        x = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="nearest").chunk(1, 1)[0]
        out = self.head(F.avg_pool2d(self.act2(self.conv2(x)), 2))
        n, c, h, w = out.shape
        boxes = out.view(n, 1, c, h, w).permute(0, 1, 3, 4, 2)
        return torch.sigmoid(boxes[..., 0]) * 2, F.relu(out + 1).mean((2, 3)), out.new_zeros(3, 7)


def test_what_may_stand_around_and_between_the_layers() -> None:
    images = IMAGES.double()
    quant = prepare(Allowed().double(), 8, images).eval()
    snn = convert(quant)
    assert snn.input_layers == ("conv1",)
    assert [row.neuron for row in snn.conversion_report.layers] == [
        "SignedIFNode",
        "SignedIFNode",
        "RateReadout",
    ]
    result = simulate(snn, images, 8, flush=40, readout=(3, 48), chunk=5)
    with torch.no_grad():
        torch.testing.assert_close(result.final, quant(images), rtol=1e-9, atol=1e-12)
    assert [out.shape for out in result.outputs[0]] == [out.shape for out in result.final]


def test_every_reason_is_given_one_by_one() -> None:
    class Both(Body):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.sin(self.conv2(self.act1(self.conv1(x))))
            return self.head(F.adaptive_max_pool2d(y, 2))

    with pytest.raises(ConversionError) as caught:
        convert(Both(), scale="max", calibration=IMAGES)
    sine, pool = caught.value.refused
    assert "sin" in sine and "max_pool2d" in pool and sine in str(caught.value)


@pytest.mark.parametrize("dropout", [F.dropout, F.dropout2d, F.alpha_dropout])
def test_dropout_that_is_on_in_eval_mode_is_refused(dropout: Callable[..., Tensor]) -> None:
    class Forgetful(nn.Module):
        def __init__(self, **options: bool) -> None:
            super().__init__()
            self.stem, self.act, self.head = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)
            self.options = options

        def forward(self, x: Tensor) -> Tensor:
            return self.head(dropout(self.act(self.stem(x)), 0.1, **self.options))

    images = torch.rand(1, 3, 8, 8)
    prepare(Forgetful(training=False), 8, images, scale="max")
    with pytest.raises(
        ConversionError, match="drops values in eval mode as well: pass training=self.training"
    ):
        prepare(Forgetful(training=True), 8, images, scale="max")
