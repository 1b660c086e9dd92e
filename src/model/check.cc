#include "model/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/assert.h"
#include "base/checked.h"
#include "model/check_lines.h"
#include "model/checkpoint.h"
#include "model/checkpoint_folder.h"
#include "model/config.h"
#include "model/golden_file.h"
#include "model/language_model.h"
#include "model/paged_runner.h"
#include "model/vision_check.h"

namespace pixii::model {
namespace {

std::size_t Size(std::int64_t value) { return static_cast<std::size_t>(value); }

std::string_view ResultName(ModelTask task) {
  switch (task) {
    case ModelTask::kGenerate:
      return "logits";
    case ModelTask::kEmbed:
      return "pooled";
    case ModelTask::kClassify:
      return "classes";
  }
  PX_ASSERT(false);
}

class Checker final {
 public:
  /// `media`: of each of golden.logits.
  Checker(LanguageModel& model, PagedRunner& runner, const Golden& golden,
          std::span<const SequenceMedia> media, const CheckOptions& options)
      : model_(model),
        runner_(runner),
        golden_(golden),
        media_(media),
        options_(options),
        random_(options.seed) {}

  Result<std::vector<CheckLine>> Run() {
    for (std::size_t i = 0; i < golden_.logits.size(); ++i) {
      PX_CHECK_OK(CheckWhole(i));
    }
    for (const GreedyGolden& greedy : golden_.greedy) {
      PX_CHECK_OK(CheckGreedy(greedy));
    }
    for (std::size_t i = 0; i < golden_.logits.size(); ++i) {
      PX_CHECK_OK(CheckChunks(i));
    }
    if (golden_.logits.size() > 1) {
      PX_CHECK_OK(CheckTogether());
    }
    return std::move(lines_);
  }

 private:
  RunnerSequence SequenceOf(std::size_t index) const {
    const LogitsGolden& entry = golden_.logits[index];
    return {.tokens = entry.prompt, .token_types = entry.token_types, .media = &media_[index]};
  }

  Result<void> CheckWhole(std::size_t index) {
    const LogitsGolden& entry = golden_.logits[index];
    RunnerSequence sequence = SequenceOf(index);
    std::vector<std::vector<float>> hidden;
    const HiddenObserver keep = [&](std::int32_t /*index*/, const kernels::Matrix& rows) {
      std::vector<float>& copy = hidden.emplace_back();
      for (std::int64_t row = 0; row < rows.rows; ++row) {
        copy.insert(copy.end(), rows.f32(row), rows.f32(row) + rows.cols);
      }
    };
    const RunnerChunk chunk{&sequence, static_cast<std::int32_t>(entry.prompt.size())};
    // The observer keeps rows alive that a plain run drops early, so the bits are taken without it.
    PX_TRY(const std::vector<float> observed, runner_.Step({&chunk, 1}, &keep));
    runner_.Release(sequence);
    PX_TRY(std::vector<float> logits, runner_.Step({&chunk, 1}));
    runner_.Release(sequence);
    const std::vector<float> result = ResultOf(logits, entry.logits.size());
    lines_.push_back(CompareValues(fmt::format("{}.{}", entry.name, ResultName(model_.spec().task)),
                                   result, entry.logits, options_.tolerance));
    if (entry.vision) {
      CheckChoices(entry, result);
    }
    for (std::size_t layer = 0; layer < entry.hidden.size(); ++layer) {
      if (layer >= hidden.size()) {
        return Fail(Code::kDataCorrupt,
                    fmt::format("{}.hidden.{}: the model has fewer layers", entry.name, layer));
      }
      lines_.push_back(CompareValues(fmt::format("{}.hidden.{}", entry.name, layer), hidden[layer],
                                     entry.hidden[layer], options_.tolerance));
    }
    if (!entry.hidden.empty()) {
      lines_.push_back(CompareBits(entry.name + " observed", observed, logits));
    }
    whole_.push_back(std::move(logits));
    return {};
  }

  /// The token that each row of logits chooses, where the golden row is sure of it.
  void CheckChoices(const LogitsGolden& entry, std::span<const float> logits) {
    const std::size_t vocab = Size(model_.spec().vocab_size);
    CheckLine line{.name = entry.name + ".choices", .passed = true};
    for (std::size_t at = 0; at < logits.size(); at += vocab) {
      std::vector<float> golden(entry.logits.begin() + static_cast<std::int64_t>(at),
                                entry.logits.begin() + static_cast<std::int64_t>(at + vocab));
      const std::int32_t ours = ArgMax(logits.subspan(at, vocab));
      const std::int32_t theirs = ArgMax(golden);
      std::ranges::partial_sort(golden, golden.begin() + 2, std::greater<>());
      ++line.count;
      if (ours != theirs && double{golden[0]} - double{golden[1]} > options_.margin_min) {
        line.error_max += 1.0;
        line.passed = false;
        line.detail += fmt::format("row {} chooses {}, golden {}; ", at / vocab, ours, theirs);
      }
    }
    lines_.push_back(std::move(line));
  }

  /// What the golden file has of a prompt's rows: the last of them, or the vector made of them.
  std::vector<float> ResultOf(std::span<const float> rows, std::size_t size) const {
    const ModelSpec& spec = model_.spec();
    if (spec.pooler == nullptr) {
      const std::span<const float> last = rows.last(size);
      return {last.begin(), last.end()};
    }
    Pooler::State state;
    const std::size_t row_size = Size(spec.row_size);
    const std::size_t count = rows.size() / row_size;
    const PoolRows wanted = spec.pool_rows;
    const std::size_t begin = wanted == PoolRows::kLast ? count - 1 : 0;
    const std::size_t end = wanted == PoolRows::kFirst ? 1 : count;
    for (std::size_t row = begin; row < end; ++row) {
      spec.pooler->Add(rows.subspan(row * row_size, row_size), state);
    }
    return spec.pooler->Finish(state);
  }

  /// Feeds the golden tokens one by one, so that one difference does not make all later ones
  /// differ.
  Result<void> CheckGreedy(const GreedyGolden& greedy) {
    CheckLine line{.name = greedy.name, .count = greedy.tokens.size(), .passed = true};
    RunnerSequence sequence{.tokens = greedy.prompt};
    const std::size_t room = Size(model_.spec().context_tokens_max) - greedy.prompt.size();
    for (std::size_t i = 0; i < std::min(room, greedy.tokens.size()); ++i) {
      const RunnerChunk chunk{&sequence,
                              static_cast<std::int32_t>(sequence.tokens.size()) - sequence.done};
      PX_TRY(const std::vector<float> logits, runner_.Step({&chunk, 1}));
      const auto row = std::span(logits).last(Size(model_.spec().vocab_size));
      const std::int32_t ours = ArgMax(row);
      const std::int32_t theirs = greedy.tokens[i];
      const double margin = greedy.margins.empty()
                                ? double{row[Size(ours)]} - double{row[Size(theirs)]}
                                : greedy.margins[i];
      if (ours != theirs && margin > options_.margin_min) {
        line.error_max += 1.0;
        line.passed = false;
        line.detail +=
            fmt::format("token {} is {}, golden {}, margin {:.4f}; ", i, ours, theirs, margin);
      }
      sequence.tokens.push_back(theirs);
    }
    runner_.Release(sequence);
    lines_.push_back(std::move(line));
    return {};
  }

  std::int32_t Draw(std::int32_t max) {
    return std::uniform_int_distribution<std::int32_t>(1, max)(random_);
  }

  /// About `count` tokens, so that no picture is cut that may not be.
  static RunnerChunk Uncut(RunnerSequence& sequence, std::int32_t count) {
    const std::int32_t begin = sequence.done;
    const std::int32_t end = begin + std::max(count, sequence.media->ChunkMin(begin));
    return {&sequence, sequence.media->ChunkEnd(begin, end) - begin};
  }

  Result<void> CheckChunks(std::size_t index) {
    const LogitsGolden& entry = golden_.logits[index];
    if (entry.prompt.size() < 2 || model_.spec().whole_texts) {
      return {};
    }
    RunnerSequence sequence = SequenceOf(index);
    std::vector<float> logits;
    const auto size = static_cast<std::int32_t>(entry.prompt.size());
    while (sequence.done < size) {
      const RunnerChunk chunk = Uncut(sequence, Draw(std::min(size - sequence.done, 1 + size / 3)));
      PX_TRY(const std::vector<float> part, runner_.Step({&chunk, 1}));
      logits.insert(logits.end(), part.begin(), part.end());
    }
    runner_.Release(sequence);
    lines_.push_back(CompareBits(entry.name + " in chunks", logits, whole_[index]));
    return {};
  }

  /// All prompts side by side, each with chunks of its own, until the last one ends.
  Result<void> CheckTogether() {
    const ModelSpec& spec = model_.spec();
    const std::size_t row_size = Size(spec.row_size);
    const bool first_only = spec.task == ModelTask::kClassify && spec.pool_rows == PoolRows::kFirst;
    std::vector<RunnerSequence> sequences;
    for (std::size_t i = 0; i < golden_.logits.size(); ++i) {
      sequences.push_back(SequenceOf(i));
    }
    std::vector<std::vector<float>> logits(sequences.size());
    while (true) {
      std::vector<RunnerChunk> chunks;
      std::vector<std::size_t> owners;
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        const std::int32_t left =
            static_cast<std::int32_t>(sequences[i].tokens.size()) - sequences[i].done;
        if (left > 0) {
          chunks.push_back(Uncut(sequences[i], spec.whole_texts ? left : Draw(std::min(left, 17))));
          owners.push_back(i);
        }
      }
      if (chunks.empty()) {
        break;
      }
      PX_TRY(const std::vector<float> step, runner_.Step(chunks));
      std::size_t at = 0;
      for (std::size_t i = 0; i < chunks.size(); ++i) {
        const std::size_t size = (first_only ? 1 : Size(chunks[i].count)) * row_size;
        logits[owners[i]].insert(logits[owners[i]].end(), step.begin() + at,
                                 step.begin() + at + size);
        at += size;
      }
    }
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      runner_.Release(sequences[i]);
      lines_.push_back(
          CompareBits(golden_.logits[i].name + " beside others", logits[i], whole_[i]));
    }
    return {};
  }

  LanguageModel& model_;
  PagedRunner& runner_;
  const Golden& golden_;
  std::span<const SequenceMedia> media_;
  CheckOptions options_;
  std::mt19937_64 random_;
  std::vector<std::vector<float>> whole_;  // logits of every row, by index of golden_.logits
  std::vector<CheckLine> lines_;
};

/// Blocks that all sequences of the golden file need at one time.
std::int32_t BlocksWanted(const Golden& golden, const CheckOptions& options) {
  std::size_t together = 0;
  std::size_t alone = 0;
  for (const LogitsGolden& entry : golden.logits) {
    together += CeilDiv(entry.prompt.size(), Size(options.block_tokens));
  }
  for (const GreedyGolden& greedy : golden.greedy) {
    alone = std::max(
        alone, CeilDiv(greedy.prompt.size() + greedy.tokens.size(), Size(options.block_tokens)));
  }
  return static_cast<std::int32_t>(std::max(together, alone)) +
         3;  // some stay free, so the order stays shuffled
}

std::int32_t LongestStep(const Golden& golden) {
  std::size_t tokens = 17 * golden.logits.size();
  std::size_t together = 0;  // whole prompts side by side, as encoders take them
  for (const LogitsGolden& entry : golden.logits) {
    together += entry.prompt.size();
  }
  tokens = std::max(tokens, together);
  for (const GreedyGolden& greedy : golden.greedy) {
    tokens = std::max(tokens, greedy.prompt.size());
  }
  return static_cast<std::int32_t>(std::max<std::size_t>(tokens, 1));
}

Result<GoldenSizes> SizesOf(const ModelConfig& config) {
  PX_TRY(const ModelSpec spec, MakeModelSpec(config, Checkpoint()));
  return GoldenSizes{.vocab_size = spec.vocab_size,
                     .hidden_size = spec.hidden_size,
                     .result = std::string(ResultName(spec.task)),
                     .result_size = spec.pooler ? spec.pooler->features() : spec.row_size,
                     .context_tokens_max = spec.context_tokens_max};
}

/// Factors of rope that follow the length are fixed by what the model is loaded for: the golden
/// sequences.
std::int32_t LongestSequence(const Golden& golden) {
  std::size_t tokens = 1;
  for (const LogitsGolden& entry : golden.logits) {
    tokens = std::max(tokens, entry.prompt.size());
  }
  for (const GreedyGolden& greedy : golden.greedy) {
    tokens = std::max(tokens, greedy.prompt.size() + greedy.tokens.size());
  }
  return static_cast<std::int32_t>(tokens);
}

}  // namespace

bool CheckReport::passed() const {
  return std::all_of(lines.begin(), lines.end(), [](const CheckLine& line) { return line.passed; });
}

std::string CheckReport::ToText() const {
  std::string out = fmt::format("{} on {}\n  {:<24} {:>10} {:>12} {:>10}\n", folder, operators,
                                "tensor", "compared", "largest error", "limit");
  for (const CheckLine& line : lines) {
    out += fmt::format("  {:<24} {:>10} {:>12.3g} {:>10.3g}  {}{}{}\n", line.name, line.count,
                       line.error_max, line.limit, line.passed ? "ok" : "FAILED",
                       line.detail.empty() ? "" : ": ", line.detail);
  }
  return out;
}

Result<CheckReport> CheckFolder(const std::string& folder_path, kernels::Operators& operators,
                                const CheckOptions& options) {
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(folder_path));
  PX_TRY(const ModelConfig config, LoadConfig(folder));
  PX_TRY(const GoldenSizes sizes, SizesOf(config));
  PX_TRY(
      const CheckpointFolder golden_folder,
      CheckpointFolder::Open(options.golden_folder.empty() ? folder_path : options.golden_folder));
  PX_TRY(const Golden golden, LoadGolden(golden_folder, sizes));
  const LoadOptions load = {
      .compute = kernels::ComputeType::kF32,
      .context_tokens_max = std::min(LongestSequence(golden), sizes.context_tokens_max),
      .step_tokens_max = LongestStep(golden),
      .step_logit_rows_max = LongestStep(golden),
      .ranks = options.ranks};
  PX_TRY(const auto model, LanguageModel::Load(folder_path, operators, load));
  PX_TRY(PagedRunner runner, PagedRunner::Create(*model, operators,
                                                 {.block_tokens = options.block_tokens,
                                                  .block_count = BlocksWanted(golden, options),
                                                  .kv_dtype = kernels::KvDType::kF32,
                                                  .seed = options.seed}));
  CheckReport report{
      .folder = folder_path, .operators = std::string(operators.name()), .lines = {}};
  std::vector<SequenceMedia> media(golden.logits.size());
  if (config.vision) {
    PX_TRY(media, CheckVision(folder_path, config, operators, golden, options, report.lines));
  }
  Checker checker(*model, runner, golden, media, options);
  PX_TRY(const std::vector<CheckLine> lines, checker.Run());
  report.lines.insert(report.lines.end(), lines.begin(), lines.end());
  return report;
}

}  // namespace pixii::model
