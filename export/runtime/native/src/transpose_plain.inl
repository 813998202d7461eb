// Transposing floats without vector instructions (see epilogue.inl for how it is included).

inline void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to,
                      int64_t to_stride) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) std::memcpy(to + c * to_stride + r, from + r * from_stride + c, sizeof *to);
  }
}
