"""Figures 2 and 3 of Qiu & Zhu: the firing rate of an IF neuron under constant input, and its error.

Left: the staircase of a plain IF neuron under a ReLU (Figure 2). Right: residual fix and Quant-ReLU beside it
(Figure 3). The table compares the measured error against the ReLU with ``functional.rate_error``; the paper's
"2 to 1" is the mean absolute error, in squares it is 4 to 1.

    python benchmarks/neuron_response.py
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from runner import arguments, markdown, save_results

from sj_lowlat.detect import save_image
from sj_lowlat.functional import quant_relu, rate_error
from sj_lowlat.layers import ResidualFixIFNode
from sj_lowlat.plots import neuron_response, plot_neuron_response

RATIOS = {"plain IF, V(0) = 0": 0.0, "residual fix, V(0) = 0.5": 0.5}


def measure(time_steps: int, ratio: float, points: int) -> dict[str, float]:
    """Errors of the simulated rate against the ReLU, over the middles of equal parts of [0, 1]."""
    z = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    response = neuron_response(ResidualFixIFNode(ratio=ratio).double(), z, time_steps)
    error = torch.tensor([rate - value for value, rate in response], dtype=torch.float64)
    parts = {"bias": error, "mean_absolute": error.abs(), "mean_square": error.square()}
    return {name: float(part.mean()) for name, part in parts.items()}


def panel(title: str, responses: dict[str, list[tuple[float, float]]]) -> torch.Tensor:
    """One plot as a picture, uint8 ``[3, H, W]``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = plot_neuron_response(responses, title=title)
    for line in figure.axes[0].lines[3:]:
        line.set_linestyle(":")  # Quant-ReLU lies on the residual fix
        line.set_linewidth(3.5)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).permute(2, 0, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate the neurons, print their errors, draw both figures."""
    parser = arguments(__doc__, "fig2_fig3_neuron_response", data=False)
    parser.add_argument("--time-steps", type=int, nargs="+", default=[4, 8, 16, 32, 100, 300])
    parser.add_argument("--drawn", type=int, default=8, help="time steps in the figure")
    parser.add_argument("--points", type=int, default=48_000, help="inputs in [0, 1]")
    args = parser.parse_args(argv)

    rows, records = [], []
    for steps in args.time_steps:
        for label, ratio in RATIOS.items():
            measured, expected = measure(steps, ratio, args.points), rate_error(steps, ratio)
            records.append({"time_steps": steps, "ratio": ratio, "measured": measured, "expected": expected})
            rows.append(
                [str(steps), label]
                + [f"{round(part[key], 12):.3g}" for key in expected for part in (measured, expected)]
            )
    print(f"Error of the firing rate against the ReLU over {args.points} inputs in [0, 1]\n")
    kinds = ("bias", "mean absolute", "mean square")
    head = ["T", "neuron", *(f"{kind}, {which}" for kind in kinds for which in ("measured", "expected"))]
    print(markdown(head, rows))
    save_results(args.results, {"points": args.points, "drawn": args.drawn, "errors": records})

    z = torch.linspace(-0.25, 1.25, 1501, dtype=torch.float64)
    curves = {
        f"{label.partition(',')[0]}, T = {args.drawn}": neuron_response(
            ResidualFixIFNode(ratio=ratio).double(), z, args.drawn
        )
        for label, ratio in RATIOS.items()
    }
    plain = dict(list(curves.items())[:1])
    levels = quant_relu(z, 1.0, args.drawn)
    curves[f"Quant-ReLU, L = {args.drawn}"] = list(zip(z.tolist(), levels.tolist(), strict=True))
    figure = torch.cat([panel("Figure 2", plain), panel("Figure 3", curves)], 2)
    save_image(args.figure, figure)
    print(f"\n{args.figure}")


if __name__ == "__main__":
    main()
