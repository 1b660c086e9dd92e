#include "model/encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "model/paged_runner.h"
#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;
using Tokens = std::vector<std::int32_t>;
using Rows = std::vector<std::vector<double>>;

struct Sizes {
  int hidden = 45;
  int heads = 3;
  int features = 71;
  int vocab = 97;
  int layers = 2;
  int positions = 50;
  int types = 2;
  int classes = 0;
  int padding = -1;  // RoBERTa's
};

/// A checkpoint with random weights, kept as doubles, and the same encoder by plain loops.
class PlainEncoder final {
 public:
  PlainEncoder(const Sizes& sizes, std::uint64_t seed) : sizes_(sizes), random_(seed) {
    const int h = sizes.hidden;
    Add("embeddings.word_embeddings.weight", sizes.vocab, h);
    Add("embeddings.position_embeddings.weight", sizes.positions, h);
    Add("embeddings.token_type_embeddings.weight", sizes.types, h);
    AddNorm("embeddings.LayerNorm");
    for (int i = 0; i < sizes.layers; ++i) {
      const std::string layer = fmt::format("encoder.layer.{}.", i);
      for (const char* name : {"query", "key", "value"}) {
        AddLinear(layer + "attention.self." + name, h, h);
      }
      AddLinear(layer + "attention.output.dense", h, h);
      AddNorm(layer + "attention.output.LayerNorm");
      AddLinear(layer + "intermediate.dense", sizes.features, h);
      AddLinear(layer + "output.dense", h, sizes.features);
      AddNorm(layer + "output.LayerNorm");
    }
    if (sizes.classes > 0) {
      AddLinear("pooler.dense", h, h);
      AddLinear("classifier", sizes.classes, h);
    }
  }

  void Save(const TemporaryFolder& folder, const std::string& architecture) const {
    const bool classifier = sizes_.classes > 0;
    std::vector<testing::WrittenTensor> tensors;
    for (const auto& [name, values] : values_) {
      testing::WrittenTensor tensor{.name = name, .shape = shapes_.at(name)};
      if (classifier && !name.starts_with("classifier")) {
        tensor.name = "bert." + name;
      }
      tensor.bytes.assign(reinterpret_cast<const char*>(values.data()),
                          values.size() * sizeof(float));
      tensors.push_back(std::move(tensor));
    }
    folder.Write("model.safetensors", testing::Safetensors(tensors));
    std::string labels;
    for (int i = 0; i < sizes_.classes; ++i) {
      labels += fmt::format("{}\"{}\":\"L{}\"", i > 0 ? "," : "", i, i);
    }
    folder.Write(
        "config.json",
        fmt::format(R"({{"architectures":["{}"],"hidden_size":{},"num_attention_heads":{},)"
                    R"("intermediate_size":{},"vocab_size":{},"num_hidden_layers":{},)"
                    R"("max_position_embeddings":{},"type_vocab_size":{},"hidden_act":"gelu",)"
                    R"("layer_norm_eps":1e-5{}{}}})",
                    architecture, sizes_.hidden, sizes_.heads, sizes_.features, sizes_.vocab,
                    sizes_.layers, sizes_.positions, sizes_.types,
                    classifier ? fmt::format(",\"id2label\":{{{}}}", labels) : std::string(),
                    sizes_.padding >= 0 ? fmt::format(",\"pad_token_id\":{}", sizes_.padding)
                                        : std::string()));
  }

  Rows Run(const Tokens& tokens, const Tokens& types) const {
    Rows rows;
    int counted = 0;
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      int position = static_cast<int>(t);
      if (sizes_.padding >= 0) {
        const bool padding = tokens[t] == sizes_.padding;
        counted += padding ? 0 : 1;
        position = sizes_.padding + (padding ? 0 : counted);
      }
      std::vector<double> row;
      for (int f = 0; f < sizes_.hidden; ++f) {
        row.push_back(At("embeddings.word_embeddings.weight", tokens[t], f) +
                      At("embeddings.position_embeddings.weight", position, f) +
                      At("embeddings.token_type_embeddings.weight", types[t], f));
      }
      rows.push_back(Norm("embeddings.LayerNorm", row));
    }
    for (int i = 0; i < sizes_.layers; ++i) {
      RunLayer(fmt::format("encoder.layer.{}.", i), rows);
    }
    return rows;
  }

  std::vector<double> Classes(const std::vector<double>& first) const {
    std::vector<double> dense = Linear("pooler.dense", first);
    for (double& value : dense) {
      value = std::tanh(value);
    }
    return Linear("classifier", dense);
  }

 private:
  void Add(const std::string& name, std::int64_t rows, std::int64_t cols, float centre = 0.0F,
           float width = 0.6F) {
    std::vector<float>& values = values_[name];
    for (std::int64_t i = 0; i < rows * std::max<std::int64_t>(cols, 1); ++i) {
      values.push_back(centre + width * (static_cast<float>(random_() >> 40U) * 0x1p-23F - 1.0F));
    }
    shapes_[name] =
        cols > 0 ? std::vector<std::int64_t>{rows, cols} : std::vector<std::int64_t>{rows};
  }

  void AddLinear(const std::string& name, int rows, int cols) {
    Add(name + ".weight", rows, cols, 0.0F, 0.25F);
    Add(name + ".bias", rows, 0, 0.0F, 0.2F);
  }

  void AddNorm(const std::string& name) {
    Add(name + ".weight", sizes_.hidden, 0, 1.0F, 0.3F);
    Add(name + ".bias", sizes_.hidden, 0, 0.0F, 0.2F);
  }

  double At(const std::string& name, int row, int col) const {
    return values_.at(name)[static_cast<std::size_t>(row * sizes_.hidden + col)];
  }

  std::vector<double> Linear(const std::string& name, const std::vector<double>& in) const {
    const std::vector<float>& weight = values_.at(name + ".weight");
    std::vector<double> out;
    for (const float bias : values_.at(name + ".bias")) {
      double sum = bias;
      for (std::size_t i = 0; i < in.size(); ++i) {
        sum += in[i] * double{weight[out.size() * in.size() + i]};
      }
      out.push_back(sum);
    }
    return out;
  }

  std::vector<double> Norm(const std::string& name, const std::vector<double>& in) const {
    double mean = 0.0;
    for (const double x : in) {
      mean += x / static_cast<double>(in.size());
    }
    double variance = 0.0;
    for (const double x : in) {
      variance += (x - mean) * (x - mean) / static_cast<double>(in.size());
    }
    std::vector<double> out;
    for (std::size_t i = 0; i < in.size(); ++i) {
      out.push_back((in[i] - mean) / std::sqrt(variance + 1e-5) * values_.at(name + ".weight")[i] +
                    values_.at(name + ".bias")[i]);
    }
    return out;
  }

  static std::vector<double> Sum(std::vector<double> a, const std::vector<double>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      a[i] += b[i];
    }
    return a;
  }

  void RunLayer(const std::string& layer, Rows& rows) const {
    const std::string self = layer + "attention.self.";
    Rows q;
    Rows k;
    Rows v;
    for (const std::vector<double>& row : rows) {
      q.push_back(Linear(self + "query", row));
      k.push_back(Linear(self + "key", row));
      v.push_back(Linear(self + "value", row));
    }
    const auto dim = static_cast<std::size_t>(sizes_.hidden / sizes_.heads);
    for (std::size_t t = 0; t < rows.size(); ++t) {
      std::vector<double> mixed(rows[t].size());
      for (std::size_t head = 0; head < static_cast<std::size_t>(sizes_.heads); ++head) {
        std::vector<double> weights;
        double total = 0.0;
        for (std::size_t s = 0; s < rows.size(); ++s) {
          double dot = 0.0;
          for (std::size_t d = head * dim; d < (head + 1) * dim; ++d) {
            dot += q[t][d] * k[s][d];
          }
          weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(dim))));
          total += weights.back();
        }
        for (std::size_t s = 0; s < rows.size(); ++s) {
          for (std::size_t d = head * dim; d < (head + 1) * dim; ++d) {
            mixed[d] += weights[s] / total * v[s][d];
          }
        }
      }
      rows[t] = Norm(layer + "attention.output.LayerNorm",
                     Sum(Linear(layer + "attention.output.dense", mixed), rows[t]));
    }
    for (std::vector<double>& row : rows) {
      std::vector<double> up = Linear(layer + "intermediate.dense", row);
      for (double& x : up) {
        x = 0.5 * x * std::erfc(-x / std::sqrt(2.0));
      }
      row = Norm(layer + "output.LayerNorm", Sum(Linear(layer + "output.dense", up), row));
    }
  }

  Sizes sizes_;
  std::mt19937_64 random_;
  std::map<std::string, std::vector<float>> values_;
  std::map<std::string, std::vector<std::int64_t>> shapes_;
};

Tokens RandomTokens(std::size_t count, int end, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Tokens out(count);
  for (std::int32_t& token : out) {
    token = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(end));
  }
  return out;
}

class EncoderOn : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<LanguageModel> Load(const TemporaryFolder& folder) {
    auto model = LanguageModel::Load(
        folder.path(), *operators_,
        {.compute = kernels::ComputeType::kF32, .step_tokens_max = 120, .step_logit_rows_max = 4});
    EXPECT_TRUE(model.has_value()) << model.error().ToString();
    return model ? *std::move(model) : nullptr;
  }

  PagedRunner Runner(LanguageModel& model, std::int32_t block_tokens = 16) {
    return *PagedRunner::Create(model, *operators_,
                                {.block_tokens = block_tokens, .kv_dtype = {}, .seed = 3});
  }

  std::unique_ptr<kernels::Operators> operators_ =
      GetParam() == "ref"
          ? kernels::MakeReferenceOperators()
          : *kernels::MakeCpuOperators({.thread_count = 2, .isa = kernels::CpuIsa::kAuto});
};

std::vector<float> RunOne(PagedRunner& runner, const Tokens& tokens, const Tokens& types) {
  RunnerSequence sequence{.tokens = tokens, .token_types = types};
  const RunnerChunk chunk{&sequence, static_cast<std::int32_t>(tokens.size())};
  auto rows = runner.Step({&chunk, 1});
  EXPECT_TRUE(rows.has_value()) << rows.error().ToString();
  runner.Release(sequence);
  return rows ? *std::move(rows) : std::vector<float>();
}

TEST_P(EncoderOn, GivesTheHiddenStatesOfPlainLoops) {
  for (const int padding : {-1, 4}) {
    const Sizes sizes{.padding = padding};
    const PlainEncoder plain(sizes, 5);
    const TemporaryFolder folder;
    plain.Save(folder, padding < 0 ? "BertModel" : "XLMRobertaModel");
    const auto model = Load(folder);
    ASSERT_NE(model, nullptr);
    EXPECT_EQ(model->spec().task, ModelTask::kEmbed);
    EXPECT_EQ(model->spec().context_tokens_max, 50 - padding - 1);
    PagedRunner runner = Runner(*model);
    for (const std::size_t length : {1U, 2U, 17U, 45U}) {
      // Small ids, so that RoBERTa's padding token (4) stands inside the text.
      const Tokens tokens = RandomTokens(length, 12, length);
      const Tokens types = RandomTokens(length, sizes.types, length + 1);
      const Rows exact = plain.Run(tokens, types);
      const std::vector<float> ours = RunOne(runner, tokens, types);
      ASSERT_EQ(ours.size(), length * 45U);
      for (std::size_t i = 0; i < ours.size(); ++i) {
        ASSERT_NEAR(ours[i], exact[i / 45][i % 45], 2e-4) << "length " << length << " at " << i;
      }
    }
  }
}

TEST_P(EncoderOn, GivesTheClassesOfPlainLoops) {
  const Sizes sizes{.hidden = 32, .heads = 2, .classes = 3};
  const PlainEncoder plain(sizes, 6);
  const TemporaryFolder folder;
  plain.Save(folder, "BertForSequenceClassification");
  const auto model = Load(folder);
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->spec().task, ModelTask::kClassify);
  EXPECT_EQ(model->spec().row_size, 3);
  PagedRunner runner = Runner(*model);
  const Tokens tokens = RandomTokens(29, sizes.vocab, 1);
  const Tokens types = RandomTokens(29, sizes.types, 2);
  const std::vector<double> exact = plain.Classes(plain.Run(tokens, types)[0]);
  const std::vector<float> ours = RunOne(runner, tokens, types);
  ASSERT_EQ(ours.size(), 3U);
  for (std::size_t i = 0; i < ours.size(); ++i) {
    EXPECT_NEAR(ours[i], exact[i], 2e-4);
  }
}

TEST_P(EncoderOn, BitsDoNotDependOnNeighboursOrBlocks) {
  const PlainEncoder plain({}, 7);
  const TemporaryFolder folder;
  plain.Save(folder, "BertModel");
  const auto model = Load(folder);
  ASSERT_NE(model, nullptr);
  PagedRunner alone = Runner(*model, 32);
  PagedRunner together = Runner(*model, 8);
  std::vector<RunnerSequence> sequences;
  std::vector<RunnerChunk> chunks;
  for (const std::size_t length : {33U, 1U, 50U, 20U}) {
    sequences.push_back({.tokens = RandomTokens(length, 97, length)});
  }
  for (RunnerSequence& sequence : sequences) {
    chunks.push_back({&sequence, static_cast<std::int32_t>(sequence.tokens.size())});
  }
  const auto rows = together.Step(chunks);
  ASSERT_TRUE(rows.has_value()) << rows.error().ToString();
  std::size_t at = 0;
  for (const RunnerSequence& sequence : sequences) {
    const std::vector<float> whole = RunOne(alone, sequence.tokens, {});
    ASSERT_EQ(std::memcmp(rows->data() + at, whole.data(), whole.size() * sizeof(float)), 0);
    at += whole.size();
  }
  EXPECT_EQ(at, rows->size());
}

TEST_P(EncoderOn, RefusesACutTextUnknownTypesAndRowsThatGiveNoClass) {
  const Sizes sizes{.hidden = 32, .heads = 2, .classes = 2};
  const PlainEncoder plain(sizes, 8);
  const TemporaryFolder folder;
  plain.Save(folder, "BertForSequenceClassification");
  const auto model = Load(folder);
  ASSERT_NE(model, nullptr);
  kernels::KvCache cache;
  cache.layout = model->MakeKvLayout(16, {});
  cache.block_count = 2;
  cache.buffer = *operators_->Allocate(2 * cache.layout.block_size_bytes());
  kernels::StepBatch batch;
  batch.token_ids = {3, 4};
  batch.positions = {0, 1};
  batch.slots = {16, 17};
  batch.block_table = {1};
  batch.sequences = {{.token_count = 2, .context_tokens = 2, .block_count = 1}};
  batch.logit_rows = {0};
  std::vector<float> out(2);
  ASSERT_TRUE(model->Forward(batch, cache, out).has_value());
  batch.token_types = {0, 2};
  EXPECT_THAT(model->Forward(batch, cache, out).error().detail(), HasSubstr("token_types"));
  batch.token_types = {0};
  EXPECT_THAT(model->Forward(batch, cache, out).error().detail(), HasSubstr("token_types"));
  batch.token_types = {};
  batch.logit_rows = {1};
  EXPECT_THAT(model->Forward(batch, cache, out).error().detail(), HasSubstr("logit_rows"));
  batch.logit_rows = {0};
  batch.positions = {1, 2};
  batch.slots = {17, 18};
  batch.sequences[0].context_tokens = 3;
  EXPECT_THAT(model->Forward(batch, cache, out).error().detail(), HasSubstr("cut a text"));
}

INSTANTIATE_TEST_SUITE_P(Backends, EncoderOn, ::testing::Values("ref", "cpu"));

}  // namespace
}  // namespace pixii::model
