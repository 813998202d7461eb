// Vectors of 8 lanes for the epilogue and the packing (see epilogue.inl).

constexpr int width = 8;
using Ints = __m256i;
using Floats = __m256;

inline Ints zero_ints() { return _mm256_setzero_si256(); }
inline Ints load_ints(const int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline Ints load_words(const uint32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline void store_ints(int32_t* to, Ints a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), a); }
inline Ints add_ints(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
inline Ints subtract(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
inline Ints shift_left(Ints a, int by) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(by)); }
inline Floats to_floats(Ints a) { return _mm256_cvtepi32_ps(a); }
inline Floats load_floats(const float* from) { return _mm256_loadu_ps(from); }
inline void store_floats(float* to, Floats a) { _mm256_storeu_ps(to, a); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats scale_negative(Floats a, Floats slope) {
  const Floats negative = _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_LT_OQ);
  return _mm256_blendv_ps(a, _mm256_mul_ps(a, slope), negative);
}
inline uint32_t not_above(Ints a, Ints b) {
  const int above = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b)));
  return ~static_cast<uint32_t>(above) & 0xffu;
}
inline uint32_t not_below(Floats a, Floats b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
}
inline Ints set_bit(Ints packed, Floats a, float threshold, int at) {
  const Ints high = _mm256_castps_si256(_mm256_cmp_ps(a, _mm256_set1_ps(threshold), _CMP_GE_OQ));
  return _mm256_or_si256(packed, _mm256_and_si256(high, _mm256_set1_epi32(static_cast<int>(1u << at))));
}
// The ones of every byte, by two look-ups of nibbles.
inline Ints byte_counts(Ints a) {
  const Ints table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2,
                                      3, 2, 3, 3, 4);
  const Ints nibble = _mm256_set1_epi8(15);
  const Ints low = _mm256_shuffle_epi8(table, _mm256_and_si256(a, nibble));
  const Ints high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(a, 4), nibble));
  return _mm256_add_epi8(low, high);
}
inline Ints add_mismatches(Ints count, Ints x, Ints w) {
  const Ints pairs = _mm256_maddubs_epi16(byte_counts(_mm256_xor_si256(x, w)), _mm256_set1_epi8(1));
  return _mm256_add_epi32(count, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
