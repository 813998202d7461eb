// Drives a compiled design: streams vectors in, compares every result, stalls both sides at random if asked to.
// An adapter gives it `Device` with eval(), reset(), clk(), valid(), ready() and the data ports as 32-bit words.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

static std::vector<uint32_t> words_of(const char *path, size_t count) {
  std::vector<uint32_t> found(count);
  FILE *file = std::fopen(path, "rb");
  if (!file || std::fread(found.data(), 4, count, file) != count) {
    std::fprintf(stderr, "%s is too short\n", path);
    std::exit(2);
  }
  std::fclose(file);
  return found;
}

// Numbers that follow from the seed (xorshift, Marsaglia 2003).
struct Random {
  uint64_t state;
  uint32_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<uint32_t>(state >> 32);
  }
};

template <class Device>
int drive(int argc, char **argv) {
  if (argc != 5) return 2;
  const long vectors = std::atol(argv[1]), stall = std::atol(argv[2]), limit = std::atol(argv[4]);
  Random random{0x9E3779B97F4A7C15ull ^ (static_cast<uint64_t>(std::atol(argv[3])) << 1)};
  const size_t in_words = (BEAT_BITS + 31) / 32, out_words = (RESULT_BITS + 31) / 32;
  const std::vector<uint32_t> stimulus = words_of("stimulus.bin", vectors * BEATS * in_words);
  const std::vector<uint32_t> golden = words_of("golden.bin", vectors * out_words);
  Device device;
  device.set(0, false, false, nullptr);
  for (int i = 0; i < 4; i++) {
    device.set(1, false, false, stimulus.data());
    device.edge();
  }
  long sent = 0, got = 0, wrong = 0, cycle = 0, begun = -1, first = -1, middle = -1, final = -1;
  while (got < vectors && cycle <= limit) {
    const bool offer = sent < vectors * BEATS && (!stall || random.next() % 4 != 0);
    const bool take = !stall || random.next() % 4 == 0;
    device.set(0, offer, take, stimulus.data() + (offer ? sent : 0) * in_words);
    if (offer && device.in_ready()) {
      if (begun < 0) begun = cycle;
      sent++;
    }
    if (take && device.out_valid()) {
      uint32_t result[out_words ? out_words : 1];
      device.result(result);
      bool same = true;
      for (size_t w = 0; w < out_words; w++) same = same && result[w] == golden[got * out_words + w];
      if (!same) {
        if (++wrong < 4) std::printf("WRONG vector %ld\n", got);
      }
      if (first < 0) first = cycle;
      if (got == vectors / 4) middle = cycle;
      final = cycle;
      got++;
    }
    device.edge();
    cycle++;
  }
  wrong += vectors - got;
  std::printf("RESULT vectors %ld wrong %ld begun %ld first %ld middle %ld final %ld\n", vectors, wrong, begun, first,
              middle, final);
  return 0;
}

// `bits` bits of a result behind the first `offset` ones.
static void put_bits(uint32_t *to, size_t offset, const uint32_t *from, size_t bits) {
  for (size_t i = 0; i < bits; i++) {
    const uint32_t bit = from[i / 32] >> (i % 32) & 1;
    const size_t at = offset + i;
    to[at / 32] = (to[at / 32] & ~(1u << at % 32)) | bit << at % 32;
  }
}
