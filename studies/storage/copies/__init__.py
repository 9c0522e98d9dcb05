"""Copies of a study outside its trial folders: archives to take along, and where its registration lies.

Imports the manifest, and what ``studies.storage`` may import.
"""
