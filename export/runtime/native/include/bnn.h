/* The plain C API of the bnnapps kernels: bit-packed 1-bit convolution, dense layer, matrix product, pooling and packing.
 *
 * Codes and bits. A bit is 1 where a code is high (+1) and 0 where it is low: -1 for BNN_SIGNED codes, 0 for
 * BNN_UNSIGNED ones. sign(0) = +1: packing compares x >= threshold.
 *
 * Packed activations. Channels (or the terms of a dense layer) lie last: shape [batch, size..., words], where
 * words = bnn_words(channels) = ceil(channels / 32). Channel c is bit c % 32 of word c / 32 (as bytes: little endian,
 * least significant bit first). Bits beyond the last channel are 0.
 *
 * Packed weights, as they are stored. One row per output channel of ceil(K / 8) bytes, K = channels per group times the
 * taps of the kernel. Bit number (c * taps + tap), least significant bit of the first byte first, is the weight of
 * channel c at that tap (row-major over the kernel): the order of a PyTorch weight [O, C/g, kernel...]. Bits beyond K
 * are 0. bnn_conv_create and bnn_dense_create turn them into the layout that the kernel of this CPU wants.
 *
 * Sums. z = sum of code * weight over the K terms, exactly; a padded position counts as pad_value (-1, 0 or +1; for
 * BNN_UNSIGNED codes 0 or +1).
 *
 * Every function returns a bnn_status and leaves a message for bnn_last_error() (per thread) if it is not BNN_OK.
 * Objects are immutable after creation: any number of threads may run the same one at the same time.
 */
#ifndef BNN_H
#define BNN_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define BNN_API __declspec(dllexport)
#else
#define BNN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define BNN_VERSION 1

typedef enum { BNN_OK = 0, BNN_INVALID_ARGUMENT = 1, BNN_OUT_OF_MEMORY = 2, BNN_UNSUPPORTED = 3 } bnn_status;
typedef enum { BNN_SIGNED = 0, BNN_UNSIGNED = 1 } bnn_codes;
typedef enum { BNN_CHANNELS_FIRST = 0, BNN_CHANNELS_LAST = 1 } bnn_layout;
typedef enum { BNN_INT32 = 0, BNN_FLOAT32 = 1, BNN_BITS = 2 } bnn_output;

/* How work is spread over threads: `run` calls task(context, i) for every i < count and returns when all are done.
 * A null pool (or a null `run`) runs everything in the calling thread. */
typedef struct {
  void (*run)(void* pool, size_t count, void (*task)(void* context, size_t i), void* context);
  void* pool;
  int32_t threads; /* how many threads there are: a hint for how finely to cut */
} bnn_pool;

/* A pool for callers that have no threads of their own to lend, or have an OpenMP runtime. `team` calls `member` with
 * the context in that many threads at once and returns when all are done: GOMP_parallel of the runtime that the process
 * has already, whose threads would else wait in a loop for work beside ours. Null: threads are started. */
typedef void (*bnn_team)(void (*member)(void* context), void* context, unsigned threads, unsigned flags);
BNN_API bnn_status bnn_pool_create(int32_t threads, bnn_team team, bnn_pool** pool);
/* No call that uses the pool may be running. */
BNN_API void bnn_pool_destroy(bnn_pool* pool);

BNN_API int32_t bnn_version(void);
BNN_API const char* bnn_last_error(void);

/* The instruction sets that were compiled in and that this CPU has, best first, such as "avx512 avx2 portable". */
BNN_API const char* bnn_available(void);
/* The one in use, and a way to choose another (for tests and measurements; "auto" for the best). Affects objects that
 * are created afterwards. */
BNN_API const char* bnn_isa(void);
BNN_API bnn_status bnn_set_isa(const char* name);
/* Measures, for about a millisecond, how many multiply-adds of codes per second one thread reaches with the instructions
 * of the kernels in use when nothing else happens: the bound for the speed of a layer. BNN_UNSUPPORTED where the
 * instruction set has no such loop. */
BNN_API bnn_status bnn_bound(double* macs_per_second);

/* 32-bit words per position for that many channels. */
BNN_API size_t bnn_words(size_t channels);

/* x[outer][channels][inner] -> bits[outer][inner][words]: bit = x >= threshold[c]. `thresholds` is 1 or `channels`. */
BNN_API bnn_status bnn_pack(const float* x, size_t outer, size_t channels, size_t inner, const float* threshold,
                            size_t thresholds, uint32_t* bits, const bnn_pool* pool);
/* The inverse: high codes become 1.0f, low ones `low`. */
BNN_API bnn_status bnn_unpack(const uint32_t* bits, size_t outer, size_t channels, size_t inner, float low, float* x,
                              const bnn_pool* pool);

/* ---- layers with constant weights ------------------------------------------------------------------------------ */

typedef struct {
  int32_t rank; /* how many spatial dimensions: 1, 2 or 3 */
  int64_t channels, outputs, groups;
  int64_t kernel[3], stride[3], dilation[3], pad_begin[3], pad_end[3];
  int32_t pad_value; /* -1, 0 or +1 */
  bnn_codes codes;   /* of the input */
} bnn_conv_shape;

/* What becomes of the sums z, in this order.
 *   BNN_INT32    y = z
 *   BNN_BITS     y = z >= threshold[o], as packed bits of the outputs (always channels last)
 *   BNN_FLOAT32  v = (float)z * scale[o]; v += bias[o]; v += residual; v += before[o]; if (v < 0) v *= slope[o];
 *                v += after[o]; y = v; and, if bits is not null, bits = v >= next[o], as packed bits of the outputs.
 * Every step is rounded to float32 by itself (no fused multiply-add), so that any runtime gets the same numbers. Null
 * pointers leave a step out. The counts are 1 or `outputs`. `residual` has the shape and layout of y. */
typedef struct {
  bnn_output output;
  bnn_layout layout; /* of y and residual for BNN_INT32 and BNN_FLOAT32 */
  void* y;
  const int32_t* threshold; /* [outputs] */
  const float *scale, *bias, *before, *slope, *after, *next;
  size_t scales, biases, befores, slopes, afters, nexts;
  const float* residual;
  uint32_t* bits;
} bnn_epilogue;

typedef struct bnn_conv bnn_conv;

BNN_API bnn_status bnn_conv_create(const bnn_conv_shape* shape, const uint8_t* weight, size_t weight_bytes,
                                   bnn_conv** conv);
BNN_API void bnn_conv_destroy(bnn_conv* conv);
/* The spatial size of the output for an input of `size`; an error if it would be empty or would overflow. */
BNN_API bnn_status bnn_conv_output_size(const bnn_conv* conv, const int64_t* size, int64_t* output);
/* bits: [batch, size..., words(channels)]. */
BNN_API bnn_status bnn_conv_run(const bnn_conv* conv, const uint32_t* bits, int64_t batch, const int64_t* size,
                                const bnn_epilogue* epilogue, const bnn_pool* pool);

typedef struct bnn_dense bnn_dense;

BNN_API bnn_status bnn_dense_create(int64_t terms, int64_t outputs, bnn_codes codes, const uint8_t* weight,
                                    size_t weight_bytes, bnn_dense** dense);
BNN_API void bnn_dense_destroy(bnn_dense* dense);
/* bits: [rows, words(terms)]; y: [rows, outputs]. */
BNN_API bnn_status bnn_dense_run(const bnn_dense* dense, const uint32_t* bits, int64_t rows,
                                 const bnn_epilogue* epilogue, const bnn_pool* pool);

/* One call for a 2-dimensional convolution or a dense layer whose weights change: creates, runs and destroys. */
BNN_API bnn_status bnn_conv2d(const bnn_conv_shape* shape, const uint8_t* weight, size_t weight_bytes,
                              const uint32_t* bits, int64_t batch, const int64_t* size, const bnn_epilogue* epilogue,
                              const bnn_pool* pool);
BNN_API bnn_status bnn_dense_once(int64_t terms, int64_t outputs, bnn_codes codes, const uint8_t* weight,
                                  size_t weight_bytes, const uint32_t* bits, int64_t rows,
                                  const bnn_epilogue* epilogue, const bnn_pool* pool);

/* Transposed convolution, as the gradient of bnn_conv with respect to its input; weight in the order of PyTorch's
 * [C, O/g, kernel...] with one row per input channel. `output_pad` lengthens the end of each spatial dimension. Padding
 * only crops the output, so there is no pad_value. */
typedef struct {
  int32_t rank;
  int64_t channels, outputs, groups;
  int64_t kernel[3], stride[3], dilation[3], pad_begin[3], pad_end[3], output_pad[3];
  bnn_codes codes;
} bnn_transposed_shape;

typedef struct bnn_transposed bnn_transposed;

BNN_API bnn_status bnn_transposed_create(const bnn_transposed_shape* shape, const uint8_t* weight, size_t weight_bytes,
                                         bnn_transposed** conv);
BNN_API void bnn_transposed_destroy(bnn_transposed* conv);
BNN_API bnn_status bnn_transposed_output_size(const bnn_transposed* conv, const int64_t* size, int64_t* output);
BNN_API bnn_status bnn_transposed_run(const bnn_transposed* conv, const uint32_t* bits, int64_t batch,
                                      const int64_t* size, const bnn_epilogue* epilogue, const bnn_pool* pool);

/* ---- products of two activations ------------------------------------------------------------------------------- */

/* z[b][m][n] = sum over `terms` of a[b][m] * w[b][n]; a: [batch, rows, words(terms)] with `codes`, w: [batch, columns,
 * words(terms)] with codes -1 and +1.
 *   BNN_INT32    y = z
 *   BNN_FLOAT32  v = (float)z * scale; v += addend[b, m, n] (strides 0 broadcast it); y = v
 *   BNN_BITS     y = v >= threshold, packed along n: [batch, rows, words(columns)]
 */
typedef struct {
  int64_t batch, rows, columns, terms;
  bnn_codes codes;
  bnn_output output;
  float scale, threshold;
  const float* addend; /* or null */
  /* by batch entry: the offset of its addend, in floats; null for all 0. Then the strides of rows and columns. */
  const int64_t* addend_offsets;
  int64_t addend_row, addend_column;
} bnn_matmul_shape;

BNN_API bnn_status bnn_matmul(const bnn_matmul_shape* shape, const uint32_t* a, const uint32_t* w, void* y,
                              const bnn_pool* pool);

/* ---- pooling on bits ------------------------------------------------------------------------------------------- */

/* The largest code of each window: the OR of its bits; positions outside count as low. */
typedef struct {
  int32_t rank;
  int64_t channels;
  int64_t kernel[3], stride[3], dilation[3], pad_begin[3], pad_end[3];
} bnn_pool_shape;

BNN_API bnn_status bnn_maxpool_output_size(const bnn_pool_shape* shape, const int64_t* size, int64_t* output);
BNN_API bnn_status bnn_maxpool(const bnn_pool_shape* shape, const uint32_t* bits, int64_t batch, const int64_t* size,
                               uint32_t* y, const bnn_pool* pool);

#ifdef __cplusplus
}
#endif

#endif
