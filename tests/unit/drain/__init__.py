"""Tests of ``twisted_node.drain``."""
