"""The formats of CAN logs, each read as columns of frames."""
