"""What ``sj-lowlat detect`` prints: results on standard output, all else on standard error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sj_lowlat.cli.options import PrintOptions
from sj_lowlat.errors import printable

_NAMED = 8  # objects of a picture that are named one by one


class Talk:
    """Prints results and remarks as the user wants them.

    :param options: JSON lines instead of sentences, or nothing but errors
    """

    def __init__(self, options: PrintOptions) -> None:
        self.json, self.quiet = options.json, options.quiet
        self.times: list[float] = []

    def say(self, text: str) -> None:
        """A remark, on standard error."""
        if text and not self.quiet:
            print(printable(text), file=sys.stderr)

    def result(self, answer: dict[str, Any], milliseconds: float | None, number: int, count: int) -> None:
        """What was found in a picture or a stream.

        :param milliseconds: of the run; not in ``answer``, so that the same command gives the same file
        :param number: of this file, from 1
        :param count: of all files
        """
        if milliseconds is not None:
            self.times.append(milliseconds)
            answer = {**answer, "milliseconds": round(milliseconds, 2)}
        if self.json:
            print(json.dumps(answer), flush=True)
        head = f"[{number}/{count}] {answer['path']}"
        line = _sentence(answer, head)
        if self.json:
            self.say(line)
        elif not self.quiet:
            print(printable(line))

    def failure(self, failed: dict[str, Any]) -> None:
        """A file that cannot be used: always on standard error."""
        path, error = failed["path"], failed["error"]
        if self.json:
            print(json.dumps(failed), flush=True)
        print(printable(error if path in error else f"{path}: {error}"), file=sys.stderr)

    def summary(self, results: dict[str, list[Any]], folder: Path) -> None:
        """The last lines: how many, how fast, where."""
        images, failed = results["images"], results["failed"]
        count = sum(map(len, results.values())) - len(failed)
        parts = [f"{count} drawn picture{'' if count == 1 else 's'} and detections.json are in {folder}"]
        if self.times:
            parts.append(f"{sum(self.times) / len(self.times):.0f} ms a picture")
        if spikes := [answer["spikes"] for answer in images if answer.get("spikes") is not None]:
            parts.append(f"{sum(spikes) / len(spikes):,.0f} spikes a picture")
        self.say("; ".join(parts) if count else "")
        if failed:
            print(f"{len(failed)} of {count + len(failed)} files could not be used", file=sys.stderr)


def _sentence(answer: dict[str, Any], head: str) -> str:
    if "answers" in answer:
        last, count = answer["answers"][-1], len(answer["answers"])
        return f"{head}, {last['milliseconds']:.2f} ms: {_in_words(last)} (the last of {count} answers)"
    if "lines" in answer:
        mean = answer["mean_of_a_frame"]
        cost = f"{mean['steps']:.1f} steps, {mean['milliseconds']:.0f} ms and {100 * mean['energy']:.1f} %"
        found = f"{answer['objects']} objects in {answer['frames']} frames"
        return f"{head}: {found} ({cost} of the ANN's energy a frame)"
    steps, time, spikes = (answer.get(name) for name in ("steps", "milliseconds", "spikes"))
    how = [] if steps is None else [f"{steps} step{'' if steps == 1 else 's'}"]
    how += [] if time is None else [f"{time:.0f} ms"]
    how += [] if spikes is None else [f"{spikes:,} spikes"]
    return f"{head}: {_in_words(answer)}" + (f" ({', '.join(how)})" if how else "")


def _in_words(answer: dict[str, Any]) -> str:
    scored = [*zip(answer["names"], answer["scores"], strict=True)]
    words = [f"{name} {score:.2f}" for name, score in scored[:_NAMED]]
    words += [f"and {len(scored) - _NAMED} more"] if len(scored) > _NAMED else []
    return ", ".join(words) or "nothing found"
