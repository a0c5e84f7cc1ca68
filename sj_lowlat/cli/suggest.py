"""Errors in the words of the command line: options as they are typed, and what may have been meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

# what other detectors' command lines call it
_ELSEWHERE = {
    "--batch": "--batch-size",
    "--conf": "--min-score",
    "--conf-thres": "--min-score",
    "--confidence-threshold": "--min-score",
    "--img": "--size",
    "--imgsz": "--size",
    "--input": "--data",
    "--iou-thres": "--iou",
    "--max-det": "--max-detections",
    "--name": "--output",
    "--project": "--output",
    "--save-dir": "--output",
    "--score": "--min-score",
    "--steps": "--schedule",
    "--threshold": "--min-score",
    "--weights": "--model",
}
_VERBS = {"predict": "detect", "infer": "detect", "train": "finetune", "val": "evaluate", "test": "evaluate",
          "eval": "evaluate", "quantise": "convert", "quantize": "convert", "watch": "monitor"}  # fmt: skip


def suggestion(message: str, options: Sequence[str]) -> str:
    """``"; did you mean --min-score?"`` for a message on options that are not known; else nothing."""
    unknown = message.partition("nrecognized arguments:")[2].split()
    found = []
    for word in unknown:
        word = word.partition("=")[0]
        near = get_close_matches(word, options, 1, 0.6)
        if _ELSEWHERE.get(word) in options:
            near = [_ELSEWHERE[word]]
        found += near if word.startswith("-") else []
    return f"; did you mean {' and '.join(found)}?" if found else ""


def near_verb(word: str, verbs: Sequence[str]) -> str:
    """``"; did you mean detect?"``, or nothing."""
    near = [_VERBS[word]] if word in _VERBS else get_close_matches(word, verbs, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""


def in_options(message: str, options: Sequence[str]) -> str:
    """Names of Python in a message as the options that a user typed: ``min_score`` -> ``--min-score``."""
    if "--calibration" in options:  # of convert
        message = message.replace("call prepare first", "give --levels")
    if "--readout" in options:
        message = re.sub(r"\breadout is \[([\d, ]*)\]", r"--readout is \1", message)
        message = re.sub(r"\bfor instance \((\d+),\)", r"for instance \1", message)
    for option in options:
        name = option.lstrip("-").replace("-", "_")
        message = re.sub(rf"(?<![\w/.'\"\\-]){name}='([^']*)'", rf"{option} \1", message)
        if "_" in name:
            message = re.sub(rf"(?<![\w/.'\"\\-]){name}(?![\w/.'\"\\=])", option, message)
    return message


def with_hyphens(word: str) -> str:
    """``--min_score=1`` -> ``--min-score=1``; other words as they are."""
    name, equals, value = word.partition("=")
    known = re.fullmatch(r"--[a-z]+(_[a-z]+)+", name)
    return name.replace("_", "-") + equals + value if known else word
