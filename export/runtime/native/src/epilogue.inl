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

template <int Vectors>
inline void finish_floats(const Strip& s, int64_t i, const Position& p, const Ints (&count)[Vectors]) {
  const int32_t* base = s.base + p.border * s.border_stride;
  const bool whole = s.valid == Vectors * width;
  Floats value[Vectors];
  for (int v = 0; v < Vectors; ++v) {
    value[v] = to_floats(subtract(load_ints(base + v * width), shift_left(count[v], s.shift)));
  }
  if (s.scale != nullptr) {
    for (int v = 0; v < Vectors; ++v) value[v] = multiply(value[v], load_floats(s.scale + v * width));
  }
  if (s.bias != nullptr) {
    for (int v = 0; v < Vectors; ++v) value[v] = add(value[v], load_floats(s.bias + v * width));
  }
  alignas(64) float part[most_lanes];
  if (s.residual != nullptr) {
    const float* residual = s.residual + (s.residual_local ? i : p.y) * s.residual_stride;
    if (!whole) {
      std::memset(part, 0, sizeof part);
      std::memcpy(part, residual, static_cast<size_t>(s.valid) * sizeof *residual);
      residual = part;
    }
    for (int v = 0; v < Vectors; ++v) value[v] = add(value[v], load_floats(residual + v * width));
  }
  if (s.before != nullptr) {
    for (int v = 0; v < Vectors; ++v) value[v] = add(value[v], load_floats(s.before + v * width));
  }
  if (s.slope != nullptr) {
    for (int v = 0; v < Vectors; ++v) value[v] = scale_negative(value[v], load_floats(s.slope + v * width));
  }
  if (s.after != nullptr) {
    for (int v = 0; v < Vectors; ++v) value[v] = add(value[v], load_floats(s.after + v * width));
  }
  if (s.y != nullptr) {
    float* y = static_cast<float*>(s.y) + (s.y_local ? i : p.y) * s.y_stride;
    float* to = whole ? y : part;
    for (int v = 0; v < Vectors; ++v) store_floats(to + v * width, value[v]);
    if (!whole) std::memcpy(y, part, static_cast<size_t>(s.valid) * sizeof *y);
  }
  if (s.bits != nullptr) {
    uint32_t* words = s.bits + (s.bits_local ? i : p.y) * s.bits_stride;
    for (int word = 0; word < Vectors * width / 32; ++word) {
      uint32_t bits = 0;
      for (int v = 0; v < 32 / width; ++v) {
        const int at = word * (32 / width) + v;
        bits |= not_below(value[at], load_floats(s.next + at * width)) << (v * width);
      }
      if (word * 32 < s.valid) words[word] = bits;
    }
  }
}

template <bnn_output Output, int Vectors>
inline void finish(const Strip& s, int64_t i, const Ints (&count)[Vectors]) {
  const Position& p = s.positions[i];
  if constexpr (Output == BNN_BITS) finish_bits<Vectors>(s, i, p, count);
  if constexpr (Output == BNN_INT32) finish_ints<Vectors>(s, i, p, count);
  if constexpr (Output == BNN_FLOAT32) finish_floats<Vectors>(s, i, p, count);
}

// Strips whose lanes have activation words of their own (depthwise layers and narrow groups).
template <bnn_output Output>
inline void lane_strip_of(Strip s) {
  constexpr int vectors = 32 / width;
  for (int64_t i = 0; i < s.count; ++i) {
    const uint32_t* x = s.positions[i].x + s.x_offset;
    const uint32_t* panel = static_cast<const uint32_t*>(s.panel);
    Ints count[vectors];
    for (int v = 0; v < vectors; ++v) count[v] = zero_ints();
    for (int64_t r = 0; r < s.run_count; ++r) {
      for (int64_t k = 0; k < s.run_words; ++k, panel += 32) {
        const uint32_t* words = x + s.runs[r] + k * s.run_step;
        for (int v = 0; v < vectors; ++v) {
          count[v] = add_mismatches(count[v], load_words(words + v * width), load_words(panel + v * width));
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
