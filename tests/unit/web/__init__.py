"""Tests of ``twisted_node.web``."""
