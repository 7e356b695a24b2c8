"""Each module of the package by itself; seconds in all."""
