"""NIR files: every spike against numpy on the written graph and sinabs, and read back as the same network."""

from __future__ import annotations

import json
import runpy
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn

from sj_lowlat.cli import main
from sj_lowlat.conversion import convert, prepare
from sj_lowlat.errors import ConversionError, InputError
from sj_lowlat.export import read_nir, write_nir, write_nir_spikes
from sj_lowlat.layers import HardResetIFNode, LowLatencyIFNode, RateReadout
from sj_lowlat.models import snn_tiny_yolov3
from sj_lowlat.monitors import SpikeRecorder
from sj_lowlat.network import SpikingNetwork
from sj_lowlat.simulation import simulate
from sj_lowlat.zoo import open_network
from tests.export.watch import watched

nir = pytest.importorskip("nir")
REFERENCE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "nir_reference.py"))


class Net(nn.Module):
    """Convolutions with ReLU, some followed by a pool or added to a branch; one or two heads."""

    def __init__(self, blocks: list[dict[str, Any]], heads: str) -> None:
        super().__init__()
        self.input_shape = (2, 12, 10)
        self.body, self.acts, self.pools, self.sides = (nn.ModuleDict() for _ in range(4))
        last = 2
        for number, block in enumerate(blocks):
            name, own = f"at{number}", dict(block)
            channels, pool, side = own.pop("channels"), own.pop("pool"), own.pop("side")
            self.body[name] = nn.Conv2d(last, channels, **own)
            self.acts[name] = nn.ReLU()
            if side:
                self.sides[name] = nn.Conv2d(last, channels, **own)
            if pool:
                self.pools[name] = nn.AvgPool2d(2, divisor_override=1 if pool == "sum" else None)
            last = channels
        self.heads, size = heads, self.features(torch.zeros(1, *self.input_shape)).shape[1:]
        self.maps, self.flat, self.scores = nn.Conv2d(last, 3, 1), nn.Flatten(), nn.Linear(size.numel(), 4)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        for name, conv in self.body.items():
            currents = conv(x) + self.sides[name](x) if name in self.sides else conv(x)
            x = self.acts[name](currents)
            x = self.pools[name](x) if name in self.pools else x
        return x

    def forward(self, x: torch.Tensor) -> Any:
        x = self.features(x)
        if self.heads == "both":
            return self.maps(x), self.scores(self.flat(x))
        return self.maps(x) if self.heads == "maps" else self.scores(self.flat(x))


def spiking(net: nn.Module, neuron: str, seed: int, ratio: float = 0.5) -> SpikingNetwork:
    """Weights, thresholds and so all sums are multiples of 2^-n: exact in float32, often equal to V_th."""
    generator = torch.Generator().manual_seed(seed)

    def whole(shape: Any, most: int) -> torch.Tensor:
        return torch.randint(-most, most + 1, shape, generator=generator).float()

    names = {name: torch.ones(()) for name, layer in net.named_modules() if isinstance(layer, nn.ReLU)}
    snn = convert(net, neuron=neuron, scale=names)
    for layer in snn.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data = whole(layer.weight.shape, 32) / 64
            layer.bias.data = whole(layer.bias.shape, 64) / 256
        elif isinstance(layer, LowLatencyIFNode):
            channels = 1 + int(whole((), 4).abs())
            layer.v_threshold = 0.25 * channels
            layer.set_ratio(ratio if neuron == "residual-fix" else 0.0)
    snn.connect()  # lays the new weights out as those of a network that was read
    return snn


def per_channel(snn: SpikingNetwork) -> None:
    for node in snn.graph.nodes:
        layer: Any = snn.module_of(node)
        if isinstance(layer, LowLatencyIFNode):
            source = next(n for n in reversed(list(snn.graph.nodes)) if n in node.all_input_nodes)
            conv: Any = snn.module_of(source)
            while not hasattr(conv, "out_channels"):  # a sum
                source = source.all_input_nodes[0]
                conv = snn.module_of(source)
            layer.v_threshold = 0.25 + 0.125 * torch.arange(conv.out_channels)
            layer.set_ratio(torch.arange(conv.out_channels) % 4 / 4)


def as_list(maps: Any) -> list[torch.Tensor]:
    return [maps] if isinstance(maps, torch.Tensor) else list(maps)


BLOCK = st.fixed_dictionaries(
    {
        "channels": st.integers(1, 4),
        "kernel_size": st.sampled_from([1, 3]),
        "stride": st.sampled_from([1, 1, 2]),
        "padding": st.integers(1, 2),
        "dilation": st.sampled_from([1, 1, 2]),
        "pool": st.sampled_from(["", "", "avg", "sum"]),
        "side": st.booleans(),
    }
)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(BLOCK, min_size=1, max_size=3),
    st.sampled_from(["maps", "scores", "both"]),
    st.sampled_from(["residual-fix", "if", "hard-reset"]),
    st.booleans(),
    st.integers(0, 999),
)
def test_every_spike(
    tmp_path_factory: Any, blocks: Any, heads: str, neuron: str, channels: bool, seed: int
) -> None:
    try:
        net = Net(blocks, heads)
    except RuntimeError:  # maps smaller than a window
        reject()
    snn = spiking(net, neuron, seed)
    if channels:
        per_channel(snn)
    images = torch.randint(0, 65, (2, 2, 12, 10), generator=torch.Generator().manual_seed(seed)) / 64
    wanted, (*_, maps) = watched(snn, images, "6+0c6")
    path = write_nir(snn, tmp_path_factory.mktemp("nir") / "net.nir", "6+0c6")

    back, (*_, maps_back) = watched(read_nir(path), images, "6+0c6")
    assert wanted.keys() == back.keys()
    assert all(torch.equal(wanted[name], back[name]) for name in wanted)
    assert type(maps) is type(maps_back)
    assert all(torch.equal(a, b) for a, b in zip(as_list(maps), as_list(maps_back), strict=True))

    graph = nir.read(path)
    runs = [values for _, values in REFERENCE["simulate"](graph, images[0].numpy(), 6)]
    for name, spikes in wanted.items():
        assert np.array_equal(spikes[:, 0].numpy(), np.stack([values[name] for values in runs])), name
    outputs = json.loads(graph.metadata["outputs"])
    for name, ours in zip([outputs] if isinstance(outputs, str) else outputs, as_list(maps), strict=True):
        assert np.allclose(np.mean([values[name] for values in runs], 0), ours[0].numpy(), atol=1e-5)


def block(**changes: Any) -> dict[str, Any]:
    plain = {"channels": 4, "kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1, "pool": ""}
    return {**plain, "side": False, **changes}


IMAGES = torch.randint(0, 65, (1, 2, 12, 10), generator=torch.Generator().manual_seed(5)) / 64


def small(neuron: str = "residual-fix", heads: str = "maps", seed: int = 3) -> SpikingNetwork:
    return spiking(Net([block(pool="sum"), block(stride=2)], heads), neuron, seed)


@pytest.mark.filterwarnings("ignore:nirtorch.load:DeprecationWarning")
def test_sinabs_fires_every_spike(tmp_path: Path) -> None:
    sinabs = pytest.importorskip("sinabs")
    snn = small()
    wanted, (*_, maps) = watched(snn, IMAGES, "6+0c6")
    graph = nir.read(write_nir(snn, tmp_path / "net.nir", "6+0c6"))
    theirs, found = sinabs.from_nir(graph, batch_size=1), {}
    for name in wanted:
        layer, node = getattr(theirs, name.replace(".", "_")), graph.nodes[name]
        layer.spike_fn, layer.min_v_mem = sinabs.activation.SingleSpike, None
        layer.init_state_with_shape((1, *node.v_threshold.shape))
        layer.v_mem.data += torch.from_numpy(node.metadata["v_initial"]).view(1, -1, 1, 1)
        layer.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out}))
    out, _ = theirs(IMAGES.expand(6, -1, -1, -1))
    for name, spikes in wanted.items():
        assert spikes.sum() > 50 and torch.equal(spikes[:, 0], found[name]), name
    assert torch.allclose(out.mean(0), maps[0], atol=1e-5)


def test_the_network_comes_back_whole(tmp_path: Path) -> None:
    quant = prepare(Net([block(), block()], "both"), 4, torch.rand(4, 2, 12, 10), per_channel=True)
    snn = convert(quant, neuron="residual-fix")
    path = write_nir(snn, tmp_path / "net.nir")
    back = open_network(str(path))
    assert isinstance(back, SpikingNetwork)
    assert {**back.info.to_json(), "schedule": ""} == {**snn.info.to_json(), "schedule": ""}
    assert str(back.info.schedule) == "4+0c4" and back.info.report is not None
    state = snn.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in back.state_dict().items())
    assert {n for n, m in back.named_modules() if isinstance(m, RateReadout)} == {"maps", "scores"}
    again = write_nir(back, tmp_path / "again.nir")
    assert again.read_bytes() == path.read_bytes()


def test_spikes_at_the_threshold(tmp_path: Path) -> None:
    """A charge of exactly V_th fires, by NIR's strict equation too."""
    snn = spiking(Net([block(kernel_size=1, padding=0)], "maps"), "if", 0)
    conv: Any = snn.get_submodule("body.at0")
    conv.weight.data.zero_()
    conv.bias.data.fill_(0.25)
    node: Any = snn.get_submodule("acts.at0")
    node.v_threshold = 0.75
    found = nir.read(write_nir(snn, tmp_path / "net.nir", "6+0c6")).nodes["acts.at0"]
    assert (np.float32(0.75) > found.v_threshold).all()
    assert (np.nextafter(found.v_threshold, np.float32(1)) == np.float32(0.75)).all()
    wanted, _ = watched(read_nir(tmp_path / "net.nir"), IMAGES, "6+0c6")
    assert wanted["acts.at0"][:, 0].flatten(1).mean(1).tolist() == [0, 0, 1, 0, 0, 1]


def test_a_file_of_another_program_is_read_by_nirs_equations(tmp_path: Path) -> None:
    weight = np.full((2, 3), 0.5, np.float32)
    nodes = {
        "in": nir.Input(np.array([3])),
        "a": nir.Affine(weight, np.array([0.0, 0.25], np.float32)),
        "b": nir.IF(np.ones(2), np.full(2, 1.25), np.zeros(2)),
        "c": nir.Linear(np.ones((1, 2), np.float32)),
        "out": nir.Output(np.array([1])),
    }
    nir.write(tmp_path / "net.nir", nir.NIRGraph(nodes, list(zip(nodes, list(nodes)[1:], strict=False))))
    snn = read_nir(tmp_path / "net.nir")
    assert isinstance(snn.get_submodule("b"), HardResetIFNode)
    wanted, (*_, maps) = watched(snn, torch.tensor([[1.0, 0.5, 0.0]]), "6+0c6")
    # 0.75 and 1 a step; fire above 1.25 and go back to 0
    assert wanted["b"][:, 0].tolist() == [[0, 0], [1, 1], [0, 0], [1, 1], [0, 0], [1, 1]]
    assert maps.tolist() == [[1.0]]


def test_what_nir_does_not_hold_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"

    def converted(layers: list[nn.Module], neuron: str = "residual-fix") -> SpikingNetwork:
        net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), *layers, nn.Conv2d(4, 1, 1))
        return convert(net, neuron=neuron, scale="max", calibration=torch.rand(2, 2, 12, 10))

    for layers, neuron, message in (
        ([], "signed", "layer '1' .*SignedIFNode.* no negative spikes"),
        ([nn.MaxPool2d(2)], "residual-fix", "layer '2' .*SpikeMaxPool"),
        ([nn.Upsample(scale_factor=2)], "residual-fix", "layer '2' .*Upsample"),
        ([nn.AvgPool2d(3, padding=1)], "residual-fix", "layer '2' .*padding"),
        ([nn.ConvTranspose2d(4, 4, 2), nn.ReLU()], "residual-fix", "layer '2' .*ConvTranspose2d"),
        ([nn.Conv2d(4, 4, 1, groups=2), nn.ReLU()], "residual-fix", "layer '2' .*groups"),
        ([nn.Conv2d(4, 4, (3, 1)), nn.ReLU()], "residual-fix", "layer '2' .*square"),
    ):
        with pytest.raises(ConversionError, match=message):
            write_nir(converted(layers, neuron), path, "4+0c4")
    finer = converted([])
    next(m for m in finer.modules() if isinstance(m, LowLatencyIFNode)).burst = 2
    with pytest.raises(ConversionError, match="up to 2 spikes in a step"):
        write_nir(finer, path, "4+0c4")
    for schedule in ("4+2c4", "4+0b2c4", "4+0c8"):
        with pytest.raises(InputError, match="constant input and biases: .* such as"):
            write_nir(converted([]), path, schedule)
    with pytest.raises(InputError, match="call sj_lowlat.convert first"):
        write_nir(nn.Linear(2, 2), path)
    with pytest.raises(InputError, match="must end with .nir"):
        write_nir(converted([]), tmp_path / "net.h5", "4+0c4")
    strided = snn_tiny_yolov3(num_classes=2, width=0.125, input_size=64)
    quant = prepare(strided, 4, torch.rand(1, 3, 64, 64))
    with pytest.raises(ConversionError, match="cannot be written as NIR"):
        write_nir(convert(quant, neuron="residual-fix"), path)
    assert not list(tmp_path.iterdir())


def changed(path: Path, change: Any) -> Path:
    graph = nir.read(path, type_check=False)
    change(graph)
    nir.write(path, nir.NIRGraph(graph.nodes, graph.edges, graph.metadata, type_check=False))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.nodes.update({"acts.at0": nir.Threshold(g.nodes["acts.at0"].r)}), "Threshold"),
        (lambda g: setattr(g.nodes["acts.at0"], "r", g.nodes["acts.at0"].r * 2), "r must be 1"),
        (lambda g: g.nodes["acts.at0"].v_threshold.__setitem__((0, 0, 0), 9), "one number in each channel"),
        (lambda g: g.nodes["acts.at0"].metadata.update(subtract=np.full(4, 7.0)), "subtracts another value"),
        (lambda g: g.nodes["acts.at0"].metadata.update(reset="never"), "reset 'never'"),
        (lambda g: g.nodes["acts.at0"].metadata.update(v_initial=np.ones(3)), "v_initial"),
        (lambda g: g.nodes["acts.at0"].v_threshold.fill(-1), "subtracts another value"),
        (lambda g: g.nodes["body.at0"].weight.fill(np.nan), "NaN"),
        (lambda g: setattr(g.nodes["body.at0"], "weight", g.nodes["body.at0"].weight[:3]), "mismatch"),
        (lambda g: setattr(g.nodes["body.at1"], "stride", (0, 0)), "damaged|stride"),
        (lambda g: g.metadata.update(outputs='["maps"]'), "the outputs are"),
        (lambda g: g.metadata.update(outputs="{"), "damaged or no JSON"),
        (lambda g: g.metadata.update(info="{}"), "damaged"),
        (lambda g: g.edges.append(("acts.at1", "body.at1")), "reads its own output|mismatch|damaged"),
        (lambda g: g.edges.remove(("acts.at1", "maps")), "a graph has one Input"),
        (lambda g: setattr(g.nodes["pools.at0"], "padding", np.array([1, 1])), "padding|mismatch"),
    ],
)
def test_changed_files_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = changed(write_nir(small(), tmp_path / "net.nir", "4+0c4"), change)
    with pytest.raises(InputError, match=message):
        read_nir(path)


def test_damaged_and_hostile_files_are_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = write_nir(small(), tmp_path / "net.nir", "4+0c4")
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    for end in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match=r"net\.nir"):
            read_nir(path)
    for _ in range(60):  # a byte here and there: the same error, or a network
        broken = np.frombuffer(data, np.uint8).copy()
        broken[generator.integers(0, len(data), 3)] = generator.integers(0, 256, 3)
        path.write_bytes(broken.tobytes())
        try:
            read_nir(path)
        except InputError as error:
            assert "net.nir" in str(error)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_nir(tmp_path / "other.nir")

    def rewritten(change: Any) -> None:
        memory = BytesIO(data)
        with h5py.File(memory, "r+") as file:
            change(file["node/nodes/body.at0"])
        path.write_bytes(memory.getvalue())

    (tmp_path / "secret").write_bytes(bytes(1000))

    def external(group: Any) -> None:
        del group["bias"]
        group.create_dataset("bias", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)])

    def linked(group: Any) -> None:
        del group["bias"]
        group["bias"] = h5py.ExternalLink("other.h5", "bias")

    def large(group: Any) -> None:
        del group["bias"]
        group.create_dataset("bias", (2**40,), "f4", chunks=(1024,))

    for change, message in (
        (external, "'bias' is a link"),
        (linked, "'bias' is a link"),
        (large, "more than"),
    ):
        rewritten(change)
        with pytest.raises(InputError, match=message):
            read_nir(path)
    rewritten(lambda group: group.__setitem__("again", group))
    with pytest.raises(InputError, match="'again'|too deep"):
        read_nir(path)


@pytest.mark.parametrize("neuron", ["signed", "if"])
def test_spikes_as_events(neuron: str, tmp_path: Path) -> None:
    snn = small(neuron, seed=4)
    with SpikeRecorder(snn, sample=10_000) as recorder:
        simulate(snn, IMAGES, "6+2c6" if neuron == "signed" else "6+0c6", chunk=1)
    wanted, total = {layer.name: layer.spikes for layer in recorder.layers()}, recorder.spikes_per_step()
    data = nir.read_data(write_nir_spikes(recorder, tmp_path / "spikes.nir"))
    assert data.nodes.keys() == wanted.keys()
    events = [data.nodes[name].observables["spikes"] for name in wanted]
    assert all(isinstance(item, nir.ValuedEventData) for item in events)
    for name, item in zip(wanted, events, strict=True):
        assert np.array_equal(item.to_time_gridded(1.0).data[0], wanted[name].numpy()), name
        assert item.n_neurons == wanted[name].shape[1] and item.t_max == len(wanted[name])
    assert sum(float(np.abs(item.value).sum()) for item in events) == sum(total)
    if neuron == "signed":
        assert any((item.value < 0).any() for item in events)
    assert set(wanted) <= set(nir.read(write_nir(small("if"), tmp_path / "net.nir", "6+0c6")).nodes)


def test_events_of_quiet_layers_and_of_parts(tmp_path: Path) -> None:
    snn = small("if")
    conv: Any = snn.get_submodule("body.at0")
    conv.weight.data.zero_()
    conv.bias.data.zero_()
    with SpikeRecorder(snn, sample=10_000) as recorder:
        with pytest.raises(InputError, match="no spikes"):
            write_nir_spikes(recorder, tmp_path / "spikes.nir")
        simulate(snn, IMAGES, "3+0c3", chunk=1)
    quiet = nir.read_data(write_nir_spikes(recorder, tmp_path / "spikes.nir")).nodes["acts.at0"]
    assert not quiet.observables["spikes"].to_time_gridded(1.0).data.any()
    with SpikeRecorder(snn, sample=7) as part:
        simulate(snn, IMAGES, "3+0c3", chunk=1)
    with pytest.raises(InputError, match="7 of 480 neurons were kept: make the recorder with sample=480"):
        write_nir_spikes(part, tmp_path / "spikes.nir")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sj_lowlat import save

    save(small(), tmp_path / "snn")
    out = tmp_path / "net.nir"
    args = ["export", "-m", str(tmp_path / "snn"), "--format", "nir", "-o", str(out), "--schedule", "6+0c6"]
    assert main(args) == 0
    assert "net.nir" in capsys.readouterr().out
    wanted, found = watched(small(), IMAGES, "6+0c6")[0], watched(open_network(str(out)), IMAGES, "6+0c6")[0]
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
