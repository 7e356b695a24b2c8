"""Tests of ``twisted_node.command``."""
