// Checks every available instruction set against the definitions: for sanitizers, valgrind and emulators, which the
// Python tests do not reach.
//
//   bnn_check [cases [seed]]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>

#include "bnn.h"
#include "reference.h"
#include "thread_pool.h"

namespace {

using reference::Layer;
using reference::Sizes;

std::mt19937 generator;

int64_t pick(int64_t least, int64_t most) { return std::uniform_int_distribution<int64_t>(least, most)(generator); }
template <typename T>
T one_of(std::initializer_list<T> values) {
  return values.begin()[pick(0, static_cast<int64_t>(values.size()) - 1)];
}
bool coin() { return pick(0, 1) == 1; }
float real() { return std::normal_distribution<float>()(generator); }

void expect(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "FAILED: %s (last error: %s)\n", what.c_str(), bnn_last_error());
  std::exit(1);
}

void ok(bnn_status status, const char* what) { expect(status == BNN_OK, what); }

int64_t words(int64_t channels) { return static_cast<int64_t>(bnn_words(static_cast<size_t>(channels))); }

// Codes with the channels last as bits. The vector is exactly as long as it has to be, so that a sanitizer sees any
// read beyond it.
std::vector<uint32_t> packed(const std::vector<int8_t>& codes, int64_t channels) {
  const int64_t positions = static_cast<int64_t>(codes.size()) / channels;
  std::vector<uint32_t> bits(static_cast<size_t>(positions * words(channels)));
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t c = 0; c < channels; ++c) {
      const uint32_t high = codes[static_cast<size_t>(p * channels + c)] > 0;
      bits[static_cast<size_t>(p * words(channels) + c / 32)] |= high << (c % 32);
    }
  }
  return bits;
}

std::vector<uint8_t> stored(const std::vector<int8_t>& weight, int64_t rows) {
  const size_t row = weight.size() / static_cast<size_t>(rows), bytes = (row + 7) / 8;
  std::vector<uint8_t> result(bytes * static_cast<size_t>(rows));
  for (size_t i = 0; i < weight.size(); ++i) {
    result[i / row * bytes + i % row / 8] |= static_cast<uint8_t>((weight[i] > 0) << (i % row % 8));
  }
  return result;
}

std::vector<int8_t> random_codes(size_t count, int low) {
  const int bias = static_cast<int>(pick(0, 4));  // all low and all high as well
  std::vector<int8_t> codes(count);
  for (auto& code : codes) code = static_cast<int8_t>(pick(0, 3) < bias ? 1 : low);
  return codes;
}

std::vector<float> reals(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (auto& value : values) value = real();
  return values;
}

Layer random_layer() {
  Layer l{};
  l.transposed = pick(0, 3) == 0;
  l.rank = static_cast<int>(one_of<int64_t>({1, 2, 2, 2, 3}));
  l.groups = one_of<int64_t>({1, 1, 1, 2, 3, 6});
  l.channels = l.groups * one_of<int64_t>({1, 2, 7, 31, 32, 33, 64, 70});
  l.outputs = l.groups * one_of<int64_t>({1, 2, 5, 16, 17, 32, 33, 64, 65});
  l.kernel = l.stride = l.dilation = {1, 1, 1};
  l.pad_begin = l.pad_end = l.output_pad = {0, 0, 0};
  for (size_t d = 0; d < static_cast<size_t>(l.rank); ++d) {
    l.kernel[d] = pick(1, 3);
    l.stride[d] = pick(1, 3);
    l.dilation[d] = pick(1, 2);
    l.pad_begin[d] = pick(0, 2);
    l.pad_end[d] = pick(0, 2);
    if (l.transposed) l.output_pad[d] = pick(0, std::max(l.stride[d], l.dilation[d]) - 1);
  }
  l.codes = coin() ? BNN_SIGNED : BNN_UNSIGNED;
  l.pad_value = static_cast<int>(l.transposed ? 0 : pick(l.codes == BNN_SIGNED ? -1 : 0, 1));
  const int64_t rows = l.transposed ? l.channels : l.outputs;
  const int64_t columns = l.transposed ? l.group_outputs() : l.group_channels();
  l.weight = random_codes(static_cast<size_t>(rows * columns * l.taps()), -1);
  return l;
}

// A layer of either kind behind one interface.
class Built {
 public:
  explicit Built(const Layer& l) {
    const auto weight = stored(l.weight, l.transposed ? l.channels : l.outputs);
    if (l.transposed) {
      bnn_transposed_shape s{};
      fill(s, l);
      std::copy(l.output_pad.begin(), l.output_pad.end(), s.output_pad);
      ok(bnn_transposed_create(&s, weight.data(), weight.size(), &transposed_), "transposed create");
    } else {
      bnn_conv_shape s{};
      fill(s, l);
      s.pad_value = l.pad_value;
      ok(bnn_conv_create(&s, weight.data(), weight.size(), &conv_), "conv create");
    }
  }
  Built(const Built&) = delete;
  Built& operator=(const Built&) = delete;
  ~Built() {
    bnn_conv_destroy(conv_);
    bnn_transposed_destroy(transposed_);
  }
  bnn_status output_size(const Sizes& size, Sizes& output) const {
    output = {1, 1, 1};
    return conv_ != nullptr ? bnn_conv_output_size(conv_, size.data(), output.data())
                            : bnn_transposed_output_size(transposed_, size.data(), output.data());
  }
  void run(const std::vector<uint32_t>& bits, int64_t batch, const Sizes& size, const bnn_epilogue& e,
           const bnn_pool* pool) const {
    ok(conv_ != nullptr ? bnn_conv_run(conv_, bits.data(), batch, size.data(), &e, pool)
                        : bnn_transposed_run(transposed_, bits.data(), batch, size.data(), &e, pool),
       "run");
  }

 private:
  template <typename Shape>
  static void fill(Shape& s, const Layer& l) {
    s.rank = l.rank;
    s.channels = l.channels;
    s.outputs = l.outputs;
    s.groups = l.groups;
    s.codes = l.codes;
    for (size_t d = 0; d < 3; ++d) {
      s.kernel[d] = l.kernel[d];
      s.stride[d] = l.stride[d];
      s.dilation[d] = l.dilation[d];
      s.pad_begin[d] = l.pad_begin[d];
      s.pad_end[d] = l.pad_end[d];
    }
  }
  bnn_conv* conv_ = nullptr;
  bnn_transposed* transposed_ = nullptr;
};

struct Case {
  const Layer& layer;
  const Built& built;
  std::vector<uint32_t> bits;
  int64_t batch;
  Sizes size;
  std::vector<int32_t> z;  // channels last
  int64_t positions;       // of one image
};

void check_ints(const Case& c, const bnn_pool* pool, const std::string& what) {
  const int64_t outputs = c.layer.outputs;
  for (bnn_layout layout : {BNN_CHANNELS_LAST, BNN_CHANNELS_FIRST}) {
    std::vector<int32_t> y(c.z.size(), -9999);
    bnn_epilogue e{};
    e.output = BNN_INT32;
    e.layout = layout;
    e.y = y.data();
    c.built.run(c.bits, c.batch, c.size, e, pool);
    for (size_t i = 0; i < y.size(); ++i) {
      const int64_t o = static_cast<int64_t>(i) % outputs, p = static_cast<int64_t>(i) / outputs % c.positions;
      const int64_t n = static_cast<int64_t>(i) / outputs / c.positions;
      const size_t at = layout == BNN_CHANNELS_LAST ? i : static_cast<size_t>((n * outputs + o) * c.positions + p);
      expect(y[at] == c.z[i], what + " int32");
    }
  }
}

void check_bits(const Case& c, const bnn_pool* pool, const std::string& what) {
  const int64_t outputs = c.layer.outputs, row = words(outputs);
  std::vector<int32_t> threshold(static_cast<size_t>(outputs));
  for (auto& t : threshold) {
    t = static_cast<int32_t>(pick(0, 9) == 0 ? (coin() ? INT32_MAX : INT32_MIN) : pick(-20, 20));
  }
  std::vector<uint32_t> y(c.z.size() / static_cast<size_t>(outputs) * static_cast<size_t>(row), 0xdeadbeef);
  bnn_epilogue e{};
  e.output = BNN_BITS;
  e.y = y.data();
  e.threshold = threshold.data();
  c.built.run(c.bits, c.batch, c.size, e, pool);
  std::vector<int8_t> codes(c.z.size());
  for (size_t i = 0; i < c.z.size(); ++i) codes[i] = c.z[i] >= threshold[i % static_cast<size_t>(outputs)];
  expect(y == packed(codes, outputs), what + " bits");
}

void check_floats(const Case& c, const bnn_pool* pool, const std::string& what) {
  const int64_t outputs = c.layer.outputs;
  std::vector<std::vector<float>> steps;  // scale, bias, before, slope, after, next
  for (int i = 0; i < 6; ++i) steps.push_back(reals(i < 5 ? one_of<int64_t>({0, 1, outputs}) : one_of<int64_t>({1, outputs})));
  const std::vector<float> residual = coin() ? reals(static_cast<int64_t>(c.z.size())) : std::vector<float>{};
  std::vector<float> y(c.z.size());
  std::vector<uint32_t> bits(c.z.size() / static_cast<size_t>(outputs) * static_cast<size_t>(words(outputs)));
  bnn_epilogue e{};
  e.output = BNN_FLOAT32;
  e.layout = coin() ? BNN_CHANNELS_LAST : BNN_CHANNELS_FIRST;
  e.y = y.data();
  e.bits = bits.data();
  auto give = [](const std::vector<float>& v, const float*& to, size_t& count) {
    to = v.empty() ? nullptr : v.data();
    count = v.size();
  };
  give(steps[0], e.scale, e.scales);
  give(steps[1], e.bias, e.biases);
  give(steps[2], e.before, e.befores);
  give(steps[3], e.slope, e.slopes);
  give(steps[4], e.after, e.afters);
  give(steps[5], e.next, e.nexts);
  e.residual = residual.empty() ? nullptr : residual.data();
  c.built.run(c.bits, c.batch, c.size, e, pool);

  std::vector<int8_t> codes(c.z.size());
  for (size_t i = 0; i < c.z.size(); ++i) {
    const size_t o = i % static_cast<size_t>(outputs);
    const int64_t p = static_cast<int64_t>(i) / outputs % c.positions, n = static_cast<int64_t>(i) / outputs / c.positions;
    const size_t at = e.layout == BNN_CHANNELS_LAST
                          ? i
                          : static_cast<size_t>((n * outputs + static_cast<int64_t>(o)) * c.positions + p);
    auto of = [o](const std::vector<float>& v) { return v.size() == 1 ? v[0] : v[o]; };
    volatile float v = static_cast<float>(c.z[i]);  // volatile: every step is rounded
    if (!steps[0].empty()) v = v * of(steps[0]);
    if (!steps[1].empty()) v = v + of(steps[1]);
    if (!residual.empty()) v = v + residual[at];
    if (!steps[2].empty()) v = v + of(steps[2]);
    if (!steps[3].empty() && v < 0) v = v * of(steps[3]);
    if (!steps[4].empty()) v = v + of(steps[4]);
    expect(y[at] == v, what + " float");
    codes[i] = v >= of(steps[5]);
  }
  expect(bits == packed(codes, outputs), what + " next bits");
}

void check_layer(const std::string& isa, const bnn_pool* pool) {
  const Layer l = random_layer();
  const Built built(l);
  Sizes size{1, 1, 1}, output;
  for (size_t d = 0; d < static_cast<size_t>(l.rank); ++d) size[d] = pick(1, l.rank == 1 ? 90 : 7);
  if (built.output_size(size, output) != BNN_OK) return;  // would be empty
  const int64_t batch = pick(1, 3);
  const auto codes = random_codes(static_cast<size_t>(batch * size[0] * size[1] * size[2] * l.channels),
                                  l.codes == BNN_SIGNED ? -1 : 0);
  Case c{l, built, packed(codes, l.channels), batch, size, reference::sums(l, codes, batch, size, output),
         output[0] * output[1] * output[2]};
  check_ints(c, pool, isa);
  check_bits(c, pool, isa);
  check_floats(c, pool, isa);
}

void check_product(const std::string& isa, const bnn_pool* pool) {
  const int64_t batch = pick(1, 3), rows = one_of<int64_t>({1, 3, 17, 70}), columns = one_of<int64_t>({1, 31, 32, 65});
  const int64_t terms = one_of<int64_t>({1, 31, 64, 100, 1100});
  const bool is_signed = coin();
  const auto a = random_codes(static_cast<size_t>(batch * rows * terms), is_signed ? -1 : 0);
  const auto w = random_codes(static_cast<size_t>(batch * columns * terms), -1);
  const auto addend = reals(batch * columns);
  std::vector<int64_t> offsets;
  for (int64_t n = 0; n < batch; ++n) offsets.push_back(n * columns);
  bnn_matmul_shape s{};
  s.batch = batch;
  s.rows = rows;
  s.columns = columns;
  s.terms = terms;
  s.codes = is_signed ? BNN_SIGNED : BNN_UNSIGNED;
  s.scale = real();
  s.threshold = real();
  s.addend = addend.data();
  s.addend_offsets = offsets.data();
  s.addend_column = 1;
  std::vector<int32_t> ints(static_cast<size_t>(batch * rows * columns));
  std::vector<float> floats(ints.size());
  std::vector<uint32_t> bits(static_cast<size_t>(batch * rows * words(columns)));
  const auto pa = packed(a, terms), pw = packed(w, terms);
  void* const results[] = {ints.data(), floats.data(), bits.data()};
  for (bnn_output output : {BNN_INT32, BNN_FLOAT32, BNN_BITS}) {
    s.output = output;
    ok(bnn_matmul(&s, pa.data(), pw.data(), results[output], pool), "matmul");
  }
  std::vector<int8_t> codes(ints.size());
  for (int64_t i = 0; i < static_cast<int64_t>(ints.size()); ++i) {
    const int64_t column = i % columns, row = i / columns, n = row / rows;
    int32_t z = 0;
    for (int64_t k = 0; k < terms; ++k) {
      z += a[static_cast<size_t>(row * terms + k)] * w[static_cast<size_t>((n * columns + column) * terms + k)];
    }
    volatile float v = static_cast<float>(z) * s.scale;
    v = v + addend[static_cast<size_t>(n * columns + column)];
    expect(ints[static_cast<size_t>(i)] == z, isa + " matmul int32");
    expect(floats[static_cast<size_t>(i)] == v, isa + " matmul float");
    codes[static_cast<size_t>(i)] = v >= s.threshold;
  }
  expect(bits == packed(codes, columns), isa + " matmul bits");
}

void check_packing(const std::string& isa, const bnn_pool* pool) {
  const int64_t outer = pick(1, 3), channels = one_of<int64_t>({1, 31, 32, 33, 100}), inner = one_of<int64_t>({1, 2, 16, 37});
  const auto x = reals(outer * channels * inner), threshold = reals(coin() ? 1 : channels);
  std::vector<uint32_t> bits(static_cast<size_t>(outer * inner * words(channels)));
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  ok(bnn_pack(x.data(), size(outer), size(channels), size(inner), threshold.data(), threshold.size(), bits.data(), pool), "pack");
  std::vector<int8_t> codes(x.size());
  std::vector<float> expected(x.size()), back(x.size());
  for (int64_t n = 0; n < outer; ++n) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t i = 0; i < inner; ++i) {
        const size_t at = size((n * channels + c) * inner + i);
        const bool high = x[at] >= threshold[threshold.size() == 1 ? 0 : size(c)];
        codes[size((n * inner + i) * channels + c)] = high;
        expected[at] = high ? 1.0f : -1.0f;
      }
    }
  }
  expect(bits == packed(codes, channels), isa + " pack");
  ok(bnn_unpack(bits.data(), size(outer), size(channels), size(inner), -1.0f, back.data(), pool), "unpack");
  expect(back == expected, isa + " unpack");
}

// Several threads run the same object at once, each with sizes of its own.
void check_sharing() {
  Layer l{};
  do l = random_layer();
  while (l.rank != 2 || l.transposed);
  const Built built(l);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&built, &l, t] {
      for (int64_t i = 0; i < 12; ++i) {
        const Sizes size{8 + (i + t) % 11, 9, 1};
        Sizes output;
        ok(built.output_size(size, output), "output size");
        const std::vector<int8_t> codes(static_cast<size_t>(size[0] * size[1] * l.channels), 1);
        const auto expected = reference::sums(l, codes, 1, size, output);
        std::vector<int32_t> y(expected.size());
        bnn_epilogue e{};
        e.output = BNN_INT32;
        e.layout = BNN_CHANNELS_LAST;
        e.y = y.data();
        built.run(packed(codes, l.channels), 1, size, e, nullptr);
        expect(y == expected, "shared object");
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace

int main(int count, char** arguments) {
  const int cases = count > 1 ? std::atoi(arguments[1]) : 100;
  generator.seed(static_cast<unsigned>(count > 2 ? std::atoi(arguments[2]) : 1));
  ThreadPool pool(3);
  std::istringstream names(bnn_available());
  for (std::string isa; names >> isa;) {
    ok(bnn_set_isa(isa.c_str()), "set isa");
    for (int i = 0; i < cases; ++i) {
      const bnn_pool* const threads = i % 2 == 0 ? nullptr : pool.c_pool();
      check_layer(isa, threads);
      check_product(isa, threads);
      check_packing(isa, threads);
    }
    check_sharing();
    std::printf("%s: %d cases equal the definitions\n", isa.c_str(), cases);
  }
  return 0;
}
