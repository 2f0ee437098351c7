# cython: language_level=3
"""A record of `f1buf.READING` as a C structure, for compiled passes over arrays of them."""

from libc.stdint cimport uint16_t, uint32_t


cdef packed struct Reading:  # packed: an array may begin anywhere
    double timestamp         # [s]
    uint32_t sensor_id
    uint16_t channel
    uint16_t flags
    double value             # in the channel's unit
