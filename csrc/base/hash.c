#include "base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define WIDE_BYTES 4096u /* with fewer it makes no difference */

uint64_t hash64(const void *data, size_t size, uint64_t seed)
{
#if HASH_WIDE
    if (size >= WIDE_BYTES && __builtin_cpu_supports("avx2")) return hash64_wide(data, size, seed);
#endif
    return XXH3_64bits_withSeed(data, size, seed);
}
