#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "base/assert.h"
#include "base/hash.h"
#include "kernels/weight_source.h"
#include "model/finite.h"
#include "model/gguf_blocks.h"
#include "model/part_memory.h"
#include "wire/quoted.h"

namespace pixii::model {
namespace {

using Shape = std::vector<std::int64_t>;

std::string ShapeText(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

/// Checks one expected tensor and adds the names that hold it to `known`.
Result<void> CheckTensor(const QuantizationSpec& quantization, const Checkpoint& checkpoint,
                         const ExpectedTensor& expected, std::unordered_set<std::string>& known) {
  const auto add = [&](const CheckpointTensor* tensor) {
    if (tensor != nullptr) {
      known.insert(tensor->stored.name);
    }
  };
  const Shape& shape = expected.shape;
  if (shape.size() == 3) {
    PX_TRY(const StoredStack stack, FindStack(quantization, checkpoint,
                                              {.name = expected.name,
                                               .count = shape[0],
                                               .stored_rows = shape[1],
                                               .cols = shape[2],
                                               .transposed = expected.transposed}));
    add(stack.values);
    add(stack.scales);
    return {};
  }
  if (shape.size() == 2) {
    PX_TRY(const StoredLinear linear,
           FindLinear(quantization, checkpoint, expected.name, shape[0], shape[1]));
    add(linear.codes);
    add(linear.scales);
    add(linear.zeros);
    add(linear.order);
    known.insert(linear.unused.begin(), linear.unused.end());
    return {};
  }
  const CheckpointTensor* tensor = checkpoint.Find(expected.name);
  if (tensor == nullptr) {
    return Fail(
        Code::kDataCorrupt,
        fmt::format("{}: tensor {} of shape {} is missing",
                    fmt::join(checkpoint.file_names(), ", "), expected.name, ShapeText(shape)),
        expected.name);
  }
  if (tensor->stored.shape != shape) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{} has shape {}, config.json asks for {}", checkpoint.Place(*tensor),
                            ShapeText(tensor->stored.shape), ShapeText(shape)),
                expected.name);
  }
  if (!AsWeightType(tensor->stored.type)) {
    return Fail(Code::kUnsupported,
                fmt::format("{} has dtype {}; this build reads F32, F16 and BF16 there",
                            checkpoint.Place(*tensor), StoredTypeName(tensor->stored.type)),
                expected.name);
  }
  if (tensor->head_rows != 0 && shape[0] % tensor->head_rows != 0) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{} of {} is no multiple of heads of {}", checkpoint.Place(*tensor),
                            shape[0], tensor->head_rows),
                expected.name);
  }
  add(tensor);
  return {};
}

/// A head that stands in the file although config.json says that it is the embedding table must be
/// that table.
Result<void> CheckTiedHead(const DecoderSpec& spec, const Checkpoint& checkpoint) {
  const CheckpointTensor* head = checkpoint.Find(spec.names.head + ".weight");
  const CheckpointTensor* embed = checkpoint.Find(spec.names.embed + ".weight");
  if (head == nullptr || embed == nullptr) {
    return {};
  }
  const bool same = head->stored.type == embed->stored.type &&
                    head->stored.shape == embed->stored.shape &&
                    std::memcmp(head->bytes.data(), embed->bytes.data(), head->bytes.size()) == 0;
  if (!same) {
    return Fail(Code::kUnsupported,
                fmt::format("{} differs from {}, although config.json says tie_word_embeddings",
                            checkpoint.Place(*head), embed->stored.name),
                head->stored.name);
  }
  return {};
}

tl::unexpected<Error> UnknownTensor(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                                    std::string_view architecture) {
  return Fail(Code::kUnsupported,
              fmt::format("{} is no part of {} as config.json describes it, so the model would be "
                          "run without it",
                          checkpoint.Place(tensor), architecture),
              tensor.stored.name);
}

/// A tensor of a layer that guesses ahead, "model.layers.61.…" after 61 layers.
bool IsPastLastLayer(const DecoderSpec& spec, const std::string& name) {
  for (std::size_t i = 0; i < spec.ahead_layers.size(); ++i) {
    if (name.starts_with(LayerName("model.layers.{}.", spec.layers.size() + i))) {
      return true;
    }
  }
  return false;
}

/// Of `patterns`, one that ends in "." stands for all below.
bool IsHarmless(std::span<const std::string> patterns, const std::string& name) {
  return std::ranges::any_of(patterns, [&](const std::string& pattern) {
    return pattern.ends_with('.') ? name.starts_with(pattern) : name == pattern;
  });
}

class CheckpointWeights final : public Weights {
 public:
  CheckpointWeights(const Checkpoint& checkpoint, QuantizationSpec quantization)
      : checkpoint_(checkpoint), quantization_(std::move(quantization)) {}

  Result<kernels::WeightPart> Part(const std::string& name, std::int64_t rows,
                                   std::int64_t cols) override {
    PX_TRY(const StoredLinear linear, FindLinear(quantization_, checkpoint_, name, rows, cols));
    PX_CHECK_OK(CheckFinite(checkpoint_, *linear.codes, linear.codes->bytes));
    return MakePart(checkpoint_, linear, rows, cols, memory_);
  }

  Result<kernels::WeightPart> Slice(const StackedSlice& slice) override {
    PX_TRY(const StoredStack stack, FindStack(quantization_, checkpoint_, slice));
    PX_TRY(const kernels::WeightPart part, MakeSlice(checkpoint_, stack, slice, memory_));
    if (stack.scales == nullptr) {
      const auto size = static_cast<std::size_t>(part.rows * kernels::RowSizeBytes(part));
      PX_CHECK_OK(CheckFinite(checkpoint_, *stack.values,
                              {static_cast<const std::byte*>(part.data), size}));
    }
    return part;
  }

  Result<std::vector<float>> Vector(const std::string& name, std::int64_t size) override {
    const CheckpointTensor* tensor = checkpoint_.Find(name);
    PX_ASSERT(tensor != nullptr && tensor->stored.shape == Shape({size}));
    PX_CHECK_OK(CheckFinite(checkpoint_, *tensor, tensor->bytes));
    std::vector<float> out(static_cast<std::size_t>(size));
    WidenTo(*tensor, out);
    if (tensor->head_rows != 0) {
      const std::vector<float> stored = out;
      for (std::int64_t i = 0; i < size; ++i) {
        out[static_cast<std::size_t>(i)] =
            stored[static_cast<std::size_t>(PermutedRow(i, tensor->head_rows))];
      }
    }
    if (tensor->added != 0.0F) {
      for (float& value : out) {
        value -= tensor->added;
      }
    }
    return out;
  }

  void Release() override { memory_.Clear(); }

 private:
  const Checkpoint& checkpoint_;
  QuantizationSpec quantization_;
  PartMemory memory_;
};

/// splitmix64: one multiply-xor chain a draw, good enough for weights nobody reads.
std::uint64_t NextRandom(std::uint64_t& state) {
  state += 0x9E3779B97F4A7C15ULL;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

/// Columns that share a scale.
std::int64_t RandomGroup(RandomForm form, std::int64_t cols) {
  switch (form) {
    case RandomForm::kBf16:
    case RandomForm::kInt8:
      return cols;
    case RandomForm::kInt4:
      return 128;
    case RandomForm::kQ8_0:
    case RandomForm::kQ4_0:
      return 32;
  }
  return cols;
}

class RandomWeights final : public Weights {
 public:
  RandomWeights(std::uint64_t seed, RandomForm form) : seed_(seed), form_(form) {
    // Sum of eight bits, centred: a binomial bell of deviation sqrt(2), scaled to 0.02, with the
    // low bits as jitter.
    for (std::size_t byte = 0; byte < table_.size(); ++byte) {
      const auto bits = static_cast<float>(__builtin_popcount(static_cast<unsigned>(byte)));
      const float jitter = (static_cast<float>(byte) - 127.5F) / 512.0F;
      table_[byte] = kernels::Bf16FromFloat((bits - 4.0F + jitter) * 0.02F / std::sqrt(2.0F));
    }
  }

  Result<kernels::WeightPart> Part(const std::string& name, std::int64_t rows,
                                   std::int64_t cols) override {
    std::uint64_t state = Hash64(std::as_bytes(std::span(name)), seed_);
    if (form_ != RandomForm::kBf16) {
      return Codes(state, rows, cols);
    }
    std::vector<std::uint16_t> values(static_cast<std::size_t>(rows * cols));
    for (std::size_t i = 0; i < values.size(); i += 8) {
      std::uint64_t bytes = NextRandom(state);
      for (std::size_t j = i; j < std::min(i + 8, values.size()); ++j, bytes >>= 8) {
        values[j] = table_[bytes & 0xFF];
      }
    }
    parts_.push_back(std::move(values));
    return kernels::WeightPart{.data = parts_.back().data(),
                               .dtype = kernels::DType::kBf16,
                               .rows = rows,
                               .cols = cols,
                               .bias = nullptr};
  }

  Result<kernels::WeightPart> Slice(const StackedSlice& slice) override {
    return Part(fmt::format("{}.{}.{}", slice.name, slice.index, slice.row_begin), slice.rows(),
                slice.cols);
  }

  Result<std::vector<float>> Vector(const std::string& name, std::int64_t size) override {
    return std::vector<float>(static_cast<std::size_t>(size),
                              name.ends_with(".bias") ? 0.0F : 1.0F);
  }

  void Release() override {
    parts_.clear();
    memory_.Clear();
  }

 private:
  kernels::WeightPart Codes(std::uint64_t state, std::int64_t rows, std::int64_t cols) {
    const bool four_bits = form_ == RandomForm::kInt4 || form_ == RandomForm::kQ4_0;
    kernels::WeightPart part;
    part.rows = rows;
    part.cols = cols;
    part.code = four_bits ? kernels::WeightCode::kUint4 : kernels::WeightCode::kInt8;
    part.scale_rows = 1;
    part.scale_cols = RandomGroup(form_, cols);
    const std::span<std::byte> bytes =
        memory_.Bytes(static_cast<std::size_t>(rows * kernels::RowSizeBytes(part)));
    for (std::size_t i = 0; i < bytes.size(); i += sizeof(state)) {
      const std::uint64_t drawn = NextRandom(state);
      std::memcpy(bytes.data() + i, &drawn, std::min(sizeof(drawn), bytes.size() - i));
    }
    const auto count =
        static_cast<std::size_t>(kernels::ScaleRows(part) * kernels::ScaleColumns(part));
    const std::span<float> scales = memory_.Floats(count);
    // Codes are even over their range, whose deviation is 0.29 of it; as fp16, as files store them.
    const float scale = 0.02F / (four_bits ? 16 * 0.29F : 256 * 0.29F);
    for (float& value : scales) {
      const auto part_of_one = static_cast<float>(NextRandom(state) >> 40U) * 0x1p-24F;
      value = kernels::FloatFromF16(kernels::F16FromFloat(scale * (0.75F + 0.5F * part_of_one)));
    }
    part.data = bytes.data();
    part.scales = scales.data();
    if (four_bits) {
      const std::span<float> offsets = memory_.Floats(count);
      std::ranges::transform(scales, offsets.begin(), [](float value) { return -8.0F * value; });
      part.offsets = offsets.data();
    }
    return part;
  }

  std::uint64_t seed_;
  RandomForm form_;
  PartMemory memory_;
  std::array<std::uint16_t, 256> table_{};
  std::vector<std::vector<std::uint16_t>> parts_;
};

}  // namespace

std::string_view ParameterKindName(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::kEmbedding:
      return "embedding";
    case ParameterKind::kAttention:
      return "attention";
    case ParameterKind::kMlp:
      return "mlp";
    case ParameterKind::kNorm:
      return "norm";
    case ParameterKind::kHead:
      return "head";
  }
  PX_ASSERT(false);
}

std::string LayerName(const std::string& pattern, std::size_t layer) {
  std::string out = pattern;
  const std::size_t hole = out.find("{}");
  if (hole != std::string::npos) {
    out.replace(hole, 2, std::to_string(layer));
  }
  return out;
}

std::vector<std::int64_t> PartRows(const LinearNames& names,
                                   const std::vector<std::int64_t>& sizes) {
  if (names.parts.size() == sizes.size()) {
    return sizes;
  }
  PX_ASSERT(names.parts.size() == 1);
  std::int64_t sum = 0;
  for (const std::int64_t size : sizes) {
    sum += size;
  }
  return {sum};
}

Result<void> CheckTensors(const DecoderSpec& spec, const Checkpoint& checkpoint,
                          const BesideTensors& beside) {
  std::unordered_set<std::string> known;
  for (const ExpectedTensor& expected : beside.tensors) {
    PX_CHECK_OK(CheckTensor({}, checkpoint, expected, known));
  }
  for (const ExpectedTensor& expected : ExpectedTensors(spec)) {
    PX_CHECK_OK(CheckTensor(spec.quantization, checkpoint, expected, known));
  }
  if (spec.tied_head && spec.head == HeadKind::kVocab) {
    PX_CHECK_OK(CheckTiedHead(spec, checkpoint));
    known.insert(spec.names.head + ".weight");
  }
  if (spec.head == HeadKind::kNone) {
    known.insert(spec.names.head + ".weight");  // of the generator it was made from
  }
  for (const std::string& pattern : spec.names.harmless) {
    for (std::size_t layer = 0; layer < spec.layers.size(); ++layer) {
      known.insert(LayerName(pattern, layer));
    }
  }
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    if (!known.contains(tensor.stored.name) && !IsPastLastLayer(spec, tensor.stored.name) &&
        !IsHarmless(beside.harmless, tensor.stored.name)) {
      return UnknownTensor(checkpoint, tensor, spec.architecture);
    }
  }
  return {};
}

Result<void> CheckTensors(std::span<const ExpectedTensor> expected,
                          std::span<const std::string> harmless, std::string_view architecture,
                          const Checkpoint& checkpoint) {
  std::unordered_set<std::string> known;
  for (const ExpectedTensor& tensor : expected) {
    PX_CHECK_OK(CheckTensor({}, checkpoint, tensor, known));
  }
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    if (!known.contains(tensor.stored.name) && !IsHarmless(harmless, tensor.stored.name)) {
      return UnknownTensor(checkpoint, tensor, architecture);
    }
  }
  return {};
}

Result<void> CheckPresent(std::span<const ExpectedTensor> expected,
                          const QuantizationSpec& quantization, const Checkpoint& checkpoint) {
  std::unordered_set<std::string> known;
  for (const ExpectedTensor& tensor : expected) {
    PX_CHECK_OK(CheckTensor(quantization, checkpoint, tensor, known));
  }
  return {};
}

std::unique_ptr<Weights> MakeCheckpointWeights(const Checkpoint& checkpoint,
                                               QuantizationSpec quantization) {
  return std::make_unique<CheckpointWeights>(checkpoint, std::move(quantization));
}

double RandomParameterBytes(RandomForm form, std::int64_t cols) {
  if (form == RandomForm::kBf16) {
    return 2.0;
  }
  const double code = form == RandomForm::kInt4 || form == RandomForm::kQ4_0 ? 0.5 : 1.0;
  return code + 2.0 / static_cast<double>(RandomGroup(form, cols));
}

std::unique_ptr<Weights> MakeRandomWeights(std::uint64_t seed, RandomForm form) {
  return std::make_unique<RandomWeights>(seed, form);
}

}  // namespace pixii::model
