// Operators that work row by row: norms, rotary, add, activation, embedding, KV store.
//
// Include after one simd_*.h and simd_math.h. Anonymous for the reason in kernel_table.h.
// Sums over a row: lane i adds elements i, i + 16, ... in ascending order; then lanes i and i + 8,
// i and i + 4, ...
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline float SquareRoot(float x) { return __builtin_elementwise_sqrt(x); }

inline void NormSegment(const NormCall& call, float* in, const float* delta, float* out) {
  Vec sum = Vec::Zero();
  for (Index i = 0; i < call.cols; i += 16) {
    const Index left = call.cols - i;
    Vec x = Vec::LoadPart(in + i, left);
    if (delta != nullptr) {
      x = x + Vec::LoadPart(delta + i, left);
      x.StorePart(in + i, left);
    }
    sum = Fma(x, x, sum);
  }
  const float mean = sum.ReduceAdd() / static_cast<float>(call.cols);
  const Vec factor = Vec::Set(1.0F / SquareRoot(mean + call.epsilon));
  const Vec offset = Vec::Set(call.weight_offset);
  for (Index i = 0; i < call.cols; i += 16) {
    const Index left = call.cols - i;
    const Vec weight = Vec::LoadPart(call.weight + i, left) + offset;
    (Vec::LoadPart(in + i, left) * factor * weight).StorePart(out + i, left);
  }
}

inline void RmsNorm(const NormCall& call) {
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    for (Index s = 0; s < call.segments; ++s) {
      const float* delta = call.delta != nullptr ? call.delta + row * call.delta_stride : nullptr;
      NormSegment(call, call.in + row * call.in_stride + s * call.cols, delta,
                  call.out + row * call.out_stride + s * call.cols);
    }
  }
}

/// Mean first, then the squares of what differs from it: no cancellation.
inline void LayerNormRow(const NormCall& call, Index row) {
  float* in = call.in + row * call.in_stride;
  const float* delta = call.delta + row * call.delta_stride;
  float* out = call.out + row * call.out_stride;
  const float* weight = call.weight + row / call.run_rows * call.cols;
  const float* bias = call.bias + row / call.run_rows * call.cols;
  Vec sum = Vec::Zero();
  for (Index i = 0; i < call.cols; i += 16) {
    const Index left = call.cols - i;
    const Vec x = Vec::LoadPart(in + i, left) + Vec::LoadPart(delta + i, left);
    x.StorePart(in + i, left);
    sum = sum + x;
  }
  const auto count = static_cast<float>(call.cols);
  const Vec mean = Vec::Set(sum.ReduceAdd() / count);
  Vec squares = Vec::Zero();
  for (Index i = 0; i < call.cols; i += 16) {
    const Index left = call.cols - i;
    const Vec off = Vec::SelectRange(Vec::LoadPart(in + i, left) - mean, Vec::Zero(), 0, left);
    squares = Fma(off, off, squares);
  }
  const Vec factor = Vec::Set(1.0F / SquareRoot(squares.ReduceAdd() / count + call.epsilon));
  for (Index i = 0; i < call.cols; i += 16) {
    const Index left = call.cols - i;
    const Vec off = Vec::LoadPart(in + i, left) - mean;
    Fma(off * factor, Vec::LoadPart(weight + i, left), Vec::LoadPart(bias + i, left))
        .StorePart(out + i, left);
  }
}

inline void LayerNorm(const NormCall& call) {
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    LayerNormRow(call, row);
  }
}

inline void ScaleColumns(const ScaleCall& call) {
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    float* x = call.x + row * call.stride;
    const float* factors = call.factors + row / call.run_rows * call.cols;
    for (Index i = 0; i < call.cols; i += 16) {
      const Index left = call.cols - i;
      (Vec::LoadPart(x + i, left) * Vec::LoadPart(factors + i, left)).StorePart(x + i, left);
    }
  }
}

inline void RotateHead(float* head, const float* cos, const float* sin, Index half) {
  for (Index i = 0; i < half; i += 16) {
    const Index left = half - i;
    const Vec c = Vec::LoadPart(cos + i, left);
    const Vec s = Vec::LoadPart(sin + i, left);
    const Vec first = Vec::LoadPart(head + i, left);
    const Vec second = Vec::LoadPart(head + half + i, left);
    (first * c - second * s).StorePart(head + i, left);
    (second * c + first * s).StorePart(head + half + i, left);
  }
}

inline void RotateHeadInterleaved(float* head, const float* cos, const float* sin, Index half) {
  for (Index i = 0; i < half; i += 8) {
    const Index left = half - i < 8 ? half - i : 8;
    const Vec x = Vec::LoadPart(head + 2 * i, 2 * left);
    const Vec own = x * Vec::LoadPart(cos + i, left).LowLanesTwice();
    const Vec other = x.PairsSwapped() * Vec::LoadPart(sin + i, left).LowLanesTwice();
    (own + other.EvenLanesNegated()).StorePart(head + 2 * i, 2 * left);
  }
}

inline void Rotary(const RotaryCall& call) {
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    const float* cos = call.cos + call.positions[row] * call.half;
    const float* sin = call.sin + call.positions[row] * call.half;
    for (Index h = 0; h < call.heads; ++h) {
      float* head = call.x + row * call.stride + h * call.head_dim;
      if (call.interleaved) {
        RotateHeadInterleaved(head, cos, sin, call.half);
      } else {
        RotateHead(head, cos, sin, call.half);
      }
    }
  }
}

inline void Add(const AddCall& call) {
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    float* residual = call.residual + row * call.residual_stride;
    const float* delta = call.delta + row * call.delta_stride;
    for (Index i = 0; i < call.cols; i += 16) {
      const Index left = call.cols - i;
      (Vec::LoadPart(residual + i, left) + Vec::LoadPart(delta + i, left))
          .StorePart(residual + i, left);
    }
  }
}

template <Vec (*kActivation)(Vec)>
void ActivationRows(const ActivationCall& call) {
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    const float* gate = call.gate_up + row * call.gate_up_stride;
    const float* up = gate + call.cols;
    float* out = call.out + row * call.out_stride;
    for (Index i = 0; i < call.cols; i += 16) {
      const Index left = call.cols - i;
      (kActivation(Vec::LoadPart(gate + i, left)) * Vec::LoadPart(up + i, left))
          .StorePart(out + i, left);
    }
  }
}

inline void ActivationMul(const ActivationCall& call) {
  switch (call.activation) {  // the order of kernels::Activation, asserted in cpu_operators.cc
    case 0:
      return ActivationRows<Silu>(call);
    case 1:
      return ActivationRows<GeluTanh>(call);
    case 2:
      return ActivationRows<Gelu>(call);
    case 3:
      return ActivationRows<Relu>(call);
    case 5:
      return ActivationRows<QuickGelu>(call);
    default:
      return ActivationRows<Tanh>(call);
  }
}

template <Vec (*kActivation)(Vec)>
void ActivateRows(const ActivateCall& call) {
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    float* x = call.x + row * call.stride;
    for (Index i = 0; i < call.cols; i += 16) {
      const Index left = call.cols - i;
      kActivation(Vec::LoadPart(x + i, left)).StorePart(x + i, left);
    }
  }
}

inline void Activate(const ActivateCall& call) {
  switch (call.activation) {
    case 0:
      return ActivateRows<Silu>(call);
    case 1:
      return ActivateRows<GeluTanh>(call);
    case 2:
      return ActivateRows<Gelu>(call);
    case 3:
      return ActivateRows<Relu>(call);
    case 5:
      return ActivateRows<QuickGelu>(call);
    default:
      return ActivateRows<Tanh>(call);
  }
}

/// `n` elements at element offset `at` of `data`; zeros past n.
inline Vec LoadAs(Element element, const void* data, Index at, Index n) {
  switch (element) {
    case Element::kF32:
      return Vec::LoadPart(static_cast<const float*>(data) + at, n);
    case Element::kBf16:
      return Vec::LoadBf16(static_cast<const std::uint16_t*>(data) + at, n);
    default:
      return Vec::LoadF16(static_cast<const std::uint16_t*>(data) + at, n);
  }
}

inline void StoreAs(Element element, Vec value, void* data, Index at, Index n) {
  switch (element) {
    case Element::kF32:
      value.StorePart(static_cast<float*>(data) + at, n);
      return;
    case Element::kBf16:
      value.StoreBf16(static_cast<std::uint16_t*>(data) + at, n);
      return;
    default:
      value.StoreF16(static_cast<std::uint16_t*>(data) + at, n);
      return;
  }
}

inline void Embed(const EmbedCall& call) {
  const Vec scale = Vec::Set(call.scale);
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    const Index from = Index{call.ids[row]} * call.cols;
    float* out = call.out + row * call.out_stride;
    for (Index i = 0; i < call.cols; i += 16) {
      const Index left = call.cols - i;
      (LoadAs(call.element, call.table, from + i, left) * scale).StorePart(out + i, left);
    }
  }
}

/// The scale of one token's head and its codes: formats of the KV cache, kernels/ref defines them.
template <Element kElement>
float StoreCodes(const float* values, Index dim, unsigned char* codes) {
  constexpr float kLargest = kElement == Element::kInt8 ? 127.0F : 448.0F;
  Vec largest = Vec::Zero();
  for (Index i = 0; i < dim; i += 16) {
    largest = Vec::MaxOfBits(largest, Vec::LoadPart(values + i, dim - i).Absolute());
  }
  const float top = largest.ReduceMaxOfBits();
  if (!(top <= 3.402823466e38F)) {
    for (Index i = 0; i < dim; ++i) {
      codes[i] = 0;
    }
    return __builtin_nanf("");
  }
  const float scale = top < 0x1p-100F ? 0.0F : top / kLargest;
  for (Index i = 0; i < dim; i += 16) {
    const Vec value = Vec::LoadPart(values + i, dim - i);
    const Vec scaled = scale > 0.0F ? value / Vec::Set(scale) : Vec::Zero();
    const Vec limited = Max(Vec::Set(-kLargest), Min(Vec::Set(kLargest), scaled));
    if constexpr (kElement == Element::kInt8) {
      limited.StoreInt8(codes + i, dim - i);
    } else {
      limited.StoreFp8(codes + i, dim - i);
    }
  }
  return scale;
}

inline void StoreHead(const KvView& kv, const KvSlices& slices, unsigned char* block, Index head,
                      Index token, const float* values) {
  unsigned char* slice = block + slices.offset_bytes + head * slices.slice_size_bytes;
  const Index at = token * slices.row_elements;
  if (kv.element == Element::kInt8 || kv.element == Element::kFp8E4m3) {
    auto* scale = reinterpret_cast<float*>(slice + slices.scales_offset_bytes) + token;
    *scale = kv.element == Element::kInt8
                 ? StoreCodes<Element::kInt8>(values, slices.dim, slice + at)
                 : StoreCodes<Element::kFp8E4m3>(values, slices.dim, slice + at);
    return;
  }
  for (Index i = 0; i < slices.dim; i += 16) {
    const Index left = slices.dim - i;
    StoreAs(kv.element, Vec::LoadPart(values + i, left), slice, at + i, left);
  }
}

inline void StoreKv(const StoreKvCall& call) {
  const KvView& kv = call.kv;
  for (Index row = call.row_begin; row < call.row_end; ++row) {
    const Index slot = call.slots[row];
    unsigned char* block = kv.blocks + (slot / kv.block_tokens) * kv.block_size_bytes;
    const Index token = slot % kv.block_tokens;
    for (Index g = 0; g < kv.kv_heads; ++g) {
      StoreHead(kv, kv.k, block, g, token, call.k + row * call.k_stride + g * kv.k.dim);
      if (!kv.value_in_key) {
        StoreHead(kv, kv.v, block, g, token, call.v + row * call.v_stride + g * kv.v.dim);
      }
    }
  }
}

}  // namespace
}  // namespace pixii::kernels
