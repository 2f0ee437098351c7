// A record of `f1buf.READING` as a structure, for compiled passes over arrays of them.

#pragma once

#include <cstdint>

namespace f1buf {

struct __attribute__((packed)) Reading {  // packed: an array may begin anywhere
  double timestamp;                       // [s]
  std::uint32_t sensor_id;
  std::uint16_t channel;
  std::uint16_t flags;
  double value;                           // in the channel's unit
};
static_assert(sizeof(Reading) == 24, "READING.itemsize");

}  // namespace f1buf
