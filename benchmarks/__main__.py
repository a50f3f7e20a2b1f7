"""Measures and writes results.md and the other pages beside it: `make bench`, or `python -m benchmarks [PAGE ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from ml2sc.errors import Ml2scError

from . import compile_time, convolutions, growth, headline, per_mac, per_parameter, scale, tabular, trees
from .jobs import Job, measure_all
from .measure import Figures
from .paper_way import PRB_MATH, PaperWay
from .text import table

PAGES = {"results": headline, "growth": growth, "per-mac": per_mac, "per-parameter": per_parameter}
ALONE = {"convolutions": convolutions, "tabular": tabular, "trees": trees, "times": compile_time, "scale": scale}
"""Pages that measure no contract's gas in `jobs`; the last two depend on the machine."""
LIBRARIES = ("py-evm", "pyrevm", "onnx", "onnxruntime", "numpy", "matplotlib")


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("pages", nargs="*", choices=[*PAGES, *ALONE], metavar="PAGE", help=", ".join([*PAGES, *ALONE]))
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--workers", type=int, default=2, help="contracts measured at the same time (default: 2)")
    args = parser.parse_args()
    wanted = args.pages or [*PAGES, *ALONE]
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        for name in filter(ALONE.__contains__, wanted):
            (args.output / f"{name}.md").write_text(ALONE[name].report(), encoding="utf-8")
        measured = [page for name, page in PAGES.items() if name in wanted]
        figures = measure_all((job for page in measured for job in page.jobs()), args.workers)
    except Ml2scError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    for name in filter(PAGES.__contains__, wanted):
        write_page(name, figures, args.output)


def write_page(name: str, figures: Mapping[Job, Figures], folder: Path) -> None:
    """Write a page and its plots.

    Args:
        name: Its name.
        figures: What was measured, for this page's jobs at least.
        folder: Where to.
    """
    page = PAGES[name]
    jobs = page.jobs()
    tools = [compiler.split(" ") for compiler in sorted({figures[job].compiler for job in jobs} - {""})]
    tools += [[library, version(library)] for library in LIBRARIES]
    if any(isinstance(job, PaperWay) for job in jobs):
        tools.append(["@prb/math", PRB_MATH])
    text = f"""# {page.TITLE}

Written by `make bench`, which writes the same bytes again. Gas is measured on an embedded EVM with Prague's rules,
unless it is said whose it is.

{page.report(figures, folder)}
## Tools

{table(["tool", "version"], tools)}
"""
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
