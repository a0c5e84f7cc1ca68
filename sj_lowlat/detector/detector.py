"""A network that takes pictures of any kind and gives detections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypedDict, Unpack, overload

from torch import nn

from sj_lowlat.data import PictureLike, each_picture
from sj_lowlat.data.inputs import is_one_picture
from sj_lowlat.detect import Detections
from sj_lowlat.detector.run import DetectionRun
from sj_lowlat.encoders import Encoder
from sj_lowlat.layers import is_spiking
from sj_lowlat.network import NetworkInfo, WithInfo, info_of, unwrapped
from sj_lowlat.schedule import Schedule


class DetectOptions(TypedDict, total=False):
    """What :meth:`Detector.detect` takes beside pictures."""

    min_score: float
    classes: str | int | Sequence[str | int] | None
    iou: float
    max_detections: int
    schedule: Schedule | str | int | None
    resize: str
    batch_size: int
    count_spikes: bool
    stop: str | None
    encoder: str | Encoder
    seed: int


class Detector(WithInfo, nn.Module):
    """A network, spiking or not, that detects in pictures of any kind.

    .. code-block:: python

        detector = sj_lowlat.load("snn-tiny-yolov3-coco")
        found = detector.detect("street.jpg")
        for name, score, box, _ in found:
            print(name, score, box)
        found.save("found.png")

    Every verb (``simulate``, ``evaluate``, ``convert``, ``finetune``, ``save``, ...) takes it for the network
    inside, whose layers, weights and attributes it has under their own names.

    :param network: a detector: its maps can be decoded (it has ``head_specs``)
    :param name: what to call it when it is printed
    """

    class_names: tuple[str, ...]
    input_shape: tuple[int, ...] | None
    levels: int | None
    schedule: Schedule | None
    precision: str
    card: Mapping[str, Any]

    def __init__(self, network: nn.Module, name: str = "") -> None:
        super().__init__()
        self.network = unwrapped(network)
        self.name = name
        self.training = self.network.training

    @property
    def _wrapped_network(self) -> nn.Module:
        return self.network

    @property
    def info(self) -> NetworkInfo:
        """The network's metadata."""
        return info_of(self.network)

    @info.setter
    def info(self, info: NetworkInfo) -> None:
        self.network.info = info  # type: ignore[assignment]

    @property
    def spiking(self) -> bool:
        """Whether the network has spiking neurons."""
        return is_spiking(self.network)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network returns: raw head maps."""
        return self.network(*args, **kwargs)

    @overload
    def detect(  # type: ignore[overload-overlap]  # a str is an Iterable, too
        self, pictures: PictureLike, **options: Unpack[DetectOptions]
    ) -> Detections: ...

    @overload
    def detect(
        self, pictures: Iterable[PictureLike], **options: Unpack[DetectOptions]
    ) -> list[Detections]: ...

    def detect(
        self,
        pictures: Any,
        *,
        min_score: float = 0.25,
        classes: str | int | Sequence[str | int] | None = None,
        iou: float = 0.45,
        max_detections: int = 100,
        schedule: Schedule | str | int | None = None,
        resize: str = "letterbox",
        batch_size: int = 1,
        count_spikes: bool = False,
        stop: str | None = None,
        encoder: str | Encoder = "constant",
        seed: int = 0,
    ) -> Detections | list[Detections]:
        """Find objects in pictures.

        :param pictures: one picture: a file, a picture of PIL, an array ``[H, W, 3]`` (RGB) or a tensor
            ``[3, H, W]``, as :func:`~sj_lowlat.data.to_picture` takes them; or several: a list of pictures
            and folders, or a folder (for type checkers ``[folder]``)
        :param min_score: detections score more than this, in [0, 1]
        :param classes: only these, by name or index
        :param iou: overlap (intersection over union) above which the lower of two scores of a class goes
        :param max_detections: most detections in a picture, the best ones
        :param schedule: of a spiking network, such as ``"4+2b4"``; by default its own
        :param resize: ``"letterbox"`` keeps a picture's proportions, ``"stretch"`` fills the input
        :param batch_size: pictures in one pass
        :param count_spikes: also count the spikes of each picture; this takes time
        :param stop: ``"stable"`` ends the run of a picture when its detections have not changed
        :param encoder: of a spiking network: ``"constant"``, ``"poisson"``, or an encoder
        :param seed: of the Poisson encoder
        :return: the detections of the picture, with the picture, the run's steps and its milliseconds; a list
            of them for several pictures. Boxes are in pixels of the picture
        :raises FileNotFoundError: if there is no such file
        :raises InputError: for what is no picture, a value that is not possible, or a network that is no
            detector
        """
        found = self.detect_each(
            pictures,
            min_score=min_score,
            classes=classes,
            iou=iou,
            max_detections=max_detections,
            schedule=schedule,
            resize=resize,
            batch_size=batch_size,
            count_spikes=count_spikes,
            stop=stop,
            encoder=encoder,
            seed=seed,
        )
        return next(found) if is_one_picture(pictures) else list(found)

    def detect_each(
        self, pictures: PictureLike | Iterable[PictureLike], **options: Unpack[DetectOptions]
    ) -> Iterator[Detections]:
        """:meth:`detect`, picture by picture: a generator, which holds one batch at a time."""
        run = DetectionRun(self.network, **options)

        def each() -> Iterator[Detections]:
            read = each_picture(pictures)
            while batch := list(islice(read, run.batch_size)):
                yield from run(batch)

        return each()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "network" not in self.__dict__.get("_modules", ()):
                raise
            return getattr(self.network, name)

    def __getitem__(self, index: Any) -> Any:
        """A layer of the network, where it is a sequence of layers."""
        return self.network[index]  # type: ignore[index]

    # the network's layers and weights have their own names, as if nothing were around it
    def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Module]]:
        """Those of the network."""
        return self.network.named_modules(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """That of the network."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Into the network."""
        return self.network.load_state_dict(*args, **kwargs)

    def __repr__(self) -> str:
        info = self.info
        parts = [repr(self.name)] if self.name else []
        parts += ["spiking" if self.spiking else "not spiking", f"{len(info.class_names)} classes"]
        parts += [f"{info.size} px"] if info.size else []
        parts += [f"schedule {info.schedule}"] if info.schedule else []
        return f"Detector({', '.join(parts)})"
