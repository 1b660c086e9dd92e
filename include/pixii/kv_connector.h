/* The C ABI of a KV connector plug-in: a shared object that `pixii serve --kv-connector
 * ./my_cache.so` loads, and that keeps KV blocks for it wherever it likes. docs/kvbm.md;
 * examples/kv_connector/ is a whole one.
 *
 * The verbs are those of TensorRT-LLM's and vLLM's connectors: matched tokens, state after
 * allocation, per-step metadata, request finished.
 * Thread: all functions of one connector but `create` are called on one thread of its own, never
 * two at a time, and not on the engine's: a function that waits delays nobody but the requests that want blocks
 * of it, and those no longer than --kv-load-time. Each rank has a connector of its own.
 * A block's record is opaque, of the same size for all, and proves itself: what is brought must be,
 * byte for byte, what was offered under the same key. Anything else is thrown away, counted and
 * computed. A plug-in may forget any record at any time.
 * Within one ABI number structures only grow at their end, and `size` says how much is there.
 */
#ifndef PIXII_KV_CONNECTOR_H_
#define PIXII_KV_CONNECTOR_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PIXII_KV_CONNECTOR_ABI 1u
#define PIXII_KV_KEY_BYTES 16u

/* Text of an error; the plug-in writes a terminated string of at most `capacity` bytes. */
#ifndef PIXII_ERROR_TEXT_
#define PIXII_ERROR_TEXT_
typedef struct pixii_error_text {
  char* text;
  size_t capacity;
} pixii_error_text;
#endif

/* What all blocks of one engine have in common. */
typedef struct pixii_kv_geometry {
  size_t size; /* of this structure, in bytes */
  uint32_t rank;
  uint32_t block_tokens;
  size_t record_bytes;           /* of a block as the plug-in gets it */
  const char* model_fingerprint; /* these three differ: no block is of use to the other */
  const char* numerics_id;
  const char* kv_dtype;
} pixii_kv_geometry;

/* The name of a block: a keyed hash of its tokens and all before them, and of whose it is. */
typedef struct pixii_kv_key {
  uint8_t bytes[PIXII_KV_KEY_BYTES];
} pixii_kv_key;

/* A request, as long as the call lasts. */
typedef struct pixii_kv_request {
  size_t size; /* of this structure, in bytes */
  uint64_t id;
  const char* tenant; /* terminated; empty: none */
  int32_t priority;   /* higher first */
  const int32_t* tokens;
  size_t token_count; /* a multiple of block_tokens */
  const pixii_kv_key* keys; /* of its blocks, first to last */
  size_t key_count;
} pixii_kv_request;

/* A block that has room and waits for its record. */
typedef struct pixii_kv_target {
  pixii_kv_key key;
  void* record; /* to be filled; good until the call returns */
  size_t record_capacity;
  size_t record_size; /* out: bytes written; 0: it is not there */
} pixii_kv_target;

/* A block that a step computed. */
typedef struct pixii_kv_block {
  pixii_kv_key key;
  pixii_kv_key parent;  /* of a first block the name of what all its requests share */
  uint32_t index;       /* in its chain, from 0 */
  const void* record;   /* good until the call returns */
  size_t record_size;
} pixii_kv_block;

/* What one step did. */
typedef struct pixii_kv_step {
  size_t size; /* of this structure, in bytes */
  const pixii_kv_block* blocks; /* that it computed: to be kept, or not */
  size_t block_count;
} pixii_kv_step;

typedef struct pixii_kv_connector {
  uint32_t abi;     /* PIXII_KV_CONNECTOR_ABI of the header it was built with */
  size_t size;      /* of this structure, in bytes */
  const char* name; /* for logs */

  /* Makes a connector from its JSON configuration. Returns NULL and an error text, or what the
   * other functions get as `self` (any other pointer). */
  void* (*create)(const char* config_json, size_t config_size, const pixii_kv_geometry* geometry,
                  pixii_error_text* error);
  void (*destroy)(void* self);

  /* How many tokens of the request behind its first `computed_tokens` could be brought, without a
   * gap. Whole blocks count. */
  size_t (*matched_tokens)(void* self, const pixii_kv_request* request, size_t computed_tokens);

  /* The engine has made room for `count` blocks of it, the first of which is the one behind
   * `computed_tokens`: fills them, in order. May be called with fewer than were matched. */
  void (*allocated)(void* self, const pixii_kv_request* request, size_t computed_tokens,
                    pixii_kv_target* targets, size_t count);

  /* A step is done. */
  void (*step)(void* self, const pixii_kv_step* step);

  /* The request has ended, well or not; it is named no more. */
  void (*finished)(void* self, uint64_t request_id);
} pixii_kv_connector;

/* Exported by the plug-in. `host_abi` is the number the host speaks; NULL if that will not do. The
 * structure lives as long as the plug-in is loaded. */
const pixii_kv_connector* pixii_kv_connector_entry(uint32_t host_abi);

#ifdef __cplusplus
}
#endif

#endif /* PIXII_KV_CONNECTOR_H_ */
