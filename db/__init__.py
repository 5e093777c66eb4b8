"""The store: Arrow schemas, shards on disk, and the DuckDB catalogue over them.

Knows duckdb and pyarrow only: no model, no query, no screen.
"""
