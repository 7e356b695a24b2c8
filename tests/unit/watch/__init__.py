"""Tests of ``twisted_node.watch``."""
