"""Circuits of attention: what heads read and write by their weights, and do on texts."""
