"""What ml2sc's contracts cost, measured: `python -m benchmarks` writes results.md, times.md and the plots."""
