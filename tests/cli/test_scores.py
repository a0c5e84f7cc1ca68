"""``evaluate --per-class --min-score --plots``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sj_lowlat import checkpoint
from sj_lowlat.cli.scores import ClassOptions, figures
from sj_lowlat.cli.sources import open_data
from sj_lowlat.evaluation import CurvePoint, Evaluation, class_scores, evaluate, match, score
from sj_lowlat.evaluation.protocols import score_and_match
from tests.cli.conftest import Ran
from tests.evaluation.test_bootstrap import random_case

Run = Callable[..., Ran]


def test_a_table_of_classes(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("evaluate", "--model", places.quant, "--data", places.data, "--output", tmp_path / "e.json")
    done = run(*command, "--per-class", "--min-score", 0.3)
    assert done.code == 0, done.err
    data = open_data(places.data)
    result = evaluate(checkpoint.load(places.quant), data, keep_detections=True)
    assert result.detections is not None
    direct = class_scores(match(data, result.detections["None"]), data.class_names, 0.3)
    assert f"classes of ANN, in %, of scores above 0.3 but for AP\n{direct}\n" in done.out
    assert len(direct.classes) > 1 and direct.whole.kept
    record = json.loads((tmp_path / "e.json").read_text())["classes"]
    assert record == json.loads(json.dumps(direct.to_json()))

    (tmp_path / "e.json").unlink()
    done = run(*command)
    assert "classes of" not in done.out
    record = json.loads((tmp_path / "e.json").read_text())["classes"]
    assert record["min_score"] == 0.25 and len(record["classes"]) == len(direct.classes)


def test_pictures_of_curves(places: Any, run: Run, tmp_path: Path) -> None:
    command = ("evaluate", "--model", places.snn, "--data", places.data, "--plots", tmp_path / "new/plots")
    done = run(*command, "--readout", "2,4", "--monitored", 0)
    assert done.code == 0, done.err
    names = ["f1_against_score.png", "map_against_steps.png", "precision_recall.png"]
    assert sorted(path.name for path in (tmp_path / "new/plots").iterdir()) == names
    for name in names:
        assert name in done.out and Image.open(tmp_path / "new/plots" / name).width > 300
    done = run(*command[:-1], tmp_path / "one", "--monitored", 0)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [names[0], names[2]]
    assert "a curve against steps needs several" in done.out


@pytest.fixture(scope="module")
def result() -> Evaluation:
    """Of detections half of which find something."""
    truth, detections = random_case(1, 12)
    worse = [found[: len(found) // 2] for found in detections]
    ap, matches = score_and_match(truth, detections)
    points = (CurvePoint(2, score(truth, worse)), CurvePoint(4, ap))
    classes = class_scores(matches, truth.class_names, 0.3)
    assert 0 < classes.whole.hits < classes.whole.kept and classes.best_score
    return Evaluation(points, ap, None, None, {}, classes=classes, matches=matches)


def test_the_best_score_is_told(result: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    ClassOptions(per_class=True).tell(result)
    lines, classes = capsys.readouterr().out.splitlines(), result.classes
    assert classes is not None and classes.best_score is not None
    assert lines[0].startswith("classes of SNN, 4 steps, in %, of scores above 0.3")
    best, least = f"{100 * classes.best_f1:.1f}", f"{classes.best_score:.3g}"
    assert lines[-1] == f"the greatest F1 of all: {best} % at --min-score {least}"
    ClassOptions(per_class=False).tell(result)
    assert capsys.readouterr().out == ""


def test_curves_go_through_what_the_table_says(result: Evaluation) -> None:
    assert result.classes is not None and result.classes.best_score is not None
    made, whole = figures(result, "here"), result.classes.whole
    drawn: dict[str, Any] = {}
    for name, figure in made.items():
        drawn[name] = {line.get_label(): line.get_data() for line in figure.axes[0].lines}
    steps, values = drawn["map_against_steps.png"]["SNN"]
    assert (list(steps), list(values)) == ([2, 4], [100 * value for _, value in result.curve()])
    curves = drawn["precision_recall.png"]
    assert len(curves) == 1 + len(result.classes.classes) == 4
    mean = next(label for label in curves if label.startswith("mean of"))
    assert mean == f"mean of 3 classes, mAP50 {100 * result.final.map50:.1f}"
    assert np.mean(curves[mean][1]) == pytest.approx(100 * result.final.map50)
    curves = drawn["f1_against_score.png"]
    for name, value in (("F1", whole.f1), ("precision", whole.precision), ("recall", whole.recall)):
        x, y = curves[name]
        assert value is not None
        assert np.interp(0.3, x, y) == pytest.approx(100 * value)
    x, y = curves["F1"]
    best = 100 * result.classes.best_f1
    assert best - 5 < max(y) <= best + 1e-9
    assert abs(x[int(np.argmax(y))] - result.classes.best_score) < 0.05


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--min-score", "1.5"], "--min-score is 1.5; give a score"),
        (["--plots", "{file}"], "a file: give a folder"),
    ],
)
def test_refused(places: Any, run: Run, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "file").write_text("")
    words = [word.replace("{file}", str(tmp_path / "file")) for word in words]
    done = run("evaluate", "--model", places.quant, "--data", places.data, *words)
    assert done.code == 2 and message in done.err
