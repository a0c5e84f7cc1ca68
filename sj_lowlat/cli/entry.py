"""From arguments to a verb, and from its errors to an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import NoReturn

from sj_lowlat.allocator import keep_freed_memory
from sj_lowlat.cli import completion, convert, detect, encode, evaluate, export, info, monitor, report
from sj_lowlat.cli.parser import VerbParser, fill
from sj_lowlat.cli.suggest import in_options, near_verb, with_hyphens
from sj_lowlat.errors import InputError, printable
from sj_lowlat.version import __version__

PROG = "sj-lowlat"
#: verb -> what it does
VERBS = {
    "detect": "Find objects in pictures, videos and spike streams, and draw them.",
    "demo": "Train, quantise, convert and score a small detector on generated traffic scenes.",
    "finetune": "Train a network on labels, on a teacher's outputs, or on both.",
    "convert": "Turn a trained network into a spiking one.",
    "evaluate": "Score a network, spiking or not, on a labelled data set.",
    "export": "Write a network as ONNX, as whole numbers or as NIR, for other programs.",
    "encode": "Record a data set with a simulated spike camera.",
    "monitor": "Watch the neurons of a spiking network: firing rates and what is left in their membranes.",
    "report": "Write one HTML page about what a spiking detector does in pictures, step by step.",
    "info": "Show versions, kernels, devices and the networks and data that are found.",
    "completion": "Print what makes a shell complete verbs and options.",
}
#: verbs whose work several processes share
SHARED = ("finetune", "evaluate")
_EXAMPLE = f"""examples:
  {PROG} detect photo.jpg
  {PROG} demo --output runs/demo

{PROG} VERB --help shows the options of a verb, with examples."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param argv: the arguments after the program's name; ``sys.argv[1:]`` if not given
    :return: the exit code: 0; 1 if a part of the pictures could not be used; 2 for input that cannot be used;
        3 for an error that was not expected; 130 after Ctrl-C, 141 where nobody reads what is printed, 143
        after SIGTERM
    """
    if argv is None:
        keep_freed_memory()  # the process is ours
    arguments = [*map(with_hyphens, sys.argv[1:] if argv is None else argv)]
    came: list[int] = []
    options: list[str] = []

    def struck(number: int, _frame: object) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    handlers = {}
    if threading.current_thread() is threading.main_thread():  # only it may set handlers
        asked = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        handlers = {number: signal.signal(number, struck) or signal.SIG_DFL for number in asked}
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
        if chosen is not None and chosen not in VERBS:
            parser.error(f"no verb {chosen!r}{near_verb(chosen, [*VERBS])}")
        subcommands = parser.add_subcommands(
            required=True, dest="verb", title="verbs", metavar="VERB", description=None
        )
        for name, summary in VERBS.items():
            verb_parser = VerbParser(description=summary)
            if name == chosen:
                call, parser.chosen = fill(verb_parser, _verb(name)), verb_parser
                options = verb_parser.options()
            subcommands.add_subcommand(name, verb_parser, help=summary)
            verb_parser.prog = f"{PROG} {name}"
        parsed = parser.parse_args(arguments)
        with _together(parsed["verb"]):
            code = call(parsed[parsed["verb"]]) or 0
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # --help, --version, and options that cannot be understood
        return stop.code if isinstance(stop.code, int) else 2
    except (Exception, KeyboardInterrupt) as error:
        return _tell(error, came, options)
    finally:
        sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _tell(error: BaseException, came: Sequence[int], options: Sequence[str]) -> int:
    """Print what ended a verb; return the exit code.

    :param came: numbers of signals; a library may have made another error of one
    :param options: of the verb
    """
    if isinstance(error, BrokenPipeError):  # as after `| head`; Python would complain at its end
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
    if came or isinstance(error, KeyboardInterrupt):
        print("; ".join([f"{PROG}: interrupted", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 128 + (came[-1] if came else signal.SIGINT)
    if isinstance(error, InputError | FloatingPointError | OverflowError | OSError):
        process = f" (process {os.environ['RANK']})" if _several() and "RANK" in os.environ else ""
        message = "\n".join(map(printable, in_options(str(error), options).split("\n")))
        print(f"{PROG}{process}: error: {message}", file=sys.stderr)
        return 2
    traceback.print_exception(error)
    print(f"{PROG}: this error was not expected: please report it", file=sys.stderr)
    return 3


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


def parser_of(verb: str) -> VerbParser:
    """The parser of a verb's options."""
    parser = VerbParser(prog=f"{PROG} {verb}", description=VERBS[verb])
    fill(parser, _verb(verb))
    return parser


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
    light = (completion, convert, detect, encode, evaluate, export, info, monitor, report)
    return {module.__name__.rpartition(".")[2]: module.run for module in light}[name]
