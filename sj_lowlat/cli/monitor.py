"""``sj-lowlat monitor``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def run(
    model: str,
    data: str,
    time_steps: int | None = None,
    flush: int | None = None,
    levels: int | None = None,
    burst: int | None = None,
    limit: int = 16,
    batch_size: int = 4,
    encoder: Literal["constant", "poisson"] = "constant",
    seed: int = 0,
    output: str = "runs/monitor",
    device: str = "auto",
) -> None:
    """Watch the neurons of a spiking network: firing rates and what is left in their membranes.

    examples::

      sj-lowlat monitor --model runs/demo/snn --data traffic:16 --time-steps 8
      sj-lowlat monitor --model runs/snn --data street.jpg --time-steps 16 --flush 4 --output runs/street

    :param model: the network that ships with sj_lowlat (snn-tiny-yolov3-coco), or a folder that sj-lowlat
        convert or demo wrote
    :param data: coco:ANNOTATIONS.json:IMAGE_FOLDER, voc:FOLDER_ABOVE_VOCdevkit[:IMAGE_SET],
        traffic[:COUNT[:SEED]], or a picture or a folder of pictures
    :param time_steps: steps with input; by default those the network ships with, or the levels it was trained
        for
    :param flush: further steps without input; by default those it ships with, or none
    :param levels: the charge of so many steps is brought by the steps with input; by default as it ships, or
        one each
    :param burst: most spikes of a neuron in one step; by default as it ships, or 1
    :param limit: the first so many images are watched
    :param batch_size: images per pass
    :param encoder: constant (the image is a current) or poisson (random spikes)
    :param seed: of the poisson encoder
    :param output: folder for monitor.json, firing_rates.png and residuals.png
    :param device: auto (a GPU where there is one), cpu, cuda, cuda:1, ...
    """
    from dataclasses import asdict

    from tqdm import tqdm

    from sj_lowlat.cli.pictures import first_images
    from sj_lowlat.cli.running import about, find_schedule, head_maps, is_spiking
    from sj_lowlat.cli.sources import open_data, open_model
    from sj_lowlat.data import batches
    from sj_lowlat.errors import InputError
    from sj_lowlat.files import atomic_write, write_json
    from sj_lowlat.monitors import FiringRateMonitor, ResidualMonitor

    dataset = first_images(open_data(data), limit)
    snn: Any = open_model(model, spiking=True, seed=seed, device=device)
    schedule = find_schedule(snn, time_steps, flush, levels, burst) if is_spiking(snn) else None
    if schedule is None:
        raise InputError(
            f"{model} has no spiking neurons to watch: give a network that sj-lowlat convert wrote"
        )
    folder = Path(output)
    with FiringRateMonitor(snn) as rates, ResidualMonitor(snn, max_count=schedule.levels) as residuals:
        for images, _, _ in tqdm(batches(dataset, batch_size, snn.input_size), desc="monitor", disable=None):
            head_maps(snn, images, schedule, encoder, seed)
    run = {
        "model": model,
        "data": data,
        "images": len(dataset),
        **asdict(schedule),
        "encoder": encoder,
    }
    write_json(
        folder / "monitor.json",
        {"rates": rates.to_json(), "residuals": residuals.to_json(), "settings": {**run, **about(seed)}},
    )
    for name, watched in (("firing_rates.png", rates), ("residuals.png", residuals)):
        with atomic_write(folder / name) as temporary:
            watched.plot().savefig(temporary, dpi=120)
    times = f"{schedule.time_steps} steps and {schedule.flush} of flush"
    print(f"{model} on {len(dataset)} images of {data}, {times}\n")
    print(f"firing rates\n{rates.table()}\n\nwhat is left in the membranes\n{residuals.table()}\n")
    print(f"monitor.json, firing_rates.png and residuals.png are in {folder}")
