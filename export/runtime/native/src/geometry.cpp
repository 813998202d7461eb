#include "geometry.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "failure.h"

namespace bnn {

namespace {

std::string numbered(const char* name, int dimension, int64_t value) {
  return std::string(name) + "[" + std::to_string(dimension) + "] is " + std::to_string(value);
}

// How far apart the first and the last tap lie.
int64_t extent(const Window& window, int dimension) {
  return times(window.kernel[dimension] - 1, window.dilation[dimension]);
}

// Classes of outputs by the set of their taps that fall outside 0 <= position < size. The offsets are monotone.
void classify(Axis& axis, int64_t size) {
  std::map<std::vector<uint8_t>, int64_t> known;
  axis.border.resize(axis.start.size());
  std::vector<uint8_t> outside(axis.offset.size());
  const int64_t low = axis.offset.empty() ? 0 : std::min(axis.offset.front(), axis.offset.back());
  const int64_t high = axis.offset.empty() ? 0 : std::max(axis.offset.front(), axis.offset.back());
  int64_t whole = -1;  // the class of outputs with all taps inside, which are nearly all of them
  for (size_t j = 0; j < axis.start.size(); ++j) {
    const bool within = axis.start[j] + low >= 0 && axis.start[j] + high < size;
    if (within && whole >= 0) {
      axis.border[j] = whole;
      continue;
    }
    for (size_t t = 0; t < axis.offset.size(); ++t) {
      const int64_t position = axis.start[j] + axis.offset[t];
      outside[t] = position < 0 || position >= size;
    }
    const auto [entry, added] = known.emplace(outside, static_cast<int64_t>(known.size()));
    if (added) axis.outside.push_back(outside);
    axis.border[j] = entry->second;
    if (within) whole = entry->second;
  }
}

}  // namespace

Window checked_window(int32_t rank, const int64_t* kernel, const int64_t* stride, const int64_t* dilation,
                      const int64_t* pad_begin, const int64_t* pad_end) {
  require(rank >= 1 && rank <= most_dimensions, [&] { return "rank is " + std::to_string(rank) + ", not 1, 2 or 3"; });
  Window window{rank, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}};
  for (int d = 0; d < rank; ++d) {
    const std::pair<const char*, int64_t> values[] = {{"kernel", kernel[d]},
                                                      {"stride", stride[d]},
                                                      {"dilation", dilation[d]},
                                                      {"pad_begin", pad_begin[d]},
                                                      {"pad_end", pad_end[d]}};
    for (const auto& [name, value] : values) {
      require(value <= most_window,
              [&, n = name, v = value] { return numbered(n, d, v) + ", more than " + std::to_string(most_window); });
    }
    require(kernel[d] > 0, [&] { return numbered("kernel", d, kernel[d]) + ", not positive"; });
    require(stride[d] > 0, [&] { return numbered("stride", d, stride[d]) + ", not positive"; });
    require(dilation[d] > 0, [&] { return numbered("dilation", d, dilation[d]) + ", not positive"; });
    require(pad_begin[d] >= 0, [&] { return numbered("pad_begin", d, pad_begin[d]) + ", negative"; });
    require(pad_end[d] >= 0, [&] { return numbered("pad_end", d, pad_end[d]) + ", negative"; });
    const int at = window.first() + d;
    window.kernel[at] = kernel[d];
    window.stride[at] = stride[d];
    window.dilation[at] = dilation[d];
    window.pad_begin[at] = pad_begin[d];
    window.pad_end[at] = pad_end[d];
  }
  return window;
}

Sizes checked_size(int rank, const int64_t* size) {
  require(size != nullptr, [] { return std::string("size is null"); });
  Sizes result{1, 1, 1};
  for (int d = 0; d < rank; ++d) {
    require(size[d] > 0, [&] { return numbered("size", d, size[d]) + ", not positive"; });
    result[most_dimensions - rank + d] = size[d];
  }
  return result;
}

Sizes conv_output(const Window& window, const Sizes& size) {
  Sizes output{1, 1, 1};
  for (int d = window.first(); d < most_dimensions; ++d) {
    const int64_t padded = plus(plus(size[d], window.pad_begin[d]), window.pad_end[d]);
    const int64_t room = plus(padded, -plus(extent(window, d), 1));
    require(room >= 0, [&] {
      return "the output would be empty: the kernel reaches over " + std::to_string(extent(window, d) + 1) +
             " positions of dimension " + std::to_string(d - window.first()) + ", which has " + std::to_string(padded) + " with its padding";
    });
    output[d] = room / window.stride[d] + 1;
  }
  return output;
}

Sizes transposed_output(const Window& window, const Sizes& output_pad, const Sizes& size) {
  Sizes output{1, 1, 1};
  for (int d = window.first(); d < most_dimensions; ++d) {
    int64_t length = plus(times(size[d] - 1, window.stride[d]), plus(extent(window, d), 1));
    length = plus(plus(plus(length, output_pad[d]), -window.pad_begin[d]), -window.pad_end[d]);
    require(length > 0, [&] { return "the output would be empty in dimension " + std::to_string(d - window.first()); });
    output[d] = length;
  }
  return output;
}

void give_size(const Window& window, const Sizes& size, int64_t* output) {
  for (int d = window.first(); d < most_dimensions; ++d) *output++ = size[d];
}

int64_t volume(const Sizes& size) { return times(times(size[0], size[1]), size[2]); }

int64_t Axis::reach_before() const {
  if (start.empty() || offset.empty()) return 0;
  return std::max<int64_t>(0, -(start.front() + *std::min_element(offset.begin(), offset.end())));
}

int64_t Axis::reach_behind(int64_t size) const {
  if (start.empty() || offset.empty()) return 0;
  return std::max<int64_t>(0, start.back() + *std::max_element(offset.begin(), offset.end()) - (size - 1));
}

Axis conv_axis(const Window& window, int dimension, int64_t size, int64_t output) {
  Axis axis;
  for (int64_t t = 0; t < window.kernel[dimension]; ++t) {
    axis.tap.push_back(t);
    axis.offset.push_back(t * window.dilation[dimension] - window.pad_begin[dimension]);
  }
  axis.start.resize(static_cast<size_t>(output));
  axis.place.resize(static_cast<size_t>(output));
  for (int64_t j = 0; j < output; ++j) {
    axis.start[static_cast<size_t>(j)] = j * window.stride[dimension];
    axis.place[static_cast<size_t>(j)] = j;
  }
  classify(axis, size);
  return axis;
}

namespace {

// Remainders that some tap has, ascending, each with its taps.
std::map<int64_t, std::vector<int64_t>> taps_by_remainder(const Window& window, int dimension) {
  std::map<int64_t, std::vector<int64_t>> taps;
  for (int64_t t = 0; t < window.kernel[dimension]; ++t) {
    taps[times(t, window.dilation[dimension]) % window.stride[dimension]].push_back(t);
  }
  return taps;
}

}  // namespace

std::vector<std::vector<int64_t>> transposed_taps(const Window& window, int dimension) {
  std::vector<std::vector<int64_t>> result;
  for (const auto& [remainder, taps] : taps_by_remainder(window, dimension)) result.push_back(taps);
  result.emplace_back();
  return result;
}

// Output q receives x[p] through tap t where q + pad = p * stride + t * dilation. With q + pad = j * stride + r that
// asks for t * dilation = u * stride + r, and then p = j - u.
std::vector<Axis> transposed_axes(const Window& window, int dimension, int64_t size, int64_t output) {
  const int64_t stride = window.stride[dimension], pad = window.pad_begin[dimension];
  const auto phases = taps_by_remainder(window, dimension);
  std::map<int64_t, size_t> index;
  std::vector<Axis> axes(phases.size() + 1);
  for (const auto& [remainder, taps] : phases) {
    const size_t at = index.size();
    index[remainder] = at;
    for (int64_t t : taps) {
      axes[at].tap.push_back(t);
      axes[at].offset.push_back(-((t * window.dilation[dimension] - remainder) / stride));
    }
  }
  for (int64_t q = 0; q < output; ++q) {
    const auto entry = index.find((q + pad) % stride);
    Axis& axis = entry == index.end() ? axes.back() : axes[entry->second];
    axis.place.push_back(q);
    axis.start.push_back(entry == index.end() ? 0 : (q + pad) / stride);
  }
  for (Axis& axis : axes) classify(axis, size);
  return axes;
}

}  // namespace bnn
