"""The plate recogniser that training-supervisor is shown on: HyperLPR's SegmenationFree-Inception, its data and its measures."""
