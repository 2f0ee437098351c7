"""The F1 games: the layouts of their packets, the decoder that makes readings of them, and where packets come from."""
