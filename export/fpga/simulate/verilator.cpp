#include "Vtop.h"
#include "harness.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

struct Device {
  VerilatedContext context;
  Vtop top{&context};

  // A port of up to 64 bits is an integer, a wider one an array of words.
  template <class Port> static void assign(Port &port, const uint32_t *words, size_t bits) {
    if constexpr (std::is_integral<Port>::value) {
      uint64_t value = words[0];
      if (bits > 32) value |= static_cast<uint64_t>(words[1]) << 32;
      port = static_cast<Port>(value);
    } else {
      for (size_t i = 0; i < (bits + 31) / 32; i++) port[i] = words[i];
    }
  }
  template <class Port> static void read(const Port &port, uint32_t *words, size_t bits) {
    if constexpr (std::is_integral<Port>::value) {
      words[0] = static_cast<uint32_t>(port);
      if (bits > 32) words[1] = static_cast<uint32_t>(static_cast<uint64_t>(port) >> 32);
    } else {
      for (size_t i = 0; i < (bits + 31) / 32; i++) words[i] = port[i];
    }
  }

  void set(bool rst, bool valid, bool ready, const uint32_t *data) {
    top.clk = 0;
    top.rst = rst;
    top.s_valid = valid;
    top.m_ready = ready;
    if (data) assign(top.s_data, data, BEAT_BITS);
    top.eval();
  }
  void edge() {
    top.clk = 1;
    top.eval();
  }
  bool in_ready() { return top.s_ready; }
  bool out_valid() { return top.m_valid; }
  void result(uint32_t *words) {
    uint32_t part[(RESULT_BITS + 31) / 32 + 2] = {0};
    for (size_t i = 0; i < (RESULT_BITS + 31) / 32; i++) words[i] = 0;
    read(top.m_class, part, CLASS_BITS);
    put_bits(words, 0, part, CLASS_BITS);
    if (RESULT_BITS > CLASS_BITS) read(top.m_scores, part, RESULT_BITS - CLASS_BITS);
    put_bits(words, CLASS_BITS, part, RESULT_BITS - CLASS_BITS);
  }
};

int main(int argc, char **argv) { return drive<Device>(argc, argv); }
