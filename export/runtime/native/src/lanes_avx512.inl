// Vectors of 16 lanes for the epilogue and the packing (see epilogue.inl).

constexpr int width = 16;
using Ints = __m512i;
using Floats = __m512;

inline Ints zero_ints() { return _mm512_setzero_si512(); }
inline Ints load_ints(const int32_t* from) { return _mm512_loadu_si512(from); }
inline Ints load_words(const uint32_t* from) { return _mm512_loadu_si512(from); }
inline void store_ints(int32_t* to, Ints a) { _mm512_storeu_si512(to, a); }
inline Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints subtract(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
inline Ints shift_left(Ints a, int by) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(by)); }
inline Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
inline Floats load_floats(const float* from) { return _mm512_loadu_ps(from); }
inline void store_floats(float* to, Floats a) { _mm512_storeu_ps(to, a); }
// The first `count` lanes, if there are as many; the others of what is loaded are 0.
inline __mmask16 first_lanes(int64_t count) {
  return count <= 0 ? 0 : static_cast<__mmask16>(count >= width ? 0xffff : (1u << count) - 1);
}
inline Floats load_first(const float* from, int64_t count) { return _mm512_maskz_loadu_ps(first_lanes(count), from); }
inline void store_first(float* to, Floats a, int64_t count) { _mm512_mask_storeu_ps(to, first_lanes(count), a); }
inline void store_first_ints(int32_t* to, Ints a, int64_t count) {
  _mm512_mask_storeu_epi32(to, first_lanes(count), a);
}
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats scale_negative(Floats a, Floats slope) {
  return _mm512_mask_mul_ps(a, _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_LT_OQ), a, slope);
}
inline uint32_t not_above(Ints a, Ints b) { return _mm512_cmp_epi32_mask(a, b, _MM_CMPINT_LE); }
inline uint32_t not_below(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
inline Ints set_bit(Ints packed, Floats a, float threshold, int at) {
  const __mmask16 high = _mm512_cmp_ps_mask(a, _mm512_set1_ps(threshold), _CMP_GE_OQ);
  return _mm512_mask_or_epi32(packed, high, packed, _mm512_set1_epi32(static_cast<int>(1u << at)));
}
inline Ints add_mismatches(Ints count, Ints x, Ints w) {
  return _mm512_add_epi32(count, _mm512_popcnt_epi32(_mm512_xor_si512(x, w)));
}
