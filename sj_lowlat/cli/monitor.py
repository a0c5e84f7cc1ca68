"""``sj-lowlat monitor``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sj_lowlat.cli.options import RunOptions

_LEGEND = """over-, under-fired: more, fewer spikes than the quantised ReLU wants; exact: as many
clipped: the ReLU clips there, and so do the neurons; Re: V(T) / T of the others, in thresholds"""


def run(
    options: RunOptions,
    model: str = "snn-tiny-yolov3-coco",
    data: str | None = None,
    picture: str | None = None,
    layer: str | None = None,
    limit: int = 16,
    batch_size: int = 4,
    output: str = "runs/monitor",
) -> None:
    """Watch the neurons of a spiking network: firing rates and what is left in their membranes.

    examples::

      sj-lowlat monitor --model runs/demo/snn --data traffic:16 --schedule 8
      sj-lowlat monitor --model runs/snn --data street.jpg --schedule 16+4 --output runs/street
      sj-lowlat monitor --picture street.jpg

    :param model: a network that ships with sj_lowlat (snn-tiny-yolov3-coco,
        snn-yolo-fastest-xl-coco), or a folder that sj-lowlat convert or demo wrote
    :param data: coco:ANNOTATIONS.json:IMAGE_FOLDER, voc:FOLDER_ABOVE_VOCdevkit[:IMAGE_SET],
        yolo:DATA.yaml[:IMAGE_SET], traffic[:COUNT[:SEED]], or a picture or a folder of pictures; by default
        the picture
    :param picture: draw what happens in one picture, step by step: spikes of every layer (activity.png), of
        single neurons (neurons.png), of channels (counts.png), and the boxes of some steps (boxes.png)
    :param layer: of neurons.png and counts.png, a name of the table; by default the one in the middle
    :param options: how the network is run
    :param limit: watch at most this many images, the first ones
    :param batch_size: images per pass
    :param output: folder for monitor.json, firing_rates.png, remainders.png, and the drawings of the picture
    """
    from textwrap import fill

    from tqdm import tqdm

    from sj_lowlat.cli.pictures import first_images
    from sj_lowlat.cli.sources import open_data
    from sj_lowlat.cli.spike_pictures import spike_pictures
    from sj_lowlat.data import batches
    from sj_lowlat.errors import InputError, printable
    from sj_lowlat.files import atomic_write, write_json
    from sj_lowlat.monitors import FiringRateMonitor, RemainderMonitor
    from sj_lowlat.network import info_of
    from sj_lowlat.progress import one_run
    from sj_lowlat.record import provenance
    from sj_lowlat.simulation import simulate

    data = data or picture
    if data is None:
        raise InputError(
            "there is nothing to watch: give --picture with a picture, --data with more, or both"
        )
    dataset = first_images(open_data(data), limit)
    snn, plan = options.open(model)
    if plan is None:
        raise InputError(f"{model} has no spiking neurons to watch: give one that sj-lowlat convert wrote")
    folder = Path(output)
    figures: dict[str, Any] = {}
    with one_run(folder):
        if picture:
            figures = spike_pictures(snn, picture, plan, layer, encoder=options.encoder, seed=options.seed)
        with FiringRateMonitor(snn) as rates, RemainderMonitor(snn, max_count=plan.charge) as remainders:
            loaded = batches(dataset, batch_size, info_of(snn).size or 416)
            for images, _, _ in tqdm(loaded, desc="monitor", disable=None):
                simulate(snn, images, plan, encoder=options.encoder, seed=options.seed)
        settings = {"model": model, "data": data, "images": len(dataset), **plan.to_json()}
        settings |= {"encoder": options.encoder, **provenance(options.seed)}
        times = f"{plan.time_steps} steps and {plan.flush} of flush"
        what = f"{model} on {len(dataset)} {'image' if len(dataset) == 1 else 'images'} of {data}, {times}"
        print(f"{what}\n\nfiring rates\n{rates.table()}\n\nresidual membrane potential")
        print(f"{remainders.table()}\n{_LEGEND}\n")
        print(
            f"{remainders.verdict()}; {rates.spikes_per_neuron_and_image():.2f} spikes per neuron and image"
        )
        write_json(
            folder / "monitor.json",
            {"rates": rates.to_json(), "remainders": remainders.to_json(), "settings": settings},
        )
        for name, watched in (("firing_rates.png", rates), ("remainders.png", remainders)):
            figures[name] = watched.plot()
            figures[name].axes[0].set_title(fill(printable(what), 75), loc="left", fontsize="small")
        for name, figure in figures.items():
            with atomic_write(folder / name) as temporary:
                figure.savefig(temporary, dpi=120)
    print(f"monitor.json, {', '.join(figures)} are in {folder}")
