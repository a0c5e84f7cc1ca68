"""``sj-lowlat monitor``."""

from __future__ import annotations

from pathlib import Path

from sj_lowlat.cli.options import RunOptions


def run(
    model: str,
    data: str,
    options: RunOptions,
    limit: int = 16,
    batch_size: int = 4,
    output: str = "runs/monitor",
) -> None:
    """Watch the neurons of a spiking network: firing rates and what is left in their membranes.

    examples::

      sj-lowlat monitor --model runs/demo/snn --data traffic:16 --schedule 8
      sj-lowlat monitor --model runs/snn --data street.jpg --schedule 16+4 --output runs/street

    :param model: the network that ships with sj_lowlat (snn-tiny-yolov3-coco), or a folder that sj-lowlat
        convert or demo wrote
    :param data: coco:ANNOTATIONS.json:IMAGE_FOLDER, voc:FOLDER_ABOVE_VOCdevkit[:IMAGE_SET],
        traffic[:COUNT[:SEED]], or a picture or a folder of pictures
    :param options: how the network is run
    :param limit: watch at most this many images, the first ones
    :param batch_size: images per pass
    :param output: folder for monitor.json, firing_rates.png and remainders.png
    """
    from tqdm import tqdm

    from sj_lowlat.cli.pictures import first_images
    from sj_lowlat.cli.sources import open_data
    from sj_lowlat.data import batches
    from sj_lowlat.errors import InputError
    from sj_lowlat.files import atomic_write, write_json
    from sj_lowlat.monitors import FiringRateMonitor, RemainderMonitor
    from sj_lowlat.network import info_of
    from sj_lowlat.progress import one_run
    from sj_lowlat.record import provenance
    from sj_lowlat.simulation import simulate

    dataset = first_images(open_data(data), limit)
    snn, plan = options.open(model)
    if plan is None:
        raise InputError(f"{model} has no spiking neurons to watch: give one that sj-lowlat convert wrote")
    folder = Path(output)
    with one_run(folder):
        with FiringRateMonitor(snn) as rates, RemainderMonitor(snn, max_count=plan.charge) as remainders:
            loaded = batches(dataset, batch_size, info_of(snn).size or 416)
            for images, _, _ in tqdm(loaded, desc="monitor", disable=None):
                simulate(snn, images, plan, encoder=options.encoder, seed=options.seed)
        settings = {"model": model, "data": data, "images": len(dataset), **plan.to_json()}
        settings |= {"encoder": options.encoder, **provenance(options.seed)}
        times = f"{plan.time_steps} steps and {plan.flush} of flush"
        print(f"{model} on {len(dataset)} images of {data}, {times}\n")
        print(f"firing rates\n{rates.table()}\n\nwhat is left in the membranes\n{remainders.table()}\n")
        write_json(
            folder / "monitor.json",
            {"rates": rates.to_json(), "remainders": remainders.to_json(), "settings": settings},
        )
        for name, watched in (("firing_rates.png", rates), ("remainders.png", remainders)):
            with atomic_write(folder / name) as temporary:
                watched.plot().savefig(temporary, dpi=120)
    print(f"monitor.json, firing_rates.png and remainders.png are in {folder}")
