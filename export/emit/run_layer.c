/* Runs one layer: packed bits in, its output out as text, one element a line (and behind it its packed bits, if any).
 *
 *   run_layer BATCH SIZE... < BITS
 *
 * SIZE... are the spatial sizes of the input (none for a dense layer, whose rows BATCH counts); BITS are its 32-bit words
 * [BATCH, SIZE..., words]. A residual counts as 0.
 *
 *   cc -I INCLUDE run_layer.c -L FOLDER -lbnnapps
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* HEADER */

#ifdef KIND_DENSE
#define RANK 0
#define CHANNELS LAYER(terms)
#define OUTPUTS LAYER(outputs)
#else
#define RANK LAYER(shape).rank
#define CHANNELS LAYER(shape).channels
#define OUTPUTS LAYER(shape).outputs
#endif

static void check(bnn_status status) {
  if (status == BNN_OK) return;
  fprintf(stderr, "%s\n", bnn_last_error());
  exit(1);
}

static void* room(size_t count, size_t size) {
  void* made = calloc(count > 0 ? count : 1, size);
  if (made != NULL) return made;
  fprintf(stderr, "out of memory\n");
  exit(1);
}

int main(int count, char** arguments) {
  int64_t batch, size[3] = {1, 1, 1}, output[3] = {1, 1, 1};
  if (count != 2 + RANK) {
    fprintf(stderr, "expected the batch and %d sizes\n", (int)RANK);
    return 1;
  }
  batch = strtoll(arguments[1], NULL, 10);
  for (int d = 0; d < RANK; ++d) size[d] = strtoll(arguments[2 + d], NULL, 10);

#if defined(KIND_CONV)
  bnn_conv* layer;
  check(bnn_conv_create(&LAYER(shape), LAYER(weight), sizeof LAYER(weight), &layer));
  check(bnn_conv_output_size(layer, size, output));
#elif defined(KIND_TRANSPOSED)
  bnn_transposed* layer;
  check(bnn_transposed_create(&LAYER(shape), LAYER(weight), sizeof LAYER(weight), &layer));
  check(bnn_transposed_output_size(layer, size, output));
#else
  bnn_dense* layer;
  check(bnn_dense_create(CHANNELS, OUTPUTS, LAYER(codes), LAYER(weight), sizeof LAYER(weight), &layer));
#endif

  const size_t inputs = (size_t)(batch * size[0] * size[1] * size[2]) * bnn_words((size_t)CHANNELS);
  const size_t positions = (size_t)(batch * output[0] * output[1] * output[2]);
  const size_t values = positions * (size_t)OUTPUTS, words = positions * bnn_words((size_t)OUTPUTS);
  uint32_t* bits = (uint32_t*)room(inputs, sizeof *bits);
  if (fread(bits, sizeof *bits, inputs, stdin) != inputs) {
    fprintf(stderr, "the input has fewer than %zu words\n", inputs);
    return 1;
  }

  bnn_epilogue epilogue = LAYER(epilogue);
  epilogue.y = room(values > words ? values : words, 4);
  if (epilogue.next != NULL) epilogue.bits = (uint32_t*)room(words, sizeof(uint32_t));
#if defined(KIND_CONV)
  check(bnn_conv_run(layer, bits, batch, size, &epilogue, NULL));
  bnn_conv_destroy(layer);
#elif defined(KIND_TRANSPOSED)
  check(bnn_transposed_run(layer, bits, batch, size, &epilogue, NULL));
  bnn_transposed_destroy(layer);
#else
  check(bnn_dense_run(layer, bits, batch, &epilogue, NULL));
  bnn_dense_destroy(layer);
#endif

  for (size_t i = 0; i < (epilogue.output == BNN_BITS ? words : values); ++i) {
    if (epilogue.output == BNN_BITS) printf("%" PRIu32 "\n", ((const uint32_t*)epilogue.y)[i]);
    if (epilogue.output == BNN_INT32) printf("%" PRId32 "\n", ((const int32_t*)epilogue.y)[i]);
    if (epilogue.output == BNN_FLOAT32) printf("%.9g\n", (double)((const float*)epilogue.y)[i]);
  }
  for (size_t i = 0; epilogue.bits != NULL && i < words; ++i) printf("%" PRIu32 "\n", epilogue.bits[i]);
  free(bits);
  free(epilogue.y);
  free(epilogue.bits);
  return 0;
}
