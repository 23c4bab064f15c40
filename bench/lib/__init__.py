"""What the benchmarks share. Scripts in `bench/` import it; nothing else does."""
