"""Networks that find objects: one file per paper."""
