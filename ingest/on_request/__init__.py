"""Recomputation on demand: a run's model and SAEs loaded again, and what is asked of them."""
