"""``sj-lowlat demo``."""

from __future__ import annotations

from sj_lowlat.demo import DemoConfig, demo


def run(settings: DemoConfig, output: str = "runs/demo") -> None:
    """Train, quantise, convert and score a small detector on generated traffic scenes.

    examples::

      sj-lowlat demo
      sj-lowlat demo --iterations 100 --quant-iterations 50 --test-images 20 --output runs/quick

    :param settings: sizes and seed
    :param output: folder for networks, pictures and demo.json; an interrupted training in it is resumed
    """
    try:
        demo(output, settings)
    except KeyboardInterrupt as stopped:
        stopped.add_note("the same command goes on; a training does so from its last checkpoint")
        raise
