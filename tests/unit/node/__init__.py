"""Tests of ``twisted_node.node``."""
