"""Depth of films: estimators and files behind one protocol."""
