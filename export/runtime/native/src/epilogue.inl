// What becomes of the counts of one output position, in terms of the vectors of an instruction set. Included into an
// unnamed namespace by each kernel file, behind its definitions of Ints, Floats and the functions on them: every
// instruction set must keep a copy of its own, or the linker would choose one for all.

template <int Vectors>
inline void finish_bits(const Strip& s, int64_t i, const Position& p, const Ints (&count)[Vectors]) {
  const int32_t* limit = s.limit + p.border * s.border_stride;
  uint32_t* y = s.bits + (s.bits_local ? i : p.y) * s.bits_stride;
  for (int word = 0; word < Vectors * width / 32; ++word) {
    uint32_t bits = 0;
    for (int v = 0; v < 32 / width; ++v) {
      const int at = word * (32 / width) + v;
      bits |= not_above(count[at], load_ints(limit + at * width)) << (v * width);
    }
    if (word * 32 < s.valid) y[word] = bits;
  }
}

template <int Vectors>
inline void finish_ints(const Strip& s, int64_t i, const Position& p, const Ints (&count)[Vectors]) {
  const int32_t* base = s.base + p.border * s.border_stride;
  int32_t* y = static_cast<int32_t*>(s.y) + (s.y_local ? i : p.y) * s.y_stride;
  alignas(64) int32_t part[most_lanes];
  const bool whole = s.valid == Vectors * width;
  int32_t* to = whole ? y : part;
  for (int v = 0; v < Vectors; ++v) {
    store_ints(to + v * width, subtract(load_ints(base + v * width), shift_left(count[v], s.shift)));
  }
  if (!whole) std::memcpy(y, part, static_cast<size_t>(s.valid) * sizeof *y);
}

// Applies a step with a parameter per lane to all positions of a tile, so that the parameters are loaded once.
template <int Positions, int Vectors, typename Step>
inline void each_value(Floats (&value)[Positions][Vectors], const float* parameter, Step step) {
  if (parameter == nullptr) return;
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) {
    const Floats p = load_floats(parameter + v * width);
#pragma GCC unroll 8
    for (int m = 0; m < Positions; ++m) value[m][v] = step(value[m][v], p);
  }
}

template <int Vectors>
inline void add_residual(const Strip& s, int64_t i, Floats (&value)[Vectors]) {
  const float* residual = s.residual + (s.residual_local ? i : s.positions[i].y) * s.residual_stride;
  alignas(64) float part[most_lanes];
  if (s.valid != Vectors * width) {
    std::memset(part, 0, sizeof part);
    std::memcpy(part, residual, static_cast<size_t>(s.valid) * sizeof *residual);
    residual = part;
  }
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) value[v] = add(value[v], load_floats(residual + v * width));
}

template <int Vectors>
inline void store_values(const Strip& s, int64_t i, const Floats (&value)[Vectors]) {
  float* y = static_cast<float*>(s.y) + (s.y_local ? i : s.positions[i].y) * s.y_stride;
  alignas(64) float part[most_lanes];
  const bool whole = s.valid == Vectors * width;
  float* to = whole ? y : part;
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) store_floats(to + v * width, value[v]);
  if (!whole) std::memcpy(y, part, static_cast<size_t>(s.valid) * sizeof *y);
}

template <int Vectors>
inline void store_next_bits(const Strip& s, int64_t i, const Floats (&value)[Vectors]) {
  uint32_t* words = s.bits + (s.bits_local ? i : s.positions[i].y) * s.bits_stride;
  for (int word = 0; word < Vectors * width / 32; ++word) {
    uint32_t bits = 0;
    for (int v = 0; v < 32 / width; ++v) {
      const int at = word * (32 / width) + v;
      bits |= not_below(value[at], load_floats(s.next + at * width)) << (v * width);
    }
    if (word * 32 < s.valid) words[word] = bits;
  }
}

template <int Positions, int Vectors>
inline void finish_floats(const Strip& s, int64_t first, const Ints (&count)[Positions][Vectors]) {
  Floats value[Positions][Vectors];
#pragma GCC unroll 8
  for (int m = 0; m < Positions; ++m) {
    const int32_t* base = s.base + s.positions[first + m].border * s.border_stride;
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) {
      value[m][v] = to_floats(subtract(load_ints(base + v * width), shift_left(count[m][v], s.shift)));
    }
  }
  each_value(value, s.scale, multiply);
  each_value(value, s.bias, add);
  if (s.residual != nullptr) {
#pragma GCC unroll 8
    for (int m = 0; m < Positions; ++m) add_residual(s, first + m, value[m]);
  }
  each_value(value, s.before, add);
  each_value(value, s.slope, scale_negative);
  each_value(value, s.after, add);
  if (s.y != nullptr) {
#pragma GCC unroll 8
    for (int m = 0; m < Positions; ++m) store_values(s, first + m, value[m]);
  }
  if (s.bits != nullptr) {
#pragma GCC unroll 8
    for (int m = 0; m < Positions; ++m) store_next_bits(s, first + m, value[m]);
  }
}

// Asks for the lines of y and of the residual that `finish` will touch. Positions lie far apart there, where the
// processor's own prefetching does not follow.
template <bnn_output Output>
inline void prefetch(const Strip& s, int64_t i) {
  if constexpr (Output == BNN_BITS) return;
  const Position& p = s.positions[i];
  if (s.y != nullptr && !s.y_local) {
    const float* y = static_cast<const float*>(s.y) + p.y * s.y_stride;
    for (int64_t at = 0; at < s.valid; at += 16) __builtin_prefetch(y + at, 1);
  }
  if (Output == BNN_FLOAT32 && s.residual != nullptr && !s.residual_local) {
    const float* residual = s.residual + p.y * s.residual_stride;
    for (int64_t at = 0; at < s.valid; at += 16) __builtin_prefetch(residual + at, 0);
  }
}

// The counts of the positions of a tile, from number `first` of the strip on.
template <bnn_output Output, int Positions, int Vectors>
inline void finish(const Strip& s, int64_t first, const Ints (&count)[Positions][Vectors]) {
  if constexpr (Output == BNN_FLOAT32) return finish_floats(s, first, count);
#pragma GCC unroll 8
  for (int m = 0; m < Positions; ++m) {
    const Position& p = s.positions[first + m];
    if constexpr (Output == BNN_BITS) finish_bits<Vectors>(s, first + m, p, count[m]);
    if constexpr (Output == BNN_INT32) finish_ints<Vectors>(s, first + m, p, count[m]);
  }
}

// Strips whose lanes have activation words of their own (depthwise layers and narrow groups).
template <bnn_output Output>
inline void lane_strip_of(Strip s) {
  constexpr int vectors = 32 / width;
  for (int64_t i = 0; i < s.count; ++i) {
    const uint32_t* x = s.positions[i].x + s.x_offset;
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
    finish<Output>(s, i, count);
  }
}

inline void lane_strip(const Strip& s) {
  switch (s.output) {
    case BNN_BITS: return lane_strip_of<BNN_BITS>(s);
    case BNN_INT32: return lane_strip_of<BNN_INT32>(s);
    case BNN_FLOAT32: return lane_strip_of<BNN_FLOAT32>(s);
  }
}
