/* A logits processor that lets only even (or odd) token ids through, every `period`-th token of the
 * output excepted. It counts the tokens in its state, to show how state is kept.
 *
 * Configuration: {"period": N}, N >= 1; 0 or absent: no exception.
 * Arguments: {"odd": true} for odd ids; {"fail_at": N}: fails at that position (for tests).
 *
 * The two JSON objects are small and flat, so a search for the key is all that is needed here; use a
 * JSON library for more.
 */
#include <math.h>
#include <pixii/logits_processor.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct parity {
  long period;
};

struct arguments {
  int odd;
  long fail_at; /* -1: never */
};

/* The text behind "key": in `json`, or NULL. */
static const char* value_of(const char* json, size_t size, const char* key) {
  char quoted[32];
  int length = snprintf(quoted, sizeof quoted, "\"%s\":", key);
  for (size_t i = 0; i + (size_t)length <= size; ++i) {
    if (memcmp(json + i, quoted, (size_t)length) == 0) {
      return json + i + length;
    }
  }
  return NULL;
}

static long number_of(const char* json, size_t size, const char* key, long absent) {
  const char* value = value_of(json, size, key);
  char digits[16] = {0};
  if (value == NULL) {
    return absent;
  }
  size_t left = size - (size_t)(value - json);
  memcpy(digits, value, left < sizeof digits - 1 ? left : sizeof digits - 1);
  return strtol(digits, NULL, 10);
}

static void* create(const char* config, size_t size, uint32_t vocab_size, pixii_error_text* error) {
  long period = number_of(config, size, "period", 0);
  (void)vocab_size;
  if (period < 0) {
    snprintf(error->text, error->capacity, "period is %ld; it must be 0 or more", period);
    return NULL;
  }
  struct parity* self = calloc(1, sizeof *self);
  if (self != NULL) {
    self->period = period;
  }
  return self;
}

static void destroy(void* self) { free(self); }

static void* open_request(void* self, const char* json, size_t size, pixii_error_text* error) {
  const char* odd = value_of(json, size, "odd");
  (void)self;
  if (odd != NULL && *odd != 't' && *odd != 'f') {
    snprintf(error->text, error->capacity, "odd is neither true nor false");
    return NULL;
  }
  struct arguments* arguments = calloc(1, sizeof *arguments);
  if (arguments != NULL) {
    arguments->odd = odd != NULL && *odd == 't';
    arguments->fail_at = number_of(json, size, "fail_at", -1);
  }
  return arguments;
}

static void close_request(void* self, void* request) {
  (void)self;
  free(request);
}

static void process_row(const struct parity* self, pixii_logits_row* row) {
  const struct arguments* arguments = row->request;
  uint32_t count = 0;
  if (row->state_size == sizeof count) {
    memcpy(&count, row->state, sizeof count);
  }
  ++count;
  memcpy(row->state, &count, sizeof count);
  row->state_size = sizeof count;
  if (arguments->fail_at >= 0 && (size_t)arguments->fail_at == row->generated_size) {
    row->failed = 1;
    snprintf(row->error.text, row->error.capacity, "it was told to fail at %ld", arguments->fail_at);
    return;
  }
  if (self->period > 0 && count % (uint32_t)self->period == 0) {
    return;
  }
  for (uint32_t id = arguments->odd ? 0 : 1; id < row->vocab_size; id += 2) {
    row->logits[id] = -INFINITY;
  }
}

static void process(void* self, pixii_logits_row* rows, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    process_row(self, &rows[i]);
  }
}

EXPORT const pixii_logits_processor* pixii_logits_processor_entry(uint32_t host_abi) {
  static const pixii_logits_processor kProcessor = {
      PIXII_LOGITS_PROCESSOR_ABI, sizeof kProcessor, "parity",      create,
      destroy,                    open_request,      close_request, process,
  };
  return host_abi == PIXII_LOGITS_PROCESSOR_ABI ? &kProcessor : NULL;
}
