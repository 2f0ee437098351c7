// A record of `f1buf.READING` as a structure, for compiled passes over arrays of them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace f1buf {

struct __attribute__((packed)) Reading {  // packed: an array may begin anywhere
  double timestamp;                       // [s]
  std::uint32_t sensor_id;
  std::uint16_t channel;
  std::uint16_t flags;
  double value;                           // in the channel's unit
};
static_assert(sizeof(Reading) == 24, "READING.itemsize");

// Sensor, channel and flags, which lie together, in one load: so a pass compares them at half the cost.
inline std::uint64_t labels(const Reading &reading) noexcept {
  std::uint64_t all;
  std::memcpy(&all, &reading.sensor_id, sizeof all);
  return all;
}

// In which labels any of n readings differs from the first one: 0 in the bits that are the same in all.
inline Reading differences(const Reading *readings, std::ptrdiff_t n) noexcept {
  const std::uint64_t first = labels(readings[0]);
  std::uint64_t bits = 0;
  for (std::ptrdiff_t i = 1; i < n; ++i) bits |= labels(readings[i]) ^ first;
  Reading found{};
  std::memcpy(&found.sensor_id, &bits, sizeof bits);
  return found;
}

}  // namespace f1buf
