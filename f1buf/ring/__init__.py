"""The room of the rings. Import them from `f1buf`: ``from f1buf import RingBuffer, Tee``.

`ring` has `RingBuffer`, of fixed-size records; `convert` is what a put converts; `tee` puts into several rings.
"""
