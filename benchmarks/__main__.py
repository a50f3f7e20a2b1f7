"""Measures everything and writes results.md, its plots, and times.md: `make bench`, or `python -m benchmarks`."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from ml2sc.errors import Ml2scError

from . import compile_time, growth, headline, per_mac, per_parameter
from .jobs import measure_all
from .paper_way import PRB_MATH
from .text import table

SECTIONS = (headline, growth, per_mac, per_parameter)
LIBRARIES = ("py-evm", "pyrevm", "onnx", "onnxruntime", "numpy", "matplotlib")


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--workers", type=int, default=2, help="contracts measured at the same time (default: 2)")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        times = compile_time.report()
        figures = measure_all((job for section in SECTIONS for job in section.jobs()), args.workers)
    except Ml2scError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    compilers = sorted({f.compiler for f in figures.values() if f.compiler})
    sections = [section.report(figures, args.output) for section in SECTIONS]
    tools = [[name.split(" ")[0], name.split(" ")[1]] for name in compilers]
    tools += [[name, version(name)] for name in LIBRARIES] + [["@prb/math", PRB_MATH]]
    text = f"""# Results

Written by `make bench`, which writes the same bytes again; times and memory are in [times.md](times.md). All figures
are measured on an embedded EVM with Prague's rules, unless it is said whose they are.

{table(["tool", "version"], tools)}

{"".join(sections)}"""
    (args.output / "results.md").write_text(text.rstrip() + "\n", encoding="utf-8")
    (args.output / "times.md").write_text(times, encoding="utf-8")


if __name__ == "__main__":
    main()
