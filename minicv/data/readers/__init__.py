"""Readers of data sets on disk. A reader finds the files and knows what their annotations mean.

``segmentation.py`` and ``detection.py`` hold what the readers of each kind share.
"""
