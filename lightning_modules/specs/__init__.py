"""Frozen, torch-free descriptions of everything that decides a trial, and the catalogue of networks.

Imports nothing but the standard library, so that listing and validating studies takes no time.
"""
