"""Data sets that are drawn, not downloaded: image i is a function of the seed and i."""
