"""CAN: frames of a log or a bus, and the decoder that makes readings of them, by CAN databases."""
