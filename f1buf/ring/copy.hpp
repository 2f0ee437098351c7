// How records are copied between the slots and their callers' arrays.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "core/interpreter.hpp"

namespace f1buf {

// [bytes] The largest copy under a lock by a thread that keeps the GIL: giving it up costs more than copying less.
constexpr std::size_t ATTACHED_COPY = NO_GIL ? 4096 : 16384;

#if defined(__SSE2__)
// memcpy, but for one case. Where `to` lies 1 to 63 bytes behind `from` modulo 4,096, each load seems to wait for a store
// before it, since the processor compares the low 12 bits first. `rep movsb`, by which glibc copies 2 KB and more on
// processors that promise to do it fast, then moves 2 to 4 GB/s on AMD's Zen 3 and later where 50 are usual (glibc bug
// 30994; Debian 12's 2.36 has it). A ring of whole pages meets that by rule: the heap puts a caller's array just 16 bytes
// behind it. This loop moves 38 to 57 GB/s at those distances (AMD EPYC, 4 KB to 1 MB), and cannot be that slow anywhere.
inline void copy_in_steps(char *to, const char *from, std::size_t n) noexcept {
  constexpr std::size_t STEP = 64;
  std::size_t i = 0;
  for (; i + STEP <= n; i += STEP) {
    const auto *const source = reinterpret_cast<const __m128i *>(from + i);
    auto *const target = reinterpret_cast<__m128i *>(to + i);
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_storeu_si128(target, a);
    _mm_storeu_si128(target + 1, b);
    _mm_storeu_si128(target + 2, c);
    _mm_storeu_si128(target + 3, d);
  }
  std::memcpy(to + i, from + i, n - i);
}

inline bool is_slow_place(const char *to, const char *from) noexcept {
  const std::uintptr_t behind = (reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from)) % 4096;
  return behind - 1 < 63;  // 0 becomes the largest number
}
#endif

// Copies `n` bytes between places that do not overlap.
inline void copy_bytes(char *to, const char *from, std::size_t n) noexcept {
#if defined(__SSE2__)
  constexpr std::size_t SMALL = 2048;  // [bytes] glibc copies less than this by vectors anyway
  if (n >= SMALL && is_slow_place(to, from)) {
    copy_in_steps(to, from, n);
    return;
  }
#endif
  std::memcpy(to, from, n);
}

}  // namespace f1buf
