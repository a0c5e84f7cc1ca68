"""The parser, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sj_lowlat.errors import InputError
from sj_lowlat.models import parse_cfg
from sj_lowlat.models.darknet_cfg import read_cfg

TEXT = """# a comment

[net]
width = 64   # trailing
height=64
; another
[conv]
filters= 8
filters=9
[yolo]
anchors = 10,14,  23,27
mask=0,1
"""


def test_sections_options_and_lines() -> None:
    net, conv, yolo = parse_cfg(TEXT)
    assert [section.kind for section in (net, conv, yolo)] == ["net", "convolutional", "yolo"]
    assert [(s.number, s.line) for s in (net, conv, yolo)] == [(-1, 3), (0, 7), (1, 10)]
    assert net.integer("width") == 64
    assert conv.integer("filters") == 8  # the first counts
    assert yolo.floats("anchors") == (10, 14, 23, 27) and yolo.integers("mask") == (0, 1)
    assert conv.integer("stride", 1) == 1 and conv.integers("mask", (5,)) == (5,)


@pytest.mark.parametrize("name", ["yolov3-tiny.cfg", "yolov3-tiny-mask123.cfg"])
def test_real_cfg(data_dir, name) -> None:
    sections = parse_cfg(read_cfg(data_dir / "darknet" / name))
    kinds = [section.kind for section in sections]
    assert len(sections) == 25 and sections[-1].number == 23
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {"net": 1, "convolutional": 13, "maxpool": 6, "yolo": 2, "route": 2, "upsample": 1}
    assert sections[-1].integers("mask") == ((1, 2, 3) if "mask123" in name else (0, 1, 2))
    assert sections[21].integers("layers") == (-1, 8)


def test_text_or_path(tmp_path) -> None:
    path = tmp_path / "a.cfg"
    path.write_text(TEXT)
    assert read_cfg(TEXT) == read_cfg(path) == read_cfg(str(path)) == TEXT
    with pytest.raises(FileNotFoundError, match=r"b\.cfg"):
        read_cfg(tmp_path / "b.cfg")
    path.write_bytes(b"\x00\x00\xff\xfe\x80")
    with pytest.raises(InputError, match="not text"):
        read_cfg(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must start with a \[net\]"),
        ("[net]\nwidth=1\n", "layers after it"),
        ("[convolutional]\n[net]\n", r"must start with a \[net\]"),
        ("width=64\n[net]\n", "line 1"),
        ("[net]\nwidth 64\n", "line 2.*width 64"),
        ("[net]\n\n[maxpool]\n[lstm]\n", r"\[lstm\] \(layer 1, line 4\) is not supported: it keeps a state"),
        ("[net]\n[plse]\n", r"\[plse\] \(layer 0, line 2\) is not supported: layers may be.*upsample"),
        ("[net]\n[conn]\n", r"\[connected\].*YOLOv1"),
        ("[net]\n[Gaussian_yolo]\n", "uncertainties"),
        ("[net]\n[maxpool]\n[net]\n", r"\[net\] \(layer 1, line 3\)"),
        ("[net]\n[convolutional]\nbinary=1\n", r"\[convolutional\] \(layer 0, line 2\).*binary=1"),
        ("[net]\n[dropout]\ndropblock=1\n", "dropblock=1"),
        ("[net]\n[conv]\nfilter=8\n", r"line 2.*unknown option filter=8 \(did you mean filters\?\)"),
        ("[net]\n[conv]\nFilters=8\n", r"unknown option Filters=8 \(did you mean filters\?\)"),
        ("[net]\n[conv]\nq=8\n", "unknown option q=8; remove it"),
        ("[net]\n[region]\ntree=9k.tree\n", "tree=9k.tree"),
        ("[net]\n[reorg]\nreverse=1\n", "reverse=1"),
    ],
)
def test_refuses(text, message) -> None:
    with pytest.raises(InputError, match=message):
        parse_cfg(text)


def test_errors_name_the_file(tmp_path) -> None:
    for text, place in [("[net]\n[lstm]\n", "2: section"), ("[net]\nwidth\n", "2 is"), ("", " must start")]:
        with pytest.raises(InputError, match=rf"^a\.cfg:?{place}"):
            parse_cfg(text, "a.cfg")


def test_neutral_and_training_options_pass() -> None:
    parse_cfg("[net]\nanything=1\n[conv]\nstopbackward=1\nassisted_excitation=4000\n[yolo]\nrandom=1\n")
    parse_cfg("[net]\n[yolo]\nscale_x_y=1.0\n[shortcut]\nalpha=1.0\nweights_type=none\n")


def test_options_of_the_wrong_kind() -> None:
    _, section = parse_cfg("[net]\n[maxpool]\nsize=two\nstride=1,2\npadding=-1\n")
    for read, message in [
        (lambda: section.integer("size"), "whole numbers.*'two'"),
        (lambda: section.integer("stride"), "one whole number.*'1,2'"),
        (lambda: section.integer("scale"), "lacks the option scale"),
        (lambda: section.positive("padding"), "1 or more; got -1"),
        (lambda: section.floats("size"), "numbers separated"),
    ]:
        with pytest.raises(InputError, match=rf"\[maxpool\] \(layer 0, line 2\).*{message}"):
            read()


ENCODED = [
    ("utf-8", ""), ("utf-8-sig", "déjà vu … 日本"), ("cp1252", "“déjà” … vu"), ("latin-1", "d\xe9j\x85\x81"),
    ("utf-16", "日本"),
]  # fmt: skip


@pytest.mark.parametrize(("encoding", "comment"), ENCODED)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, comment, end) -> None:
    path = tmp_path / "a.cfg"
    path.write_bytes(TEXT.replace("trailing", comment).replace("\n", end).encode(encoding))
    assert parse_cfg(read_cfg(path)) == parse_cfg(TEXT)
    assert parse_cfg(TEXT.replace("\n", end)) == parse_cfg(TEXT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TEXT.encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (b"\xff\xfe\x00\xd8", "save.* as UTF-8"),
    ],
)
def test_broken_encodings_are_refused(tmp_path, data, message) -> None:
    path = tmp_path / "a.cfg"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.cfg .*{message}"):
        read_cfg(path)


@given(
    gaps=st.lists(st.text(" \t", max_size=3), min_size=4, max_size=4),
    comment=st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
    sign=st.sampled_from("#;"),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\r\n"]),
    last=st.booleans(),
)
def test_spaces_and_comments_do_not_count(gaps, comment, sign, end, last) -> None:
    a, b, c, d = gaps
    lines = [f"{a}[net]{b}{sign}{comment}", f"{a}width{b}={c}64{d}", f"{sign}{comment}", f"[{a}conv{b}]{c}"]
    lines += [f"{a}filters{b}={c}8{d}{sign}{comment}"]
    net, conv = parse_cfg(end.join(lines) + (end if last else ""))
    assert (net.options, conv.kind, conv.options) == ({"width": "64"}, "convolutional", {"filters": "8"})
