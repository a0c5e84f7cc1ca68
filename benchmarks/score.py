"""Score networks as a table of tables/*.json says: networks x schedules x neurons x options, by ``evaluate``.

    python benchmarks/score.py TABLE --data ../shared/data [--networks NAME=FOLDER ...] [--images N]

A network is a folder of train.py, a darknet file, a packed file or a shipped name. Schedules are written 8+4
(input in 8 steps, then 4 of flush) and 2+4b2 (a neuron fires up to twice a step). Steps are always steps in
all. Every run is kept under --output and not done again, so an interrupted script goes on where it was.
docs/benchmarks/index.md tells what may stand in a table; --set KEY=JSON changes any value of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inputs import NEURONS, PHOTOS, USUAL, Photos, levels_of, named, neurons_for, open_network, open_photos
from runner import HERE, Runs, arguments, markdown, place, save_figure, schedule

from sj_lowlat.errors import InputError
from sj_lowlat.network import info_of
from sj_lowlat.schedule import Schedule

FIGURE_WIDTH = 10.0  # inches
NEAR = 0.5  # points of mAP50 that count as equal
TABLES = sorted(path.stem for path in (HERE / "tables").glob("*.json"))
Row = dict[str, Any]  # what columns and labels of a table may name


class Cells(dict[int, str]):
    """Cells of read-outs by step; "-" where nothing was read."""

    def __missing__(self, step: int) -> str:
        return "-"


@dataclass
class Table:
    """What one table scores.

    :param plan: the file, with what the command changed
    :param photos: what networks are scored on
    :param own: network -> its schedules, where the command names some
    """

    plan: dict[str, Any]
    photos: Photos
    own: Mapping[str, Sequence[Schedule]]
    runs: Runs

    def cases(self, name: str, spec: str) -> Iterator[tuple[dict[str, Any], Schedule | None, str | None]]:
        """All runs of a network: entry of the plan, schedule, neuron (None: no spikes)."""
        for entry in self.plan["runs"]:
            if entry.get("of", kind_of(spec)) != kind_of(spec):
                continue
            for plain in self._schedules(entry.get("schedules", "table"), name, spec):
                for part in entry.get("each", [{}]):
                    case = {**entry, **part}
                    full = replace(plain, flush=self.plan["flush"]) if plain and case.get("flush") else plain
                    for neuron in neurons_for(spec, case.get("neurons", self.plan["neurons"])):
                        yield case, full, neuron

    def _schedules(self, chosen: Any, name: str, spec: str) -> Sequence[Schedule | None]:
        levels = levels_of(spec)
        if chosen in ("table", "first"):
            listed = self.own.get(name) or self.plan["schedules"]
            return listed if chosen == "table" else listed[:1]
        if chosen == "own":  # a shipped network knows how it is meant to be run
            shipped = info_of(open_network(spec)).schedule or Schedule(levels or 1, self.plan["flush"])
            return self.own.get(name) or [replace(shipped, charge=None)]
        words = {"L": levels, "last": max(self.plan.get("steps") or [0])}
        return [text and Schedule.parse(text.format(**words)) for text in chosen]

    def readout(self, how: str | None, run: Schedule) -> list[int] | None:
        """The steps at which a run is scored."""
        if how is None:
            return None
        steps = {
            "last": (),
            "ends": (run.before + run.time_steps,),
            "every": range(run.before + 1, run.total),
            "steps": (step for step in self.plan.get("steps", ()) if run.before < step < run.total),
        }
        return sorted({*steps[how], run.total})

    def ann(self, name: str, spec: str) -> Row:
        """Accuracy of a network without spikes."""
        label = self.plan.get("ann_name", "{network} ANN").format(network=name, images=len(self.photos))
        (point,) = percent(self.runs(label, spec, self.photos))
        return {**point, "cell": self.plan["cell"].format_map(point), "run": label}

    def rows(self, name: str, spec: str, ann: Row) -> list[Row]:
        """The rows of a network."""
        rows: list[Row] = []
        seen = set()
        for case, run, neuron in self.cases(name, spec):
            options = dict(case.get("options", {}))
            row = {"network": name, "neuron": neuron, "words": NEURONS.get(neuron or ""), "ann": ann}
            row |= {
                "images": len(self.photos),
                "L": levels_of(spec),
                "precision": "fp32" if neuron else "-",
                **options,
            }
            about = self.plan.get("about", {}).get(name, {})
            row |= {column: text.format_map(row) for column, text in about.items()}
            if "prepare" in case:
                options["prepared"] = case["prepare"]
                row |= words_of(case["prepare"])
            if run is not None:
                row |= {"schedule": str(run), "T": run.time_steps, "total": run.total, "flush": run.flush}
                row["burst"] = run.burst
                charge = run.time_steps if case.get("charge") == "time_steps" else run.charge
                full = replace(run, charge=charge or levels_of(spec) or run.time_steps)
                options |= {"readout": self.readout(case.get("readout", "last"), run), **full.to_json()}
                options |= self.plan.get("options", {})
            key = json.dumps([neuron, options], sort_keys=True)
            if key not in seen:  # the table may have this run already
                run_name = case["name"].format_map(row)
                row |= self._results(self.runs(run_name, spec, self.photos, neuron, **options), ann, run)
                if self.runs.keep:
                    row["less"] = self.runs.less(run_name, ann["run"])
                row |= {text: case[text].format_map(row) for text in ("words", "steps") if text in case}
                rows.append(row)
            seen.add(key)
        if self.plan.get("row") == "network":
            return [{**rows[-1], **{row["neuron"]: row for row in rows}}]
        return rows

    def _results(self, record: Mapping[str, Any], ann: Row, run: Schedule | None) -> Row:
        points, energy, mean = percent(record), record["energy"], record.get("mean_steps")
        cells = Cells({point["steps"]: self.plan["cell"].format_map(point) for point in points})
        good = (point["steps"] for point in points if point["map50"] >= ann["map50"] - NEAR)
        soonest = next(good, None)
        last = points[-1]["steps"]
        steps = "-" if last is None else str(last) if mean is None else f"{mean:.2f}"
        row = {**points[-1], "points": points, "at": cells, "soonest": soonest or "-", "end": last}
        burst = run.burst if run else 1
        row |= {"sent": soonest * burst if soonest else "-", "steps_sent": (last or 0) * burst}
        row |= {"steps": steps, "first": cells[points[0]["steps"]], "last": cells[last]}
        if energy:
            row |= {name: energy[f"{name}_per_neuron_and_image"] for name in ("spikes", "events")}
            row |= {"energy": energy["ratio"], "acs": energy["snn_acs"] / 1e9}
        return row


def kind_of(spec: str) -> str:
    """What ``of`` asks for."""
    return "relu" if levels_of(spec) is None else "quantised"


def words_of(prepare: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``prepare`` as columns of a table."""
    count, factor = prepare.get("finer", (0, 1))
    equalised = "yes" if prepare.get("equalise") else "no"
    finer = f"{count}, x{factor}" if count else "none"
    return {
        "L": prepare["levels"],
        "clip": prepare["scale"],
        "equalised": equalised,
        "finer": finer,
        "headroom": prepare.get("headroom", 1),
    }


def percent(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The read-outs of a record of ``evaluate`` (steps None: no spikes), AP in percent; VOC has no mAP."""
    return [
        {"steps": p["steps"], **{k: None if p.get(k) is None else 100 * p[k] for k in ("map50", "map")}}
        for p in record["points"]
        if p["map50"] is not None
    ]


def render(plan: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The table in Markdown, and the paper's lines below."""
    steps = plan.get("steps") or range(1, max(row["end"] or 0 for row in rows) + 1)
    quoted: dict[str, dict[int, float]] = quoted_of(plan)
    head: list[str] = []
    lines: list[list[str]] = [[] for _ in (*rows, *quoted)]
    for column in plan["columns"]:
        if column == "steps":
            head += map(str, steps)
            cells = [[row["at"].get(step, "") for step in steps] for row in rows]
            cells += [[f"{p[s]:g}" if s in p else "" for s in steps] for p in quoted.values()]
        else:
            head.append(column[0])
            cells = [[column[1].format_map(row)] for row in rows]
            for label, points in quoted.items():
                texts = {1: label, 2: "paper's"}
                end = f"{points[max(points)]:g} at {max(points)}" if column[0] == "at the end" else ""
                cells.append([texts.get(len(head), end)])
        for line, more in zip(lines, cells, strict=True):
            line += more
    return markdown(head, lines)


def quoted_of(plan: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """The paper's own figures: label -> steps -> mAP50."""
    quoted = plan.get("quoted", {}).items()
    return {label: {int(step): value for step, value in points.items()} for label, points in quoted}


def draw(plan: Mapping[str, Any], rows: Sequence[Row], photos: Photos, teacher: float | None = None) -> Any:
    """The figure of the table: curves over the steps (beside the teacher's mAP50), or groups of bars."""
    from sj_lowlat.plots import plot_map_curve, plot_rates

    title = plan["figure"]["title"].format_map({**rows[-1], "photos": photos.label, "images": len(photos)})
    if "bar" in plan["figure"]:
        bars: dict[str, dict[str, float]] = {}
        for row in rows:
            bar, group = (plan["figure"][key].format_map(row) for key in ("bar", "group"))
            bars.setdefault(bar, {})[group] = row["map50"]
        figure = plot_rates(bars, title=title, ylabel="mAP50 (%)")
        axes = figure.axes[0]
        figure.set_figwidth(FIGURE_WIDTH)
        axes.set_xlabel("")
        groups = [label.get_text().replace(", ", "\n") for label in axes.get_xticklabels()]
        axes.set_xticks(axes.get_xticks(), groups, rotation=0, ha="center", fontsize=9)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure
    curves = {
        plan["figure"]["curve"].format_map(row): [(p["steps"], p["map50"]) for p in row["points"]]
        for row in rows
    }
    curves |= {label: list(p.items()) for label, p in quoted_of(plan).items() if len(p) > 1}
    bold = [label for label in plan["figure"].get("bold", ()) if label in curves] or list(curves)[:5]
    named = {label: curves[label] for label in bold}
    behind = {label: points for label, points in curves.items() if label not in bold}
    quant = {row["network"]: row["ann"]["map50"] for row in rows}
    level = [*quant.values()][0] if len(quant) == 1 else None
    return plot_map_curve(named, ann=teacher, quant=level, title=title, context=behind)


def schedules(text: str) -> tuple[str, list[Schedule]]:
    """``[NAME=]8+4,2+4b2``."""
    name, _, listed = text.rpartition("=")
    return name, [schedule(part) for part in listed.split(",")]


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The options, and the table as they change it."""
    parser = arguments(__doc__, "")
    add = parser.add_argument
    add("table", choices=TABLES)
    pair = {"type": named, "metavar": "NAME=WHAT"}
    add("--networks", nargs="+", **pair, help="instead of the table's")
    add("--beside", nargs="*", **pair, help="ANNs to score as well, instead of the table's")
    add(
        "--schedules", nargs="+", type=schedules, default=[], help="[NAME=]8+4,...: of all, or of one network"
    )
    add("--neurons", nargs="+", choices=NEURONS)
    add("--photos", choices=PHOTOS, help="in-darknet-5k: only COCO photos that no training has seen")
    add("--set", nargs="+", default=[], metavar="KEY=JSON", help="other values of the table")
    args = parser.parse_args(argv)
    place(args, args.table)
    plan = json.loads((HERE / "tables" / f"{args.table}.json").read_text(encoding="utf-8"))
    plan |= {key: json.loads(value) for key, _, value in (text.partition("=") for text in args.set)}
    plan["schedules"] = [Schedule.parse(text) for text in plan.get("schedules", ())]
    plan["schedules"] = next((listed for name, listed in args.schedules if not name), plan["schedules"])
    for key in ("neurons", "photos", "images"):
        plan |= {key: getattr(args, key)} if getattr(args, key) else {}
    plan.setdefault("neurons", USUAL)
    for key in ("networks", "beside"):
        given, own = getattr(args, key), plan.get(key, {}).items()
        places = own if given is None else given
        plan[key] = {name: spec.replace("DATA", str(args.data)) for name, spec in places}
    if unknown := plan["networks"].keys() - plan.get("about", plan["networks"]).keys():
        parser.error(f"{args.table} names its networks {', '.join(plan['about'])}, not {', '.join(unknown)}")
    if plan.get("single") and len(plan["networks"]) > 1:
        parser.error(f"{args.table} takes one network, its rows do not name it")
    for name, spec in plan["networks"].items():
        if all(entry.get("of", kind_of(spec)) != kind_of(spec) for entry in plan["runs"]):
            parser.error(f"{args.table} scores no {kind_of(spec)} network, which {name} is: {spec}")
    return args, plan


def main(argv: Sequence[str] | None = None) -> None:
    """Score all networks, print the table, write the results, draw."""
    args, plan = parse(argv)
    photos = open_photos(plan["photos"], args.data).spaced(plan.get("images"))
    own = {name: listed for name, listed in args.schedules if name}
    table = Table(plan, photos, own, Runs(args, keep=plan.get("keep", False)))
    if table.runs.keep:
        plan["columns"] = [*plan["columns"], ["at the end, less the ANN (95 %)", "{less}"]]
    anns, beside = {}, []
    for name, spec in [*plan["beside"].items(), *plan["networks"].items()]:
        levels, label = levels_of(spec), name
        if name in plan["networks"]:
            label += f", Quant ANN, L = {levels}" if levels else ", ReLU ANN"
        anns[name] = table.ann(name, spec)
        beside.append((label, str(len(photos)), anns[name]["cell"]))
    rows = [row for name, spec in plan["networks"].items() for row in table.rows(name, spec, anns[name])]
    if not rows:
        raise InputError(f"none of the neurons {plan['neurons']} can stand for leaky ReLUs: signed ones can")
    print(f"\n{plan['title']}, {photos.label}: {len(photos)} images, {args.size} px\n")
    print(markdown(("ANN", "images", plan["score"]), beside) + "\n")
    print(render(plan, rows))
    table.runs.save()
    if "figure" in plan:
        teacher = anns["teacher"]["map50"] if "teacher" in plan["beside"] else None
        save_figure(draw(plan, rows, photos, teacher), args.figure)


if __name__ == "__main__":
    main()
