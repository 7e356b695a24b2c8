"""The program as real processes."""
