"""A detector by one word."""

from __future__ import annotations

import os

from torch import nn

from sj_lowlat import checkpoint
from sj_lowlat.detector.detector import Detector
from sj_lowlat.zoo import find_device, open_network


def load(
    word: str | os.PathLike[str],
    model: nn.Module | None = None,
    *,
    spiking: bool = True,
    device: str = "cpu",
) -> Detector:
    """Open a network by one word, as the command line's ``--model`` does.

    :param word: a network that ships with the package (``"snn-tiny-yolov3-coco"``), a folder that
        :func:`~sj_lowlat.save` wrote, darknet's or ONNX files; see ``sj_lowlat.zoo.MODEL_FORMS``
    :param model: for a folder that holds only the weights of a network of your own: the same network, left
        untouched
    :param spiking: of a network that ships: the spiking one, otherwise its Quant ANN
    :param device: ``"cpu"``, ``"cuda"``, ..., or ``"auto"``: a GPU where there is one
    :return: the network in eval mode, in a :class:`Detector`
    :raises FileNotFoundError: if there is no such network
    :raises InputError: if a file is damaged, or of another kind
    """
    name = os.fspath(word)
    if model is not None:
        network = checkpoint.load(name, model).to(find_device(device)).eval()
    else:
        network = open_network(name, spiking=spiking, device=device)
    return Detector(network, name)
