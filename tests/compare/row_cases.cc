#include <fmt/format.h>

#include "compare/operator_cases.h"
#include "compare/operator_inputs.h"

namespace pixii::kernels::testing {
namespace {

constexpr double kSumNmse = 1e-12;  // sums in another order
constexpr double kExpNmse = 1e-12;  // another exp, tanh or erf

void AddNorms(std::vector<OperatorCase>& out) {
  for (const std::int64_t cols : {1, 7, 16, 17, 64, 255, 896, 4096}) {
    for (const std::int64_t rows : {0, 1, 3, 40}) {
      const bool plus = cols % 2 == 1;
      const std::string name =
          fmt::format("rms_norm{}_rows{}_cols{}", plus ? "_plus_one" : "", rows, cols);
      out.push_back({name,
                     [=](Operators& operators) {
                       Inputs inputs(name);
                       GuardedMatrix in(rows, cols, 2, inputs);
                       GuardedMatrix result(rows, cols, 1);
                       const auto weight = inputs.Values(cols, 0.5F, 1.5F);
                       operators.RmsNorm(in.view(), weight, plus ? 1.0F : 0.0F, 1e-6F,
                                         result.view());
                       return result.Result();
                     },
                     kSumNmse});
      const std::string add_name = fmt::format("add_rms_norm_rows{}_cols{}", rows, cols);
      out.push_back({add_name,
                     [=](Operators& operators) {
                       Inputs inputs(add_name);
                       GuardedMatrix residual(rows, cols, 3, inputs);
                       GuardedMatrix delta(rows, cols, 0, inputs);
                       GuardedMatrix result(rows, cols, 1);
                       const auto weight = inputs.Values(cols, 0.5F, 1.5F);
                       operators.AddRmsNorm(residual.view(), delta.view(), weight, 0.0F, 1e-5F,
                                            result.view());
                       std::vector<float> both = result.Result();
                       const std::vector<float> sum = residual.Result();
                       both.insert(both.end(), sum.begin(), sum.end());
                       return both;
                     },
                     kSumNmse});
    }
  }
  for (const std::int64_t cols : {1, 7, 16, 33, 45, 384, 1025}) {
    for (const std::int64_t rows : {0, 1, 3, 40}) {
      const bool in_place = cols % 2 == 0;
      const std::string name =
          fmt::format("add_layer_norm{}_rows{}_cols{}", in_place ? "_in_place" : "", rows, cols);
      out.push_back({name,
                     [=](Operators& operators) {
                       Inputs inputs(name);
                       // A mean far from zero: a variance by subtraction of squares would show.
                       GuardedMatrix residual(rows, cols, 3, inputs, 29.0F, 31.0F);
                       GuardedMatrix delta(rows, cols, 0, inputs);
                       GuardedMatrix result(rows, cols, 1);
                       const auto weight = inputs.Values(cols, 0.5F, 1.5F);
                       const auto bias = inputs.Values(cols);
                       operators.AddLayerNorm(residual.view(), delta.view(), weight, bias, 1e-5F,
                                              in_place ? residual.view() : result.view());
                       return in_place ? residual.Result() : result.Result();
                     },
                     1e-8});  // ref sums a thousand values near 30 one by one
    }
  }
  for (const std::int64_t runs : {2, 3}) {  // each has weights of its own
    const std::string name = fmt::format("add_layer_norm_runs{}", runs);
    out.push_back({name,
                   [=](Operators& operators) {
                     Inputs inputs(name);
                     GuardedMatrix residual(runs * 67, 96, 3, inputs);
                     GuardedMatrix delta(runs * 67, 96, 0, inputs);
                     GuardedMatrix result(runs * 67, 96, 1);
                     const auto weight = inputs.Values(runs * 96, 0.5F, 1.5F);
                     const auto bias = inputs.Values(runs * 96);
                     operators.AddLayerNorm(residual.view(), delta.view(), weight, bias, 1e-5F,
                                            result.view());
                     return result.Result();
                   },
                   1e-11});
  }
  for (const std::int32_t dim : {8, 24, 40, 64, 96, 128, 256}) {
    for (const std::int32_t heads : {1, 3}) {
      const std::string name = fmt::format("head_rms_norm_dim{}_heads{}", dim, heads);
      out.push_back({name,
                     [=](Operators& operators) {
                       Inputs inputs(name);
                       GuardedMatrix x(5, std::int64_t{dim} * heads, 7, inputs);
                       const auto weight = inputs.Values(dim, 0.5F, 1.5F);
                       operators.HeadRmsNorm(x.view(), heads, weight, 0.0F, 1e-6F);
                       return x.Result();
                     },
                     kSumNmse});
    }
  }
}

void AddRotary(std::vector<OperatorCase>& out) {
  for (const std::int32_t dim : {8, 24, 40, 64, 128, 256}) {
    for (const std::int32_t rotary_dim : {dim, dim / 4 * 2}) {
      for (const bool interleaved : {false, true}) {
        const std::string name = fmt::format("rotary_dim{}_turning{}{}", dim, rotary_dim,
                                             interleaved ? "_interleaved" : "");
        out.push_back({name, [=](Operators& operators) {
                         Inputs inputs(name);
                         GuardedMatrix x(9, std::int64_t{dim} * 3, 4, inputs);
                         const auto cos = inputs.Values(std::int64_t{50} * rotary_dim / 2);
                         const auto sin = inputs.Values(std::int64_t{50} * rotary_dim / 2);
                         std::vector<std::int32_t> positions(9);
                         for (std::int32_t& position : positions) {
                           position = inputs.Below(50);
                         }
                         operators.Rotary(x.view(), 3, positions,
                                          {.cos = cos.data(),
                                           .sin = sin.data(),
                                           .position_max = 50,
                                           .rotary_dim = rotary_dim,
                                           .interleaved = interleaved});
                         return x.Result();
                       }});
      }
    }
  }
}

void AddActivations(std::vector<OperatorCase>& out) {
  struct Named {
    Activation activation;
    const char* name;
  };

  for (const Named& named :
       {Named{Activation::kSilu, "silu"}, Named{Activation::kGeluTanh, "gelu_tanh"},
        Named{Activation::kGelu, "gelu"}, Named{Activation::kRelu, "relu"},
        Named{Activation::kTanh, "tanh"}, Named{Activation::kQuickGelu, "quick_gelu"}}) {
    for (const std::int64_t cols : {1, 15, 16, 100, 1001}) {
      for (const float range : {1.0F, 12.0F, 200.0F}) {
        const std::string name = fmt::format("{}_cols{}_range{}", named.name, cols, range);
        out.push_back({name,
                       [=, activation = named.activation](Operators& operators) {
                         Inputs inputs(name);
                         GuardedMatrix in(6, 2 * cols, 1, inputs, -range, range);
                         GuardedMatrix result(6, cols, 2);
                         operators.ActivationMul(in.view(), activation, result.view());
                         return result.Result();
                       },
                       kExpNmse});
        const std::string alone = "activate_" + name;
        out.push_back({alone,
                       [=, activation = named.activation](Operators& operators) {
                         Inputs inputs(alone);
                         GuardedMatrix x(6, cols, 1, inputs, -range, range);
                         operators.Activate(x.view(), activation);
                         return x.Result();
                       },
                       kExpNmse});
      }
    }
  }
}

void AddCopies(std::vector<OperatorCase>& out) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    const auto code = static_cast<int>(dtype);
    for (const std::int64_t cols : {1, 24, 256}) {
      const std::string name = fmt::format("embed_dtype{}_cols{}", code, cols);
      out.push_back(
          {name, [=](Operators& operators) {
             Inputs inputs(name);
             const RawValues raw(inputs.Values(20 * cols), dtype);
             auto table = operators.PrepareEmbedding(
                 {.data = raw.data(), .dtype = dtype, .rows = 20, .cols = cols, .bias = nullptr});
             const std::vector<std::int32_t> ids = {0, 19, 7, 7, 3};
             GuardedMatrix result(5, cols, 3);
             operators.Embed(**table, ids, 1.25F, result.view());
             return result.Result();
           }});
    }
  }
  for (const std::int64_t cols : {1, 31, 900}) {
    const std::string name = fmt::format("add_cols{}", cols);
    out.push_back({name, [=](Operators& operators) {
                     Inputs inputs(name);
                     GuardedMatrix residual(41, cols, 2, inputs);
                     GuardedMatrix delta(41, cols, 5, inputs);
                     operators.Add(residual.view(), delta.view());
                     return residual.Result();
                   }});
    const std::string gather_name = fmt::format("gather_rows_cols{}", cols);
    out.push_back({gather_name, [=](Operators& operators) {
                     Inputs inputs(gather_name);
                     GuardedMatrix in(9, cols, 2, inputs);
                     GuardedMatrix result(3, cols, 1);
                     operators.GatherRows(in.view(), std::vector<std::int32_t>{8, 0, 4},
                                          result.view());
                     return result.Result();
                   }});
  }
}

/// Every byte of the cache after a few tokens of every dtype, values of all magnitudes among them.
void AddStoreCases(std::vector<OperatorCase>& out) {
  for (const KvDType dtype :
       {KvDType::kF32, KvDType::kBf16, KvDType::kF16, KvDType::kFp8E4m3, KvDType::kInt8}) {
    for (const std::int32_t dim : {1, 8, 24, 40, 64, 96, 255, 576}) {
      const std::string name = fmt::format("store_kv_{}_dim{}", KvDTypeName(dtype), dim);
      out.push_back(
          {name, [=](Operators& operators) {
             Inputs inputs(name);
             const KvLayout layout{.layer_count = 2,
                                   .kv_head_count = 3,
                                   .key_dim = dim,
                                   .value_dim = dim / 2 + 1,
                                   .value_in_key = dim == 96,
                                   .block_tokens = 4,
                                   .dtype = dtype};
             FilledCache filled = MakeCache(operators, layout, 11);
             std::memset(filled.cache.buffer.data(), 0, filled.cache.buffer.size_bytes());
             GuardedMatrix k(11, std::int64_t{3} * dim, 1, inputs, -70000.0F, 70000.0F);
             GuardedMatrix v(11, std::int64_t{3} * (dim / 2 + 1), 2, inputs, -1e-6F, 1e-6F);
             for (std::int32_t d = 0; d < dim; ++d) {
               k.view().f32(1)[d] = 0.0F;                        // no scale
               k.view().f32(2)[d] *= 1e-40F;                     // less than any scale
               k.view().f32(3)[d] *= d % 2 == 0 ? 1.0F : 1e-6F;  // fp8 denormals
             }
             k.view().f32(4)[dim / 2] = NAN;
             k.view().f32(5)[dim - 1] = INFINITY;
             operators.StoreKv(k.view(), v.view(), filled.slots, 1, filled.cache);
             // Each byte as a float: equal floats are equal bytes.
             const auto* bytes = static_cast<const unsigned char*>(filled.cache.buffer.data());
             return std::vector<float>(bytes, bytes + filled.cache.buffer.size_bytes());
           }});
    }
  }
}

}  // namespace

std::vector<OperatorCase> RowCases() {
  std::vector<OperatorCase> out;
  AddNorms(out);
  AddRotary(out);
  AddActivations(out);
  AddCopies(out);
  AddStoreCases(out);
  return out;
}

}  // namespace pixii::kernels::testing
