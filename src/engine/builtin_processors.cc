#include "engine/builtin_processors.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "engine/processor_arguments.h"
#include "engine/watermark.h"

#pragma clang fp contract(off)

namespace pixii::engine {

namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();
constexpr std::size_t kSchedulePointsMax = 256;

void ForceToken(TokenId token, std::span<float> logits) {
  std::ranges::fill(logits, kExcluded);
  logits[static_cast<std::size_t>(token)] = 0.0F;
}

// What every built-in has: a name, and a call of its own kind that handles one row.
template <class Call>
class RowProcessor : public LogitsProcessor {
 public:
  explicit RowProcessor(std::string_view name) : name_(name) {}

  std::string_view name() const override { return name_; }

  void Process(std::span<ProcessorRow> rows) override {
    for (ProcessorRow& row : rows) {
      static_cast<const Call*>(row.call)->Apply(row);
    }
  }

  bool cannot_fail() const override { return true; }

 private:
  std::string name_;
};

// -- bans: {"tokens": [ids], "sequences": [[ids]]} --------------------------------------------

struct BansCall final : ProcessorCall {
  void Apply(ProcessorRow& row) const {
    for (TokenId id : tokens) {
      row.logits[static_cast<std::size_t>(id)] = kExcluded;
    }
    for (const std::vector<TokenId>& sequence : sequences) {
      std::span<const TokenId> head(sequence.data(), sequence.size() - 1);
      if (row.generated.size() >= head.size() &&
          std::ranges::equal(row.generated.last(head.size()), head)) {
        row.logits[static_cast<std::size_t>(sequence.back())] = kExcluded;
      }
    }
  }

  std::vector<TokenId> tokens;
  std::vector<std::vector<TokenId>> sequences;
};

class Bans final : public RowProcessor<BansCall> {
 public:
  using RowProcessor::RowProcessor;

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json& arguments,
                                              const ProcessorContext& context) const override {
    auto call = std::make_unique<BansCall>();
    ArgumentReader reader(arguments);
    PX_CHECK_OK(reader.Tokens("tokens", context.vocab_size, call->tokens));
    PX_CHECK_OK(reader.TokenLists("sequences", context.vocab_size, call->sequences));
    PX_CHECK_OK(reader.Finish());
    return std::unique_ptr<ProcessorCall>(std::move(call));
  }
};

// -- forced_sequence: {"tokens": [ids], "then_end": bool} -------------------------------------

struct ForcedCall final : ProcessorCall {
  void Apply(ProcessorRow& row) const {
    std::size_t position = row.generated.size();
    if (position < tokens.size()) {
      ForceToken(tokens[position], row.logits);
    } else if (then_end) {
      ForceToken(row.end_ids.front(), row.logits);
    }
  }

  std::vector<TokenId> tokens;
  bool then_end = false;
};

Result<std::unique_ptr<ProcessorCall>> OpenForced(std::unique_ptr<ForcedCall> call,
                                                  const ProcessorContext& context) {
  if (call->then_end && context.end_ids.empty()) {
    return Fail(Code::kInvalidArgument, "then_end needs a model with an end token", "then_end");
  }
  return std::unique_ptr<ProcessorCall>(std::move(call));
}

class ForcedSequence final : public RowProcessor<ForcedCall> {
 public:
  using RowProcessor::RowProcessor;

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json& arguments,
                                              const ProcessorContext& context) const override {
    auto call = std::make_unique<ForcedCall>();
    ArgumentReader reader(arguments);
    PX_CHECK_OK(reader.Tokens("tokens", context.vocab_size, call->tokens));
    PX_CHECK_OK(reader.Bool("then_end", call->then_end));
    PX_CHECK_OK(reader.Finish());
    return OpenForced(std::move(call), context);
  }
};

class FixedAnswer final : public RowProcessor<ForcedCall> {
 public:
  FixedAnswer(std::string_view name, std::vector<TokenId> tokens)
      : RowProcessor(name), tokens_(std::move(tokens)) {}

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json& arguments,
                                              const ProcessorContext& context) const override {
    PX_CHECK_OK(ArgumentReader(arguments).Finish());
    auto call = std::make_unique<ForcedCall>();
    call->tokens = tokens_;
    call->then_end = true;
    return OpenForced(std::move(call), context);
  }

 private:
  std::vector<TokenId> tokens_;
};

// -- temperature_schedule: {"points": [[position, factor], ...]} ------------------------------

struct ScheduleCall final : ProcessorCall {
  struct Point {
    double position = 0;
    double factor = 1;
  };

  // Straight lines between the points, level before the first and behind the last.
  double FactorAt(double position) const {
    auto after = std::ranges::upper_bound(points, position, {}, &Point::position);
    if (after == points.begin()) {
      return points.front().factor;
    }
    const Point& left = *(after - 1);
    if (after == points.end()) {
      return left.factor;
    }
    double share = (position - left.position) / (after->position - left.position);
    return left.factor + (after->factor - left.factor) * share;
  }

  void Apply(ProcessorRow& row) const {
    auto factor = static_cast<float>(FactorAt(static_cast<double>(row.generated.size())));
    for (float& logit : row.logits) {
      logit /= factor;
    }
  }

  std::vector<Point> points;
};

class TemperatureSchedule final : public RowProcessor<ScheduleCall> {
 public:
  using RowProcessor::RowProcessor;

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json& arguments,
                                              const ProcessorContext&) const override {
    auto call = std::make_unique<ScheduleCall>();
    ArgumentReader reader(arguments);
    const wire::Json* points = reader.Take("points");
    PX_CHECK_OK(reader.Finish());
    auto refused = [] {
      return Fail(Code::kInvalidArgument,
                  fmt::format("points must be 1 to {} pairs [position, factor], positions rising "
                              "from 0 on, factors from 0.01 to 100",
                              kSchedulePointsMax),
                  "points");
    };
    if (points == nullptr || !points->is_array() || points->array().empty() ||
        points->array().size() > kSchedulePointsMax) {
      return refused();
    }
    for (const wire::Json& pair : points->array()) {
      if (!pair.is_array() || pair.array().size() != 2) {
        return refused();
      }
      std::optional<double> position = pair.array()[0].AsDouble();
      std::optional<double> factor = pair.array()[1].AsDouble();
      bool rises = position && *position >= 0 &&
                   (call->points.empty() || *position > call->points.back().position);
      if (!rises || !factor || *factor < 0.01 || *factor > 100) {
        return refused();
      }
      call->points.push_back({*position, *factor});
    }
    return std::unique_ptr<ProcessorCall>(std::move(call));
  }
};

// -- watermark: {} ; the worker's config: {"key": text, "gamma", "delta", "context"} -----------

struct WatermarkCall final : ProcessorCall {
  void Apply(ProcessorRow& row) const {
    before.clear();
    for (std::size_t i = key.context; i > 0; --i) {
      std::size_t back = i;  // tokens from the end
      if (back <= row.generated.size()) {
        before.push_back(row.generated[row.generated.size() - back]);
      } else if (back - row.generated.size() <= row.prompt.size()) {
        before.push_back(row.prompt[row.prompt.size() - (back - row.generated.size())]);
      }
    }
    if (before.size() < key.context) {
      return;
    }
    std::uint64_t context = WatermarkContext(key, before);
    for (std::size_t id = 0; id < row.logits.size(); ++id) {
      if (IsGreen(key, context, static_cast<TokenId>(id))) {
        row.logits[id] += delta;
      }
    }
  }

  WatermarkKey key;
  float delta = 2.0F;
  mutable std::vector<TokenId> before;  // scratch
};

class Watermark final : public RowProcessor<WatermarkCall> {
 public:
  Watermark(std::string_view name, const WatermarkOptions& options)
      : RowProcessor(name), options_(options) {}

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json& arguments,
                                              const ProcessorContext&) const override {
    PX_CHECK_OK(ArgumentReader(arguments).Finish());
    auto call = std::make_unique<WatermarkCall>();
    call->key = options_.key;
    call->delta = static_cast<float>(options_.delta);
    return std::unique_ptr<ProcessorCall>(std::move(call));
  }

 private:
  WatermarkOptions options_;
};

// -- guidance: {"scale": number, "negative_tokens": [ids]} ------------------------------------

struct GuidanceCall final : ProcessorCall {
  std::span<const TokenId> second_prompt() const override { return negative; }

  void Apply(ProcessorRow& row) const {
    for (std::size_t i = 0; i < row.logits.size(); ++i) {
      row.logits[i] = row.second[i] + scale * (row.logits[i] - row.second[i]);
    }
  }

  std::vector<TokenId> negative;
  float scale = 1.5F;
};

// Classifier-free guidance (Sanchez et al. 2023): away from what the negative prompt would say.
class Guidance final : public RowProcessor<GuidanceCall> {
 public:
  using RowProcessor::RowProcessor;

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json& arguments,
                                              const ProcessorContext& context) const override {
    auto call = std::make_unique<GuidanceCall>();
    double scale = 1.5;
    ArgumentReader reader(arguments);
    PX_CHECK_OK(reader.Number("scale", {0.01, 100}, scale));
    PX_CHECK_OK(reader.Tokens("negative_tokens", context.vocab_size, call->negative));
    PX_CHECK_OK(reader.Finish());
    call->scale = static_cast<float>(scale);
    if (call->negative.empty()) {
      call->negative.push_back(context.prompt.back());  // unconditional: no prompt to speak of
    }
    return std::unique_ptr<ProcessorCall>(std::move(call));
  }
};

// -- thinking_budget: {"budget": count, "end_tokens": [ids], "start_tokens": [ids]} ------------

bool Contains(std::span<const TokenId> text, std::span<const TokenId> sequence) {
  return !std::ranges::search(text, sequence).empty();
}

struct ThinkingCall final : ProcessorCall {
  // Where in the output thinking began, if it did; 0 if the prompt opened it.
  std::optional<std::size_t> Start(const ProcessorRow& row) const {
    if (start.empty()) {
      return 0;
    }
    auto opened = std::ranges::find_end(row.prompt, start);
    if (!opened.empty() &&
        !Contains(std::span<const TokenId>(opened.end(), row.prompt.end()), end)) {
      return 0;
    }
    auto found = std::ranges::search(row.generated, start);
    if (found.empty()) {
      return std::nullopt;
    }
    return static_cast<std::size_t>(found.end() - row.generated.begin());
  }

  // The end sequence is forced from where its beginning, drawn or forced, already stands.
  void Apply(ProcessorRow& row) const {
    std::optional<std::size_t> begin = Start(row);
    if (!begin || row.generated.size() - *begin < budget) {
      return;
    }
    std::span<const TokenId> thought = row.generated.subspan(*begin);
    if (Contains(thought, end)) {
      return;
    }
    std::size_t done = std::min(end.size() - 1, thought.size());
    while (!std::ranges::equal(thought.last(done), std::span(end).first(done))) {
      --done;
    }
    ForceToken(end[done], row.logits);
  }

  std::uint32_t budget = 0;
  std::vector<TokenId> start;
  std::vector<TokenId> end;
};

class ThinkingBudget final : public RowProcessor<ThinkingCall> {
 public:
  using RowProcessor::RowProcessor;

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json& arguments,
                                              const ProcessorContext& context) const override {
    auto call = std::make_unique<ThinkingCall>();
    ArgumentReader reader(arguments);
    PX_CHECK_OK(reader.Integer("budget", {0, 16'777'216}, call->budget));
    PX_CHECK_OK(reader.Tokens("start_tokens", context.vocab_size, call->start));
    PX_CHECK_OK(reader.Tokens("end_tokens", context.vocab_size, call->end));
    PX_CHECK_OK(reader.Finish());
    if (call->end.empty()) {
      return Fail(Code::kInvalidArgument, "end_tokens must be given: what ends the thinking",
                  "end_tokens");
    }
    return std::unique_ptr<ProcessorCall>(std::move(call));
  }
};

template <class Processor>
Result<std::unique_ptr<LogitsProcessor>> MakePlain(std::string_view name,
                                                   const wire::Json& config) {
  PX_CHECK_OK(ArgumentReader(config).Finish());
  return std::unique_ptr<LogitsProcessor>(std::make_unique<Processor>(name));
}

}  // namespace

Result<std::unique_ptr<LogitsProcessor>> MakeBuiltinProcessor(std::string_view name,
                                                              const wire::Json& config) {
  if (name == "bans") {
    return MakePlain<Bans>(name, config);
  }
  if (name == "forced_sequence") {
    return MakePlain<ForcedSequence>(name, config);
  }
  if (name == "temperature_schedule") {
    return MakePlain<TemperatureSchedule>(name, config);
  }
  if (name == "guidance") {
    return MakePlain<Guidance>(name, config);
  }
  if (name == "thinking_budget") {
    return MakePlain<ThinkingBudget>(name, config);
  }
  if (name == "watermark") {
    PX_TRY(WatermarkOptions options, ReadWatermark(config));
    return std::unique_ptr<LogitsProcessor>(std::make_unique<Watermark>(name, options));
  }
  return Fail(Code::kNotFound,
              fmt::format("\"{}\" is no logits processor; known are bans, forced_sequence, "
                          "temperature_schedule, watermark, guidance, thinking_budget and the path "
                          "of a plug-in",
                          name),
              "logits-processor");
}

std::unique_ptr<LogitsProcessor> MakeFixedAnswerProcessor(std::string_view name,
                                                          std::vector<TokenId> tokens) {
  return std::make_unique<FixedAnswer>(name, std::move(tokens));
}

}  // namespace pixii::engine
