"""Speed, measured: a file a benchmark, its records in `results/`. `python -m benchmarks` runs them."""
