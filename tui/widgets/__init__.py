"""Widgets: each knows how it looks and nothing of SQL."""
