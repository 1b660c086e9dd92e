// What promise 1 rests on: a row's bits do not depend on the rows beside it, on the chunk it came
// in, on how the cache is cut into blocks, or on the number of workers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include <fmt/format.h>

#include "compare/operator_cases.h"
#include "compare/operator_inputs.h"

namespace pixii::kernels::testing {
namespace {

struct Backend {
  std::string name;
  std::unique_ptr<Operators> operators;
};

/// ref, and each instruction set of this host with 1, 2 and 3 workers.
std::vector<Backend> AllBackends() {
  std::vector<Backend> out;
  out.push_back({"ref", MakeReferenceOperators()});
  for (const CpuIsa isa : AvailableIsas()) {
    for (const std::int32_t threads : {1, 2, 3}) {
      out.push_back({std::string(IsaName(isa)) + "_threads" + std::to_string(threads),
                     std::move(*MakeCpuOperators({.thread_count = threads, .isa = isa}))});
    }
  }
  return out;
}

struct LinearSetup {
  ComputeType compute;
  std::int32_t k_shards;
};

class RowInvariance : public ::testing::TestWithParam<LinearSetup> {};

TEST_P(RowInvariance, ALinearRowHasTheSameBitsForEveryRowCountAndWorkerCount) {
  constexpr std::int64_t kN = 150;
  constexpr std::int64_t kK = 530;
  constexpr std::int64_t kM = 257;
  Inputs inputs("row invariance");
  const RawValues raw(inputs.Values(kN * kK), DType::kBf16);
  const WeightPart part{
      .data = raw.data(), .dtype = DType::kBf16, .rows = kN, .cols = kK, .bias = nullptr};
  GuardedMatrix in(kM, kK, 0, inputs);
  std::map<std::string, std::vector<float>> by_numerics;
  for (const Backend& backend : AllBackends()) {
    SCOPED_TRACE(backend.name);
    auto weight = backend.operators->PrepareLinear(
        {&part, 1}, {.compute = GetParam().compute, .k_shards = GetParam().k_shards});
    GuardedMatrix whole(kM, kN, 0);
    backend.operators->Linear(in.view(), **weight, whole.view());
    const auto& expected =
        by_numerics.emplace(std::string(backend.operators->numerics()), whole.Result())
            .first->second;
    ASSERT_EQ(FirstDifference(whole.Result(), expected), -1);
    for (const std::int64_t m : {1, 2, 4, 5, 7, 14, 17, 32, 33, 49, 64, 65, 97}) {
      for (const std::int64_t first : {std::int64_t{0}, kM - m}) {
        GuardedMatrix some(m, kN, 0);
        backend.operators->Linear(in.view().Rows(first, m), **weight, some.view());
        std::vector<float> rows(expected.begin() + first * kN, expected.begin() + (first + m) * kN);
        rows.push_back(1.0F);
        ASSERT_EQ(FirstDifference(some.Result(), rows), -1) << m << " rows from " << first;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Setups, RowInvariance,
    ::testing::Values(LinearSetup{ComputeType::kF32, 1}, LinearSetup{ComputeType::kF32, 8},
                      LinearSetup{ComputeType::kBf16, 1}, LinearSetup{ComputeType::kBf16, 8}),
    [](const auto& test) {
      return std::string(test.param.compute == ComputeType::kF32 ? "f32" : "bf16") + "_shards" +
             std::to_string(test.param.k_shards);
    });

/// The ranks' outputs joined as a collective joins them.
std::vector<float> JoinRanks(std::vector<std::vector<float>> parts) {
  for (std::size_t step = 1; step < parts.size(); step *= 2) {
    for (std::size_t i = 0; i + step < parts.size(); i += 2 * step) {
      for (std::size_t f = 0; f < parts[i].size(); ++f) {
        parts[i][f] += parts[i + step][f];
      }
    }
  }
  return parts[0];
}

/// A linear of `part` by 2, 4 and 8 ranks: K cut by shards, outputs cut by rows.
void ExpectSharesOfTheWhole(Operators& operators, const WeightPart& part, ComputeType compute) {
  constexpr std::int64_t kM = 37;
  Inputs inputs("shares");
  GuardedMatrix in(kM, part.cols, 0, inputs);
  const WeightPart parts[] = {part, part};  // stacked, so that rows cross a part
  auto whole = operators.PrepareLinear(parts, {.compute = compute, .k_shards = 8});
  GuardedMatrix wanted(kM, 2 * part.rows, 0);
  operators.Linear(in.view(), **whole, wanted.view());
  auto columns = operators.PrepareLinear(
      parts,
      {.compute = compute,
       .k_shards = 8,
       .rows = {{3, 9}, {part.rows - 2, part.rows + 5}, {2 * part.rows - 1, 2 * part.rows}}});
  GuardedMatrix some(kM, 14, 0);
  operators.Linear(in.view(), **columns, some.view());
  for (std::int64_t row = 0; row < kM; ++row) {
    for (std::int64_t i = 0; i < 14; ++i) {
      const std::int64_t of = i < 6 ? 3 + i : i < 13 ? part.rows - 8 + i : 2 * part.rows - 1;
      ASSERT_EQ(some.view().f32(row)[i], wanted.view().f32(row)[of]) << row << " " << i;
    }
  }
  const std::int64_t size = (part.cols + 15) / 16 * 2;  // of a shard
  for (const std::int32_t ranks : {2, 4, 8}) {
    std::vector<std::vector<float>> sums;
    for (std::int32_t rank = 0; rank < ranks; ++rank) {
      const std::int32_t shards = 8 / ranks;
      const std::int64_t begin = std::min(part.cols, rank * shards * size);
      const std::int64_t end = std::min(part.cols, (rank + 1) * shards * size);
      auto share = operators.PrepareLinear(parts, {.compute = compute,
                                                   .k_shards = 8,
                                                   .shard_begin = rank * shards,
                                                   .shard_end = (rank + 1) * shards});
      ASSERT_TRUE(share.has_value());
      GuardedMatrix sum(kM, 2 * part.rows, 0);
      operators.Linear(in.view().Columns(begin, end - begin), **share, sum.view());
      sums.push_back(sum.Result());
      sums.back().pop_back();  // says that nothing was written beside it
    }
    std::vector<float> expected = wanted.Result();
    expected.pop_back();
    ASSERT_EQ(FirstDifference(JoinRanks(sums), expected), -1) << ranks << " ranks";
  }
}

TEST(LinearShares, OfRanksJoinedAreTheWholeLinear) {
  for (const std::int64_t k : {512, 530, 130}) {
    Inputs inputs("values");
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
      const RawValues raw(inputs.Values(40 * k), dtype);
      const WeightPart part{.data = raw.data(), .dtype = dtype, .rows = 40, .cols = k};
      for (const Backend& backend : AllBackends()) {
        SCOPED_TRACE(fmt::format("{} k {} dtype {}", backend.name, k, static_cast<int>(dtype)));
        ExpectSharesOfTheWhole(*backend.operators, part, ComputeType::kF32);
        ExpectSharesOfTheWhole(*backend.operators, part, ComputeType::kBf16);
      }
    }
  }
}

TEST(LinearShares, OfCodesAreTheWholeLinearThoughTheyCutScaleGroups) {
  for (const std::int64_t k : {512, 1376}) {
    for (const WeightCode code : {WeightCode::kInt8, WeightCode::kUint4, WeightCode::kFp8E4m3}) {
      for (const std::int64_t group : {std::int64_t{128}, std::int64_t{32}, k}) {
        for (const bool offsets : {false, true}) {
          Inputs inputs("codes");
          const CodedValues values({.code = code,
                                    .rows = 40,
                                    .cols = k,
                                    .scale_rows = group == 128 ? 16 : 1,
                                    .scale_cols = group,
                                    .offsets = offsets},
                                   inputs);
          for (const Backend& backend : AllBackends()) {
            SCOPED_TRACE(fmt::format("{} k {} code {} group {}", backend.name, k,
                                     static_cast<int>(code), group));
            ExpectSharesOfTheWhole(*backend.operators, values.part(), ComputeType::kInt8);
            ExpectSharesOfTheWhole(*backend.operators, values.part(), ComputeType::kBf16);
          }
        }
      }
    }
  }
}

class IntegerInvariance : public ::testing::TestWithParam<CodedValues::Shape> {};

TEST_P(IntegerInvariance, ARowOfIntegerProductsHasTheSameBitsForEveryRowCountAndWorkerCount) {
  constexpr std::int64_t kM = 257;
  Inputs inputs("integer invariance");
  const CodedValues values(GetParam(), inputs);
  const std::int64_t n = GetParam().rows;
  GuardedMatrix in(kM, GetParam().cols, 0, inputs);
  for (const std::int32_t shards : {1, 8}) {
    std::vector<float> expected;
    for (const Backend& backend : AllBackends()) {
      SCOPED_TRACE(backend.name);
      auto weight = backend.operators->PrepareLinear(
          {&values.part(), 1}, {.compute = ComputeType::kInt8, .k_shards = shards});
      GuardedMatrix whole(kM, n, 0);
      backend.operators->Linear(in.view(), **weight, whole.view());
      expected = expected.empty() ? whole.Result() : expected;
      ASSERT_EQ(FirstDifference(whole.Result(), expected), -1) << "not the bits of ref";
      for (const std::int64_t m : {1, 2, 4, 5, 9, 10, 19, 64}) {
        for (const std::int64_t first : {std::int64_t{0}, kM - m}) {
          GuardedMatrix some(m, n, 0);
          backend.operators->Linear(in.view().Rows(first, m), **weight, some.view());
          std::vector<float> rows(expected.begin() + first * n, expected.begin() + (first + m) * n);
          rows.push_back(1.0F);
          ASSERT_EQ(FirstDifference(some.Result(), rows), -1) << m << " rows from " << first;
        }
      }
    }
  }
}

TEST(IntegerFaults, AValueThatIsNotFiniteShowsInItsOwnRowOnly) {
  constexpr std::int64_t kM = 12;
  constexpr std::int64_t kN = 60;
  constexpr std::int64_t kK = 300;
  Inputs inputs("integer faults");
  const CodedValues values(
      {.code = WeightCode::kUint4, .rows = kN, .cols = kK, .scale_rows = 1, .scale_cols = 32},
      inputs);
  GuardedMatrix in(kM, kK, 0, inputs);
  in.view().f32(2)[7] = std::numeric_limits<float>::infinity();
  in.view().f32(5)[299] = std::numeric_limits<float>::quiet_NaN();
  std::fill_n(in.view().f32(6), kK, 1e-40F);
  for (const Backend& backend : AllBackends()) {
    SCOPED_TRACE(backend.name);
    auto weight =
        backend.operators->PrepareLinear({&values.part(), 1}, {.compute = ComputeType::kInt8});
    GuardedMatrix out(kM, kN, 0);
    backend.operators->Linear(in.view(), **weight, out.view());
    for (std::int64_t m = 0; m < kM; ++m) {
      for (std::int64_t n = 0; n < kN; ++n) {
        const float value = out.view().f32(m)[n];
        ASSERT_EQ(std::isnan(value), m == 2 || m == 5) << "row " << m;
        ASSERT_TRUE(m != 6 || value == 0.0F) << value;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Weights, IntegerInvariance,
                         ::testing::Values(CodedValues::Shape{.code = WeightCode::kInt8,
                                                              .rows = 150,
                                                              .cols = 530,
                                                              .scale_rows = 1,
                                                              .scale_cols = 530},
                                           CodedValues::Shape{.code = WeightCode::kInt8,
                                                              .rows = 100,
                                                              .cols = 416,
                                                              .scale_rows = 1,
                                                              .scale_cols = 32},
                                           CodedValues::Shape{.code = WeightCode::kUint4,
                                                              .rows = 97,
                                                              .cols = 640,
                                                              .scale_rows = 1,
                                                              .scale_cols = 128}),
                         [](const auto& test) {
                           return std::string(test.param.code == WeightCode::kInt8 ? "int8"
                                                                                   : "uint4") +
                                  "_group" + std::to_string(test.param.scale_cols);
                         });

TEST(ExpertInvariance, ATokenHasTheSameExpertsAndBitsAloneAndAmongOthers) {
  constexpr std::int64_t kTokens = 65;
  constexpr std::int64_t kHidden = 70;
  constexpr std::int64_t kFeatures = 45;
  constexpr std::int64_t kExperts = 6;
  constexpr std::int64_t kChosen = 3;
  Inputs inputs("expert invariance");
  GuardedMatrix in(kTokens, kHidden, 3, inputs);
  GuardedMatrix logits(kTokens, kExperts, 0, inputs);
  std::vector<std::vector<float>> values;
  for (std::int64_t e = 0; e < kExperts; ++e) {
    values.push_back(inputs.Values(kFeatures * kHidden));
  }
  for (const Backend& backend : AllBackends()) {
    for (const ComputeType compute : {ComputeType::kF32, ComputeType::kBf16}) {
      SCOPED_TRACE(backend.name);
      Operators& operators = *backend.operators;
      std::vector<std::unique_ptr<LinearWeight>> weights;
      for (const std::vector<float>& one : values) {
        const WeightPart part{.data = one.data(), .rows = kFeatures, .cols = kHidden};
        weights.push_back(
            *operators.PrepareLinear({&part, 1}, {.compute = compute, .k_shards = 8}));
      }
      const auto run = [&](std::int64_t first, std::int64_t count) {
        std::vector<std::int32_t> experts(static_cast<std::size_t>(count * kChosen));
        GuardedMatrix mix(count, kChosen, 0);
        GuardedMatrix each(count * kChosen, kFeatures, 0);
        GuardedMatrix out(count, kFeatures, 0);
        operators.Route(logits.view().Rows(first, count), {},
                        {.experts_per_token = kChosen, .normalize = true}, experts, mix.view());
        operators.ExpertLinear(in.view().Rows(first, count), experts, weights, each.view());
        operators.CombineExperts(each.view(), mix.view(), out.view());
        return out.Result();
      };
      const std::vector<float> whole = run(0, kTokens);
      for (std::int64_t token = 0; token < kTokens; ++token) {
        std::vector<float> row(whole.begin() + token * kFeatures,
                               whole.begin() + (token + 1) * kFeatures);
        row.push_back(1.0F);
        ASSERT_EQ(FirstDifference(run(token, 1), row), -1) << "token " << token;
      }
    }
  }
}

TEST(ShardInvariance, ThePartialSumsOfAShardedWeightAreThoseOfItsSlices) {
  // A rank of tensor parallelism holds one slice of K; the fixed tree over the ranks must give the
  // whole's bits.
  constexpr std::int64_t kN = 40;
  constexpr std::int64_t kK = 8 * 48;
  Inputs inputs("shards");
  const std::vector<float> values = inputs.Values(kN * kK);
  GuardedMatrix in(3, kK, 0, inputs);
  for (const Backend& backend : AllBackends()) {
    SCOPED_TRACE(backend.name);
    const WeightPart part{
        .data = values.data(), .dtype = DType::kF32, .rows = kN, .cols = kK, .bias = nullptr};
    auto weight = backend.operators->PrepareLinear({&part, 1},
                                                   {.compute = ComputeType::kBf16, .k_shards = 8});
    GuardedMatrix whole(3, kN, 0);
    backend.operators->Linear(in.view(), **weight, whole.view());
    std::vector<std::vector<float>> sums;
    for (std::int64_t shard = 0; shard < 8; ++shard) {
      std::vector<float> slice;
      for (std::int64_t n = 0; n < kN; ++n) {
        const auto* row = values.data() + n * kK + shard * kK / 8;
        slice.insert(slice.end(), row, row + kK / 8);
      }
      const WeightPart slice_part{
          .data = slice.data(), .dtype = DType::kF32, .rows = kN, .cols = kK / 8, .bias = nullptr};
      auto slice_weight =
          backend.operators->PrepareLinear({&slice_part, 1}, {.compute = ComputeType::kBf16});
      GuardedMatrix out(3, kN, 0);
      backend.operators->Linear(in.view().Columns(shard * kK / 8, kK / 8), **slice_weight,
                                out.view());
      sums.push_back(out.Result());
    }
    const std::vector<float> expected = whole.Result();
    for (std::size_t i = 0; i + 1 < expected.size(); ++i) {
      ASSERT_EQ(expected[i], ((sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i])) +
                                 ((sums[4][i] + sums[5][i]) + (sums[6][i] + sums[7][i])));
    }
  }
}

struct AttentionSetup {
  const char* name;
  std::int32_t heads = 1;
  std::int32_t kv_heads = 1;
  std::int32_t key_dim = 64;
  std::int32_t value_dim = 64;
  bool value_in_key = false;
  KvDType dtype = KvDType::kBf16;
  std::int32_t window = 0;
  float soft_cap = 0.0F;
  bool sinks = false;
};

class ChunkInvariance : public ::testing::TestWithParam<AttentionSetup> {};

/// Attention of `context` positions fed in chunks that end at `ends`; out [context, heads *
/// head_dim].
std::vector<float> RunInChunks(Operators& operators, const AttentionSetup& setup,
                               std::int32_t block_tokens, std::int32_t context,
                               const std::vector<std::int32_t>& ends) {
  Inputs inputs("chunks");
  const KvLayout layout{.layer_count = 1,
                        .kv_head_count = setup.kv_heads,
                        .key_dim = setup.key_dim,
                        .value_dim = setup.value_dim,
                        .value_in_key = setup.value_in_key,
                        .block_tokens = block_tokens,
                        .dtype = setup.dtype};
  FilledCache filled = MakeCache(operators, layout, context);
  GuardedMatrix k(context, std::int64_t{setup.kv_heads} * setup.key_dim, 0, inputs, -2.0F, 2.0F);
  GuardedMatrix v(context, std::int64_t{setup.kv_heads} * setup.value_dim, 0, inputs);
  GuardedMatrix q(context, std::int64_t{setup.heads} * setup.key_dim, 0, inputs, -2.0F, 2.0F);
  GuardedMatrix out(context, std::int64_t{setup.heads} * setup.value_dim, 0);
  const std::vector<float> sinks = inputs.Values(setup.heads);
  std::int32_t begin = 0;
  for (const std::int32_t end : ends) {
    const std::int32_t count = end - begin;
    operators.StoreKv(
        k.view().Rows(begin, count), v.view().Rows(begin, count),
        std::span(filled.slots)
            .subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)),
        0, filled.cache);
    filled.batch.sequences = {{.token_begin = 0,
                               .token_count = count,
                               .context_tokens = end,
                               .block_begin = 0,
                               .block_count = (end + block_tokens - 1) / block_tokens}};
    operators.PagedAttention(q.view().Rows(begin, count), filled.batch, 0, filled.cache,
                             {.head_count = setup.heads,
                              .kv_head_count = setup.kv_heads,
                              .key_dim = setup.key_dim,
                              .value_dim = setup.value_dim,
                              .scale = 0.125F,
                              .window_tokens = setup.window,
                              .soft_cap = setup.soft_cap,
                              .sinks = setup.sinks ? sinks.data() : nullptr},
                             out.view().Rows(begin, count));
    begin = end;
  }
  return out.Result();
}

TEST_P(ChunkInvariance, ATokenHasTheSameBitsDecodedAloneOrInAnyChunkWithAnyBlockSize) {
  constexpr std::int32_t kContext = 600;  // more than one span
  std::vector<std::int32_t> one_by_one;
  for (std::int32_t end = 1; end <= kContext; ++end) {
    one_by_one.push_back(end);
  }
  std::vector<std::vector<std::int32_t>> cuts = {{kContext}};
  Inputs random("cuts");
  for (int i = 0; i < 3; ++i) {
    std::vector<std::int32_t> ends;
    for (std::int32_t end = 1 + random.Below(150); end < kContext; end += 1 + random.Below(150)) {
      ends.push_back(end);
    }
    ends.push_back(kContext);
    cuts.push_back(ends);
  }
  std::map<std::string, std::vector<float>> by_numerics;
  for (const Backend& backend : AllBackends()) {
    if (backend.name == "ref") {
      continue;  // has no chunks to speak of, and is slow
    }
    SCOPED_TRACE(backend.name);
    Operators& operators = *backend.operators;
    const auto& decoded = by_numerics
                              .emplace(std::string(operators.numerics()),
                                       RunInChunks(operators, GetParam(), 16, kContext, one_by_one))
                              .first->second;
    for (const std::int32_t block_tokens : {16, 64}) {
      for (const std::vector<std::int32_t>& ends : cuts) {
        ASSERT_EQ(FirstDifference(decoded,
                                  RunInChunks(operators, GetParam(), block_tokens, kContext, ends)),
                  -1)
            << "chunks " << ::testing::PrintToString(ends) << " in blocks of " << block_tokens;
      }
    }
  }
}

constexpr AttentionSetup kSetups[] = {
    {.name = "mha", .heads = 2, .kv_heads = 2, .key_dim = 40, .value_dim = 40},
    {.name = "gqa", .heads = 6, .kv_heads = 2},
    {.name = "mqa_window",
     .heads = 7,
     .kv_heads = 1,
     .key_dim = 24,
     .value_dim = 24,
     .window = 100},
    {.name = "gqa_window_sinks",
     .heads = 4,
     .kv_heads = 2,
     .key_dim = 32,
     .value_dim = 32,
     .window = 37,
     .sinks = true},
    {.name = "fp32", .heads = 3, .key_dim = 17, .value_dim = 33, .dtype = KvDType::kF32},
    {.name = "fp16_soft_cap",
     .heads = 3,
     .key_dim = 20,
     .value_dim = 20,
     .dtype = KvDType::kF16,
     .soft_cap = 3.0F},
    {.name = "fp8", .heads = 4, .kv_heads = 2, .dtype = KvDType::kFp8E4m3},
    {.name = "int8", .heads = 4, .kv_heads = 2, .dtype = KvDType::kInt8},
    {.name = "int8_window_sinks",
     .heads = 2,
     .key_dim = 48,
     .value_dim = 24,
     .dtype = KvDType::kInt8,
     .window = 50,
     .sinks = true},
    {.name = "latent", .heads = 4, .key_dim = 96, .value_dim = 64, .value_in_key = true},
    {.name = "latent_fp8",
     .heads = 4,
     .key_dim = 96,
     .value_dim = 64,
     .value_in_key = true,
     .dtype = KvDType::kFp8E4m3},
};

INSTANTIATE_TEST_SUITE_P(Setups, ChunkInvariance, ::testing::ValuesIn(kSetups),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(BatchInvariance, ASequenceHasTheSameAttentionBitsAloneAndAmongOthers) {
  // Three workers and few items: alone, the long context is cut into spans; among others it is not.
  const KvLayout layout{.layer_count = 1,
                        .kv_head_count = 1,
                        .key_dim = 64,
                        .value_dim = 64,
                        .block_tokens = 16,
                        .dtype = KvDType::kBf16};
  constexpr std::int32_t kContext = 2100;
  for (const Backend& backend : AllBackends()) {
    SCOPED_TRACE(backend.name);
    Operators& operators = *backend.operators;
    Inputs inputs("batch");
    FilledCache filled = MakeCache(operators, layout, kContext);
    GuardedMatrix k(kContext, 64, 0, inputs);
    GuardedMatrix v(kContext, 64, 0, inputs);
    operators.StoreKv(k.view(), v.view(), filled.slots, 0, filled.cache);
    const StepSequence one{
        .token_begin = 0,
        .token_count = 1,
        .context_tokens = kContext,
        .block_begin = 0,
        .block_count = static_cast<std::int32_t>(std::ssize(filled.batch.block_table))};
    const AttentionOptions options{
        .head_count = 4, .kv_head_count = 1, .key_dim = 64, .value_dim = 64, .scale = 0.125F};
    GuardedMatrix q(12, 256, 0, inputs);
    GuardedMatrix alone(1, 256, 0);
    filled.batch.sequences = {one};
    operators.PagedAttention(q.view().Rows(11, 1), filled.batch, 0, filled.cache, options,
                             alone.view());
    GuardedMatrix together(12, 256, 0);
    filled.batch.sequences.clear();
    for (std::int32_t i = 0; i < 12; ++i) {
      filled.batch.sequences.push_back(one);
      filled.batch.sequences.back().token_begin = i;
    }
    operators.PagedAttention(q.view(), filled.batch, 0, filled.cache, options, together.view());
    const std::vector<float> all = together.Result();
    const std::vector<float> last(all.end() - 257, all.end());
    EXPECT_EQ(FirstDifference(last, alone.Result()), -1);
  }
}

TEST(BatchInvariance, ALoraRowHasTheSameBitsAloneAndAmongRowsOfItsOwnAndOtherPairs) {
  constexpr std::int64_t kIn = 100;
  constexpr std::int64_t kOut = 150;
  for (const Backend& backend : AllBackends()) {
    SCOPED_TRACE(backend.name);
    Operators& operators = *backend.operators;
    Inputs inputs("lora");
    std::vector<std::unique_ptr<LoraWeight>> pairs;
    for (const std::int64_t rank : {5, 16}) {
      const std::vector<float> down = inputs.Values(rank * kIn);
      const std::vector<float> up = inputs.Values(rank * kOut);
      auto pair = operators.PrepareLora(
          {.data = down.data(), .dtype = DType::kF32, .rows = rank, .cols = kIn},
          {.data = up.data(), .dtype = DType::kF32, .rows = kOut, .cols = rank}, 2.0F);
      ASSERT_TRUE(pair.has_value());
      pairs.push_back(std::move(*pair));
    }
    GuardedMatrix in(40, kIn, 0, inputs);
    GuardedMatrix together(40, kOut, 0);
    const std::vector<const LoraWeight*> table = {pairs[0].get(), pairs[1].get()};
    std::vector<std::int32_t> rows;
    for (std::int32_t row = 0; row < 40; ++row) {
      rows.push_back(row % 9 == 8 ? -1 : row / 6 % 2);
    }
    GuardedMatrix alone(40, kOut, 0);
    operators.AddLora(in.view(), table, rows, together.view());
    for (std::int64_t row = 0; row < 40; ++row) {
      operators.AddLora(in.view().Rows(row, 1), table, {&rows[static_cast<std::size_t>(row)], 1},
                        alone.view().Rows(row, 1));
    }
    EXPECT_EQ(FirstDifference(together.Result(), alone.Result()), -1);
  }
}

}  // namespace
}  // namespace pixii::kernels::testing
