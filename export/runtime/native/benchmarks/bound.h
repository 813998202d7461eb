// How many binary multiply-adds per second the instructions of the kernels reach when nothing else happens.
#ifndef BNN_BOUND_H
#define BNN_BOUND_H

#include <cstdint>

// Runs `rounds` rounds on registers only and returns how many multiply-adds that were.
int64_t bound_avx512(int64_t rounds);  // xor, popcount, add
int64_t bound_avx2(int64_t rounds);    // table look-up of a nibble's product, add

#endif
