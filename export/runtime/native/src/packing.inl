// Packing floats into bits, in terms of the vectors of an instruction set (see epilogue.inl for how it is included).

inline void pack_rows(const float* x, int64_t rows, int64_t channels, const float* threshold, uint32_t* bits) {
  for (int64_t row = 0; row < rows; ++row, x += channels) {
    int64_t c = 0;
    for (; c + 32 <= channels; c += 32) {
      uint32_t word = 0;
      for (int v = 0; v < 32; v += width) {
        word |= not_below(load_floats(x + c + v), load_floats(threshold + c + v)) << v;
      }
      *bits++ = word;
    }
    if (c < channels) {
      uint32_t word = 0;
      for (int v = 0; c + v < channels; ++v) word |= static_cast<uint32_t>(x[c + v] >= threshold[c + v]) << v;
      *bits++ = word;
    }
  }
}

// Takes `width` positions at a time: the comparison of a channel gives one bit for each of them, which is shifted to
// its place in the word of its position.
inline void pack_columns(const float* x, int64_t channels, int64_t inner, int64_t begin, int64_t end,
                         const float* threshold, uint32_t* bits) {
  const int64_t words = (channels + 31) / 32;
  for (int64_t word = 0; word < words; ++word) {
    const int64_t first = word * 32, last = first + 32 < channels ? first + 32 : channels;
    int64_t i = begin;
    for (; i + width <= end; i += width) {
      Ints packed = zero_ints();
      for (int64_t c = first; c < last; ++c) {
        packed = set_bit(packed, load_floats(x + c * inner + i), threshold[c], static_cast<int>(c - first));
      }
      alignas(64) int32_t out[width];
      store_ints(out, packed);
      for (int v = 0; v < width; ++v) bits[(i + v) * words + word] = static_cast<uint32_t>(out[v]);
    }
    for (; i < end; ++i) {
      uint32_t packed = 0;
      for (int64_t c = first; c < last; ++c) {
        packed |= static_cast<uint32_t>(x[c * inner + i] >= threshold[c]) << (c - first);
      }
      bits[i * words + word] = packed;
    }
  }
}
