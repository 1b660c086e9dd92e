// What the program and libpixii_cuda.so say to each other: plain functions on plain values.
//
// Thread: one caller per Device. Everything but allocate and synchronize is only queued. A failure
// of the device stays with it and is told by the next synchronize. Read by nvcc and by the host's
// compiler: nothing but <cstddef> and <cstdint> may be included here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pixii::kernels::cuda {

/// Raised with every change below; both sides must have the same.
inline constexpr std::int32_t kAbi = 1;
inline constexpr const char* kLibraryName = "libpixii_cuda.so";
inline constexpr const char* kEntryName = "pixii_cuda_library";

struct Device;  // a GPU, its stream and its first error
struct Graph;   // a recorded step

/// fp32 rows; `stride` floats from one to the next.
struct Rows {
  float* data;
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t stride;
};

enum class Element : std::int32_t { kF32, kBf16, kF16 };

struct Weight {
  const void* data;  // [out_features, in_features]
  Element element;
  const float* bias;  // [out_features] or null
  std::int64_t in_features;
  std::int64_t out_features;
  bool round_input;  // input rows are rounded to bf16 first
  std::int32_t shard_count;
  std::int64_t shard_size;  // elements of K; the last shards may be shorter or empty
};

struct Norm {
  const float* weight = nullptr;  // [cols / segments]
  const float* bias = nullptr;    // [cols / segments] or null
  float weight_offset = 0.0F;
  float epsilon = 0.0F;
  std::int64_t segments = 1;  // equal parts of a row, each with a norm of its own
  bool layer_norm = false;
};

struct Turn {
  const std::int32_t* positions;  // [rows]
  const float* cos;
  const float* sin;
  std::int32_t heads;
  std::int32_t half;
  bool interleaved;
};

/// One layer of a paged KV cache.
struct KvSlices {
  unsigned char* blocks;
  std::int64_t block_size_bytes;
  std::int64_t key_offset_bytes;  // of the first head, in a block
  std::int64_t value_offset_bytes;
  std::int64_t key_slice_size_bytes;
  std::int64_t value_slice_size_bytes;
  std::int32_t block_tokens;
  std::int32_t kv_heads;
  std::int32_t key_dim;
  std::int32_t value_dim;
  Element element;
  bool value_in_key;  // V is a part of K: nothing of it is stored
};

/// As kernels/step.h lays it out.
struct Sequence {
  std::int32_t token_begin;
  std::int32_t token_count;
  std::int32_t context_tokens;
  std::int32_t block_begin;
  std::int32_t block_count;
};

struct Attention {
  const std::int32_t* positions;      // [rows]
  const std::int32_t* row_sequences;  // [rows], -1: a padding row
  const Sequence* sequences;
  const std::int32_t* block_table;
  const float* sinks;  // [heads] or null
  std::int32_t heads;
  float scale;
  std::int32_t window_tokens;  // 0 = all
  float soft_cap;              // 0 = none
  bool bidirectional;
};

/// Functions that may fail return null or a sentence that lives until the device's next call.
struct Library {
  std::int32_t abi;

  const char* (*open)(std::int32_t index, Device** out);
  void (*close)(Device* device);
  const char* (*name)(Device* device);
  const char* (*allocate)(Device* device, std::size_t size_bytes, void** out);  // zeroed
  void (*free)(Device* device, void* data);
  void (*upload)(Device* device, const void* from, void* to, std::size_t size_bytes);
  void (*download)(Device* device, const void* from, void* to, std::size_t size_bytes);
  const char* (*synchronize)(Device* device);

  void (*begin_graph)(Device* device);
  Graph* (*end_graph)(Device* device);  // null if the device failed
  void (*launch_graph)(Device* device, Graph* graph);
  void (*free_graph)(Graph* graph);

  void (*embed)(Device* device, const Weight& table, const std::int32_t* ids, float scale,
                const Rows& out);
  void (*linear)(Device* device, const Rows& in, const Weight& weight, const Rows& out);
  /// in += delta first, if delta.data is not null.
  void (*norm)(Device* device, const Rows& in, const Rows& delta, const Norm& norm,
               const Rows& out);
  void (*add)(Device* device, const Rows& residual, const Rows& delta);
  void (*rotary)(Device* device, const Rows& x, const Turn& turn);
  void (*store_kv)(Device* device, const Rows& k, const Rows& v, const std::int32_t* slots,
                   const KvSlices& cache);
  void (*attention)(Device* device, const Rows& q, const KvSlices& cache, const Attention& options,
                    const Rows& out);
  /// out = act(in) * up where up.data is not null, else act(in). Activations as in operators.h.
  void (*activate)(Device* device, const Rows& in, const Rows& up, std::int32_t activation,
                   const Rows& out);
  void (*gather)(Device* device, const Rows& in, const std::int32_t* rows, const Rows& out);
  void (*find_non_finite)(Device* device, const Rows& in, std::int32_t* flags);
};

/// The library's one symbol, kEntryName: `extern "C" const Library* pixii_cuda_library()`.
using Entry = const Library* (*)();

}  // namespace pixii::kernels::cuda
