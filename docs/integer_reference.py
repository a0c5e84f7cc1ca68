"""A spiking detector in whole numbers, from NAME.npz and NAME.json alone: numpy, no torch."""

import json
import sys

import numpy as np


def windows(x, size, stride, before, after, fill):
    """[C, H, W] -> [C, rows, columns, size, size]."""
    x = np.pad(x, [(0, 0), (before[0], after[0]), (before[1], after[1])], constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, :: stride[0], :: stride[1]]


def convolve(x, weight, row):
    """Whole numbers below 2^53: float64 holds them all, and multiplies matrices faster than integers."""
    view = windows(x, weight.shape[-1], row["stride"], row["before"], row["after"], 0)
    channels, rows, columns = view.shape[:3]
    columns_of = view.transpose(0, 3, 4, 1, 2).reshape(-1, rows * columns).astype(np.float64)
    product = weight.reshape(len(weight), -1).astype(np.float64) @ columns_of
    return product.reshape(-1, rows, columns).astype(np.int64)


def simulate(arrays, about, image):
    """Yield (step, {layer: spikes}); image: uint8 [3, H, W]. The heads are in the last step's dictionary."""
    plan, state = about["schedule"], {}
    gain = plan["charge"] // plan["time_steps"]
    for step in range(plan["time_steps"] + plan["flush"]):
        on = gain if step < plan["time_steps"] else 0
        values = {"images": image.astype(np.int64) * on}
        for row in about["graph"]:
            name, inputs, layer = row["name"], [values[key] for key in row["inputs"]], row.get("layer")
            if row["op"] == "conv":
                if row["inputs"] == ["images"]:  # the same in every step but for the gain
                    if name not in state:
                        state[name] = convolve(image.astype(np.int64), arrays[layer + ".weight"], row)
                    out = state[name] * on
                else:
                    out = convolve(inputs[0], arrays[layer + ".weight"], row)
                if layer + ".bias" in arrays:
                    out = out + arrays[layer + ".bias"].astype(np.int64)[:, None, None] * on
            elif row["op"] == "neuron":
                threshold = arrays[layer + ".threshold"].astype(np.int64)[:, None, None]
                v, count = state.get(name, (threshold // 2, 0))
                v = v + inputs[0]
                low = threshold * (row["steeper"] or 1)  # what a count below 0 stands for
                most, burst = row["most"], row["burst"]
                held = np.where(count < 0, count * low, count * threshold)
                if not row["counts"]:
                    out = np.clip(v // threshold, 0, burst)
                else:  # signed: the count follows the level of the charge
                    charge = v + held
                    below = (charge + low // 2) // low if row["steeper"] else 0
                    level = np.where(charge < 0, below, charge // threshold)
                    level = np.clip(level, -most if row["steeper"] else 0, most)
                    out = np.clip(level - count, -burst, burst)
                after = count + out
                state[name] = v + held - np.where(after < 0, after * low, after * threshold), after
            elif row["op"] == "pool":  # the change of the maximum of the counts
                count = state.get(name, (0, 0))[0] + inputs[0]
                view = windows(count, row["size"], row["stride"], row["before"], row["after"], -(2**40))
                most = view.max((3, 4))
                out = most - state.get(name, (0, 0))[1]
                state[name] = count, most
            elif row["op"] == "up":
                out = inputs[0].repeat(row["factor"], 1).repeat(row["factor"], 2)
            elif row["op"] == "cat":
                out = np.concatenate(inputs)
            elif row["op"] == "head":
                state[name] = state.get(name, 0) + inputs[0]
                out = convolve(state[name], arrays[layer + ".weight"], row) * arrays[layer + ".scale"][:, 0]
                divisor = gain * min(step + 1, plan["time_steps"])
                out = out / divisor + arrays[layer + ".bias"][:, None, None]
            if row["op"] != "output":
                values[name] = out
        yield step + 1, values


def detections(about, values, least=0.25):
    """(score, class, x1, y1, x2, y2) in pixels of the input, before the non-maximum suppression."""
    found = []
    (output,) = (row["inputs"] for row in about["graph"] if row["op"] == "output")
    for name, head in zip(output, about["heads"], strict=True):
        raw = values[name].reshape(len(head["anchors"]), 5 + head["num_classes"], *values[name].shape[1:])
        sure = 1 / (1 + np.exp(-raw[:, 4:]))
        scores = sure[:, :1] * sure[:, 1:]
        for anchor, kind, y, x in np.argwhere(scores >= least):
            tx, ty, tw, th = raw[anchor, :4, y, x]
            cx, cy = ((1 / (1 + np.exp(-t)) + at) * head["stride"] for t, at in ((tx, x), (ty, y)))
            w, h = np.exp(np.array([tw, th])) * head["anchors"][anchor] / 2
            found.append((scores[anchor, kind, y, x], kind, cx - w, cy - h, cx + w, cy + h))
    return found


if __name__ == "__main__":
    with open(sys.argv[1].removesuffix(".npz") + ".json", encoding="utf-8") as file:
        network = json.load(file)
    *_, (_, last) = simulate(dict(np.load(sys.argv[1])), network, np.load(sys.argv[2]))
    for box in detections(network, last):
        print(*box)
