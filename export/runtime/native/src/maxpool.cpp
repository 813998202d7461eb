// Max-pooling on bits: the largest code of a window is the OR of its bits.
#include <algorithm>
#include <string>

#include "failure.h"
#include "geometry.h"
#include "parallel.h"

namespace bnn {

namespace {

Window window_of(const bnn_pool_shape& s) {
  require(s.channels > 0, [&] { return "channels is " + std::to_string(s.channels) + ", not positive"; });
  return checked_window(s.rank, s.kernel, s.stride, s.dilation, s.pad_begin, s.pad_end);
}

// Which taps of an output coordinate lie inside: first <= tap < last.
struct Taps {
  int64_t first, last;
};

Taps inside(const Window& w, int d, int64_t output, int64_t size) {
  const int64_t start = output * w.stride[d] - w.pad_begin[d], dilation = w.dilation[d];
  const int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  const int64_t last = start >= size ? 0 : (size - 1 - start) / dilation + 1;
  return {first, std::min(last, w.kernel[d])};
}

void pool_lines(const Window& w, int64_t words, const uint32_t* bits, const Sizes& size, const Sizes& output,
                uint32_t* y, int64_t begin, int64_t end) {
  auto position = [&w](int d, int64_t out, int64_t tap) {
    return out * w.stride[d] - w.pad_begin[d] + tap * w.dilation[d];
  };
  for (int64_t line = begin; line < end; ++line) {
    const int64_t b = line % output[1], a = line / output[1] % output[0], n = line / output[1] / output[0];
    const Taps rows = inside(w, 0, a, size[0]), columns = inside(w, 1, b, size[1]);
    for (int64_t c = 0; c < output[2]; ++c) {
      uint32_t* to = y + (line * output[2] + c) * words;
      std::fill_n(to, words, 0u);
      const Taps taps = inside(w, 2, c, size[2]);
      for (int64_t r = rows.first; r < rows.last; ++r) {
        for (int64_t s = columns.first; s < columns.last; ++s) {
          const int64_t at = ((n * size[0] + position(0, a, r)) * size[1] + position(1, b, s)) * size[2];
          for (int64_t t = taps.first; t < taps.last; ++t) {
            const uint32_t* from = bits + (at + position(2, c, t)) * words;
            for (int64_t word = 0; word < words; ++word) to[word] |= from[word];
          }
        }
      }
    }
  }
}

}  // namespace

}  // namespace bnn

extern "C" {

bnn_status bnn_maxpool_output_size(const bnn_pool_shape* shape, const int64_t* size, int64_t* output) {
  return bnn::guarded("bnn_maxpool_output_size", [&] {
    bnn::require(shape != nullptr && output != nullptr, [] { return std::string("shape or output is null"); });
    const bnn::Window window = bnn::window_of(*shape);
    bnn::give_size(window, bnn::conv_output(window, bnn::checked_size(window.rank, size)), output);
  });
}

bnn_status bnn_maxpool(const bnn_pool_shape* shape, const uint32_t* bits, int64_t batch, const int64_t* size,
                       uint32_t* y, const bnn_pool* pool) {
  return bnn::guarded("bnn_maxpool", [&] {
    bnn::require(shape != nullptr, [] { return std::string("shape is null"); });
    bnn::require(bits != nullptr && y != nullptr, [] { return std::string("bits or y is null"); });
    bnn::require(batch >= 0, [&] { return "batch is " + std::to_string(batch) + ", negative"; });
    const bnn::Window window = bnn::window_of(*shape);
    const bnn::Sizes in = bnn::checked_size(window.rank, size), out = bnn::conv_output(window, in);
    const int64_t words = static_cast<int64_t>(bnn_words(static_cast<size_t>(shape->channels)));
    bnn::times(bnn::times(batch, bnn::volume(in)), bnn::times(words, sizeof(uint32_t)));
    bnn::times(bnn::times(batch, bnn::volume(out)), bnn::times(words, sizeof(uint32_t)));
    bnn::parallel_ranges(pool, batch * out[0] * out[1], 1, [&](int64_t begin, int64_t end) {
      bnn::pool_lines(window, words, bits, in, out, y, begin, end);
    });
  });
}
}
