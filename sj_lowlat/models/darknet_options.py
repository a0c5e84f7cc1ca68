"""Sections and options of a darknet cfg: what is read, what changes nothing here, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

_LOSS = """
    absolute beta1 beta_nms bias_match class_scale classfix cls_normalizer coord_scale counters_per_class
    delta_normalizer dets_for_show dets_for_track embedding_layer focal_loss ignore_thresh iou_loss
    iou_normalizer iou_thresh iou_thresh_kind jitter label_smooth_eps mask_scale max max_delta nms_kind
    noobject_scale obj_normalizer object_scale objectness_smooth random rescore resize show_details
    sim_thresh sqrt thresh track_ciou_norm track_history_size truth_thresh uc_normalizer
"""
# options that any section may have, for training and speed
_TRAINING = frozenset(
    (
        "burnin_update", "clip", "dont_update", "learning_rate", "onlyforward", "stopbackward", "stream",
        "train_only_bn", "wait_stream",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of layer.

    :param reads: options that are read
    :param ignores: options that change nothing once a network is trained
    :param only: options that change what is computed, supported with this value only
    """

    reads: frozenset[str]
    ignores: frozenset[str] = frozenset()
    only: Mapping[str, str] = field(default_factory=dict)


def _kind(reads: str = "", ignores: str = "", **only: str) -> Kind:
    return Kind(frozenset(reads.split()), frozenset(ignores.split()), only)


#: kind of layer -> its options
KINDS: dict[str, Kind] = {
    "convolutional": _kind(
        "activation batch_normalize cbn dilation filters groups pad padding share_index size stride stride_x "
        "stride_y xnor",
        "angle assisted_excitation bin_output dot grad_centr",
        antialiasing="0",
        binary="0",
        coordconv="0",
        flipped="0",
        reverse="0",
        rotate="0",
        stretch="0",
        stretch_sway="0",
        sway="0",
    ),
    "maxpool": _kind(
        "padding size stride stride_x stride_y",
        "out_channels",
        antialiasing="0",
        maxpool_depth="0",
        maxpool_zero_nonmax="0",
    ),
    "local_avgpool": _kind("padding size stride stride_x stride_y"),
    "route": _kind("group_id groups layers"),
    "shortcut": _kind(
        "activation from", weights_type="none", weights_normalization="none", alpha="1", beta="1"
    ),
    "upsample": _kind("stride", scale="1"),
    "reorg": _kind("stride", reverse="0", flatten="0", extra="0"),
    "reorg3d": _kind("stride", reverse="0"),
    "dropout": _kind("probability", "dropblock_size_abs dropblock_size_rel", dropblock="0"),
    "avgpool": _kind(),
    "scale_channels": _kind("from", scale_wh="0", activation="linear"),
    "sam": _kind("from", activation="linear"),
    "yolo": _kind("anchors classes mask new_coords num scale_x_y", f"map {_LOSS}"),
    "region": _kind(
        "anchors classes num softmax", f"log {_LOSS}", coords="4", background="0", tree="", map=""
    ),
    "contrastive": _kind(
        "", "classes cls_normalizer contrastive_neg_max max_delta steps temperature yolo_layer"
    ),
}

#: other names of sections
ALIASES = {
    "network": "net",
    "conv": "convolutional",
    "max": "maxpool",
    "avg": "avgpool",
    "local_avg": "local_avgpool",
    "soft": "softmax",
    "conn": "connected",
    "lrn": "normalization",
}

_WANTED = "and only feed-forward, convolutional detectors that end in [yolo] or [region] can be read"
_RECURRENT = f"it keeps a state from one picture to the next, {_WANTED}"
_CLASSIFIER = f"it belongs to a classifier, {_WANTED}"
_V1 = f"it belongs to a classifier or to YOLOv1, {_WANTED}"
_OWN_WEIGHTS = "it has weights or statistics of its own kind, which are not read"
#: kind of layer -> why it is refused
REFUSED: dict[str, str] = {
    **dict.fromkeys(("rnn", "gru", "lstm", "crnn", "conv_lstm", "history"), _RECURRENT),
    **dict.fromkeys(("softmax", "cost", "crop"), _CLASSIFIER),
    **dict.fromkeys(("connected", "local", "detection"), _V1),
    **dict.fromkeys(("batchnorm", "implicit", "normalization"), _OWN_WEIGHTS),
    "gaussian_yolo": "its maps hold uncertainties of x, y, width and height, which no decoder here reads",
}
_WHY = {"tree": ": its classes form a tree (YOLO9000), which no decoder here reads"}


def problem_with(kind: str, options: Mapping[str, str]) -> str | None:
    """What is wrong with a section, to be read behind its name; ``None`` if its options can be used."""
    if kind in REFUSED:
        return f" is not supported: {REFUSED[kind]}"
    if kind not in KINDS:
        return f" is not supported: layers may be {', '.join(KINDS)}"
    known = KINDS[kind]
    for key, value in options.items():
        neutral = known.only.get(key)
        if neutral is not None:
            if not _same(value, neutral):
                return f": option {key}={value} is not supported{_WHY.get(key, f', only {key}={neutral}')}"
        elif key not in known.reads | known.ignores | _TRAINING:
            near = get_close_matches(key.lower(), sorted(known.reads | set(known.only)), 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            return f": unknown option {key}={value}{hint}; remove it if it only matters in training"
    return None


def _same(value: str, neutral: str) -> bool:
    try:
        return float(value) == float(neutral)
    except ValueError:
        return value == neutral
