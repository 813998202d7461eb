// Loads and stores of the first `count` lanes, if there are as many; the others of what is loaded are 0. For
// instruction sets without masks.

inline Floats load_first(const float* from, int64_t count) {
  float part[width] = {};
  for (int64_t i = 0; i < count && i < width; ++i) part[i] = from[i];
  return load_floats(part);
}
inline void store_first(float* to, Floats a, int64_t count) {
  float part[width];
  store_floats(part, a);
  for (int64_t i = 0; i < count && i < width; ++i) to[i] = part[i];
}
inline void store_first_ints(int32_t* to, Ints a, int64_t count) {
  int32_t part[width];
  store_ints(part, a);
  for (int64_t i = 0; i < count && i < width; ++i) to[i] = part[i];
}
