/* A KV connector that keeps blocks in host memory: a table of fixed size in which a new block takes
 * the place of whatever stood where its key points. Configuration: {"blocks": N}; 1024 without. */
#include <pixii/kv_connector.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct {
  int used;
  pixii_kv_key key;
  unsigned char* record; /* [record_bytes] */
} slot;

typedef struct {
  size_t record_bytes;
  size_t block_tokens;
  size_t slot_count;
  slot* slots;
} cache;

static void* fail(pixii_error_text* error, const char* what) {
  snprintf(error->text, error->capacity, "%s", what);
  return NULL;
}

static void destroy(void* self) {
  cache* mine = self;
  for (size_t i = 0; i < mine->slot_count; ++i) {
    free(mine->slots[i].record);
  }
  free(mine->slots);
  free(mine);
}

static void* create(const char* config, size_t size, const pixii_kv_geometry* geometry,
                    pixii_error_text* error) {
  char text[256] = {0};
  long blocks = 1024;
  if (size >= sizeof text) {
    return fail(error, "the configuration is too long");
  }
  memcpy(text, config, size);
  const char* field = strstr(text, "\"blocks\":");
  if (field != NULL) {
    blocks = strtol(field + strlen("\"blocks\":"), NULL, 10);
  }
  if (blocks < 1 || blocks > 1 << 24) {
    return fail(error, "blocks must be 1 to 16777216");
  }
  cache* mine = calloc(1, sizeof *mine);
  slot* slots = calloc((size_t)blocks, sizeof *slots);
  if (mine == NULL || slots == NULL) {
    free(mine);
    free(slots);
    return fail(error, "no memory");
  }
  mine->record_bytes = geometry->record_bytes;
  mine->block_tokens = geometry->block_tokens;
  mine->slot_count = (size_t)blocks;
  mine->slots = slots;
  return mine;
}

/* Keys are hashes already: any of their bytes will do. */
static slot* place_of(cache* mine, const pixii_kv_key* key) {
  uint64_t number;
  memcpy(&number, key->bytes, sizeof number);
  return &mine->slots[number % mine->slot_count];
}

static slot* find(cache* mine, const pixii_kv_key* key) {
  slot* place = place_of(mine, key);
  return place->used && memcmp(&place->key, key, sizeof *key) == 0 ? place : NULL;
}

static size_t matched_tokens(void* self, const pixii_kv_request* request, size_t computed_tokens) {
  cache* mine = self;
  size_t first = computed_tokens / mine->block_tokens;
  size_t end = first;
  while (end < request->key_count && find(mine, &request->keys[end]) != NULL) {
    ++end;
  }
  return (end - first) * mine->block_tokens;
}

static void allocated(void* self, const pixii_kv_request* request, size_t computed_tokens,
                      pixii_kv_target* targets, size_t count) {
  cache* mine = self;
  (void)request;
  (void)computed_tokens;
  for (size_t i = 0; i < count; ++i) {
    const slot* place = find(mine, &targets[i].key);
    if (place == NULL) {
      return; /* its size stays 0: it is not there */
    }
    memcpy(targets[i].record, place->record, mine->record_bytes);
    targets[i].record_size = mine->record_bytes;
  }
}

static void step(void* self, const pixii_kv_step* done) {
  cache* mine = self;
  for (size_t i = 0; i < done->block_count; ++i) {
    const pixii_kv_block* block = &done->blocks[i];
    slot* place = place_of(mine, &block->key);
    if (place->record == NULL) {
      place->record = malloc(mine->record_bytes);
    }
    if (place->record != NULL && block->record_size == mine->record_bytes) {
      memcpy(place->record, block->record, mine->record_bytes);
      place->key = block->key;
      place->used = 1;
    }
  }
}

static void finished(void* self, uint64_t request_id) {
  (void)self;
  (void)request_id; /* nothing is kept by request */
}

EXPORT const pixii_kv_connector* pixii_kv_connector_entry(uint32_t host_abi) {
  static const pixii_kv_connector kConnector = {
      PIXII_KV_CONNECTOR_ABI, sizeof kConnector, "memory_cache", create, destroy,
      matched_tokens,         allocated,         step,           finished,
  };
  return host_abi == PIXII_KV_CONNECTOR_ABI ? &kConnector : NULL;
}
