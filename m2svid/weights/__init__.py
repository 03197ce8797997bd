"""Weights of every published format in and out."""
