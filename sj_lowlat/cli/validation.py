"""What ``sj-lowlat finetune`` scores while it trains, and the curve that it draws."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.cli.sources import DATA_FORMS, open_data
from sj_lowlat.errors import InputError, printable
from sj_lowlat.evaluation import Validator
from sj_lowlat.files import atomic_write
from sj_lowlat.plots import plot_training
from sj_lowlat.training import FinetuneConfig, Validation
from sj_lowlat.training.journal import curves


@dataclass(frozen=True)
class ValidationOptions:
    """Validation while training.

    :param val: data to score the network on, in the same formats as --data (of yolo:... the set val): mAP50
        goes to log.jsonl and loss.png, and the network that scores best into the folder best; with a
        schedule that of the spiking network
    :param val_every: iterations between scores; the end is scored in any case
    :param val_images: number of pictures, from all over the data; 0 for all
    """

    val: str | None = None
    val_every: int = 500
    val_images: int = 100

    def setup(self) -> list[Any] | None:
        """What must be the same when a run goes on."""
        return None if self.val is None else [self.val, self.val_images]

    def open(self, network: nn.Module, folder: Path, settings: FinetuneConfig) -> Validation | None:
        """The validation of a network that will be trained; its best state goes to a folder.

        :raises InputError: if the data cannot be scored
        """
        if self.val is None:
            return None
        data = open_data(self.val)
        if not data.class_names:
            raise InputError(f"{self.val} has no boxes to score against: {DATA_FORMS.split(', or')[0]}")
        score = Validator(
            network, data, self.val_images, max(settings.sizes), settings.schedule, settings.neuron
        )
        return Validation(score, self.val_every, lambda best: checkpoint.save(best, folder))

    def sentence(self, end: dict[str, Any], folder: Path) -> str:
        """What came of it, of the record in ``finetune.json``."""
        best = end["best"]
        return (
            f"mAP50 on pictures of {self.val}: {100 * end['map50']:.1f} % at the end, "
            f"{100 * best['map50']:.1f} % at iteration {best['iteration']}, which is in {folder}"
        )


def draw_training(folder: Path, what: str) -> None:
    """Write ``loss.png``.

    :param what: for the title
    """
    losses, scores = curves(folder)
    if not losses:  # somebody removed the log of a finished run
        return
    figure = plot_training(losses, [(step, 100 * value) for step, value in scores], printable(what))
    with atomic_write(folder / "loss.png") as temporary:
        figure.savefig(temporary, dpi=120)


def forget_best(folder: Path) -> None:
    """Remove the best network of a run that starts over."""
    for name in (checkpoint.CONFIG, checkpoint.WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # it is absent, or the user put something there
        folder.rmdir()
