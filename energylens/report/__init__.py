"""A run as a page one can show: figures with the queries that made them, tables, contexts."""
