"""Readers of data sets on disk. A reader finds the files and translates their annotations.

``segmentation.py`` and ``detection.py`` hold what the readers of each kind share.
"""
