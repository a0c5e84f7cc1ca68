"""Packed networks: 8-bit weights within half a step, everything else as it was, damage told in a sentence."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import sj_lowlat
from sj_lowlat import checkpoint, pretrained
from sj_lowlat.class_names import COCO_CLASSES
from sj_lowlat.conversion import convert, prepare, replace_layers
from sj_lowlat.errors import InputError
from sj_lowlat.functional import to_int8
from sj_lowlat.models import snn_tiny_yolov3, tiny_yolov3
from sj_lowlat.pretrained import load, names, unpack
from sj_lowlat.schedule import Schedule
from sj_lowlat.simulation import simulate

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SCHEDULE = Schedule(2, 3, charge=4)
SHIPPED = "snn-tiny-yolov3-coco"
SMALL = "snn-yolo-fastest-xl-coco"
pack = partial(pretrained.pack, small=0)  # all weights of these networks are small


def network(kind: str = "pools") -> nn.Module:
    """A small Quant ANN, with max-pools or with strided and transposed convolutions, its values moved."""
    torch.manual_seed(3)
    if kind == "pools":
        net = tiny_yolov3(num_classes=2, width=0.125, input_size=64, class_names=["cat", "dog"])
        net = prepare(replace_layers(net, IMAGES, only_activations=True), 4, IMAGES, equalise=True)
    else:
        net = prepare(snn_tiny_yolov3(num_classes=2, width=0.125, input_size=64), 4, IMAGES, per_channel=True)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.1 * torch.rand(tensor.shape))
        else:
            tensor.add_(7)
    return net.eval()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(network(), tmp_path_factory.mktemp("packed") / "net.safetensors", {"schedule": str(SCHEDULE)})


def channel_axes(net: nn.Module) -> dict[str, int]:
    """Weights of convolutions -> the axis of their output channels."""
    kinds = {nn.Conv2d: 0, nn.ConvTranspose2d: 1}
    return {f"{name}.weight": kinds[type(m)] for name, m in net.named_modules() if type(m) in kinds}


@given(
    shape=st.tuples(*[st.integers(1, 4)] * 4),
    axis=st.integers(0, 1),
    seed=st.integers(0, 2**31),
    exponent=st.integers(-44, 30),
    zeros=st.booleans(),
)
def test_eight_bits_are_within_half_a_step(
    shape: tuple[int, ...], axis: int, seed: int, exponent: int, zeros: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * 10.0**exponent
    weight *= 10.0 ** torch.randint(-3, 4, (shape[axis],), generator=generator).view(
        [-1 if dim == axis else 1 for dim in range(4)]
    )
    if zeros:
        weight.select(axis, 0).zero_()
    q, scale = to_int8(weight, axis)
    assert q.dtype == torch.int8 and scale.dtype == torch.float32 and q.shape == weight.shape
    assert scale.shape == torch.Size([size if dim == axis else 1 for dim, size in enumerate(shape)])
    assert bool((scale > 0).all()) and int(q.abs().max()) <= 127
    error = (q.double() * scale.double() - weight.double()).abs()
    assert bool((error <= scale.double() * (0.5 + 1e-4)).all())
    for channel in range(shape[axis]):  # the largest weight of every channel is met, so no step is wasted
        largest = weight.select(axis, channel).abs().max()
        if largest > 1e-35:
            assert int(q.select(axis, channel).abs().max()) == 127
        if largest == 0:
            assert not q.select(axis, channel).any()


@pytest.mark.parametrize("kind", ["pools", "strided"])
def test_round_trip(tmp_path: Path, kind: str) -> None:
    net = network(kind)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    card = {"schedule": str(SCHEDULE), "pictures": ["none", 1, None, {"é": 0.5}]}
    path = pack(net, tmp_path / "new" / "net.safetensors", card)
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())

    state = torch.get_rng_state()
    back: Any = unpack(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert str(back) == str(net) and not any(module.training for module in back.modules())
    axes = channel_axes(net)
    assert len(axes) == {"pools": 13, "strided": 19}[kind]
    after = back.state_dict()
    assert list(after) == list(before)
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        if name in axes:
            others = [dim for dim in range(4) if dim != axes[name]]
            step = tensor.abs().amax(others, keepdim=True) / 127
            assert bool(((after[name] - tensor).abs() <= step * 0.5001).all()), name
            assert not torch.equal(after[name], tensor), name
        else:
            assert torch.equal(after[name], tensor), name
    assert back.info == replace(net.info, card=card, schedule=SCHEDULE)

    # 4 levels make a step of 1/4 of every rounding that goes over the edge, hence "close"
    with torch.no_grad():
        for ours, theirs in zip(back(IMAGES), net(IMAGES), strict=True):
            assert (ours - theirs).abs().mean() < 0.1 * (theirs - theirs.mean()).abs().mean()


def test_weights_are_held_in_one_byte_each_and_bytes_are_reproducible(packed: Path, tmp_path: Path) -> None:
    net = network()
    again = pack(net, tmp_path / "net.safetensors", {"schedule": str(SCHEDULE)})
    assert again.read_bytes() == packed.read_bytes()
    held = load_file(packed)
    for name in channel_axes(net):
        assert held[f"{name}.int8"].dtype == torch.int8 and name not in held
        assert held[f"{name}.scale"].numel() == net.state_dict()[name].shape[0]
    # what was read back packs to the same weights: nothing drifts
    pack(unpack(packed), again)
    assert all(torch.equal(tensor, load_file(again)[name]) for name, tensor in held.items() if "int8" in name)


def test_double_precision_becomes_single_and_values_that_are_shared_stay(tmp_path: Path) -> None:
    single = unpack(pack(network(), tmp_path / "single.safetensors")).state_dict()
    double = unpack(pack(network().double(), tmp_path / "double.safetensors")).state_dict()
    assert all(torch.equal(tensor, double[name]) for name, tensor in single.items())
    shared: Any = network()
    shared.layers[4].conv.weight = nn.Parameter(shared.layers[4].conv.weight.detach())
    shared.layers[4].bn.running_var = shared.layers[4].bn.running_mean.abs_()
    back = unpack(pack(shared, tmp_path / "shared.safetensors")).state_dict()
    assert torch.equal(back["layers.4.bn.running_var"], shared.layers[4].bn.running_var)


def test_what_comes_back_converts_and_settles_to_itself(packed: Path) -> None:
    quant: Any = unpack(packed).double()
    snn: Any = convert(quant)
    assert snn.schedule == SCHEDULE and snn.class_names == ("cat", "dog") and snn.levels == 4
    images = IMAGES.double()
    settled = simulate(snn, images, 4, flush=60).final
    with torch.no_grad():
        for ours, theirs in zip(settled, quant(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_without_a_card_the_steps_are_the_levels(tmp_path: Path) -> None:
    back: Any = unpack(pack(network(), tmp_path / "net.safetensors"))
    assert back.card == {} and back.schedule is None and convert(back).schedule == Schedule(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3), "call prepare"),
        (lambda: tiny_yolov3(num_classes=2, width=0.125, input_size=64), "call prepare"),
        (lambda: convert(network()), "do not convert"),
    ],
)
def test_only_quant_anns_of_the_package_are_packed(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        pack(make(), tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_packed_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net: Any = network()
    path = pack(net, tmp_path / "net.safetensors")
    whole = path.read_bytes()
    with pytest.raises(InputError, match=r"'net.bin'.*ends in .safetensors"):
        pack(net, tmp_path / "net.bin")
    for card in ({"when": object()}, {"loss": float("nan")}):
        with pytest.raises(InputError, match="the card is no JSON"):
            pack(net, path, card)
    for schedule in ([4, 4], {"time_steps": 0}, {"time_steps": 4, "kernel": 1}, {"time_steps": 4.0},
                     {"time_steps": True}, {"flush": 4}, {"time_steps": 4, "flush": -1}, "x"):  # fmt: skip
        with pytest.raises(InputError, match="schedule|time_steps|flush"):
            pack(net, path, {"schedule": schedule})
    net.layers[0].conv.weight.data[0, 0, 0, 0] = float("inf")
    with pytest.raises(InputError, match=r"layers.0.conv.weight holds NaN or infinite values"):
        pack(net, path)

    def fail(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half a fi")
        raise OSError("no space left on device")

    monkeypatch.setattr("sj_lowlat.pretrained.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        pack(network(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"] and path.read_bytes() == whole


@settings(max_examples=25)
@given(keep=st.floats(0, 0.9999))
def test_truncated_files(packed: Path, tmp_path_factory: pytest.TempPathFactory, keep: float) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.safetensors"
    whole = packed.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(InputError, match=r"cut.safetensors is damaged .*: get the file again"):
        unpack(path)


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_header_is_a_sentence_or_harmless(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Some bytes of the header are written over: an InputError, whatever they were."""
    path = tmp_path_factory.getbasetemp() / "broken.safetensors"
    whole = bytearray(packed.read_bytes())
    (length,) = struct.unpack("<Q", whole[:8])
    start = data.draw(st.integers(0, 8 + length - 1))
    junk = data.draw(st.binary(min_size=1, max_size=4))
    whole[start : start + len(junk)] = junk
    path.write_bytes(whole)
    try:
        unpack(path)
    except InputError as error:
        assert str(error)


def test_files_of_other_kinds(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file at .*nowhere"):
        unpack(tmp_path / "nowhere.safetensors")
    with pytest.raises(FileNotFoundError, match="no file at"):
        unpack(tmp_path)
    path, tensors = tmp_path / "x.safetensors", load_file(packed)
    torch.save({"a": torch.zeros(1)}, path)  # never unpickled
    with pytest.raises(InputError, match="is damaged"):
        unpack(path)
    for metadata in (None, {"format": "pt"}, {"sj_lowlat": "[]"}, {"sj_lowlat": '{"config": []}'}):
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(InputError, match="was not written by sj_lowlat.pretrained.pack"):
            unpack(path)
    save_file(tensors, path, metadata={"sj_lowlat": '{"config": '})
    with pytest.raises(InputError, match="is damaged"):
        unpack(path)


def rewritten(packed: Path, path: Path, **changes: Any) -> Path:
    """The packed file with other entries in its config."""
    with safe_open(packed, framework="pt") as file:
        header = json.loads(file.metadata()["sj_lowlat"])
    header["config"] |= changes
    save_file(load_file(packed), path, metadata={"sj_lowlat": json.dumps(header)})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "holds no config of format 2"),
        ({"network": None, "build": None}, "build_config"),
        ({"network": {"kind": "GraphNetwork", "layers": [], "nodes": []}}, "do not fit the network"),
        ({"info": {}}, "describes no network"),
    ],
)
def test_wrong_configs(packed: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Mostly in test_checkpoint: both rebuild by the same code."""
    with safe_open(packed, framework="pt") as file:
        header = json.loads(file.metadata()["sj_lowlat"])
    header["config"] |= change
    path = tmp_path / "x.safetensors"
    save_file(load_file(packed), path, metadata={"sj_lowlat": json.dumps(header)})
    with pytest.raises(InputError, match=message):
        unpack(path)


def test_a_network_without_levels_is_none_of_ours(packed: Path, tmp_path: Path) -> None:
    """Weights and structure fit each other, but it was never prepared."""
    net = tiny_yolov3(num_classes=2, width=0.125, input_size=64)
    for network in (net, replace_layers(net, only_activations=True)):
        header = {"config": checkpoint.describe(network)}
        path = tmp_path / "x.safetensors"
        save_file(checkpoint.values(network), path, metadata={"sj_lowlat": json.dumps(header)})
        with pytest.raises(InputError, match="was not written by sj_lowlat.pretrained.pack"):
            unpack(path)


def test_wrong_tensors(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with safe_open(packed, framework="pt") as file:
        metadata = file.metadata()
    name = "layers.2.conv.weight"
    for change, message in (
        ({f"{name}.scale": None}, "is damaged .*scale"),
        ({f"{name}.int8": None}, "do not fit the network"),
        ({f"{name}.scale": torch.ones(7, 1, 1, 1)}, "is damaged"),
        ({"layers.0.bn.weight": None}, "Missing key"),
        ({"layers.0.bn.weight": torch.ones(3)}, "size mismatch"),
    ):
        tensors: dict[str, Any] = load_file(packed) | change  # type: ignore[operator]
        save_file({n: t for n, t in tensors.items() if t is not None}, path, metadata=metadata)
        with pytest.raises(InputError, match="(?s)" + message):
            unpack(path)


def test_loading_by_name(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a folder of weights in the place of the package's own."""
    monkeypatch.setattr("sj_lowlat.pretrained.resources.files", lambda package: tmp_path)
    assert names() == ()
    with pytest.raises(InputError, match="no detector named 'small' ships .* none in this installation"):
        load("small")
    (tmp_path / "weights").mkdir()
    for name in ("small", "other"):
        (tmp_path / "weights" / f"{name}.safetensors").write_bytes(packed.read_bytes())
    (tmp_path / "weights" / "README").touch()
    assert names() == ("other", "small")
    for name in ("big", "small.safetensors", "../weights/small", ""):
        with pytest.raises(InputError, match="no detector named .*: there is other, small"):
            load(name)
    snn, quant = load("small"), load("small", spiking=False)
    assert snn.conversion_report and not quant.conversion_report
    for model in (snn, quant):
        assert (model.levels, model.class_names, model.schedule) == (4, ("cat", "dog"), SCHEDULE)
    ours = simulate(snn, IMAGES).final
    theirs = simulate(convert(unpack(packed)), IMAGES, 2, flush=3, levels=4).final
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def shipped() -> Any:
    if not names():
        pytest.skip("no weights are shipped: benchmarks/train.py pack writes sj_lowlat/weights")
    return load(SHIPPED, spiking=False)


def test_the_shipped_detector(shipped: Any) -> None:
    assert SHIPPED in names()
    assert shipped.class_names == tuple(COCO_CLASSES) and shipped.input_shape == (3, 416, 416)
    assert str(shipped.schedule) == "1+1b32c16" and shipped.levels == 16
    with pytest.warns(DeprecationWarning, match="sj_lowlat.load_pretrained"):
        snn: Any = sj_lowlat.models.load(SHIPPED)
    assert (snn.class_names, snn.levels, snn.schedule) == (
        shipped.class_names,
        shipped.levels,
        shipped.schedule,
    )
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    maps = simulate(snn, images).final
    old = simulate(snn, images, **snn.schedule).final  # the way of version 0.1
    assert all(torch.equal(a, b) for a, b in zip(maps, old, strict=True))
    assert [each.shape for each in maps] == [(1, 255, 2, 2), (1, 255, 4, 4)]


def test_the_shipped_small_detector(shipped: Any) -> None:
    small = load(SMALL, spiking=False)
    assert small.class_names == tuple(COCO_CLASSES) and small.input_shape == (3, 320, 320)
    assert str(small.schedule) == "1+1b127c64" and small.levels == 64
    assert "Yolo-Fastest" in small.card["distilled_from"]
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert [each.shape for each in simulate(load(SMALL), images).final] == [(1, 255, 2, 2), (1, 255, 4, 4)]


@pytest.mark.parametrize(("name", "schedule"), [(SHIPPED, "16+64"), (SMALL, "1+40b256")])
def test_the_shipped_detectors_settle_to_their_quant_anns(shipped: Any, name: str, schedule: str) -> None:
    """In float64 from before the conversion on, for a rounding may turn a level over."""
    quant = load(name, spiking=False).double()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    settled = simulate(convert(quant), images, schedule).final
    with torch.no_grad():
        for ours, theirs in zip(settled, quant(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_the_shipped_files_are_small(shipped: Any) -> None:
    folder = Path(pretrained.__file__).parent / "weights"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 12e6


def test_small_weights_are_held_in_16_bits(tmp_path: Path) -> None:
    net = network()
    sizes = {name: net.state_dict()[name].numel() for name in channel_axes(net)}
    middle = sorted(sizes.values())[len(sizes) // 2]
    path = pretrained.pack(net, tmp_path / "net.safetensors", small=middle)
    held, back = load_file(path), unpack(path).state_dict()
    for name, size in sizes.items():
        assert (name in held) == (size < middle)
        if size < middle:
            assert held[name].dtype == torch.float16
            assert torch.equal(back[name], net.state_dict()[name].half().float())
    huge = network()
    with torch.no_grad():
        huge.layers[0].conv.weight.mul_(1e6)  # beyond float16
    kept = unpack(pretrained.pack(huge, path)).state_dict()
    assert torch.equal(kept["layers.0.conv.weight"], huge.state_dict()["layers.0.conv.weight"])


def test_the_old_name_works_however_models_was_imported() -> None:
    code = "import sj_lowlat.models as m; m.load('snn-tiny-yolov3-coco', spiking=False)"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "DeprecationWarning" in done.stderr
