"""A NIR file that write_nir wrote, simulated from its nodes and their metadata: nir and numpy, no torch."""

import json
import sys

import nir
import numpy as np


def windows(x, size, stride, padding=(0, 0), dilation=(1, 1)):
    """[C, H, W] -> [C, rows, columns, height, width of a window]."""
    x = np.pad(x, [(0, 0), (padding[0],) * 2, (padding[1],) * 2])
    wide = [d * (k - 1) + 1 for d, k in zip(dilation, size, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, wide, (1, 2))
    return view[:, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def simulate(graph, image, steps):
    """Yield (step, {node: what leaves it}) for a constant input; IF nodes give spikes of 0 and 1."""
    before = {name: [first for first, second in graph.edges if second == name] for name in graph.nodes}
    order = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    while len(order) < len(graph.nodes):
        ready = (name for name in graph.nodes if name not in order)
        order += [name for name in ready if all(item in order for item in before[name])]
    potentials = {}
    for step in range(1, steps + 1):
        values = {}
        for name in order:
            node, x = graph.nodes[name], sum(values[item] for item in before[name])
            if isinstance(node, nir.Input):
                x = image.astype(np.float64)
            elif isinstance(node, nir.Conv2d):
                view = windows(x, node.weight.shape[2:], node.stride, node.padding, node.dilation)
                x = np.einsum("dchw,cyxhw->dyx", node.weight.astype(np.float64), view)
                x += node.bias[:, None, None]
            elif isinstance(node, (nir.Affine, nir.Linear)):
                x = node.weight.astype(np.float64) @ x
                x += node.bias if isinstance(node, nir.Affine) else 0
            elif isinstance(node, (nir.AvgPool2d, nir.SumPool2d)):
                view = windows(x, node.kernel_size, node.stride)
                x = view.mean((3, 4)) if isinstance(node, nir.AvgPool2d) else view.sum((3, 4))
            elif isinstance(node, nir.Flatten):
                x = x.reshape(-1)
            elif isinstance(node, nir.IF):
                about, channels = node.metadata, (-1, *[1] * (node.r.ndim - 1))  # [C] for [C, H, W]
                start = np.broadcast_to(about["v_initial"].reshape(channels), x.shape)
                v = potentials.get(name, start.astype(np.float64)) + node.r * x
                x = (v > node.v_threshold).astype(np.float64)
                if about["reset"] == "subtract":
                    potentials[name] = v - x * about["subtract"].reshape(channels)
                else:
                    potentials[name] = np.where(x > 0, node.v_reset, v)
            values[name] = x
        yield step, values


if __name__ == "__main__":
    graph, image, steps = nir.read(sys.argv[1]), np.load(sys.argv[2]), int(sys.argv[3])
    names = json.loads(graph.metadata["outputs"])
    runs = [values for _, values in simulate(graph, image, steps)]
    for name in [names] if isinstance(names, str) else names:
        print(name, np.mean([values[name] for values in runs], axis=0))
    neurons = [name for name, node in graph.nodes.items() if isinstance(node, nir.IF)]
    spikes = sum(values[name].sum() for values in runs for name in neurons)
    print(f"{spikes:.0f} spikes in {steps} steps")
