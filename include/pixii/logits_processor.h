/* The C ABI of a logits processor plug-in: a shared object that `pixii serve --logits-processor
 * ./my_processor.so` loads and that requests ask for in `nvext.logits_processors`.
 * examples/logits_processor/ is a whole one.
 *
 * Thread: all functions are called on one thread, never two at a time.
 * The plug-in exports `pixii_logits_processor_entry`. What `process` does to a row must depend on
 * what the row says alone, never on other rows or earlier calls: a request may be put back and
 * computed again, or go on in another process, from its tokens and its state bytes.
 * Within one ABI number structures only grow at their end, and `size` says how much is there.
 */
#ifndef PIXII_LOGITS_PROCESSOR_H_
#define PIXII_LOGITS_PROCESSOR_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PIXII_LOGITS_PROCESSOR_ABI 1u
/* Bytes of state that a choice may keep, all its processors together. */
#define PIXII_LOGITS_STATE_BYTES_MAX 4096u

/* Text of an error; the plug-in writes a terminated string of at most `capacity` bytes. */
#ifndef PIXII_ERROR_TEXT_
#define PIXII_ERROR_TEXT_
typedef struct pixii_error_text {
  char* text;
  size_t capacity;
} pixii_error_text;
#endif

/* One row of logits: the next token of one choice of one request. */
typedef struct pixii_logits_row {
  size_t size; /* of this structure, in bytes */
  uint64_t request_id;
  uint32_t choice;
  uint32_t vocab_size;
  void* request; /* what `open` returned for the request's arguments */
  const int32_t* prompt;
  size_t prompt_size;
  const int32_t* generated; /* the output so far; its size is the position */
  size_t generated_size;
  float* logits;      /* [vocab_size], changed in place; -INFINITY takes a token away */
  uint8_t* state;     /* in and out: bytes that the tokens cannot give back */
  size_t state_size;  /* in and out: how many; 0 at the start of a choice */
  size_t state_capacity;
  int32_t failed; /* out: not 0 if the row could not be processed */
  pixii_error_text error; /* out, with failed */
} pixii_logits_row;

typedef struct pixii_logits_processor {
  uint32_t abi;  /* PIXII_LOGITS_PROCESSOR_ABI of the header it was built with */
  size_t size;   /* of this structure, in bytes */
  const char* name; /* as requests ask for it */

  /* Makes the processor from its JSON configuration. Returns NULL and an error text, or what the
   * other functions get as `self` (any other pointer). */
  void* (*create)(const char* config_json, size_t config_size, uint32_t vocab_size,
                  pixii_error_text* error);
  void (*destroy)(void* self);

  /* Checks one request's arguments, a JSON object. Returns NULL and an error text, which the client
   * gets with status 400, or what rows carry as `request` (any other pointer). */
  void* (*open)(void* self, const char* arguments_json, size_t arguments_size,
                pixii_error_text* error);
  void (*close)(void* self, void* request);

  /* Changes `count` rows of one step. */
  void (*process)(void* self, pixii_logits_row* rows, size_t count);
} pixii_logits_processor;

/* Exported by the plug-in. `host_abi` is the number the host speaks; NULL if that will not do. The
 * structure lives as long as the plug-in is loaded. */
const pixii_logits_processor* pixii_logits_processor_entry(uint32_t host_abi);

#ifdef __cplusplus
}
#endif

#endif /* PIXII_LOGITS_PROCESSOR_H_ */
