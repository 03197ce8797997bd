"""Measurements, each as a ratio to a named reference in the same run: one file or folder a measurement."""
