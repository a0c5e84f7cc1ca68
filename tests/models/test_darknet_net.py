"""Networks from cfgs: shapes, values, refusals."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sj_lowlat.class_names import COCO_CLASSES
from sj_lowlat.errors import InputError
from sj_lowlat.models import DarknetNet, SameMaxPool, build, darknet

NET = "[net]\nwidth=64\nheight=64\nchannels=3\n"
CONV = "[convolutional]\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=leaky\n"
HEAD = "[convolutional]\nfilters=7\nsize=1\nactivation=linear\n[yolo]\nanchors=4,6\nclasses=2\n"


def _randomised(net: DarknetNet) -> DarknetNet:
    """Batch norms that do something, so that a forgotten one shows."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


def _block(
    net: DarknetNet, number: int, x: Tensor, act=F.leaky_relu, stride: int = 1, groups: int = 1
) -> Tensor:
    """One convolutional section by hand, from the state dict."""
    state = {
        key.split(".", 2)[2]: value
        for key, value in net.state_dict().items()
        if key.startswith(f"layers.{number}.")
    }
    weight = state["conv.weight"]
    x = F.conv2d(x, weight, state.get("conv.bias"), stride, weight.shape[2] // 2, groups=groups)
    if "bn.weight" in state:
        x = F.batch_norm(
            x, state["bn.running_mean"], state["bn.running_var"], state["bn.weight"], state["bn.bias"]
        )
    return x if act is None else act(x, 0.1) if act is F.leaky_relu else act(x)


@torch.no_grad()
def test_yolo_layers_by_hand(yolo_cfg) -> None:
    net = _randomised(darknet(yolo_cfg))
    image = torch.rand(2, 3, 64, 64)
    x1 = F.max_pool2d(_block(net, 0, image), 2)
    x2 = _block(net, 2, x1, groups=4)
    x4 = F.leaky_relu(_block(net, 3, x2, F.relu) + x2, 0.1)
    x5 = _block(net, 5, x4, F.mish, stride=2)
    x6 = x5[:, 8:]
    x8 = torch.cat((_block(net, 7, x6), x6, x5), 1)
    x9 = F.max_pool2d(F.pad(x8, (0, 1, 0, 1), value=-torch.inf), 2, 1)
    coarse = _block(net, 10, x9, None)
    fine = _block(net, 15, torch.cat((x9.repeat_interleave(2, 2).repeat_interleave(2, 3), x1), 1), None)
    found = net(image)
    assert [tuple(m.shape) for m in found] == [(2, 16, 16, 16), (2, 8, 32, 32)]
    torch.testing.assert_close(found, (coarse, fine))
    assert [(spec.anchors, spec.stride, spec.kind) for spec in net.head_specs] == [
        (((20, 30), (4, 6)), 4, "yolo"),
        (((8, 10),), 2, "yolo"),
    ]
    assert (net.input_shape, net.input_size, net.stride) == ((3, 64, 64), 64, 4)


@torch.no_grad()
def test_region_layers_by_hand(region_cfg) -> None:
    net = _randomised(darknet(region_cfg))
    image = torch.rand(1, 3, 64, 64)
    x1 = _block(net, 1, _block(net, 0, image, stride=2))
    x2 = _block(net, 2, x1, stride=2)
    phases = F.pixel_unshuffle(
        x1.reshape(1, 2, 64, 64), 2
    )  # [1, 2 * 4, 32, 32], channel outside, phase inside
    x4 = phases.view(1, 2, 4, 32, 32).transpose(1, 2).reshape(1, 32, 16, 16)
    torch.testing.assert_close(net(image), (_block(net, 6, torch.cat((x4, x2), 1), None),))
    (spec,) = net.head_specs
    assert (spec.kind, spec.stride, spec.num_classes) == ("region", 4, 2)
    assert spec.anchors == ((6, 8), (12, 17))  # cells times stride


def test_other_input_sizes(yolo_cfg) -> None:
    net = darknet(yolo_cfg).eval()
    assert [tuple(m.shape[2:]) for m in net(torch.rand(1, 3, 32, 96))] == [(8, 24), (16, 48)]
    for bad in [(1, 3, 30, 64), (1, 1, 64, 64), (3, 64, 64)]:
        with pytest.raises(InputError, match="multiples of 4"):
            net(torch.rand(bad))


def test_keys_and_modules(yolo_cfg) -> None:
    net = darknet(yolo_cfg)
    keys = set(net.state_dict())
    assert {"layers.0.conv.weight", "layers.0.bn.running_var", "layers.10.conv.bias"} <= keys
    assert "layers.0.conv.bias" not in keys
    assert isinstance(net.get_submodule("layers.0.act"), nn.LeakyReLU)
    assert net.get_submodule("layers.0.act").negative_slope == 0.1
    assert isinstance(net.layers[9], SameMaxPool) and type(net.layers[1]) is nn.MaxPool2d


def test_config_builds_the_same(yolo_cfg, region_cfg) -> None:
    for cfg in (yolo_cfg, region_cfg):
        net = darknet(cfg, class_names=[f"n{i}" for i in range(darknet(cfg).head_specs[0].num_classes)])
        again = build(json.loads(json.dumps(net.build_config)))
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in net.state_dict().items()
        }
        assert again.info == net.info
        again.load_state_dict(net.state_dict())
        image = torch.rand(1, 3, 64, 64)
        for twin in (again, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            torch.testing.assert_close(twin.eval()(image), net.eval()(image))


def test_untrained_head_expects_nothing(yolo_cfg) -> None:
    net = darknet(yolo_cfg).eval()
    for raw, spec in zip(net(torch.rand(1, 3, 64, 64)), net.head_specs, strict=True):
        objectness = raw.view(1, len(spec.anchors), 5 + spec.num_classes, -1)[:, :, 4].sigmoid()
        assert 0.003 < objectness.mean() < 0.03


def test_class_names(yolo_cfg) -> None:
    assert darknet(yolo_cfg).class_names == ("class 0", "class 1", "class 2")
    assert darknet(yolo_cfg, class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    for names in (["a", "b"], "abc"):
        with pytest.raises(InputError, match="3 names"):
            darknet(yolo_cfg, class_names=names)


def test_real_cfgs(data_dir) -> None:
    with torch.device("meta"):
        nets = [darknet(data_dir / "darknet" / f"yolov3-tiny{end}.cfg") for end in ("", "-mask123")]
    assert nets[0].class_names == COCO_CLASSES
    assert [spec.stride for spec in nets[0].head_specs] == [32, 16]
    assert nets[0].head_specs[1].anchors == ((10, 14), (23, 27), (37, 58))
    assert nets[1].head_specs[1].anchors == ((23, 27), (37, 58), (81, 82))
    assert nets[0].head_specs[0] == nets[1].head_specs[0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (CONV, r"no \[yolo\] or \[region\]"),
        (CONV.replace("leaky", "plse") + HEAD, r"\(layer 0, line 5\).*activation 'plse'.*leaky"),
        (CONV.replace("filters=8\n", "") + HEAD, "lacks the option filters"),
        (CONV + "groups=3\n" + HEAD, "3 groups"),
        (CONV.replace("pad=1", "pad=0") + HEAD, r"62 cells a side of 64"),
        ("[maxpool]\nsize=3\nstride=3\n" + HEAD, r"\(layer 0, line 5\) makes 22 cells"),
        ("[maxpool]\nsize=2\nstride=1\npadding=4\n" + HEAD, "padding must be from 0 to 3"),
        ("[upsample]\nstride=2\n" + HEAD, "128 cells"),
        ("[reorg]\nstride=2\n" + HEAD, "3 channels by 4"),
        (CONV + "[route]\nlayers=1\n" + HEAD, r"\(layer 1, line 11\) takes layer 1"),
        (CONV + "[route]\nlayers=-2\n" + HEAD, "takes layer -2"),
        (HEAD + "[route]\nlayers=1\n", "takes layer 1"),
        (CONV + "[route]\nlayers=\n" + HEAD, "join maps of one size"),
        (CONV + "[maxpool]\nsize=2\nstride=2\n[route]\nlayers=0,1\n" + HEAD, r"sizes \[64, 32\]"),
        (CONV + "[route]\nlayers=0\ngroups=3\n" + HEAD, r"groups=3 in \[8\]"),
        (CONV + "[route]\nlayers=0\ngroups=2\ngroup_id=2\n" + HEAD, "group_id=2"),
        (CONV + "[maxpool]\nsize=2\nstride=2\n[shortcut]\nfrom=-2\n" + HEAD, "one size"),
        (CONV + "[maxpool]\nsize=2\nstride=2\n[sam]\nfrom=-2\n" + HEAD, "multiply maps of one shape"),
        (CONV + "[dropout]\nprobability=1.5\n" + HEAD, "probability must be"),
        (HEAD + "scale_x_y=9\n", "scale_xy must be from 1 to 4"),
        (HEAD.replace("=7", "=8"), "need 7 channels, but 8 arrive: set filters=7"),
        (HEAD.replace("linear", "relu"), "activation=linear"),
        (HEAD + "mask=1\n", "mask"),
        (HEAD.replace("4,6", "4,6,8,9") + "num=2\n", "need 14 channels, but 7 arrive"),
        (HEAD + "scale_x_y=1,2\n", "scale_x_y must be one number"),
        (HEAD.replace("[yolo]", "[region]"), "softmax=0 is not supported"),
        (CONV.replace("pad=1", "padding=0") + "dilation=2\n" + HEAD, "dilation=2 needs pad=1"),
        (CONV + "share_index=0\n" + HEAD, "takes layer 0, which is no earlier layer"),
        (CONV + CONV + "share_index=0\n" + HEAD, "shares the weights of layer 0"),
        (CONV + "stride_x=1\nstride_y=2\n" + HEAD, r"strides of x and y that differ.*\[1, 2\]"),
        ("[local_avgpool]\nsize=2\npadding=2\n" + HEAD, "padding must be from 0 to 1"),
        (HEAD + "[contrastive]\n", r"put a \[route\] between"),
        (CONV + "[contrastive]\n[route]\nlayers=1\n" + HEAD, "takes layer 1, a detection layer"),
        (HEAD.replace("4,6", "4,6,8"), "pairs"),
        (HEAD + CONV, r"put a \[route\] between"),
        (
            HEAD + "[route]\nlayers=0\n" + HEAD.replace("=7", "=8").replace("classes=2", "classes=3"),
            r"\[2, 3\]",
        ),
    ],
)
def test_refuses(body, message) -> None:
    with pytest.raises(InputError, match=message):
        darknet(NET + body)


def test_refuses_other_inputs() -> None:
    halved = CONV.replace("stride=1", "stride=2")
    with pytest.raises(InputError, match="height=63 is no multiple of the stride 2"):
        darknet(NET.replace("height=64", "height=63") + halved + HEAD)
    with pytest.raises(InputError, match=r"\[net\] \(line 1\) lacks the option width"):
        darknet(NET.replace("width=64", "") + HEAD)
    with pytest.raises(FileNotFoundError):
        darknet("nowhere.cfg")
