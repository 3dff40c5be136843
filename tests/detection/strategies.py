"""What hypothesis draws for the tests of boxes."""
import numpy as np
from hypothesis import strategies as st

# Multiples of 1/4: overlaps are exact in floating point, so ties and thresholds are met exactly, and often.
coordinate = st.integers(-8, 40).map(lambda v: v / 4)
side = st.integers(0, 24).map(lambda v: v / 4)


@st.composite
def boxes(draw, max_size=12, min_size=0):
    rows = draw(st.lists(st.tuples(coordinate, coordinate, side, side), max_size=max_size, min_size=min_size))
    return np.array([[x, y, x + w, y + h] for x, y, w, h in rows], np.float64).reshape(-1, 4)
