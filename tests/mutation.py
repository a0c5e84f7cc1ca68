"""Mutation testing, by hand: break the code in small ways and see whether a test notices.

    pip install cosmic-ray
    python tests/mutation.py detect --mutants 60 --seed 0 --output survivors.txt

Mutants are drawn at random from all that cosmic-ray knows, but for those that change only annotations or the
text of messages, or that are no Python. They live in a copy of the checkout. The score is the share that a
test kills; the diffs of the others are written, for somebody to look at: either a test is missing, or nothing
can tell them from the code.
"""

from __future__ import annotations

import argparse
import ast
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_CONVERSION = ("fold", "normalise", "equalise", "statistics", "options", "additions", "convert",
               "replace", "refusals", "precision", "methods")  # fmt: skip
TARGETS = {
    "functional": (["functional.py"], ["test_functional.py", "layers/test_quant_relu.py", "oracles"]),
    "layers": (["layers"], ["layers", "models/test_darknet_layers.py"]),
    "conversion": (["conversion"], [f"conversion/test_{name}.py" for name in _CONVERSION]),
    "detect": (["detect"], ["detect", "oracles"]),
}  # fmt: skip
SECONDS = 400


class _Bare(ast.NodeTransformer):
    """Takes out what does not run, and what messages say."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) and " " in node.value else node


def _meaning(source: str) -> str | None:
    try:
        return ast.dump(_Bare().visit(ast.parse(source)))
    except SyntaxError:
        return None


def mutants(files: list[Path], count: int, seed: int) -> list[Any]:
    """So many of cosmic-ray's mutations that change what runs."""
    from cosmic_ray.commands.init import _all_work_items
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    found = [mutation for item in _all_work_items(files, {}) for mutation in item.mutations]
    random.Random(seed).shuffle(found)
    drawn: list[Any] = []
    for mutation in found:
        source = mutation.module_path.read_text(encoding="utf-8")
        operator = get_operator(mutation.operator_name)(**mutation.operator_args)
        changed = mutate_code(source, operator, mutation.occurrence)
        if changed is not None and _meaning(changed) not in (_meaning(source), None):
            drawn.append(mutation)
        if len(drawn) == count:
            break
    return drawn


def main() -> None:
    """Draw, try, count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--mutants", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="file for the diffs of those that live")
    args = parser.parse_args()
    from cosmic_ray.mutating import mutate_and_test
    from cosmic_ray.work_item import TestOutcome

    places, tests = TARGETS[args.target]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for top in ("sj_lowlat", "tests", "benchmarks", "pyproject.toml", "setup.cfg"):
            have = ROOT / top
            shutil.copytree(have, copy / top) if have.is_dir() else shutil.copy(have, copy)
        roots = [copy / "sj_lowlat" / place for place in places]
        files = [
            file for root in roots for file in ([root] if root.is_file() else sorted(root.rglob("*.py")))
        ]
        drawn = mutants(files, args.mutants, args.seed)
        # the tests must hold without a mutant, from the copy
        command = [
            "env",
            f"PYTHONPATH={copy}",
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
        ]
        command += ["--rootdir", str(copy), *(str(copy / "tests" / test) for test in tests)]
        subprocess.run(command, check=True, cwd=copy, stdout=subprocess.DEVNULL)
        alive = []
        for number, mutation in enumerate(drawn, 1):
            result = mutate_and_test([mutation], " ".join(command), SECONDS)
            if result.test_outcome == TestOutcome.SURVIVED:
                alive.append(result.diff.replace(str(copy), ""))
            print(f"{number} of {len(drawn)} mutants, {len(alive)} live", flush=True)
    if args.output:
        args.output.write_text("\n\n".join(alive), encoding="utf-8")
    killed = len(drawn) - len(alive)
    print(f"{args.target}: {killed} of {len(drawn)} killed ({killed / len(drawn):.0%})")


if __name__ == "__main__":
    main()
