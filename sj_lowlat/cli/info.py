"""``sj-lowlat info``."""

from __future__ import annotations

from typing import Any


def run(json: bool = False) -> None:
    """Show versions, kernels, devices and the networks and data that are found.

    Paste it into a report of an error.

    examples::

      sj-lowlat info
      sj-lowlat info --json

    :param json: one JSON object instead of lines
    """
    from json import dumps

    from sj_lowlat.errors import printable

    about = _collect()
    if json:
        print(dumps(about, indent=1))
        return
    for title, rows in about.items():
        print(title)
        for name, value in rows.items():
            print(printable(f"  {name:<14} {value}"))


def _collect() -> dict[str, dict[str, Any]]:
    import os
    import platform
    from importlib.util import find_spec
    from pathlib import Path

    import torch

    import sj_lowlat
    from sj_lowlat import kernels, pretrained
    from sj_lowlat.record import versions

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    extras = {"train": "tensorboard", "video": "av", "onnx": "onnx2torch", "neurobench": "neurobench"}
    extras |= {"results": "pandas", "cuda12, cuda13": "cupy"}
    data = os.environ.get("SJ_LOWLAT_DATA")
    there = sorted(p.name for p in Path(data).iterdir() if p.is_dir()) if data and Path(data).is_dir() else []
    return {
        "versions": {**versions(), "python": platform.python_version(), "system": platform.platform()},
        "kernels": {
            "on the CPU": kernels.choose(torch.device("cpu")),
            "on a GPU": kernels.choose(torch.device("cuda")) if gpus else "no GPU",
        },
        "devices": {
            "CPU": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch",
            "GPU": ", ".join(gpus) or f"none (torch is built for CUDA {torch.version.cuda or 'no version'})",
        },
        "extras": {name: "installed" if find_spec(module) else "-" for name, module in extras.items()},
        "found": {
            "package": str(Path(sj_lowlat.__file__).parent),
            "networks": ", ".join(pretrained.names()) or "none ships with this installation",
            "SJ_LOWLAT_DATA": f"{data}: {', '.join(there) or 'nothing'}" if data else "not set",
        },
    }
