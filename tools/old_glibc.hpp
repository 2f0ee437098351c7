// Included before all else where tools/wheels.py compiles: so that a newer Debian's g++ makes modules for glibc 2.28.
//
// A linker takes the newest version of a symbol that its own C library has. Of glibc, f1buf needs one that has got a newer
// version since 2.28: it says here which it means, for the function has stayed the same (2.34 moved it from libpthread.so to
// libc.so). Where a module does not use the function, this leaves no trace in it. What else a newer compiler might bring in
// auditwheel finds, and then there is no wheel.

#pragma once

#if defined(__x86_64__)
__asm__(".symver pthread_mutex_trylock, pthread_mutex_trylock@GLIBC_2.2.5");
#elif defined(__aarch64__)
__asm__(".symver pthread_mutex_trylock, pthread_mutex_trylock@GLIBC_2.17");
#endif

// libstdc++ has had this one since gcc 11. What the manylinux images' compilers do with such functions is done here:
// the module has its own.
#if defined(__cplusplus) && defined(__GNUC__) && __GNUC__ >= 11
#include <new>
namespace std {
[[noreturn]] __attribute__((visibility("hidden"))) inline void __throw_bad_array_new_length() {
  throw bad_array_new_length();
}
}  // namespace std
#endif
