"""Headless ingest: texts through a model and its SAEs into the shards and the index of a store."""
