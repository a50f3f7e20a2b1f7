"""What is measured, each in a process of its own, a few at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed

from tqdm import tqdm

from ml2sc.runtime.children import end_with_parent

from .measure import Figures, Ours
from .networks import macs
from .paper_way import PaperWay

Job = Ours | PaperWay

TARGETS = ("solidity", "vyper")


def measure_all(jobs: Iterable[Job], workers: int) -> dict[Job, Figures]:
    """Measure every job once, the largest networks first, with a bar on stderr.

    Raises:
        CheckError: a contract's answers are wrong.
        ToolchainError: a compiler or chain is missing or failed.
    """
    ordered = sorted(dict.fromkeys(jobs), key=lambda job: (isinstance(job, Ours), -macs(job.network)))
    figures: dict[Job, Figures] = {}
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        futures = {pool.submit(_measure, job): job for job in ordered}
        try:
            for future in tqdm(as_completed(futures), total=len(futures), unit="contract"):
                figures[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return figures


def _measure(job: Job) -> Figures:
    return job.measure()
