// Vectors of 4 lanes for the epilogue and the packing (see epilogue.inl).

constexpr int width = 4;
using Ints = int32x4_t;
using Floats = float32x4_t;

inline Ints zero_ints() { return vdupq_n_s32(0); }
inline Ints load_ints(const int32_t* from) { return vld1q_s32(from); }
inline Ints load_words(const uint32_t* from) { return vreinterpretq_s32_u32(vld1q_u32(from)); }
inline void store_ints(int32_t* to, Ints a) { vst1q_s32(to, a); }
inline Ints add_ints(Ints a, Ints b) { return vaddq_s32(a, b); }
inline Ints subtract(Ints a, Ints b) { return vsubq_s32(a, b); }
inline Ints shift_left(Ints a, int by) { return vshlq_s32(a, vdupq_n_s32(by)); }
inline Floats load_floats(const float* from) { return vld1q_f32(from); }
inline void store_floats(float* to, Floats a) { vst1q_f32(to, a); }
inline Floats to_floats(Ints a) { return vcvtq_f32_s32(a); }
inline Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
inline Floats multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
inline Floats scale_negative(Floats a, Floats slope) {
  return vbslq_f32(vcltq_f32(a, vdupq_n_f32(0.0f)), vmulq_f32(a, slope), a);
}
// One bit per lane of a comparison.
inline uint32_t lane_bits(uint32x4_t mask) {
  const uint32_t weights[4] = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(mask, vld1q_u32(weights)));
}
inline uint32_t not_above(Ints a, Ints b) { return lane_bits(vcleq_s32(a, b)); }
inline uint32_t not_below(Floats a, Floats b) { return lane_bits(vcgeq_f32(a, b)); }
inline Ints set_bit(Ints packed, Floats a, float threshold, int at) {
  const uint32x4_t high = vcgeq_f32(a, vdupq_n_f32(threshold));
  const uint32x4_t bit = vandq_u32(high, vdupq_n_u32(1u << at));
  return vreinterpretq_s32_u32(vorrq_u32(vreinterpretq_u32_s32(packed), bit));
}
inline uint8x16_t byte_mismatches(Ints x, Ints w) { return vcntq_u8(vreinterpretq_u8_s32(veorq_s32(x, w))); }
inline Ints add_mismatches(Ints count, Ints x, Ints w) {
  return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(count), vpaddlq_u8(byte_mismatches(x, w))));
}
