// Times of the kernels on the shapes of common networks, as fractions of the bound that xor, popcount and add set,
// which is measured beside each of them.
//
//   bnn_benchmark [isa [rounds]]     one line of JSON per shape, output, number of threads and batch size
//
// With one thread the CPU time of the thread counts, with more the wall time. Medians over the rounds.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "bnn.h"
#include "bound.h"
#include "thread_pool.h"

namespace {

double seconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

struct Shape {
  const char* name;
  int64_t size, channels, outputs, kernel;
};

// A GEMM of 128 rows is a 1x1 convolution over 128 positions.
const Shape shapes[] = {
    {"3x3 56x56x64->64", 56, 64, 64, 3},    {"3x3 28x28x128->128", 28, 128, 128, 3},
    {"3x3 14x14x256->256", 14, 256, 256, 3}, {"3x3 7x7x512->512", 7, 512, 512, 3},
    {"1x1 14x14x256->512", 14, 256, 512, 1}, {"GEMM 128x768x768", 0, 768, 768, 1},
    {"GEMM 128x768x3072", 0, 768, 3072, 1},  {"GEMM 128x3072x768", 0, 3072, 768, 1},
};

struct Output {
  const char* name;
  bnn_output kind;
  bnn_layout layout;
  bool fused;
};

const Output outputs[] = {
    {"bits", BNN_BITS, BNN_CHANNELS_LAST, false},
    {"int32", BNN_INT32, BNN_CHANNELS_LAST, false},
    {"float", BNN_FLOAT32, BNN_CHANNELS_LAST, false},
    {"float+residual+PReLU+bits", BNN_FLOAT32, BNN_CHANNELS_LAST, true},
    {"float, channels first", BNN_FLOAT32, BNN_CHANNELS_FIRST, false},
};

void checked(bnn_status status) {
  if (status == BNN_OK) return;
  std::fprintf(stderr, "%s\n", bnn_last_error());
  std::exit(1);
}

int64_t bound(const std::string& isa, int64_t rounds) {
#if defined(__x86_64__)
  if (isa == "avx512") return bound_avx512(rounds);
  if (isa == "avx2") return bound_avx2(rounds);
#endif
  (void)isa;
  (void)rounds;
  return 0;
}

void measure(const std::string& isa, const Shape& s, int64_t batch, int threads, int rounds, std::mt19937& random) {
  const bool gemm = s.size == 0;
  const int64_t size[2] = {gemm ? 1 : s.size, gemm ? 128 : s.size}, pad = s.kernel / 2;
  const int64_t positions = batch * size[0] * size[1];
  bnn_conv_shape shape{};
  shape.rank = 2;
  shape.channels = s.channels;
  shape.outputs = s.outputs;
  shape.groups = 1;
  for (int d = 0; d < 2; ++d) {
    shape.kernel[d] = s.kernel;
    shape.stride[d] = shape.dilation[d] = 1;
    shape.pad_begin[d] = shape.pad_end[d] = pad;
  }
  const size_t row = static_cast<size_t>(s.channels * s.kernel * s.kernel) / 8;
  std::vector<uint8_t> weight(row * static_cast<size_t>(s.outputs));
  for (auto& byte : weight) byte = static_cast<uint8_t>(random());
  std::vector<uint32_t> bits(static_cast<size_t>(positions * s.channels / 32));
  for (auto& word : bits) word = static_cast<uint32_t>(random());
  const size_t values = static_cast<size_t>(positions * s.outputs);
  std::vector<float> y(values), residual(values, 1.0f), parameter(static_cast<size_t>(s.outputs), 0.5f);
  std::vector<int32_t> threshold(static_cast<size_t>(s.outputs), 0);
  std::vector<uint32_t> next(values / 32);

  bnn_conv* conv = nullptr;
  checked(bnn_conv_create(&shape, weight.data(), weight.size(), &conv));
  ThreadPool pool(threads);
  const double macs = static_cast<double>(values) * static_cast<double>(row) * 8.0;
  const clockid_t clock = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;

  std::vector<double> limit;
  std::vector<std::vector<double>> times(std::size(outputs));
  for (int round = 0; round < rounds; ++round) {
    double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    const int64_t work = bound(isa, 12000);
    if (work > 0) limit.push_back(static_cast<double>(work) / (seconds(CLOCK_THREAD_CPUTIME_ID) - start));
    for (size_t o = 0; o < std::size(outputs); ++o) {
      bnn_epilogue e{};
      e.output = outputs[o].kind;
      e.layout = outputs[o].layout;
      e.y = outputs[o].kind == BNN_BITS ? static_cast<void*>(next.data()) : y.data();
      e.threshold = threshold.data();
      e.scale = e.bias = parameter.data();
      e.scales = e.biases = parameter.size();
      if (outputs[o].fused) {
        e.residual = residual.data();
        e.before = e.slope = e.after = e.next = parameter.data();
        e.befores = e.slopes = e.afters = e.nexts = parameter.size();
        e.bits = next.data();
      }
      start = seconds(clock);
      checked(bnn_conv_run(conv, bits.data(), batch, size, &e, pool.c_pool()));
      times[o].push_back(seconds(clock) - start);
    }
  }
  for (size_t o = 0; o < std::size(outputs); ++o) {
    const double time = median(times[o]), rate = macs / time / threads;
    std::printf("{\"isa\": \"%s\", \"shape\": \"%s\", \"batch\": %ld, \"threads\": %d, \"output\": \"%s\", \"us\": %.2f, "
                "\"tmacs\": %.3f",
                isa.c_str(), s.name, static_cast<long>(batch), threads, outputs[o].name, time * 1e6, macs / time * 1e-12);
    if (!limit.empty()) {
      std::printf(", \"bound_tmacs\": %.3f, \"fraction\": %.3f", median(limit) * threads * 1e-12, rate / median(limit));
    }
    std::printf("}\n");
    std::fflush(stdout);
  }
  bnn_conv_destroy(conv);
}

}  // namespace

int main(int count, char** arguments) {
  const std::string isa = count > 1 ? arguments[1] : bnn_isa();
  const int rounds = count > 2 ? std::max(1, std::atoi(arguments[2])) : 101;
  checked(bnn_set_isa(isa.c_str()));
  std::mt19937 random(1);
  for (int threads : {1, 2}) {
    for (int64_t batch : {1, 8}) {
      for (const Shape& shape : shapes) measure(bnn_isa(), shape, batch, threads, rounds, random);
    }
  }
  return 0;
}
