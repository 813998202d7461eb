// What an instruction set provides. The rest of the library is written on these functions and knows no other difference.
#ifndef BNN_KERNELS_H
#define BNN_KERNELS_H

#include <cstddef>
#include <cstdint>

#include "bnn.h"

namespace bnn {

// Output positions that one call of a strip kernel takes at most, and outputs (lanes) of one block at most.
constexpr int64_t strip_positions = 64;
constexpr int64_t most_lanes = 64;

// One output position: where its input window starts, where its results belong, and which taps fall outside.
struct Position {
  int32_t x;       // words behind Strip::x
  int32_t y;       // output positions behind Strip::origin; the kernels do not look at it
  int32_t border;  // where the entries of its border class begin, in Strip::start and Strip::odd
};

// A strip: some output positions times one block of outputs.
//
//   sum[i][lane] = start[border + lane] - sum over runs r and words k of popcount(x[i][r + k] ^ panel[r][k][lane])
//
//   BNN_BITS       bit = sum >= 0: the threshold is part of `start`
//   otherwise      z = (sum << shift) + odd[border + lane], followed by the epilogue of bnn.h
//
// Where `odd` is null z is even, if it is shifted at all, and `scale` contains the factor 1 << shift. The vectors have
// one entry per lane of the block, those of lanes that do not exist included: for BNN_BITS their `start` is -1, and
// their `next` is NaN, so that their bits are 0. The results of position i lie i strides behind y and bits.
struct Strip {
  const Position* positions;
  int64_t count;
  const uint32_t* x;          // the first word of the image, for this group
  int64_t origin;
  const int64_t* runs;        // offsets, in words, of the runs of a window
  int64_t run_count, run_words;
  int64_t run_step;           // words between the k-words of a run (lane-wise strips only)
  const void* panel;
  int64_t lanes;              // of the panel: 32 or 64
  int64_t valid;              // of them, how many outputs exist

  const int32_t *start, *odd;
  int shift;

  bnn_output output;
  void* y;                    // null: only `bits` are wanted
  int64_t y_stride;           // elements per output position
  const float *scale, *bias, *before, *slope, *after, *next;
  const float* residual;
  int64_t residual_stride;
  uint32_t* bits;
  int64_t bits_stride;        // words per output position
};

struct Kernels {
  const char* name;

  // Lanes of a block for that many outputs.
  int64_t (*lanes)(int64_t outputs);
  // Words that a panel of `words` k-words takes, and how to make it from the plain form [words][lanes]. Null: plain.
  int64_t (*panel_words)(int64_t words, int64_t lanes);
  void (*make_panel)(const uint32_t* plain, int64_t words, int64_t lanes, uint32_t* panel);

  // The activation word is the same for all lanes of the block.
  void (*strip)(const Strip& strip);
  // Every lane has an activation word of its own, at x + run + k * run_step + lane; the panel is plain.
  void (*lane_strip)(const Strip& strip);

  // x[rows][channels] -> bits[rows][words]; threshold[channels].
  void (*pack_rows)(const float* x, int64_t rows, int64_t channels, const float* threshold, uint32_t* bits);
  // x[channels][inner], of which positions begin <= i < end -> bits[inner][words].
  void (*pack_columns)(const float* x, int64_t channels, int64_t inner, int64_t begin, int64_t end,
                       const float* threshold, uint32_t* bits);

  // to[c * to_stride + r] = from[r * from_stride + c] for r < rows, c < columns; bit patterns are kept.
  void (*transpose)(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to,
                    int64_t to_stride);
};

// The kernels that objects created now will use.
const Kernels& current_kernels();

}  // namespace bnn

#endif
