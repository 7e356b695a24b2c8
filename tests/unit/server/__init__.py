"""Tests of ``twisted_node.server``."""
