"""From arguments to a verb, and from its errors to an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sj_lowlat.cli.parser import VerbParser, fill
from sj_lowlat.errors import InputError
from sj_lowlat.version import __version__

PROG = "sj-lowlat"
#: verb -> what it does. Lazy imports: the verb's module is loaded when the verb is used, and torch within its
#: function `run`, so that `sj-lowlat VERB --help` is quick
VERBS = {
    "demo": "Train, quantise, convert and score a small detector on generated traffic scenes.",
    "finetune": "Train a network on labels, on a teacher's outputs, or on both.",
    "convert": "Turn a trained network into a spiking one.",
    "evaluate": "Score a network, spiking or not, on a labelled data set.",
    "detect": "Find objects in pictures and spike streams, and draw them.",
    "encode": "Record a data set with a simulated spike camera.",
    "monitor": "Watch the neurons of a spiking network: firing rates and what is left in their membranes.",
}
_EXAMPLE = f"""example:
  {PROG} demo --output runs/demo

{PROG} VERB --help tells the options of a verb, with examples."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param argv: the arguments after the program's name; ``sys.argv[1:]`` if not given
    :return: the exit code: 0; 1 if a part of the pictures could not be used; 2 for input that cannot be used;
        130 after Ctrl-C
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    parser = VerbParser(
        prog=PROG,
        description="Low-latency spiking neural networks for object detection.",
        epilog=_EXAMPLE,
        version=__version__,
    )
    subcommands = parser.add_subcommands(required=True, dest="verb", title="verbs", metavar="VERB")
    with _as_command(arguments):
        try:
            for name, summary in VERBS.items():
                verb_parser = VerbParser(description=summary)
                if name == chosen:
                    call = fill(verb_parser, _verb(name))
                subcommands.add_subcommand(name, verb_parser, help=summary)
                verb_parser.prog = f"{PROG} {name}"
            options = parser.parse_args(arguments)
            return call(options[options["verb"]]) or 0
        except SystemExit as stop:  # --help, --version, and options that cannot be understood
            return stop.code if isinstance(stop.code, int) else 2
        except (InputError, FloatingPointError, OSError) as error:
            print(f"{PROG}: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            more = "; the same command goes on from the last checkpoint" if chosen == "finetune" else ""
            print(f"{PROG}: interrupted{more}", file=sys.stderr)
            return 130


@contextmanager
def _as_command(arguments: list[str]) -> Iterator[None]:
    """Let records of the run name this command, also where ``main`` was called by a program."""
    before = sys.argv
    sys.argv = [PROG, *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _verb(name: str) -> Callable[..., int | None]:
    """The function behind a verb; only the module of that verb is loaded."""
    run: Callable[..., int | None]
    if name == "convert":
        from sj_lowlat.cli import convert

        run = convert.run
    elif name == "demo":
        from sj_lowlat.cli import demo

        run = demo.run
    elif name == "detect":
        from sj_lowlat.cli import detect

        run = detect.run
    elif name == "encode":
        from sj_lowlat.cli import encode

        run = encode.run
    elif name == "evaluate":
        from sj_lowlat.cli import evaluate

        run = evaluate.run
    elif name == "finetune":
        from sj_lowlat.cli import finetune

        run = finetune.run
    else:
        from sj_lowlat.cli import monitor

        run = monitor.run
    return run
