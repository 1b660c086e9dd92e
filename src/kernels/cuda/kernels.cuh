// The operators as CUDA kernels: plain, each output computed in one order whatever the row count.
//
// Compiled with -fmad=false: each + and * rounds once; a fused one is written fmaf.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/cuda_abi.h"

namespace pixii::kernels::cuda {

constexpr int kWarp = 32;
constexpr int kRowThreads = 256;       // of row-wise kernels
constexpr int kLinearWarps = 8;        // outputs of a block
constexpr int kChunk = 8;              // elements of K that a lane takes at once
constexpr int kAttentionThreads = 128;
constexpr int kTile = 64;              // positions of a tile of attention
constexpr int kValuesPerThread = 5;    // 128 * 5 >= 576, kHeadDimMax

template <class T>
__device__ float ToFloat(T value);

template <>
__device__ inline float ToFloat(float value) {
  return value;
}

template <>
__device__ inline float ToFloat(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

template <>
__device__ inline float ToFloat(__half value) {
  return __half2float(value);
}

template <class T>
__device__ T FromFloat(float value);

template <>
__device__ inline float FromFloat(float value) {
  return value;
}

/// As Bf16FromFloat: a NaN keeps its sign and upper bits.
template <>
__device__ inline __nv_bfloat16 FromFloat(float value) {
  if (isnan(value)) {
    return __ushort_as_bfloat16(
        static_cast<unsigned short>((__float_as_uint(value) >> 16U) | 0x0040U));
  }
  return __float2bfloat16_rn(value);
}

/// As F16FromFloat: a NaN keeps its sign and upper bits.
template <>
__device__ inline __half FromFloat(float value) {
  if (isnan(value)) {
    const unsigned bits = __float_as_uint(value);
    return __ushort_as_half(static_cast<unsigned short>(((bits >> 16U) & 0x8000U) | 0x7E00U |
                                                        ((bits >> 13U) & 0x3FFU)));
  }
  return __float2half_rn(value);
}

__device__ inline float WarpSum(float value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, distance);
  }
  return value;
}

/// Sum over all kRowThreads threads, the same in each.
__device__ inline float BlockSum(float value) {
  __shared__ float sums[kRowThreads / kWarp];
  value = WarpSum(value);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) {
    sums[threadIdx.x / kWarp] = value;
  }
  __syncthreads();
  float total = 0.0F;
  for (int i = 0; i < kRowThreads / kWarp; ++i) {
    total += sums[i];
  }
  return total;
}

template <class T>
__global__ void EmbedKernel(const T* table, const std::int32_t* ids, float scale, Rows out) {
  const std::int64_t row = blockIdx.x;
  const T* from = table + ids[row] * out.cols;
  for (std::int64_t i = threadIdx.x; i < out.cols; i += blockDim.x) {
    out.data[row * out.stride + i] = ToFloat(from[i]) * scale;
  }
}

/// Chunk of kChunk weights from `from`, of which `count` are inside the shard.
template <class T, bool kAligned>
__device__ inline void LoadChunk(const T* from, std::int64_t count, float (&to)[kChunk]) {
  if (kAligned && count >= kChunk) {
    alignas(16) T raw[kChunk];
    for (int part = 0; part < static_cast<int>(sizeof(raw) / 16); ++part) {
      reinterpret_cast<int4*>(raw)[part] = reinterpret_cast<const int4*>(from)[part];
    }
    for (int j = 0; j < kChunk; ++j) {
      to[j] = ToFloat(raw[j]);
    }
    return;
  }
  for (int j = 0; j < kChunk; ++j) {
    to[j] = j < count ? ToFloat(from[j]) : 0.0F;
  }
}

/// A warp computes one output of kRows rows. The order of a sum: lane i takes chunks i, i + 32, … of
/// a shard, ascending; lanes are joined by halves; shards ((0+1)+(2+3))+((4+5)+(6+7)). kRows does
/// not enter, so neither does the row count.
template <class T, bool kAligned, int kRows>
__global__ void LinearKernel(Rows in, Weight weight, Rows out) {
  const int lane = threadIdx.x % kWarp;
  const std::int64_t n = std::int64_t{blockIdx.x} * kLinearWarps + threadIdx.x / kWarp;
  const std::int64_t first = std::int64_t{blockIdx.y} * kRows;
  if (n >= out.cols) {
    return;
  }
  const T* row = static_cast<const T*>(weight.data) + n * weight.in_features;
  float shards[8][kRows] = {};
#pragma unroll
  for (int shard = 0; shard < 8; ++shard) {
    if (shard >= weight.shard_count) {
      break;
    }
    const std::int64_t begin = min(weight.in_features, shard * weight.shard_size);
    const std::int64_t end = min(weight.in_features, begin + weight.shard_size);
    float sums[kRows] = {};
    for (std::int64_t k = begin + lane * kChunk; k < end; k += kWarp * kChunk) {
      float w[kChunk];
      LoadChunk<T, kAligned>(row + k, end - k, w);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (first + r < in.rows) {
          const float* x = in.data + (first + r) * in.stride + k;
#pragma unroll
          for (int j = 0; j < kChunk; ++j) {
            if (k + j < end) {
              const float value =
                  weight.round_input ? __bfloat162float(__float2bfloat16_rn(x[j])) : x[j];
              sums[r] = fmaf(value, w[j], sums[r]);
            }
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      shards[shard][r] = WarpSum(sums[r]);
    }
  }
  if (lane != 0) {
    return;
  }
  for (int r = 0; r < kRows; ++r) {
    if (first + r < in.rows) {
      const float sum =
          weight.shard_count == 1
              ? shards[0][r]
              : ((shards[0][r] + shards[1][r]) + (shards[2][r] + shards[3][r])) +
                    ((shards[4][r] + shards[5][r]) + (shards[6][r] + shards[7][r]));
      out.data[(first + r) * out.stride + n] =
          weight.bias != nullptr ? sum + weight.bias[n] : sum;
    }
  }
}

__global__ void NormKernel(Rows in, Rows delta, Norm norm, Rows out) {
  const std::int64_t row = blockIdx.x / norm.segments;
  const std::int64_t count = in.cols / norm.segments;
  const std::int64_t column = blockIdx.x % norm.segments * count;
  float* x = in.data + row * in.stride + column;
  float* y = out.data + row * out.stride + column;
  float sum = 0.0F;
  for (std::int64_t i = threadIdx.x; i < count; i += kRowThreads) {
    if (delta.data != nullptr) {
      x[i] += delta.data[row * delta.stride + column + i];
    }
    sum = norm.layer_norm ? sum + x[i] : fmaf(x[i], x[i], sum);
  }
  sum = BlockSum(sum);
  float mean = 0.0F;
  if (norm.layer_norm) {
    mean = sum / static_cast<float>(count);
    sum = 0.0F;
    for (std::int64_t i = threadIdx.x; i < count; i += kRowThreads) {
      const float centered = x[i] - mean;
      sum = fmaf(centered, centered, sum);
    }
    sum = BlockSum(sum);
  }
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(count) + norm.epsilon);
  for (std::int64_t i = threadIdx.x; i < count; i += kRowThreads) {
    const float scaled = (x[i] - mean) * factor * (norm.weight[i] + norm.weight_offset);
    y[i] = norm.bias != nullptr ? scaled + norm.bias[i] : scaled;
  }
}

__global__ void AddKernel(Rows residual, Rows delta) {
  const std::int64_t row = blockIdx.x;
  for (std::int64_t i = threadIdx.x; i < residual.cols; i += blockDim.x) {
    residual.data[row * residual.stride + i] += delta.data[row * delta.stride + i];
  }
}

__global__ void RotaryKernel(Rows x, Turn turn) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t head_dim = x.cols / turn.heads;
  const std::int64_t table = std::int64_t{turn.positions[row]} * turn.half;
  for (int i = threadIdx.x; i < turn.heads * turn.half; i += blockDim.x) {
    const int pair = i % turn.half;
    float* head = x.data + row * x.stride + i / turn.half * head_dim;
    float& first = turn.interleaved ? head[2 * pair] : head[pair];
    float& second = turn.interleaved ? head[2 * pair + 1] : head[pair + turn.half];
    const float cos = turn.cos[table + pair];
    const float sin = turn.sin[table + pair];
    const float turned = first * cos - second * sin;
    second = second * cos + first * sin;
    first = turned;
  }
}

template <class T>
__global__ void StoreKvKernel(Rows k, Rows v, const std::int32_t* slots, KvSlices cache) {
  const std::int64_t row = blockIdx.x;
  const std::int32_t slot = slots[row];
  if (slot < 0) {
    return;
  }
  unsigned char* block = cache.blocks + slot / cache.block_tokens * cache.block_size_bytes;
  const std::int64_t token = slot % cache.block_tokens;
  for (std::int64_t i = threadIdx.x; i < k.cols; i += blockDim.x) {
    unsigned char* slice =
        block + cache.key_offset_bytes + i / cache.key_dim * cache.key_slice_size_bytes;
    reinterpret_cast<T*>(slice)[token * cache.key_dim + i % cache.key_dim] =
        FromFloat<T>(k.data[row * k.stride + i]);
  }
  for (std::int64_t i = threadIdx.x; !cache.value_in_key && i < v.cols; i += blockDim.x) {
    unsigned char* slice =
        block + cache.value_offset_bytes + i / cache.value_dim * cache.value_slice_size_bytes;
    reinterpret_cast<T*>(slice)[token * cache.value_dim + i % cache.value_dim] =
        FromFloat<T>(v.data[row * v.stride + i]);
  }
}

/// One block per (row, head), over tiles of kTile positions at absolute multiples of kTile: a row's
/// sums do not depend on the step it is in.
template <class T>
__global__ void AttentionKernel(Rows q, KvSlices cache, Attention options, Rows out) {
  const std::int64_t row = blockIdx.x;
  const int head = blockIdx.y;
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  float* to = out.data + row * out.stride + std::int64_t{head} * cache.value_dim;
  if (options.row_sequences[row] < 0) {
    for (int d = threadIdx.x; d < cache.value_dim; d += kAttentionThreads) {
      to[d] = 0.0F;
    }
    return;
  }
  const Sequence sequence = options.sequences[options.row_sequences[row]];
  const std::int32_t* table = options.block_table + sequence.block_begin;
  const int position = options.positions[row];
  const int window = options.window_tokens;
  const int begin = window > 0 ? max(0, position - window + 1) : 0;
  int end = position + 1;
  if (options.bidirectional) {
    end = window > 0 ? min(sequence.context_tokens, position + window) : sequence.context_tokens;
  }
  const int kv_head = head / (options.heads / cache.kv_heads);
  const std::int64_t key_offset =
      cache.key_offset_bytes + kv_head * cache.key_slice_size_bytes;
  const std::int64_t value_offset =
      cache.value_in_key ? key_offset
                         : cache.value_offset_bytes + kv_head * cache.value_slice_size_bytes;
  const int value_stride = cache.value_in_key ? cache.key_dim : cache.value_dim;
  const float* query = q.data + row * q.stride + std::int64_t{head} * cache.key_dim;

  __shared__ float scores[kTile];
  float values[kValuesPerThread] = {};
  float largest = options.sinks != nullptr ? options.sinks[head] : -INFINITY;
  float sum = options.sinks != nullptr ? 1.0F : 0.0F;
  for (int tile = begin / kTile * kTile; tile < end; tile += kTile) {
    for (int p = tile + warp; p < tile + kTile; p += kAttentionThreads / kWarp) {
      float score = -INFINITY;
      if (p >= begin && p < end) {
        const T* key = reinterpret_cast<const T*>(
                           cache.blocks +
                           table[p / cache.block_tokens] * cache.block_size_bytes + key_offset) +
                       std::int64_t{p % cache.block_tokens} * cache.key_dim;
        float dot = 0.0F;
        for (int d = lane; d < cache.key_dim; d += kWarp) {
          dot = fmaf(query[d], ToFloat(key[d]), dot);
        }
        score = WarpSum(dot) * options.scale;
        if (options.soft_cap > 0.0F) {
          score = options.soft_cap * tanhf(score / options.soft_cap);
        }
      }
      if (lane == 0) {
        scores[p - tile] = score;
      }
    }
    __syncthreads();
    float top = largest;
    for (int i = 0; i < kTile; ++i) {
      top = fmaxf(top, scores[i]);
    }
    __syncthreads();
    if (threadIdx.x < kTile) {
      const int p = tile + static_cast<int>(threadIdx.x);
      scores[threadIdx.x] = p >= begin && p < end ? expf(scores[threadIdx.x] - top) : 0.0F;
    }
    __syncthreads();
    const float shrink = expf(largest - top);
    largest = top;
    sum *= shrink;
    for (int i = 0; i < kTile; ++i) {
      sum += scores[i];
    }
#pragma unroll
    for (int j = 0; j < kValuesPerThread; ++j) {
      values[j] *= shrink;
    }
    for (int p = max(tile, begin); p < min(tile + kTile, end); ++p) {
      const T* value = reinterpret_cast<const T*>(
                           cache.blocks +
                           table[p / cache.block_tokens] * cache.block_size_bytes + value_offset) +
                       std::int64_t{p % cache.block_tokens} * value_stride;
#pragma unroll
      for (int j = 0; j < kValuesPerThread; ++j) {
        const int d = static_cast<int>(threadIdx.x) + j * kAttentionThreads;
        if (d < cache.value_dim) {
          values[j] = fmaf(scores[p - tile], ToFloat(value[d]), values[j]);
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < kValuesPerThread; ++j) {
    const int d = static_cast<int>(threadIdx.x) + j * kAttentionThreads;
    if (d < cache.value_dim) {
      to[d] = values[j] / sum;
    }
  }
}

/// Numbered as Activation in operators.h.
__device__ inline float Activated(int activation, float x) {
  switch (activation) {
    case 0:
      return x / (1.0F + expf(-x));
    case 1: {
      const float inner = 0.7978845608F * (x + 0.044715F * x * x * x);
      return 0.5F * x * (1.0F + tanhf(inner));
    }
    case 2:
      return 0.5F * x * (1.0F + erff(x * 0.7071067812F));
    case 3:
      return x > 0.0F || isnan(x) ? x : 0.0F;
    case 5:
      return x / (1.0F + expf(-1.702F * x));
    default:
      return tanhf(x);
  }
}

__global__ void ActivateKernel(Rows in, Rows up, int activation, Rows out) {
  const std::int64_t row = blockIdx.x;
  for (std::int64_t i = threadIdx.x; i < out.cols; i += blockDim.x) {
    const float value = Activated(activation, in.data[row * in.stride + i]);
    out.data[row * out.stride + i] =
        up.data != nullptr ? value * up.data[row * up.stride + i] : value;
  }
}

__global__ void GatherKernel(Rows in, const std::int32_t* rows, Rows out) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t from = rows[row];
  for (std::int64_t i = threadIdx.x; i < out.cols; i += blockDim.x) {
    out.data[row * out.stride + i] = in.data[from * in.stride + i];
  }
}

__global__ void FindNonFiniteKernel(Rows in, std::int32_t* flags) {
  const std::int64_t row = blockIdx.x;
  int bad = 0;
  for (std::int64_t i = threadIdx.x; i < in.cols; i += blockDim.x) {
    bad |= isfinite(in.data[row * in.stride + i]) ? 0 : 1;
  }
  bad = __syncthreads_or(bad);
  if (threadIdx.x == 0) {
    flags[row] = bad != 0 ? 1 : 0;
  }
}

}  // namespace pixii::kernels::cuda
