"""Writes a page for each module of the API, when the documentation is built."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "api"
#: module -> what its page is about; in the order of use
MODULES = {
    "detector": "pictures into detections",
    "detect": "from head maps to boxes",
    "video": "detection in videos",
    "report": "pages to look at spikes",
    "conversion": "from ANN to SNN",
    "schedule": "how a spiking network is run",
    "simulation": "time steps and read-outs",
    "monitors": "watch a network",
    "evaluation": "scores",
    "training": "losses, loop, resuming",
    "export": "for other programs and hardware",
    "checkpoint": "save and load",
    "pretrained": "detectors that ship",
    "zoo": "a network by one word",
    "models": "detectors",
    "data": "pictures and boxes",
    "spike_camera": "streams of a spike camera",
    "streaming": "detection along a stream",
    "encoders": "images into input per step",
    "layers": "neurons and activations",
    "functional": "equations",
    "kernels": "multi-step neurons",
    "graph": "a forward as a graph",
    "network": "layers, graph, and what is known of them",
    "plots": "figures",
    "class_names": "COCO and VOC",
    "record": "how a result was made",
    "allocator": "freed memory",
    "errors": "what goes wrong",
}
# described where they are returned, or a helper
LEFT_OUT = {"conversion": "ConversionReport, LayerReport", "models": "SameMaxPool"}


def page(module: str, about: str) -> str:
    """A module's page."""
    title = f"sj_lowlat.{module}: {about}"
    lines = [title, "=" * len(title), "", f".. automodule:: sj_lowlat.{module}", "   :members:"]
    lines += ["   :show-inheritance:"]
    if module in LEFT_OUT:
        lines.append(f"   :exclude-members: {LEFT_OUT[module]}")
    return "\n".join(lines) + "\n"


def setup(app: object) -> dict[str, bool]:
    """Called by Sphinx before it reads the pages."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.rst"):
        if old.stem not in MODULES:
            old.unlink()
    for module, about in MODULES.items():
        text, path = page(module, about), FOLDER / f"{module}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # else it is read again
            path.write_text(text, encoding="utf-8")
    return {"parallel_read_safe": True}
