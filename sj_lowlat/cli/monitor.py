"""``sj-lowlat monitor``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def run(
    model: str,
    data: str,
    schedule: str | None = None,
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

      sj-lowlat monitor --model runs/demo/snn --data traffic:16 --schedule 8
      sj-lowlat monitor --model runs/snn --data street.jpg --schedule 16+4 --output runs/street

    :param model: the network that ships with sj_lowlat (snn-tiny-yolov3-coco), or a folder that sj-lowlat
        convert or demo wrote
    :param data: coco:ANNOTATIONS.json:IMAGE_FOLDER, voc:FOLDER_ABOVE_VOCdevkit[:IMAGE_SET],
        traffic[:COUNT[:SEED]], or a picture or a folder of pictures
    :param schedule: how a spiking network is run: 4+2b4 is 4 steps with input, 2 of flush (without input),
        bursts of up to 4 spikes; by default the network's own, else as many steps as it has levels
    :param time_steps: T, overrides the schedule's steps with input
    :param flush: overrides the schedule's steps without input
    :param levels: L, overrides the schedule's charge (input gain): the T steps carry the charge of L steps
    :param burst: overrides the schedule's burst, the most spikes of a neuron in one step
    :param limit: watch at most this many images, the first ones
    :param batch_size: images per pass
    :param encoder: constant (the image is a current) or poisson (random spikes)
    :param seed: of the poisson encoder
    :param output: folder for monitor.json, firing_rates.png and remainders.png
    :param device: auto (a GPU where there is one), cpu, cuda, cuda:1, ...
    """
    from tqdm import tqdm

    from sj_lowlat.cli.pictures import first_images
    from sj_lowlat.cli.running import find_schedule
    from sj_lowlat.cli.sources import open_data
    from sj_lowlat.data import batches
    from sj_lowlat.errors import InputError
    from sj_lowlat.files import atomic_write, write_json
    from sj_lowlat.monitors import FiringRateMonitor, RemainderMonitor
    from sj_lowlat.network import info_of
    from sj_lowlat.record import provenance
    from sj_lowlat.simulation import simulate
    from sj_lowlat.zoo import open_network

    dataset = first_images(open_data(data), limit)
    snn: Any = open_network(model, spiking=True, seed=seed, device=device)
    plan = find_schedule(snn, schedule, time_steps=time_steps, flush=flush, levels=levels, burst=burst)
    if plan is None:
        raise InputError(
            f"{model} has no spiking neurons to watch: give a network that sj-lowlat convert wrote"
        )
    folder = Path(output)
    with FiringRateMonitor(snn) as rates, RemainderMonitor(snn, max_count=plan.charge) as remainders:
        for images, _, _ in tqdm(
            batches(dataset, batch_size, info_of(snn).size or 416), desc="monitor", disable=None
        ):
            simulate(snn, images, plan, encoder=encoder, seed=seed)
    run = {
        "model": model,
        "data": data,
        "images": len(dataset),
        **plan.to_json(),
        "encoder": encoder,
    }
    write_json(
        folder / "monitor.json",
        {
            "rates": rates.to_json(),
            "remainders": remainders.to_json(),
            "settings": {**run, **provenance(seed)},
        },
    )
    for name, watched in (("firing_rates.png", rates), ("remainders.png", remainders)):
        with atomic_write(folder / name) as temporary:
            watched.plot().savefig(temporary, dpi=120)
    times = f"{plan.time_steps} steps and {plan.flush} of flush"
    print(f"{model} on {len(dataset)} images of {data}, {times}\n")
    print(f"firing rates\n{rates.table()}\n\nwhat is left in the membranes\n{remainders.table()}\n")
    print(f"monitor.json, firing_rates.png and remainders.png are in {folder}")
