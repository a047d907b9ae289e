"""Sweeps that run what is missing: which runs are due, how a launcher runs them, what became of each."""
