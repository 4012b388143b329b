"""Public training scripts, run unchanged: their table, the data that stands in for downloads, and an independent witness."""
