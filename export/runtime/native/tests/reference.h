// The layers by their definition: one code, one weight, one product at a time.
#ifndef BNN_REFERENCE_H
#define BNN_REFERENCE_H

#include <array>
#include <cstdint>
#include <vector>

#include "bnn.h"

namespace reference {

using Sizes = std::array<int64_t, 3>;

struct Layer {
  bool transposed;
  int rank;
  int64_t channels, outputs, groups;
  Sizes kernel, stride, dilation, pad_begin, pad_end, output_pad;
  int pad_value;
  bnn_codes codes;
  std::vector<int8_t> weight;  // +1 and -1 in the order of storage, see bnn.h

  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  int64_t group_channels() const { return channels / groups; }
  int64_t group_outputs() const { return outputs / groups; }

  // The weight between output `o` and channel `c` of its group.
  int64_t at(int64_t o, int64_t c, int64_t tap) const {
    if (!transposed) return weight[static_cast<size_t>((o * group_channels() + c) * taps() + tap)];
    const int64_t row = o / group_outputs() * group_channels() + c;
    return weight[static_cast<size_t>((row * group_outputs() + o % group_outputs()) * taps() + tap)];
  }
};

// codes[batch][positions][channels] -> z[batch][positions][outputs]
inline std::vector<int32_t> sums(const Layer& l, const std::vector<int8_t>& codes, int64_t batch, const Sizes& size,
                                 const Sizes& output) {
  // The input position that a tap of an output reads; false where the tap reads nothing at all.
  auto source = [&l](int d, int64_t out, int64_t tap, int64_t& position) {
    if (!l.transposed) {
      position = out * l.stride[d] - l.pad_begin[d] + tap * l.dilation[d];
      return true;
    }
    const int64_t scaled = out + l.pad_begin[d] - tap * l.dilation[d];
    position = scaled / l.stride[d];
    return scaled >= 0 && scaled % l.stride[d] == 0;
  };
  std::vector<int32_t> z;
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t a = 0; a < output[0]; ++a)
      for (int64_t b = 0; b < output[1]; ++b)
        for (int64_t c = 0; c < output[2]; ++c)
          for (int64_t o = 0; o < l.outputs; ++o) {
            int64_t sum = 0;
            for (int64_t tap = 0; tap < l.taps(); ++tap) {
              const int64_t t[3] = {tap / l.kernel[2] / l.kernel[1], tap / l.kernel[2] % l.kernel[1],
                                    tap % l.kernel[2]};
              const int64_t out[3] = {a, b, c};
              int64_t at[3];
              bool read = true, inside = true;
              for (int d = 0; d < 3; ++d) {
                read = source(d, out[d], t[d], at[d]) && read;
                inside = inside && at[d] >= 0 && at[d] < size[d];
              }
              if (!read || (l.transposed && !inside)) continue;
              for (int64_t channel = 0; channel < l.group_channels(); ++channel) {
                int64_t code = l.pad_value;
                if (inside) {
                  const int64_t position = ((n * size[0] + at[0]) * size[1] + at[1]) * size[2] + at[2];
                  code = codes[static_cast<size_t>(position * l.channels + o / l.group_outputs() * l.group_channels() +
                                                   channel)];
                }
                sum += code * l.at(o, channel, tap);
              }
            }
            z.push_back(static_cast<int32_t>(sum));
          }
  return z;
}

}  // namespace reference

#endif
