"""``sj-lowlat detect``."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sj_lowlat.cli.options import FindOptions, PrintOptions, RunOptions, StreamOptions
from sj_lowlat.cli.video_options import VideoOptions

if TYPE_CHECKING:
    from torch import Tensor


def run(
    images: list[str],
    find: FindOptions,
    options: RunOptions,
    prints: PrintOptions,
    streams: StreamOptions,
    videos: VideoOptions,
    model: str = "snn-yolo-fastest-xl-coco",
    output: str = "runs/detect",
    resize: Literal["letterbox", "stretch"] = "letterbox",
    precision: Literal["fp32", "bf16", "int8"] = "fp32",
    stop: Literal["stable"] | None = None,
    batch_size: int = 1,
    spikes: bool = False,
) -> int:
    """Find objects in pictures, videos and spike streams, and draw them.

    A picture that cannot be read is reported and skipped, and the exit code is then 1. After an interruption
    detections.json holds what was found so far, and the same command goes on. On the stream of a spike camera
    (.dat, .npz, .npy) the network runs frame by frame, without a reset, and gives detections
    every few frames; the last ones are drawn as PNG, all of them (at most 100) as an animated GIF. Along a
    video (.mp4, .avi, .gif, ..., or a camera such as /dev/video0) its state is carried over from frame to
    frame; it writes an MP4 and a line of JSON for each frame, and after Ctrl-C both are whole.

    examples::

      sj-lowlat detect street.jpg
      sj-lowlat detect street.jpg holiday/ --model yolov3-tiny.weights --output found
      sj-lowlat detect 'holiday/**/*.jpg' --classes person,dog --min-score 0.4 --json
      sj-lowlat detect street.jpg --model runs/snn --schedule 16+4
      sj-lowlat detect clip.mp4 --steps-per-frame 2 --dead-zone 0.02
      sj-lowlat detect clip.dat --height 250 --width 400 --window 128

    :param images: pictures, folders, quoted patterns such as '*.jpg', videos, spike streams; - is a picture
        from standard input
    :param find: what counts as found
    :param options: how the network is run
    :param prints: what is printed
    :param streams: how spike streams are read
    :param videos: how videos are run
    :param model: a network that ships with sj_lowlat (snn-yolo-fastest-xl-coco, snn-tiny-yolov3-coco), a
        folder that sj-lowlat wrote, or a darknet file (NET.weights or NET.cfg,NET.weights[,NET.names]) or
        NET.onnx
    :param output: folder for the drawn pictures and detections.json
    :param resize: letterbox keeps a picture's proportions; stretch fills the input, as AlexeyAB's darknet
        does in training (Yolo-Fastest, YOLOv4)
    :param precision: of the weights of a spiking network's inner layers; int8 is fastest
    :param stop: stable ends the run of each picture when its detections no longer change
    :param batch_size: pictures per pass
    :param spikes: also count the spikes of each picture, which takes time
    """
    from sj_lowlat.cli.clips import detect_in_video
    from sj_lowlat.cli.streams import SUFFIXES, detect_in_stream
    from sj_lowlat.cli.talk import Talk
    from sj_lowlat.cli.words import find_inputs, other_results
    from sj_lowlat.conversion import set_precision
    from sj_lowlat.data import read_image
    from sj_lowlat.detect import draw, save_image
    from sj_lowlat.detector import Detector
    from sj_lowlat.errors import InputError
    from sj_lowlat.evaluation.gather import network_hash
    from sj_lowlat.files import write_json
    from sj_lowlat.progress import Progress, is_full, one_run
    from sj_lowlat.record import provenance
    from sj_lowlat.video import is_video

    find.check()
    talk, folder = Talk(prints), Path(output)
    with ExitStack() as stack:
        pictures, shown = find_inputs(images, stack)
        inputs = {path.resolve() for path, _ in pictures}
        for _, name in pictures:
            if (folder / name).resolve() in inputs:
                raise InputError(
                    f"{folder / name} would overwrite a picture that is read: give another output"
                )
        network, plan = options.open(model)
        if precision != "fp32":
            network = set_precision(network, precision)
        detector = Detector(network, model)
        run: dict[str, Any] = {**find.to_detect(), "schedule": plan, "resize": resize}
        run |= {"encoder": options.encoder, "seed": options.seed}
        run |= {"batch_size": batch_size, "count_spikes": spikes, "stop": stop}
        detector.detect([], **run)  # checks the options
        times = plan.to_json() if plan else {"time_steps": None}
        settings = {"model": model, **times, **asdict(find), "resize": resize, "precision": precision}
        settings |= {"stop": stop}
        settings |= {"encoder": options.encoder, "batch_size": batch_size, **provenance(options.seed)}
        request = {**settings, "command": None, "network": network_hash(network), "stream": asdict(streams)}
        request |= {"spikes": spikes, "video": asdict(videos)}
        results: dict[str, list[Any]] = {"images": [], "videos": [], "streams": [], "failed": []}
        waiting: list[tuple[Path, Path, Tensor]] = []

        def keep(name: Path, answer: dict[str, Any], milliseconds: float | None = None) -> None:
            if str(name) not in done:
                kept.add({"name": str(name), "answer": answer})
            kind = "streams" if "answers" in answer else "videos" if "lines" in answer else "images"
            results[kind].append(answer)
            talk.result(answer, milliseconds, sum(map(len, results.values())), len(pictures))

        def look() -> None:
            """Detect in the pictures that are waiting."""
            found = detector.detect([image for _, _, image in waiting], **run)
            for (path, name, image), record in zip(waiting, found, strict=True):
                save_image(folder / name, draw(image, record, min_score=find.min_score))
                answer: dict[str, Any] = {"path": shown.get(path, str(path)), "drawn": str(name)}
                answer |= {"size": [image.shape[2], image.shape[1]], **record.to_dict()}
                answer |= {"steps": record.steps, **({"spikes": record.spikes} if spikes else {})}
                keep(name, answer, record.milliseconds)
            waiting.clear()

        stack.enter_context(one_run(folder))
        talk.say(other_results(folder, [name for _, name in pictures]))
        unfinished = folder / "detections.unfinished.jsonl"
        kept = Progress(unfinished, {**request, "device": options.device, "pictures": _state(pictures)})
        done = {record["name"]: record["answer"] for record in kept.records}
        if done:
            talk.say(f"{len(done)} of {len(pictures)} files were done before")
        try:
            for path, name in pictures:
                try:
                    if str(name) in done:
                        look()  # results come in the order of the files
                        keep(name, done[str(name)])
                    elif path.suffix.lower() in SUFFIXES:
                        look()
                        clip = detect_in_stream(path, name, folder, network, plan, streams, find)
                        keep(name, clip)
                    elif is_video(path):
                        look()
                        clip = detect_in_video(
                            path, name, folder, network, plan, videos, find, resize, prints.quiet
                        )
                        keep(name, clip)
                    else:
                        waiting.append((path, name, read_image(path)))
                except (InputError, OSError) as error:
                    if is_full(error) or isinstance(error, BrokenPipeError):
                        raise
                    results["failed"].append({"path": shown.get(path, str(path)), "error": str(error)})
                    talk.failure(results["failed"][-1])
                if len(waiting) >= batch_size:
                    look()
            look()
        except KeyboardInterrupt as stopped:
            anew = ", a video from its beginning" if any(is_video(path) for path, _ in pictures) else ""
            stopped.add_note(f"what was found is in {folder}; the same command goes on{anew}")
            raise
        finally:
            tried = sum(map(len, results.values()))
            if tried:
                whole = {**results, "left": len(pictures) - tried, "settings": settings}
                write_json(folder / "detections.json", whole)
        unfinished.unlink(missing_ok=True)
        talk.summary(results, folder)
    return 1 if results["failed"] else 0


def _state(pictures: list[tuple[Path, Path]]) -> str:
    """A hash of names, sizes and times of files."""
    states = [(path, path.stat()) for path, _ in pictures]
    rows = [(str(path), state.st_size, state.st_mtime_ns) for path, state in states]
    return sha256(repr(rows).encode()).hexdigest()[:16]
