"""Tests of what Lightning guarantees to users' code."""
