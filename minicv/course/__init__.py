"""What the lessons rest on: running them, the claims they measure, and the index of the papers."""
