"""Networks on disk: what comes back computes the same; what is damaged is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sj_lowlat.checkpoint import CONFIG, WEIGHTS, load, save
from sj_lowlat.conversion import convert, prepare, replace_layers
from sj_lowlat.errors import InputError
from sj_lowlat.layers import LowLatencyIFNode, is_spiking
from sj_lowlat.models import DarknetNet, grey_input, snn_tiny_yolov3, tiny_yolov3
from sj_lowlat.network import info_of, module_rows
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SMALL = torch.rand(2, 3, 13, 13, generator=torch.Generator().manual_seed(0))


class Custom(nn.Module):
    """A network that the package does not build; at 13 x 13 pixels its pools see odd maps."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def detector() -> nn.Module:
    return tiny_yolov3(num_classes=2, width=0.25, input_size=64, class_names=["cat", "dog"])


def move(net: nn.Module) -> nn.Module:
    """Change every value, as training would."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and not name.endswith(("ratio", "threshold")):
            tensor.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=generator))
    return net.eval()


def run(net: nn.Module, images: torch.Tensor) -> Any:
    with torch.no_grad():
        if is_spiking(net):
            return simulate(net, images, 4, flush=3, readout=(4, 7)).outputs
        return net(images)


def replace_but_leaky(net: nn.Module, images: torch.Tensor) -> nn.Module:
    """The network itself, if leaky ReLUs and pools are all that it has."""
    return net if isinstance(net, DarknetNet) else replace_layers(net, images)


def in_powers(snn: nn.Module) -> nn.Module:
    """Its neurons' spikes are powers of two."""
    for module in snn.modules():
        if isinstance(module, LowLatencyIFNode):
            module.powers = True
    return snn


STAGES: dict[str, Callable[[nn.Module, torch.Tensor], nn.Module]] = {
    "raw": lambda net, x: net,
    "replaced": lambda net, x: replace_layers(net, x),
    "prepared": lambda net, x: prepare(replace_layers(net, x), 8, x),
    "prepared per channel": lambda net, x: prepare(replace_layers(net, x), 8, x, per_channel=True),
    "prepared twice": lambda net, x: prepare(prepare(replace_layers(net, x), 8, x, per_channel=True), 4),
    "signed": lambda net, x: convert(prepare(replace_layers(net, x), 8, x)),
    "plain IF": lambda net, x: convert(prepare(replace_layers(net, x), 8, x, per_channel=True), neuron="if"),
    "hard reset": lambda net, x: convert(prepare(replace_layers(net, x), 8, x), neuron="hard-reset"),
    "SRP": lambda net, x: convert(prepare(replace_layers(net, x), 8, x), neuron="srp"),
    "COS": lambda net, x: convert(prepare(replace_layers(net, x), 8, x, per_channel=True), neuron="cos"),
    "powers of two": lambda net, x: in_powers(convert(prepare(replace_but_leaky(net, x), 8, x))),
    "leaky": lambda net, x: convert(prepare(replace_but_leaky(net, x), 8, x)),
    "by statistic": lambda net, x: convert(
        replace_layers(net, x),
        neuron="residual-fix",
        scale="99%",
        per_channel=True,
        calibration=x,
        ratio=0.25,
    ),
}


@pytest.mark.parametrize("stage", list(STAGES))
@pytest.mark.parametrize("custom", [False, True])
def test_round_trip(tmp_path: Path, stage: str, custom: bool) -> None:
    fresh = Custom() if custom else detector()
    images = SMALL if custom else IMAGES
    net = move(STAGES[stage](fresh, images))
    assert save(net, tmp_path / "a" / "net") == tmp_path / "a" / "net"
    assert sorted(path.name for path in (tmp_path / "a" / "net").iterdir()) == [CONFIG, WEIGHTS]
    skeleton = Custom() if custom and stage == "raw" else None
    before = {k: v.clone() for k, v in skeleton.state_dict().items()} if skeleton else {}
    random_state = torch.get_rng_state()
    back = load(tmp_path / "a" / "net", skeleton)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert str(back) == str(net) and not any(module.training for module in back.modules())
    assert list(back.state_dict()) == list(net.state_dict())
    torch.testing.assert_close(run(back, images), run(net, images), rtol=0, atol=0)
    assert info_of(back) == info_of(net)
    assert getattr(back, "input_layers", None) == getattr(net, "input_layers", None)
    if skeleton is not None:  # what was lent is as it was
        assert all(torch.equal(v, before[k]) for k, v in skeleton.state_dict().items())
    # and once more, from what came back
    save(back, tmp_path / "b")
    assert (tmp_path / "b" / CONFIG).read_text() == (tmp_path / "a" / "net" / CONFIG).read_text()
    assert (tmp_path / "b" / WEIGHTS).read_bytes() == (tmp_path / "a" / "net" / WEIGHTS).read_bytes()


def test_verbs_go_on_after_loading(tmp_path: Path) -> None:
    quant = move(prepare(snn_tiny_yolov3(num_classes=2, width=0.25, input_size=64), 8, IMAGES))
    save(quant, tmp_path)
    back = load(tmp_path)
    torch.testing.assert_close(run(convert(back), IMAGES), run(convert(quant), IMAGES), rtol=0, atol=0)
    assert back.levels == 8 and back.head_specs == quant.head_specs


def test_pools_are_rebuilt_for_the_size_that_they_met(tmp_path: Path) -> None:
    """Even maps get 3 x 3 convolutions, odd ones 2 x 2; a later verb with other images changes nothing."""
    net = replace_layers(Custom(), torch.rand(2, 3, 16, 16))
    quant = prepare(net, 8, SMALL).eval()
    assert quant.body[3][0].kernel_size == (3, 3)
    save(quant, tmp_path)
    back = load(tmp_path)
    torch.testing.assert_close(run(back, SMALL), run(quant, SMALL), rtol=0, atol=0)


def test_double_precision_and_shared_weights(tmp_path: Path) -> None:
    class Tied(Custom):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Conv2d(6, 2, 1)
            self.second.weight = self.head.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.body(x)
            return self.head(y) + self.second(y)

    net = Tied().double().to(memory_format=torch.channels_last).eval()
    save(net, tmp_path)
    back = load(tmp_path, Tied().double())
    torch.testing.assert_close(back(SMALL.double()), net(SMALL.double()), rtol=0, atol=1e-12)
    assert back.second.weight is back.head.weight


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no model.safetensors; give a folder"):
        load(tmp_path / "nowhere")
    save(Custom(), tmp_path)
    (tmp_path / CONFIG).unlink()
    with pytest.raises(FileNotFoundError, match="holds no config.json"):
        load(tmp_path, Custom())


def test_a_network_of_ones_own_is_asked_for(tmp_path: Path) -> None:
    save(Custom(), tmp_path)
    with pytest.raises(InputError, match=r"not from sj_lowlat.models: give load\(..., model="):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_truncated_weights(tmp_path: Path, keep: float) -> None:
    save(Custom(), tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match="is damaged .*; write it again"):
        load(tmp_path, Custom())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged"),
        ('{"format": 1, "bui', "is damaged"),
        ("[]", "holds no config of format 2"),
        ("{}", "holds no config of format 2"),
        ('{"format": 3}', "holds no config of format 2"),
        ('{"format": 2}', "holds no config of format 2"),
        ('{"format": 1}', "was written by version 0.1 and cannot be read"),
    ],
)
def test_damaged_config(tmp_path: Path, text: str, message: str) -> None:
    save(Custom(), tmp_path)
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(InputError, match=message):
        load(tmp_path, Custom())
    (tmp_path / CONFIG).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is damaged"):
        load(tmp_path, Custom())


def change(config: Any, path: str, value: Any) -> None:
    """Set an entry; ``path`` has its keys and places, with dots between."""
    *keys, last = (int(key) if key.isdecimal() else key for key in path.split("."))
    for key in keys:
        config = config[key]
    config[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("network", {}, "describes no network"),
        ("network.kind", "Module", "describes no network"),
        ("network.layers", [], "describes no network"),
        ("network.layers.3.type", "system", "layer type 'system' is unknown"),
        ("network.layers.3.args.in_channels", "three", "layer cannot be made"),
        ("network.layers.3.args.out_channels", 5, "do not fit the network .*size mismatch"),
        ("network.layers.3", {"name": "layers.0.conv", "same": "nothing"}, "has no row"),
        ("network.nodes.1.op", "call_method", "has a node"),
        ("network.nodes.1.target", "layers.0.gone", "describes no network .*gone"),
        ("network.nodes.1.target", 'x"); print("code', "is no name"),
        ("network.nodes.0.target", "x=print()", "is no name"),
        ("network.nodes.1.args", {"tuple": [{"node": "nobody"}]}, "cannot be read"),
        ("network.nodes.1", {"name": "a", "op": "call_function", "target": "os.system.now",
                             "args": {"tuple": ["true"]}}, "no operation of ATen"),
        ("network.nodes.1", {"name": "a", "op": "call_function", "target": "aten.relu.default",
                             "args": {"tuple": [{"node": "images"}]}, "kwargs": {"dict": {"x=print()": 1}}},
         "is no name"),
        ("info", {}, "describes no network"),
        ("info.input_shape", [3, -64, 64], "describes no network"),
        ("info.class_names", [1, 2], "describes no network"),
        ("info.levels", True, "describes no network"),
        ("info.schedule", "soon", "write time steps"),
        ("info.report", {"layers": 3}, "describes no network"),
        ("info.heads.0.stride", 0, "stride"),
    ],
)  # fmt: skip
def test_wrong_entries_of_a_graph(tmp_path: Path, path: str, value: Any, message: str) -> None:
    save(prepare(detector(), 8, IMAGES), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    change(config, path, value)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(InputError, match="(?s)" + message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ({"builder": "tiny_yolov3", "kwargs": {"num_classes": "two"}}, "cannot be built|num_classes"),
        ({"builder": "resnet", "kwargs": {}}, "no model builder named 'resnet'"),
        ([1], "build_config must be"),
    ],
)
def test_wrong_builds(tmp_path: Path, build: Any, message: str) -> None:
    save(detector(), tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, "build": build}))
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def forget_hash(folder: Path) -> None:
    """Make a folder one of before weights were named by a hash."""
    config = json.loads((folder / CONFIG).read_text())
    del config["weights"]
    (folder / CONFIG).write_text(json.dumps(config))


def test_a_folder_of_before_weights_were_named_is_read(tmp_path: Path) -> None:
    net = move(detector())
    save(net, tmp_path)
    forget_hash(tmp_path)
    torch.testing.assert_close(run(load(tmp_path), IMAGES), run(net, IMAGES), rtol=0, atol=0)


@pytest.mark.parametrize("renames", [0, 1])  # that are done when the power fails
def test_a_save_that_dies_between_its_files_is_told(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new weights fit the old structure, whose levels are others: it would load, and compute nonsense."""

    class PowerCut(BaseException):
        pass

    quant = [prepare(detector().eval(), levels, IMAGES) for levels in (4, 8)]
    save(quant[0], tmp_path)
    replace, done = Path.replace, list[Path]()

    def cut(path: Path, target: Path) -> Path:
        if len(done) == renames:
            raise PowerCut
        done.append(target)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(PowerCut):
        save(move(quant[1]), tmp_path)
    monkeypatch.undo()
    if renames == 0:
        torch.testing.assert_close(run(load(tmp_path), IMAGES), run(quant[0], IMAGES), rtol=0, atol=0)
    else:
        with pytest.raises(InputError, match="belongs to other weights .* save the network again"):
            load(tmp_path)
    save(quant[1], tmp_path)
    torch.testing.assert_close(run(load(tmp_path), IMAGES), run(quant[1], IMAGES), rtol=0, atol=0)


def test_weights_of_another_network(tmp_path: Path) -> None:
    save(detector(), tmp_path / "two")
    save(tiny_yolov3(num_classes=3, width=0.25, input_size=64), tmp_path / "three")
    (tmp_path / "three" / WEIGHTS).replace(tmp_path / "two" / WEIGHTS)
    with pytest.raises(InputError, match=f"config.json belongs to other weights than those in {WEIGHTS}"):
        load(tmp_path / "two")
    forget_hash(tmp_path / "two")
    with pytest.raises(InputError, match="(?s)do not fit the network .*size mismatch"):
        load(tmp_path / "two")
    save(detector(), tmp_path / "two")
    tensors = load_file(tmp_path / "two" / WEIGHTS)
    del tensors["layers.0.conv.weight"]
    save_file(tensors, tmp_path / "two" / WEIGHTS)
    forget_hash(tmp_path / "two")
    with pytest.raises(InputError, match="(?s)do not fit the network .*Missing key"):
        load(tmp_path / "two")


def test_a_failed_save_leaves_the_old_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = move(prepare(replace_layers(Custom(), SMALL), 8, SMALL)), Custom()
    save(old, tmp_path)

    def fail(tensors: Any, path: Path) -> None:
        Path(path).write_bytes(b"half a fi")
        raise OSError("no space left on device")

    monkeypatch.setattr("sj_lowlat.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        save(new, tmp_path)
    monkeypatch.undo()
    new.build_config = {"builder": object()}  # type: ignore[assignment]
    with pytest.raises(TypeError, match="JSON"):
        save(new, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, WEIGHTS]
    torch.testing.assert_close(run(load(tmp_path), SMALL), run(old, SMALL), rtol=0, atol=0)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    save(Custom(), tmp_path)
    torch.save(Custom().state_dict(), tmp_path / WEIGHTS)
    with pytest.raises(InputError, match="is damaged"):
        load(tmp_path, Custom())


def test_a_grey_detector_comes_back(tmp_path: Path) -> None:
    net = prepare(grey_input(detector()), 8, IMAGES[:, :1])
    save(net, tmp_path)
    for got, want in zip(run(load(tmp_path), IMAGES[:, :1]), run(net.eval(), IMAGES[:, :1]), strict=True):
        torch.testing.assert_close(got, want)


def test_rows_name_only_what_is_not_the_default() -> None:
    """torch 2.11 knows no ``bias`` of BatchNorm2d, torch 2.14 has it with the default True."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=0.5))
    conv, norm = (row["args"] for row in module_rows(net)[1:])
    assert norm == {"num_features": 4, "eps": 0.5}
    assert conv["bias"] is False and not {"groups", "padding_mode"} & set(conv)
