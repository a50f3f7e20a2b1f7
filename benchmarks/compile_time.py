"""How long compiling takes (without solc), and how much memory: the examples, and MLPs of growing size.

Each model is compiled in a process of its own. Run from the checkout: python benchmarks/compile_time.py [--most N]
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"
LAYERS = ((784, 100, 10), (1024, 256, 10), (1024, 512, 256, 10), (2048, 448, 128, 10))
"""Widths of the layers of each random MLP; its inputs are declared to lie between −1 and 1."""

WORKER = """
import json, resource, sys, time
start = time.perf_counter()
import numpy as np, onnx
import ml2sc
imported = time.perf_counter() - start
path, precision, calibration, widths = json.loads(sys.argv[1])
if widths:
    from onnx import TensorProto, helper, numpy_helper
    rng, nodes, constants, last = np.random.default_rng(0), [], [], "x"
    for i, (k, n) in enumerate(zip(widths, widths[1:])):
        weights = (rng.normal(size=(k, n)) / np.sqrt(k)).astype(np.float32)
        constants += [numpy_helper.from_array(weights, f"w{i}"), numpy_helper.from_array(weights[0], f"b{i}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"h{i}"]))
        last = f"h{i}"
        if i + 2 < len(widths):
            nodes.append(helper.make_node("Relu", [last], [f"r{i}"]))
            last = f"r{i}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "mlp", [value("x", TensorProto.FLOAT, [1, widths[0]])],
                              [value(last, TensorProto.FLOAT, [1, widths[-1]])], constants)
    path = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
start = time.perf_counter()
ranges = ((-1.0, 1.0),) if widths else ()
artifact = ml2sc.compile(path, precision=precision, calibration=calibration, input_ranges=ranges)
seconds = time.perf_counter() - start
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
macs = sum(layer.get("macs", 0) for layer in artifact.manifest["plan"])
print(json.dumps([macs, artifact.manifest["precision"], imported, seconds, memory]))
"""


def cases(most: int) -> Iterator[tuple[str, list[object]]]:
    """Iterate over (name, [path, precision, calibration, widths])."""
    for name in ("breast_cancer", "digits", "mnist"):
        folder = EXAMPLES / name
        for calibration in (str(folder / "calibration.npz"), None):
            for precision in ("int8", "auto"):
                title = f"{name} {precision}{', calibrated' if calibration else ''}"
                yield title, [str(folder / f"{name}.onnx"), precision, calibration, []]
    for widths in LAYERS:
        if sum(k * n for k, n in itertools.pairwise(widths)) <= most:
            for precision in ("int8", "auto"):
                yield f"{'-'.join(map(str, widths))} {precision}", ["", precision, None, list(widths)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10**7, help="leave out random models with more weights")
    most = parser.parse_args().most
    print(f"{'model':40} {'weights':>10} {'precision':>9} {'import s':>9} {'compile s':>9} {'peak MB':>8}")
    for name, case in cases(most):
        run = subprocess.run([sys.executable, "-c", WORKER, json.dumps(case)], capture_output=True, text=True)
        if run.returncode:
            print(f"{name:40} failed: {run.stderr.strip().splitlines()[-1]}")
            continue
        macs, precision, imported, seconds, memory = json.loads(run.stdout)
        print(f"{name:40} {macs:>10,} {precision:>9} {imported:>9.2f} {seconds:>9.2f} {memory:>8.0f}")


if __name__ == "__main__":
    main()
