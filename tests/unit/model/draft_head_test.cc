#include "model/draft_head.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "checkpoint_writer.h"
#include "support/golden.h"

namespace pixii::model {
namespace {

using testing::TemporaryFolder;
using testing::WrittenTensor;

constexpr std::int64_t kHidden = 48;  // of the golden models used here
constexpr std::int64_t kVocab = 203;
constexpr std::int64_t kTokens = 21;

std::mt19937& Random() {
  static std::mt19937 random(7);
  return random;
}

std::vector<float> Draw(std::int64_t count, float size) {
  std::normal_distribution<float> normal(0, size);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& value : out) {
    value = normal(Random());
  }
  return out;
}

WrittenTensor Tensor(std::string name, std::vector<std::int64_t> shape,
                     const std::vector<float>& values) {
  return {.name = std::move(name),
          .shape = std::move(shape),
          .bytes = std::string(reinterpret_cast<const char*>(values.data()),
                               values.size() * sizeof(float))};
}

std::string GoldenFolder(const std::string& name) {
  return pixii::testing::OwnGoldenDir() + "/models/" + name;
}

/// The golden model's config with some numbers of it replaced.
std::string Config(const std::string& name, const std::map<std::string, int>& changes) {
  std::string text = pixii::testing::ReadFileOrFail(GoldenFolder(name) + "/config.json");
  for (const auto& [key, value] : changes) {
    const std::string start = "\"" + key + "\": ";
    const std::size_t at = text.find(start) + start.size();
    text.replace(at, text.find_first_of(",\n", at) - at, std::to_string(value));
  }
  return text;
}

const float* Row(const std::vector<float>& values, std::int64_t row, std::int64_t cols) {
  return values.data() + row * cols;
}

/// weight * x / rms(x).
std::vector<float> Norm(const float* x, const std::vector<float>& weight) {
  double sum = 0;
  for (std::int64_t i = 0; i < kHidden; ++i) {
    sum += double{x[i]} * x[i];
  }
  std::vector<float> out(static_cast<std::size_t>(kHidden));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(x[i] / std::sqrt(sum / kHidden + 1e-6) * weight[i]);
  }
  return out;
}

/// matrix [kHidden, 2 * kHidden] times (a, b).
std::vector<float> Project(const std::vector<float>& matrix, const float* a, const float* b) {
  std::vector<float> out(static_cast<std::size_t>(kHidden));
  for (std::int64_t row = 0; row < kHidden; ++row) {
    double sum = 0;
    for (std::int64_t i = 0; i < kHidden; ++i) {
      sum += double{Row(matrix, row, 2 * kHidden)[i]} * a[i] +
             double{Row(matrix, row, 2 * kHidden)[kHidden + i]} * b[i];
    }
    out[static_cast<std::size_t>(row)] = static_cast<float>(sum);
  }
  return out;
}

/// Logits of all tokens, [kTokens, kVocab], and the states of the last call.
struct Ran {
  std::vector<float> logits;
  std::vector<float> states;
};

Ran RunAll(LanguageModel& model, kernels::Operators& operators,
           const std::vector<std::int32_t>& ids, const std::vector<float>& hidden_rows) {
  kernels::KvCache cache;
  cache.layout = model.MakeKvLayout(32, kernels::KvDType::kF32);
  cache.block_count = 1;
  cache.buffer = std::move(*operators.Allocate(cache.layout.block_size_bytes()));
  kernels::StepBatch batch;
  batch.token_ids = ids;
  const auto count = static_cast<std::int32_t>(ids.size());
  for (std::int32_t i = 0; i < count; ++i) {
    batch.positions.push_back(i);
    batch.slots.push_back(i);
    batch.logit_rows.push_back(i);
  }
  batch.sequences = {{.token_count = count, .context_tokens = count, .block_count = 1}};
  batch.block_table = {0};
  batch.hidden_rows = hidden_rows;
  Ran out;
  out.logits.resize(ids.size() * static_cast<std::size_t>(kVocab));
  const HiddenObserver observer = [&](std::int32_t index, const kernels::Matrix& rows) {
    if (index == model.spec().layer_count) {
      out.states.assign(rows.f32(0), rows.f32(0) + rows.rows * rows.cols);
    }
  };
  const Result<void> ran = model.Forward(batch, cache, out.logits, &observer);
  EXPECT_TRUE(ran) << ran.error().ToString();
  return out;
}

double MaxAbs(const std::vector<float>& values) {
  double out = 0;
  for (const float value : values) {
    out = std::max(out, std::abs(double{value}));
  }
  return out;
}

const LoadOptions kExact = {.compute = kernels::ComputeType::kF32};

/// Token and state rows that a head reads.
struct Input {
  std::vector<std::int32_t> ids;
  std::vector<float> states = Draw(kTokens * kHidden, 1.0F);

  Input() {
    for (std::int64_t i = 0; i < kTokens; ++i) {
      ids.push_back(static_cast<std::int32_t>(Random()() % kVocab));
    }
  }
};

// A model whose embedding table holds the fused vectors and whose only layer is the head's must
// say the same.
TEST(DraftHead, APredictionLayerIsItsLayerBehindTheProjectedPair) {
  const std::string golden = GoldenFolder("deepseek-v3");
  std::vector<WrittenTensor> target = testing::ReadSafetensors(golden + "/model.safetensors");
  const std::vector<float> embed = Draw(kVocab * kHidden, 1.0F);
  const std::vector<float> head = Draw(kVocab * kHidden, 0.3F);
  const std::vector<float> eh = Draw(kHidden * 2 * kHidden, 0.1F);
  const std::vector<float> enorm = Draw(kHidden, 1.0F);
  const std::vector<float> hnorm = Draw(kHidden, 1.0F);
  const std::vector<float> norm = Draw(kHidden, 1.0F);
  std::vector<WrittenTensor> plain;
  const std::string layer = "model.layers.1.";
  const std::size_t count = target.size();
  for (std::size_t i = 0; i < count; ++i) {
    WrittenTensor tensor = target[i];
    if (tensor.name.starts_with(layer)) {
      const std::string rest = tensor.name.substr(layer.size());
      tensor.name = "model.layers.2." + rest;
      target.push_back(tensor);
      tensor.name = "model.layers.0." + rest;
      plain.push_back(tensor);
    }
  }
  const std::string ahead = "model.layers.2.";
  target.push_back(Tensor(ahead + "embed_tokens.weight", {kVocab, kHidden}, embed));
  target.push_back(Tensor(ahead + "shared_head.head.weight", {kVocab, kHidden}, head));
  target.push_back(Tensor(ahead + "shared_head.norm.weight", {kHidden}, norm));
  target.push_back(Tensor(ahead + "eh_proj.weight", {kHidden, 2 * kHidden}, eh));
  target.push_back(Tensor(ahead + "enorm.weight", {kHidden}, enorm));
  target.push_back(Tensor(ahead + "hnorm.weight", {kHidden}, hnorm));
  const Input input;
  std::vector<float> fused;
  std::vector<std::int32_t> rows;
  for (std::int64_t i = 0; i < kTokens; ++i) {
    const std::vector<float> row =
        Project(eh, Norm(Row(embed, input.ids[static_cast<std::size_t>(i)], kHidden), enorm).data(),
                Norm(Row(input.states, i, kHidden), hnorm).data());
    fused.insert(fused.end(), row.begin(), row.end());
    rows.push_back(static_cast<std::int32_t>(i));
  }
  fused.resize(static_cast<std::size_t>(kVocab * kHidden));
  plain.push_back(Tensor("model.embed_tokens.weight", {kVocab, kHidden}, fused));
  plain.push_back(Tensor("lm_head.weight", {kVocab, kHidden}, head));
  plain.push_back(Tensor("model.norm.weight", {kHidden}, norm));

  const TemporaryFolder with_head;
  with_head.Write("config.json", Config("deepseek-v3", {{"num_nextn_predict_layers", 1}}));
  with_head.Write("model.safetensors", testing::Safetensors(target));
  const TemporaryFolder reference;
  reference.Write("config.json", Config("deepseek-v3", {{"num_hidden_layers", 1},
                                                        {"first_k_dense_replace", 0},
                                                        {"num_nextn_predict_layers", 0}}));
  reference.Write("model.safetensors", testing::Safetensors(plain));
  const auto operators = kernels::MakeReferenceOperators();
  auto drafting = LoadDraftHead({.target = with_head.path(), .eagle = {}}, *operators, kExact);
  ASSERT_TRUE(drafting) << drafting.error().ToString();
  auto model = LanguageModel::Load(reference.path(), *operators, kExact);
  ASSERT_TRUE(model) << model.error().ToString();
  const Ran got = RunAll(**drafting, *operators, input.ids, input.states);
  const Ran wanted = RunAll(**model, *operators, rows, {});
  const double bound = 1e-4 * MaxAbs(wanted.logits);
  for (std::size_t i = 0; i < wanted.logits.size(); ++i) {
    ASSERT_NEAR(got.logits[i], wanted.logits[i], bound) << i;
  }
  ASSERT_EQ(got.states.size(), wanted.states.size());
  for (std::size_t i = 0; i < wanted.states.size(); ++i) {
    ASSERT_NEAR(got.states[i], wanted.states[i], 1e-4 * MaxAbs(wanted.states)) << i;
  }
}

TEST(DraftHead, ACheckpointWithoutPredictionLayersIsRefused) {
  const auto operators = kernels::MakeReferenceOperators();
  auto model = LanguageModel::Load(GoldenFolder("llama-gqa"), *operators, kExact);
  ASSERT_TRUE(model);
  auto none = LoadDraftHead({.target = GoldenFolder("llama-gqa"), .eagle = {}}, *operators, kExact);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace pixii::model
