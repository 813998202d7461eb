// A binary 3x3 convolution through the plain C interface: pack floats into bits, run the layer twice (bits that a next
// layer could take, and floats), print a little of both.
//
//   c++ -std=c++17 -Iinclude examples/convolution.cpp -L. -lbnnapps
#include <cstdio>
#include <vector>

#include "bnn.h"

namespace {

bool failed(bnn_status status) {
  if (status == BNN_OK) return false;
  std::fprintf(stderr, "%s\n", bnn_last_error());
  return true;
}

}  // namespace

int main() {
  constexpr int64_t channels = 64, outputs = 32, height = 8, width = 8, taps = 9;
  std::printf("version %d, kernels: %s (there are: %s)\n", static_cast<int>(bnn_version()), bnn_isa(), bnn_available());

  // A float map [1, channels, height, width], such as another library computed it.
  std::vector<float> map(channels * height * width);
  for (size_t i = 0; i < map.size(); ++i) map[i] = static_cast<float>(i * 7919 % 17) - 8.0f;
  const float zero = 0.0f;
  std::vector<uint32_t> bits(height * width * bnn_words(channels));
  if (failed(bnn_pack(map.data(), 1, channels, height * width, &zero, 1, bits.data(), nullptr))) return 1;

  // Weights as they are stored: one bit each, a row of bytes per output.
  std::vector<uint8_t> weight(outputs * channels * taps / 8);
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<uint8_t>(i * 2654435761u >> 13);

  bnn_conv_shape shape{};
  shape.rank = 2;
  shape.channels = channels;
  shape.outputs = outputs;
  shape.groups = 1;
  for (int d = 0; d < 2; ++d) {
    shape.kernel[d] = 3;
    shape.stride[d] = shape.dilation[d] = shape.pad_begin[d] = shape.pad_end[d] = 1;
  }
  shape.pad_value = 0;
  shape.codes = BNN_SIGNED;
  bnn_conv* conv = nullptr;
  if (failed(bnn_conv_create(&shape, weight.data(), weight.size(), &conv))) return 1;

  const int64_t size[] = {height, width};
  const std::vector<int32_t> threshold(outputs, 0);
  std::vector<uint32_t> signs(height * width * bnn_words(outputs));
  bnn_epilogue to_bits{};
  to_bits.output = BNN_BITS;
  to_bits.y = signs.data();
  to_bits.threshold = threshold.data();

  const float scale = 0.01f;
  std::vector<float> values(height * width * outputs);
  bnn_epilogue to_floats{};
  to_floats.output = BNN_FLOAT32;
  to_floats.layout = BNN_CHANNELS_LAST;
  to_floats.y = values.data();
  to_floats.scale = &scale;
  to_floats.scales = 1;

  const bool bad = failed(bnn_conv_run(conv, bits.data(), 1, size, &to_bits, nullptr)) ||
                   failed(bnn_conv_run(conv, bits.data(), 1, size, &to_floats, nullptr));
  bnn_conv_destroy(conv);
  if (bad) return 1;

  for (int64_t o = 0; o < 4; ++o) std::printf("output %d at (0, 0): %g, bit %u\n", static_cast<int>(o), static_cast<double>(values[static_cast<size_t>(o)]), signs[0] >> o & 1u);
  for (size_t i = 0; i < values.size(); ++i) {
    const bool high = signs[i / outputs] >> (i % outputs) & 1u;
    if (high != (values[i] >= 0.0f)) {
      std::fprintf(stderr, "a bit is not the sign of its value\n");
      return 1;
    }
  }
  return 0;
}
