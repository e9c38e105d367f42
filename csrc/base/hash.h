/* The checksum of everything that lies on a disk or crosses a network: XXH3, 64 bits. It finds damage, not malice. */
#ifndef RAFT_BASE_HASH_H
#define RAFT_BASE_HASH_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

/* seed makes the same bytes in another place (another segment, another offset) hash differently. */
uint64_t hash64(const void *data, size_t size, uint64_t seed);

/* For hash.c, of processors that know AVX2. */
#ifdef __x86_64__
#define HASH_WIDE 1
uint64_t hash64_wide(const void *data, size_t size, uint64_t seed);
#else
#define HASH_WIDE 0
#endif

#pragma GCC visibility pop

#endif
