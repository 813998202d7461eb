// What becomes of the counts of one output position, in terms of the vectors of an instruction set. Included into an
// unnamed namespace by each kernel file, behind its definitions of Ints, Floats and the functions on them: every
// instruction set must keep a copy of its own, or the linker would choose one for all.

// Writes a bit per lane: `high` has those of a vector in its lowest bits.
template <int Vectors>
inline void store_bits(const Strip& s, int64_t i, const uint32_t (&high)[Vectors]) {
  constexpr int words = Vectors * width / 32, per_word = 32 / width;
  uint32_t* to = s.bits + i * s.bits_stride;
  if constexpr (width == 16 && words == 1) {
    // Mask registers can be stored, but not joined cheaply.
    const uint16_t low = static_cast<uint16_t>(high[0]), behind = static_cast<uint16_t>(high[1]);
    std::memcpy(to, &low, sizeof low);
    std::memcpy(reinterpret_cast<uint16_t*>(to) + 1, &behind, sizeof behind);
    return;
  }
#pragma GCC unroll 2
  for (int word = 0; word < words; ++word) {
    uint32_t bits = 0;
#pragma GCC unroll 8
    for (int v = 0; v < per_word; ++v) bits |= high[word * per_word + v] << (v * width);
    if (word * 32 < s.valid) to[word] = bits;
  }
}

// Turns sums into z.
template <int Vectors>
inline void complete(const Strip& s, const Position& p, Ints (&sum)[Vectors]) {
  const int32_t* odd = s.odd == nullptr ? nullptr : s.odd + p.border;
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) {
    sum[v] = shift_left(sum[v], s.shift);
    if (odd != nullptr) sum[v] = add_ints(sum[v], load_ints(odd + v * width));
  }
}

template <int Vectors>
inline void store_sums(const Strip& s, int64_t i, const Ints (&z)[Vectors]) {
  int32_t* y = static_cast<int32_t*>(s.y) + i * s.y_stride;
  const bool whole = s.valid == Vectors * width;
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) {
    whole ? store_ints(y + v * width, z[v]) : store_first_ints(y + v * width, z[v], s.valid - v * width);
  }
}

// Applies a step with a parameter per lane. The parameters stay in memory, next to the processor: in registers they
// would push out the sums of a tile.
template <int Vectors, typename Step>
inline void each_value(Floats (&value)[Vectors], const float* parameter, Step step) {
  if (parameter == nullptr) return;
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) value[v] = step(value[v], load_floats(parameter + v * width));
}

template <int Vectors>
inline void add_residual(const Strip& s, int64_t i, Floats (&value)[Vectors]) {
  const float* residual = s.residual + i * s.residual_stride;
  const bool whole = s.valid == Vectors * width;
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) {
    const float* from = residual + v * width;
    value[v] = add(value[v], whole ? load_floats(from) : load_first(from, s.valid - v * width));
  }
}

template <int Vectors>
inline void store_values(const Strip& s, int64_t i, const Floats (&value)[Vectors]) {
  float* y = static_cast<float*>(s.y) + i * s.y_stride;
  const bool whole = s.valid == Vectors * width;
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) {
    whole ? store_floats(y + v * width, value[v]) : store_first(y + v * width, value[v], s.valid - v * width);
  }
}

template <int Vectors>
inline void finish_floats(const Strip& s, int64_t i, Ints (&sum)[Vectors]) {
  if (s.odd != nullptr) complete(s, s.positions[i], sum);
  Floats value[Vectors];
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) value[v] = to_floats(sum[v]);
  each_value(value, s.scale, multiply);
  each_value(value, s.bias, add);
  if (s.residual != nullptr) add_residual(s, i, value);
  each_value(value, s.before, add);
  each_value(value, s.slope, scale_negative);
  each_value(value, s.after, add);
  if (s.y != nullptr) store_values(s, i, value);
  if (s.bits == nullptr) return;
  uint32_t high[Vectors];
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) high[v] = not_below(value[v], load_floats(s.next + v * width));
  store_bits(s, i, high);
}

// The sums of the positions of a tile, from number `first` of the strip on.
template <bnn_output Output, int Positions, int Vectors>
inline void finish(const Strip& s, int64_t first, Ints (&sum)[Positions][Vectors]) {
#pragma GCC unroll 8
  for (int m = 0; m < Positions; ++m) {
    if constexpr (Output == BNN_BITS) {
      uint32_t high[Vectors];
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) high[v] = not_above(zero_ints(), sum[m][v]);
      store_bits(s, first + m, high);
    } else if constexpr (Output == BNN_FLOAT32) {
      finish_floats(s, first + m, sum[m]);
    } else {
      complete(s, s.positions[first + m], sum[m]);
      store_sums(s, first + m, sum[m]);
    }
  }
}

// The same from counts of mismatches.
template <bnn_output Output, int Positions, int Vectors>
inline void finish_counts(const Strip& s, int64_t first, Ints (&count)[Positions][Vectors]) {
#pragma GCC unroll 8
  for (int m = 0; m < Positions; ++m) {
    const int32_t* start = s.start + s.positions[first + m].border;
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) count[m][v] = subtract(load_ints(start + v * width), count[m][v]);
  }
  finish<Output>(s, first, count);
}

// Strips whose lanes have activation words of their own (depthwise layers and narrow groups).
template <bnn_output Output>
inline void lane_strip_of(Strip s) {
  constexpr int vectors = 32 / width;
  for (int64_t i = 0; i < s.count; ++i) {
    const uint32_t* x = s.x + s.positions[i].x;
    const uint32_t* panel = static_cast<const uint32_t*>(s.panel);
    Ints count[1][vectors];
    for (int v = 0; v < vectors; ++v) count[0][v] = zero_ints();
    for (int64_t r = 0; r < s.run_count; ++r) {
      for (int64_t k = 0; k < s.run_words; ++k, panel += 32) {
        const uint32_t* words = x + s.runs[r] + k * s.run_step;
        for (int v = 0; v < vectors; ++v) {
          count[0][v] = add_mismatches(count[0][v], load_words(words + v * width), load_words(panel + v * width));
        }
      }
    }
    finish_counts<Output>(s, i, count);
  }
}

inline void lane_strip(const Strip& s) {
  switch (s.output) {
    case BNN_BITS: return lane_strip_of<BNN_BITS>(s);
    case BNN_INT32: return lane_strip_of<BNN_INT32>(s);
    case BNN_FLOAT32: return lane_strip_of<BNN_FLOAT32>(s);
  }
}
