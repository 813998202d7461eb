// Where the windows of output positions lie in the input, and which taps of theirs fall outside.
#ifndef BNN_GEOMETRY_H
#define BNN_GEOMETRY_H

#include <array>
#include <cstdint>
#include <vector>

#include "bnn.h"

namespace bnn {

constexpr int most_dimensions = 3;
// Numbers of a window beyond 31 bits make no sense, and their sums and products would soon overflow.
constexpr int64_t most_window = (int64_t{1} << 31) - 1;
using Sizes = std::array<int64_t, most_dimensions>;

// What every layer with windows has in common. The spatial dimensions lie last, where positions are contiguous; those
// before them have size 1.
struct Window {
  int rank;
  int first() const { return most_dimensions - rank; }  // the index of the first spatial dimension
  Sizes kernel, stride, dilation, pad_begin, pad_end;
};

// Checks the numbers of a public shape and copies them.
Window checked_window(int32_t rank, const int64_t* kernel, const int64_t* stride, const int64_t* dilation,
                      const int64_t* pad_begin, const int64_t* pad_end);

// Copies a size of that rank; every entry must be positive.
Sizes checked_size(int rank, const int64_t* size);

// Output sizes of a convolution or pooling and of a transposed convolution; they throw where one would be empty.
Sizes conv_output(const Window& window, const Sizes& size);
Sizes transposed_output(const Window& window, const Sizes& output_pad, const Sizes& size);

// Copies the spatial dimensions of a result to where the caller wants them.
void give_size(const Window& window, const Sizes& size, int64_t* output);

int64_t volume(const Sizes& size);

// One spatial dimension of some outputs that share their taps. Tap t of output j reads input position
// start[j] + offset[t], which may lie outside; output j is output coordinate place[j].
struct Axis {
  std::vector<int64_t> start, place, offset;
  std::vector<int64_t> tap;                    // the kernel coordinate of every offset
  std::vector<int64_t> border;                 // by output: its class, or where the entries of that begin
  std::vector<std::vector<uint8_t>> outside;   // by class and tap

  int64_t count() const { return static_cast<int64_t>(start.size()); }
  // How far the windows reach before the first and beyond the last input position.
  int64_t reach_before() const;
  int64_t reach_behind(int64_t size) const;
};

Axis conv_axis(const Window& window, int dimension, int64_t size, int64_t output);

// The outputs of a transposed convolution along a dimension fall into phases by their remainder modulo the stride;
// those of a phase share their taps. Outputs that no tap reaches form a phase without taps.
std::vector<Axis> transposed_axes(const Window& window, int dimension, int64_t size, int64_t output);

// The taps of each phase as kernel coordinates, in the order of transposed_axes for any size that has all phases.
std::vector<std::vector<int64_t>> transposed_taps(const Window& window, int dimension);

}  // namespace bnn

#endif
