"""The file of a report, read by an HTML parser: whole, escaped, self-contained, and true."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sj_lowlat.data import read_image
from sj_lowlat.errors import InputError
from sj_lowlat.monitors import LayerSpikes
from sj_lowlat.report import layers, recorded_run, recorded_scores, watch_picture, write_report
from sj_lowlat.report import page as page_module
from sj_lowlat.schedule import Schedule

VOID = {"meta", "link", "img", "input", "br", "hr"}


class Parsed(HTMLParser):
    """Elements with their attributes and texts; every end must match its start."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1][0] if self.open else "", data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def parsed(page: Any) -> Parsed:
    return Parsed(page.path.read_text(encoding="utf-8"))


def test_names_are_text_and_nothing_else(page: Any, parsed: Parsed) -> None:
    assert len(parsed.all("script")) == 1 and not [
        1 for _, a in parsed.elements if any(k.startswith("on") for k in a)
    ]
    assert parsed.texts.count(("title", "</script><script>window.hacked = 1</script>")) == 1
    said = " ".join(text for _, text in parsed.texts)
    assert page.pictures[0].name in said


def test_nothing_is_loaded_and_only_the_own_script_may_run(parsed: Parsed) -> None:
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    (policy,) = [meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv")]
    assert policy and policy.startswith("default-src 'none'; img-src data:;")
    (script,) = [text for tag, text in parsed.texts if tag == "script"]
    digest = base64.b64encode(hashlib.sha256(f"{script}\n".encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_everything_has_a_name_for_those_who_do_not_see_it(parsed: Parsed) -> None:
    assert all(image.get("alt") for image in parsed.all("img"))
    assert all(svg.get("aria-hidden") or svg.get("aria-label") for svg in parsed.all("svg"))
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {label["for"] for label in parsed.all("label")}
    assert {"step", "picture", "layer"} == labels <= set(ids)
    wanted = [a[key] for _, a in parsed.elements for key in ("aria-labelledby",) if key in a]
    assert wanted and set(wanted) <= set(ids)


def test_figures_are_those_of_the_run(page: Any, parsed: Parsed) -> None:
    plan = Schedule(4, 2, burst=2, charge=4)
    spikes, found = [], []
    for picture in page.pictures:
        run = watch_picture(page.snn, read_image(picture), plan, min_score=0.1)
        spikes += [(f"{len(reading.detections)}", f"{reading.spikes:,}") for reading in run.readings]
        for reading in run.readings:
            named = reading.detections.to_dict(run.class_names)
            found += [f"{n} {s:.2f}" for n, s in zip(named["names"], named["scores"], strict=True)]
    assert [text for tag, text in parsed.texts if tag == "li"] == found and len(set(found)) > 2
    assert sorted(text for tag, text in parsed.texts if tag == "text" and text in found) == sorted(found)
    assert any(text.startswith("</script>") for text in found)  # a name that must be escaped was drawn
    at = [place for place, (tag, text) in enumerate(parsed.texts) if text == "Spikes so far"]
    shown = [(parsed.texts[place - 1][1], parsed.texts[place + 1][1]) for place in at]
    assert shown == spikes
    assert sum("neurons exact" in text for _, text in parsed.texts) == 1
    commands = [text for tag, text in parsed.texts if tag == "dd" and "4+2b2" in text]
    assert commands == ["4+2b2c4"]


def test_the_same_input_gives_the_same_page(snn: Any, pictures: list[Path], tmp_path: Path) -> None:
    written = [write_report(tmp_path / f"{i}.html", snn, pictures[1:], 2).read_bytes() for i in range(2)]
    assert written[0] == written[1] and len(written[0]) < 5_000_000
    parsed = Parsed(written[0].decode())
    said = " ".join(text for _, text in parsed.texts)
    assert "Accuracy against latency" not in said and not [
        a for a in parsed.all("select") if a["id"] == "picture"
    ]


def test_long_runs_and_four_pictures_fit(snn: Any, pictures: list[Path], tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", snn, [*pictures, *pictures], "100+20")
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5_000_000 and "step 120 of 120" in text
    (slider,) = [a for a in Parsed(text).all("input") if a["type"] == "range"]
    assert slider["max"] == "11"


def test_a_page_without_a_record_of_the_conversion(snn: Any, pictures: list[Path], tmp_path: Path) -> None:
    bare = copy.deepcopy(snn)
    bare.info = replace(bare.info, report=None)
    text = write_report(tmp_path / "r.html", bare, pictures[:1], 2).read_text(encoding="utf-8")
    assert "carries no record of its conversion" in text and Parsed(text)


def test_maps_shrink_until_they_fit(
    snn: Any, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sheets(limit: int) -> list[str]:
        monkeypatch.setattr(layers, "_MAP_BYTES", limit)
        text = write_report(tmp_path / "r.html", snn, pictures[:1], 2).read_text(encoding="utf-8")
        return [image["src"] or "" for image in Parsed(text).all("img")][1:]  # without the photo

    whole = sheets(3_000_000)
    sizes = {limit: sum(map(len, sheets(limit))) for limit in (sum(map(len, whole)) - 1, 30_000, 12_000)}
    assert all(size <= limit for limit, size in sizes.items()), sizes
    assert len(sheets(12_000)) < len(whole)


def test_a_silent_layer_and_a_page_that_is_too_large(
    snn: Any, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LayerSpikes, "chosen_neurons", lambda self, count: [])
    text = write_report(tmp_path / "r.html", snn, pictures[:1], 2).read_text(encoding="utf-8")
    silent = [text for _, text in Parsed(text).texts if text.startswith("None of the neurons")]
    assert len(silent) == len(Parsed(text).all("select")) * len(snn.info.report.layers) - 2  # two heads
    monkeypatch.setattr(page_module, "MOST_BYTES", 10_000)
    with pytest.raises(InputError, match=r"the page would have 0\.\d MB"):
        write_report(tmp_path / "s.html", snn, pictures[:1], 2)
    assert not (tmp_path / "s.html").exists()


def test_bad_input_is_refused_and_nothing_written(
    snn: Any, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.html"
    for files, options, message in (
        ([], {}, "0 pictures came for one page; give 1 to 4"),
        (pictures * 3, {}, "6 pictures came"),
        (pictures, {"min_score": 2}, "min_score is 2; give a score"),
        (pictures, {"schedule": "4+0p2"}, "pre-steps"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            write_report(path, snn, files, **options)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        write_report(path, snn, [tmp_path / "none.png"])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match="pip install jinja2"):
        write_report(path, snn, pictures)
    assert list(tmp_path.iterdir()) == []


def test_scores_of_an_evaluation(evaluation: Path, tmp_path: Path) -> None:
    scores = recorded_scores(evaluation)
    assert scores.points == [(1, 0.02), (2, 0.105), (4, 0.31), (6, 0.412)]
    assert scores.schedule == "4+2"
    assert scores.source == "runs/snn with the schedule 4+2 on 9 images of traffic:9"
    with pytest.raises(FileNotFoundError, match="evaluate --output"):
        recorded_scores(tmp_path / "none.json")


@pytest.mark.parametrize(
    "record",
    [
        [],
        {},
        {"points": []},
        {"points": [{"steps": None, "map50": 0.5}]},
        {"points": [{"steps": 0, "map50": 0.5}]},
        {"points": [{"steps": True, "map50": 0.5}]},
        {"points": [{"steps": 2, "map50": "x"}]},
        {"points": [{"steps": 2, "map50": float("nan")}]},
        {"points": [{"steps": 2, "map50": 31.0}]},
        {"points": [{"steps": 2, "map50": 0.31}]},
        {"points": [{"steps": 2, "map50": 0.31}], "model": "m", "data": "d", "settings": []},
    ],
)
def test_what_is_no_evaluation_is_refused(record: Any, tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"e.json holds no mAP curve"):
        recorded_scores(path)


@pytest.mark.parametrize(
    "record",
    [
        [],
        {"images": [], "settings": 3},
        {"images": [{}], "settings": {"model": "m", "time_steps": None}},
        {"images": [{"path": 3}], "settings": {"model": "m", "time_steps": None}},
        {"images": [], "settings": {"model": "m", "time_steps": 0}},
        {"images": [], "settings": {"model": "m", "time_steps": "x"}},
    ],
)
def test_what_no_detection_wrote_is_refused(record: Any, tmp_path: Path) -> None:
    (tmp_path / "detections.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"detections.json holds no pictures and settings"):
        recorded_run(tmp_path)
