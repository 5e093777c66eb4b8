"""Build the derived tables of a run from its complete shards."""
