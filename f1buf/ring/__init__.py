"""`RingBuffer` of fixed-size records (`ring`), what a put converts (`convert`), and `Tee`: it puts into several."""
