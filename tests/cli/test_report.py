"""``sj-lowlat report``, and the drawings of ``sj-lowlat monitor --picture``."""

from __future__ import annotations

import json
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sj_lowlat.data import read_image

Run = Callable[..., tuple[int, str, str]]


def made(page: Path) -> dict[str, str]:
    """How a page says it was made."""
    text = page.read_text(encoding="utf-8")
    footer = text[text.index("How this page was made") :]
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", footer))


@pytest.fixture
def picture(places: Any) -> Path:
    return sorted(places.pictures.iterdir())[0]


def test_a_picture_becomes_a_page(places: Any, run: Run, tmp_path: Path, picture: Path) -> None:
    evaluation, page = tmp_path / "e.json", tmp_path / "page.html"
    code, _, err = run("evaluate", "--model", places.snn, "--data", places.data, "--schedule", "4+2b2",
                       "--readout", "2,4", "--monitored", 0, "--output", evaluation)  # fmt: skip
    assert code == 0, err
    score = 100 * json.loads(evaluation.read_text())["points"][1]["map50"]
    code, out, err = run("report", picture, "--model", places.snn, "--schedule", "4+2b2", "--min-score", 0.01,
                         "--evaluation", evaluation, "--output", page)  # fmt: skip
    assert code == 0, err
    assert out == f"{page}: open it in a browser\n"
    said = made(page)
    assert said["schedule"] == "4+2b2c4" and said["min score"] == "0.01" and said["seed"] == "0"
    assert said["pictures"] == picture.name and said["evaluation"] == "e.json"
    assert said["command"].startswith("sj-lowlat report ")
    text = page.read_text(encoding="utf-8")
    assert f"mAP50 {score:.1f} % at step 4." in text
    assert f"Scores of {places.snn} with the schedule 4+2b2c4 on 6 images of {places.data}." in text
    words = ("report", picture, "--model", places.snn, "--schedule", "6", "--evaluation", evaluation)
    code, _, err = run(*words, "--output", tmp_path / "other.html")
    assert code == 2 and "scores the schedule 4+2b2c4, and the page would show 6+0c4: give --schedule" in err
    assert not (tmp_path / "other.html").exists()


def test_a_folder_of_detect_gives_network_pictures_and_settings(
    places: Any, run: Run, tmp_path: Path
) -> None:
    found, page = tmp_path / "found", tmp_path / "page.html"
    done = run("detect", places.pictures, "--model", places.snn, "--schedule", "3+1b2", "--min-score", 0.02,
               "--resize", "stretch", "--output", found)  # fmt: skip
    assert done[0] == 0, done[2]
    code, _, err = run("report", found, "--output", page)
    assert code == 0, err
    said = made(page)
    names = [path.name for path in sorted(places.pictures.iterdir())[:4]]
    assert said["pictures"] == ", ".join(names) and said["model"] == str(places.snn)
    assert (said["schedule"], said["min score"], said["resize"]) == ("3+1b2c4", "0.02", "stretch")
    code, _, err = run("report", found, "--output", page, "--schedule", 5, "--min-score", 0.3)
    assert code == 0, err
    said = made(page)
    assert (said["schedule"], said["min score"], said["resize"]) == ("5+0c4", "0.3", "stretch")


def test_a_folder_of_pictures(places: Any, run: Run, tmp_path: Path) -> None:
    code, _, err = run("report", places.pictures, "--model", places.snn, "--output", tmp_path / "p.html")
    assert code == 0, err
    assert len(made(tmp_path / "p.html")["pictures"].split(", ")) == 4


@pytest.mark.parametrize(
    "words, message",
    [
        (["{picture}", "--output", "{tmp}/page.pdf"], "ends in .html"),
        (["{tmp}/none.png"], "none.png"),
        (["{picture}", "--model", "{ann}"], "has no spiking neurons to report on"),
        (["{picture}"] * 5, "5 pictures came for one page"),
        (["{picture}", "--evaluation", "{tmp}/none.json"], "no file at"),
        (["{tmp}/empty"], "holds no detections of pictures"),
        (["{picture}", "--min-score", "2"], "give a score in [0, 1]"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(
    words: list[str], message: str, places: Any, run: Run, tmp_path: Path, picture: Path
) -> None:
    (tmp_path / "empty").mkdir()
    settings = {"model": str(places.snn), "time_steps": None}
    (tmp_path / "empty" / "detections.json").write_text(json.dumps({"images": [], "settings": settings}))
    filled = [word.format(picture=picture, tmp=tmp_path, ann=places.ann) for word in words]
    options = [] if "--model" in words else ["--model", places.snn]
    options += [] if "--output" in words else ["--output", tmp_path / "page.html"]
    code, out, err = run("report", *filled, *options)
    assert code == 2 and message in err and not out, err
    assert not list(tmp_path.glob("page*"))


def test_an_evaluation_is_not_overwritten(places: Any, run: Run, tmp_path: Path, picture: Path) -> None:
    page = tmp_path / "e.html"
    page.write_text("{}")
    words = ("report", picture, "--model", places.snn, "--evaluation", page, "--output", page)
    code, _, err = run(*words)
    assert code == 2 and "which the command reads from" in err and page.read_text() == "{}"


def test_monitor_draws_a_picture(places: Any, run: Run, tmp_path: Path, picture: Path) -> None:
    command = ("monitor", "--model", places.snn, "--schedule", "4+2b2", "--picture", picture)
    code, out, err = run(*command, "--output", tmp_path / "a")
    assert code == 0, err
    drawn = {"boxes.png", "activity.png", "neurons.png", "counts.png"}
    assert {path.name for path in (tmp_path / "a").glob("*.png")} == {
        *drawn,
        "firing_rates.png",
        "remainders.png",
    }
    for name in drawn:
        assert read_image(tmp_path / "a" / name).float().std() > 0
    assert re.search(
        r"(all|\d+\.\d\d % of) [\d,]+ neurons exact.*; \d+\.\d\d spikes per neuron and image\n", out
    )
    record = json.loads((tmp_path / "a" / "monitor.json").read_text())
    assert record["settings"]["data"] == str(picture) and record["rates"]["layers"][0]["images"] == 1

    layers = [layer["name"] for layer in record["rates"]["layers"]]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    code, _, err = run(*command, "--layer", layers[0], "--data", places.data, "--output", tmp_path / "b")
    assert code == 0, err
    same = {
        name: (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in drawn
    }
    assert same == {"boxes.png": True, "activity.png": True, "neurons.png": False, "counts.png": False}
    record = json.loads((tmp_path / "b" / "monitor.json").read_text())
    assert record["rates"]["layers"][0]["images"] == 6


def test_monitor_needs_something_to_watch(places: Any, run: Run, tmp_path: Path, picture: Path) -> None:
    code, _, err = run("monitor", "--model", places.snn, "--output", tmp_path / "a")
    assert code == 2 and "give --picture with a picture, --data with more, or both" in err
    words = (
        "monitor",
        "--model",
        places.snn,
        "--picture",
        picture,
        "--layer",
        "nowhere",
        "--output",
        tmp_path / "a",
    )
    code, _, err = run(*words)
    assert code == 2 and "nothing on layer 'nowhere'" in err


def test_a_full_disk_is_a_sentence_and_nothing_is_left(
    places: Any, run: Run, tmp_path: Path, picture: Path
) -> None:
    page, before = tmp_path / "page.html", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        code, _, err = run("report", picture, "--model", places.snn, "--output", page)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 2 and str(page) in err and "Traceback" not in err, err
    assert not [*tmp_path.iterdir()]
