"""Passes over the graph, their manager, and the lowering to a Program."""

from . import calibrate, prove_ranges, quantize
from .manager import PASSES, DumpIr, Instrument, Pass, parse_pipeline, register_pass, run_pipeline
from .pipelines import LEVELS

__all__ = [
    "LEVELS",
    "PASSES",
    "DumpIr",
    "Instrument",
    "Pass",
    "calibrate",
    "parse_pipeline",
    "prove_ranges",
    "quantize",
    "register_pass",
    "run_pipeline",
]
