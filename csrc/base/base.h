/* What every file of the C core starts with: fixed-width types, assertions, units.
 *
 * Each header hides the symbols it declares (the visibility pragma after its includes), because LuaRocks' builtin
 * build cannot pass -fvisibility: a libraft with names of its own exists in distributions, and in a process that
 * holds both neither may capture the other's calls. */
#ifndef RAFT_BASE_BASE_H
#define RAFT_BASE_BASE_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma GCC visibility push(hidden)

/* Ends the process with the broken claim. Kept on in release builds: a consensus core that goes on after a broken
 * invariant loses data. Never used on bytes from a disk or a peer: those are checked and answered with an error. */
_Noreturn void base_assert_failed(const char *claim, const char *file, int line);

#define ASSERT(claim) ((claim) ? (void)0 : base_assert_failed(#claim, __FILE__, __LINE__))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* The struct of the given type whose member stands at pointer. */
#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define PRINTF_LIKE(at, first) __attribute__((format(printf, at, first)))

#define US_PER_MS UINT64_C(1000)
#define US_PER_S UINT64_C(1000000)
#define NEVER_US UINT64_MAX /* a deadline that does not come */

#pragma GCC visibility pop

#endif
