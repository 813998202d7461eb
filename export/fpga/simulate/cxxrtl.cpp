#include "design.cc"
#include "harness.h"

struct Device {
  cxxrtl_design::p_top top;

  template <size_t N> static void assign(cxxrtl::value<N> &port, const uint32_t *words) {
    for (size_t i = 0; i < port.chunks; i++) port.data[i] = words[i];
  }
  template <size_t N> static void read(const cxxrtl::value<N> &port, uint32_t *words) {
    for (size_t i = 0; i < port.chunks; i++) words[i] = port.data[i];
  }
  template <size_t N> static void read(const cxxrtl::wire<N> &port, uint32_t *words) { read(port.curr, words); }
  template <class Port> static bool bit(const Port &port) {
    uint32_t word = 0;
    read(port, &word);
    return word & 1;
  }

  void set(bool rst, bool valid, bool ready, const uint32_t *data) {
    top.p_clk.set<bool>(false);
    top.p_rst.set<bool>(rst);
    top.p_s__valid.set<bool>(valid);
    top.p_m__ready.set<bool>(ready);
    if (data) assign(top.p_s__data, data);
    top.step();
  }
  void edge() {
    top.p_clk.set<bool>(true);
    top.step();
  }
  bool in_ready() { return bit(top.p_s__ready); }
  bool out_valid() { return bit(top.p_m__valid); }
  void result(uint32_t *words) {
    uint32_t part[(RESULT_BITS + 31) / 32 + 1] = {0};
    for (size_t i = 0; i < (RESULT_BITS + 31) / 32; i++) words[i] = 0;
    read(top.p_m__class, part);
    put_bits(words, 0, part, CLASS_BITS);
    read(top.p_m__scores, part);
    put_bits(words, CLASS_BITS, part, RESULT_BITS - CLASS_BITS);
  }
};

int main(int argc, char **argv) { return drive<Device>(argc, argv); }
