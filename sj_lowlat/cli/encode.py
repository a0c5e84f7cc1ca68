"""``sj-lowlat encode``."""

from __future__ import annotations

from pathlib import Path


def run(
    data: str,
    output: str,
    frames: int = 256,
    size: int = 416,
    rate_at_white: float = 0.6,
    photons: float | None = None,
    speed: float = 0.0,
    steps_per_frame: int = 32,
    shake: float = 0.0,
    frame_rate: float = 20000.0,
    limit: int | None = None,
    seed: int = 0,
) -> None:
    """Record a data set with a simulated spike camera.

    Writes streams and one COCO JSON with the boxes of persons and vehicles. To resume an interrupted run,
    give the same command again.

    examples::

      sj-lowlat encode --data coco:instances.json:images --output spikes --speed 0.2
      sj-lowlat encode --data traffic:50 --output spikes --size 160
      sj-lowlat encode --data voc:VOC --output dark --rate-at-white 0.02 --photons 100

    :param data: coco:ANNOTATIONS.json:IMAGE_FOLDER, voc:FOLDER_ABOVE_VOCdevkit[:IMAGE_SET],
        yolo:DATA.yaml[:IMAGE_SET]: each picture moves as a whole; traffic[:COUNT]: persons and vehicles move
        by themselves
    :param output: folder for streams/*.dat and instances.json
    :param frames: of each clip; the boxes hold at the one in the middle
    :param size: longer side in pixels
    :param rate_at_white: spikes a frame of a white pixel, in (0, 1]; small for little light
    :param photons: photons per spike, for shot noise; no noise if not given
    :param speed: motion in pixels a frame, in a random direction for each picture
    :param steps_per_frame: of traffic: camera frames for which each drawn frame is held; 1 is very fast
    :param shake: amplitude of camera shake in pixels
    :param frame_rate: in Hz, noted in the data set
    :param limit: record at most this many pictures
    :param seed: of starts, noise and directions
    """
    from sj_lowlat.cli.pictures import first_images
    from sj_lowlat.cli.sources import open_data
    from sj_lowlat.data import TrafficDataset
    from sj_lowlat.errors import InputError
    from sj_lowlat.spike_camera import Camera, SpikeDataset, encode_dataset, encode_traffic

    camera = Camera(frames, size, rate_at_white, photons, frame_rate, seed)
    dataset = open_data(data)
    if not dataset.class_names:
        raise InputError(f"{data} has no boxes: give coco:..., voc:... or traffic:...")
    try:
        if isinstance(dataset, TrafficDataset):
            if dataset.seed:
                raise InputError(f"{data} names a seed: leave it out, scenes follow from --seed")
            if speed or shake:
                raise InputError("speed and shake are for pictures; in traffic things move by themselves")
            clips = len(dataset) if limit is None else min(limit, len(dataset))
            path = encode_traffic(clips, Path(output), camera, steps_per_frame)
        else:
            path = encode_dataset(first_images(dataset, limit), Path(output), camera, speed, shake)
    except KeyboardInterrupt as stopped:
        stopped.add_note("the same command goes on behind the last whole stream")
        raise
    done = SpikeDataset(path)
    boxes = sum(len(done.target(i)) for i in range(len(done)))
    print(f"{len(done)} clips of {frames} frames with {boxes} boxes of persons and vehicles: {path}")
