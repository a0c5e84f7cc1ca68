"""From arguments to a verb, and from its errors to an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import NoReturn

from sj_lowlat.cli import convert, detect, encode, evaluate, monitor
from sj_lowlat.cli.parser import VerbParser, fill
from sj_lowlat.errors import InputError, printable
from sj_lowlat.version import __version__

PROG = "sj-lowlat"
#: verb -> what it does
VERBS = {
    "demo": "Train, quantise, convert and score a small detector on generated traffic scenes.",
    "finetune": "Train a network on labels, on a teacher's outputs, or on both.",
    "convert": "Turn a trained network into a spiking one.",
    "evaluate": "Score a network, spiking or not, on a labelled data set.",
    "detect": "Find objects in pictures and spike streams, and draw them.",
    "encode": "Record a data set with a simulated spike camera.",
    "monitor": "Watch the neurons of a spiking network: firing rates and what is left in their membranes.",
}
#: verbs whose work several processes share
SHARED = ("finetune", "evaluate")
_EXAMPLE = f"""example:
  {PROG} demo --output runs/demo

{PROG} VERB --help tells the options of a verb, with examples."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param argv: the arguments after the program's name; ``sys.argv[1:]`` if not given
    :return: the exit code: 0; 1 if a part of the pictures could not be used; 2 for input that cannot be used;
        3 for an error that was not expected; 130 after Ctrl-C, 143 after SIGTERM
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    in_main_thread = threading.current_thread() is threading.main_thread()  # only it may set handlers
    handler = signal.signal(signal.SIGTERM, _terminate) if in_main_thread else None
    before = sys.argv
    sys.argv = [PROG, *arguments]  # records of the run name this command, also where a program calls `main`
    try:
        chosen = next((word for word in arguments if not word.startswith("-")), None)
        parser = VerbParser(
            prog=PROG,
            description="Low-latency spiking neural networks for object detection.",
            epilog=_EXAMPLE,
            version=__version__,
        )
        subcommands = parser.add_subcommands(required=True, dest="verb", title="verbs", metavar="VERB")
        for name, summary in VERBS.items():
            verb_parser = VerbParser(description=summary)
            if name == chosen:
                call = fill(verb_parser, _verb(name))
            subcommands.add_subcommand(name, verb_parser, help=summary)
            verb_parser.prog = f"{PROG} {name}"
        options = parser.parse_args(arguments)
        with _together(options["verb"]):
            return call(options[options["verb"]]) or 0
    except SystemExit as stop:  # --help, --version, and options that cannot be understood
        return stop.code if isinstance(stop.code, int) else 2
    except (InputError, FloatingPointError, OverflowError, OSError) as error:
        process = f" (process {os.environ.get('RANK')})" if _several() else ""
        message = "\n".join(map(printable, str(error).split("\n")))
        print(f"{PROG}{process}: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print("; ".join([f"{PROG}: interrupted", *getattr(stopped, "__notes__", ())]), file=sys.stderr)
        return 143 if isinstance(stopped, Terminated) else 130
    except Exception:
        traceback.print_exc()
        print(f"{PROG}: this error was not expected: please report it", file=sys.stderr)
        return 3
    finally:
        sys.argv = before
        if in_main_thread:
            signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: files are closed and what is done is kept, as after Ctrl-C."""


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def _several() -> bool:
    """Whether a launcher such as ``torchrun`` started more than one process."""
    return (os.environ.get("WORLD_SIZE") or "1") != "1"


@contextmanager
def _together(verb: str) -> Iterator[None]:
    """Context manager: all processes that ``torchrun`` started are one run, of which process 0 prints."""
    if not _several():
        yield
        return
    from sj_lowlat import distributed  # it imports torch

    count = distributed.asked()
    if verb not in SHARED:
        raise InputError(
            f"{count} processes were started, and each would do all the work of {verb}: start"
            f" one process, or unset WORLD_SIZE if it is one; {' and '.join(SHARED)} can share their work"
        )
    with distributed.joined(), open(os.devnull, "w") as nowhere, ExitStack() as quiet:
        if not distributed.is_main():
            quiet.enter_context(redirect_stdout(nowhere))
        yield


def _verb(name: str) -> Callable[..., int | None]:
    """The function behind a verb. Modules imported at the top import torch when they run, so that
    ``sj-lowlat VERB --help`` is quick.
    """
    if name == "demo":
        from sj_lowlat.cli.demo import run as demo

        return demo
    if name == "finetune":
        from sj_lowlat.cli.finetune import run as finetune

        return finetune
    light = (convert, detect, encode, evaluate, monitor)
    return {module.__name__.rpartition(".")[2]: module.run for module in light}[name]
