"""Screens: each asks for its data in a worker and shows it."""
