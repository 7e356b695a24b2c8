"""Tests of ``twisted_node.handover``."""
