#include "apps/profile_measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "bench/report.h"
#include "rt/random.h"

namespace pixii::apps {

namespace {

constexpr std::uint32_t kContextMax = 16384;
constexpr std::uint32_t kSteps = 8;           // of a batch that are measured
constexpr std::uint32_t kPrefillLow = 4;      // tokens
constexpr std::uint32_t kHeldOut = 4;         // points of a kind, at most
constexpr std::uint32_t kContextRatio = 4;    // between two lengths of context
constexpr std::uint32_t kAnswerRoom = 64;     // tokens of a context that are left for an answer
constexpr double kCacheShare = 0.85;          // of the cache that batches may take
constexpr std::uint32_t kPromptsLongest = 3;  // of prompts of several steps

class Measuring final {
 public:
  Measuring(BenchedEngine& engine, const ProfilePlan& plan,
            const std::function<void(double, const std::string&)>& progress)
      : engine_(engine), plan_(plan), progress_(progress), random_(plan.seed) {
    const wire::ModelCard& card = engine_.card();
    MeasuredProfile& out = out_;
    out.profile.kv_tokens = static_cast<double>(card.block_tokens) * card.block_count;
    out.profile.sequences_max = card.batch_sequences_max;
    out.profile.batch_tokens_max = card.batch_tokens_max;
    context_ = std::min<std::uint32_t>(
        plan.context_max > 0 ? plan.context_max : kContextMax,
        card.context_tokens_max - std::min(card.context_tokens_max, kAnswerRoom));
    context_ = std::max(
        std::min(context_, static_cast<std::uint32_t>(out.profile.kv_tokens * kCacheShare)), 8U);
  }

  Result<MeasuredProfile> Run() {
    Plan();
    PX_CHECK_OK(Warm());
    PX_CHECK_OK(Prefill());
    PX_CHECK_OK(Decode());
    progress_(1, "done");
    return std::move(out_);
  }

 private:
  void Plan() {
    const auto chunk =
        static_cast<std::uint32_t>(std::min<double>(out_.profile.batch_tokens_max, context_));
    lengths_ = GeometricCounts(std::min(kPrefillLow, chunk), chunk, plan_.prefill_points);
    for (std::size_t i = 0; i + 1 < lengths_.size(); ++i) {
      const auto middle =
          static_cast<std::uint32_t>(std::sqrt(static_cast<double>(lengths_[i]) * lengths_[i + 1]));
      if (middle > lengths_[i] && middle < lengths_[i + 1]) {
        between_.push_back(middle);
      }
    }
    Thin(between_);
    for (std::uint32_t length = 2 * chunk; length <= context_ && longer_.size() < kPromptsLongest;
         length *= 2) {
      longer_.push_back(length);
    }
    // Each length of context is a whole number of times the one before, so that a row's tokens can
    // be whole sequences of each.
    std::uint32_t columns = 1;
    std::uint32_t shortest = context_;
    while (columns < std::max(plan_.decode_points / 2, 2U) && shortest / kContextRatio >= 8) {
      shortest /= kContextRatio;
      ++columns;
    }
    for (std::uint32_t length = shortest; contexts_.size() < columns; length *= kContextRatio) {
      contexts_.push_back(length);
    }
    const double most = std::min(out_.profile.kv_tokens * kCacheShare,
                                 out_.profile.sequences_max * static_cast<double>(context_));
    for (const std::uint32_t kv : GeometricCounts(
             contexts_.front(), static_cast<std::uint32_t>(most), plan_.decode_points)) {
      std::uint32_t unit = contexts_.front();
      for (const std::uint32_t context : contexts_) {
        unit = context <= kv ? context : unit;
      }
      const std::uint32_t whole = (kv + unit / 2) / unit * unit;
      if (whole <= most && (rows_.empty() || whole > rows_.back())) {
        rows_.push_back(whole);
      }
    }
    total_ = static_cast<double>((lengths_.size() + between_.size() + longer_.size()) +
                                 rows_.size() * contexts_.size() + kHeldOut);
  }

  static void Thin(std::vector<std::uint32_t>& points) {
    std::vector<std::uint32_t> out;
    const std::size_t count = std::min<std::size_t>(points.size(), kHeldOut);
    for (std::size_t i = 0; i < count; ++i) {
      out.push_back(points[(2 * i + 1) * points.size() / (2 * count)]);
    }
    points = std::move(out);
  }

  void Tell(const std::string& what) { progress_(std::min(done_++ / total_, 1.0), what); }

  std::vector<TokenId> Prompt(std::uint32_t tokens, rt::Random& random) const {
    std::vector<TokenId> out;
    out.reserve(tokens);
    for (std::uint32_t i = 0; i < tokens; ++i) {
      out.push_back(static_cast<TokenId>(random.Below(engine_.vocab_size())));
    }
    return out;
  }

  // The first steps of an engine load and allocate.
  Result<void> Warm() {
    for (const std::uint32_t length : {lengths_.front(), lengths_.back()}) {
      PX_CHECK_OK(engine_.Ask(Prompt(length, random_), kSteps));
    }
    return {};
  }

  // One prompt alone, of which nothing is cached.
  Result<double> PromptMs(std::uint32_t tokens) {
    Tell(fmt::format("a prompt of {} tokens", tokens));
    std::vector<double> took;
    for (std::uint32_t i = 0; i < plan_.repeats; ++i) {
      PX_TRY(const BenchedEngine::Turn turn, engine_.Ask(Prompt(tokens, random_), 1));
      took.push_back(turn.ttft_ms);
    }
    return bench::Quantile(std::move(took), 0.5);
  }

  Result<void> Prefill() {
    engine::MockProfile& times = out_.profile.times;
    for (const std::uint32_t tokens : lengths_) {
      PX_TRY(const double took, PromptMs(tokens));
      // More tokens do not take less: what looks so is noise.
      const double before = times.prefill_ms.empty() ? 0 : times.prefill_ms.back();
      times.prefill_tokens.push_back(tokens);
      times.prefill_ms.push_back(std::max(took, before));
    }
    for (const std::uint32_t tokens : between_) {
      PX_TRY(const double took, PromptMs(tokens));
      out_.held_out.push_back({.what = "prefill",
                               .tokens = static_cast<double>(tokens),
                               .measured_ms = took,
                               .predicted_ms = times.PrefillMs(tokens)});
    }
    for (const std::uint32_t tokens : longer_) {
      PX_TRY(const double took, PromptMs(tokens));
      out_.held_out.push_back(
          {.what = "prompt",
           .tokens = static_cast<double>(tokens),
           .measured_ms = took,
           .predicted_ms = control::PromptMs(PlannedEngine(out_.profile), tokens)});
    }
    return {};
  }

  // Of a batch whose sequences have `context` tokens each, which the cache has before; nothing: it
  // does not run at a time.
  Result<std::optional<double>> StepMs(std::uint32_t sequences, std::uint32_t context) {
    const auto known = steps_.find({sequences, context});
    if (known != steps_.end()) {
      ++done_;
      return known->second;
    }
    PX_TRY(const std::optional<double> took, MeasureStep(sequences, context));
    steps_[{sequences, context}] = took;
    return took;
  }

  Result<std::optional<double>> MeasureStep(std::uint32_t sequences, std::uint32_t context) {
    Tell(fmt::format("a step of {} sequences with {} tokens each", sequences, context));
    rt::Random random(plan_.seed + context);  // the same prompts at each point of this length
    std::vector<std::vector<TokenId>> prompts;
    for (std::uint32_t i = 0; i < sequences; ++i) {
      prompts.push_back(Prompt(context, random));
      PX_CHECK_OK(engine_.Ask(prompts.back(), 1));
    }
    std::vector<double> took;
    for (std::uint32_t i = 0; i < plan_.repeats; ++i) {
      const Result<double> step = engine_.StepOfBatch(prompts, kSteps);
      if (!step && step.error().code() == Code::kResourceExhausted) {
        return std::optional<double>();
      }
      if (!step) {
        return Fail(step.error());
      }
      took.push_back(*step);
    }
    return std::optional(bench::Quantile(std::move(took), 0.5));
  }

  std::uint32_t SequencesOf(double kv, std::uint32_t context) const {
    return std::clamp(static_cast<std::uint32_t>(std::lround(kv / context)), 1U,
                      static_cast<std::uint32_t>(out_.profile.sequences_max));
  }

  Result<void> Decode() {
    engine::MockProfile& times = out_.profile.times;
    for (const std::uint32_t context : contexts_) {
      times.decode_context_tokens.push_back(context);
    }
    std::vector<double> above(contexts_.size(), 0);  // of the row before
    std::vector<double> slope(contexts_.size(), 0);  // ms for a token more, where batches end
    double kv_above = 0;
    for (const std::uint32_t kv : rows_) {
      std::vector<double> row;
      for (std::size_t column = 0; column < contexts_.size(); ++column) {
        // Less than one sequence there cannot be.
        PX_TRY(const std::optional<double> took,
               StepMs(SequencesOf(kv, contexts_[column]), contexts_[column]));
        if (!took && above[column] == 0) {
          return Fail(Code::kResourceExhausted,
                      fmt::format("the engine runs no {} sequences of {} tokens at a time; give it "
                                  "more cache or a smaller --profile-context",
                                  SequencesOf(kv, contexts_[column]), contexts_[column]));
        }
        // No step has more sequences than it may; the line to the largest batch goes on, so that
        // what lies before it is right.
        const double most = out_.profile.sequences_max * contexts_[column];
        double value = took.value_or(0);
        if (took && kv > most && kv_above < most && above[column] > 0) {
          slope[column] = std::max(value - above[column], 0.0) / (most - kv_above);
          value += slope[column] * (kv - most);
        } else if (kv > most) {
          value = above[column] + slope[column] * (kv - kv_above);
        }
        row.push_back(std::max(value, above[column]));
      }
      kv_above = kv;
      above = row;
      times.decode_kv_tokens.push_back(kv);
      times.decode_ms.insert(times.decode_ms.end(), row.begin(), row.end());
    }
    return HoldOut();
  }

  Result<void> HoldOut() {
    const engine::MockProfile& times = out_.profile.times;
    for (std::uint32_t i = 0; i < kHeldOut; ++i) {
      const std::size_t row = (rows_.size() - 1) * (2 * i + 1) / (2 * kHeldOut);
      const std::uint32_t context = contexts_[i % contexts_.size()];
      const double kv =
          std::sqrt(static_cast<double>(rows_[row]) * rows_[std::min(row + 1, rows_.size() - 1)]);
      const std::uint32_t sequences = SequencesOf(kv, context);
      const double real = static_cast<double>(sequences) * context;
      if (real > rows_.back() || sequences >= out_.profile.sequences_max) {
        continue;
      }
      PX_TRY(const std::optional<double> took, StepMs(sequences, context));
      if (took) {
        out_.held_out.push_back({.what = "decode",
                                 .tokens = real,
                                 .context = static_cast<double>(context),
                                 .measured_ms = *took,
                                 .predicted_ms = times.DecodeMs(real, context)});
      }
    }
    return {};
  }

  BenchedEngine& engine_;
  const ProfilePlan plan_;
  const std::function<void(double, const std::string&)>& progress_;
  rt::Random random_;
  std::uint32_t context_ = 0;            // tokens, the longest
  std::vector<std::uint32_t> lengths_;   // of prompts of one step
  std::vector<std::uint32_t> between_;   // of these, held out
  std::vector<std::uint32_t> longer_;    // prompts of several steps
  std::vector<std::uint32_t> rows_;      // tokens of context of a step
  std::vector<std::uint32_t> contexts_;  // of a sequence
  /// Of so many sequences of so much context each, that were measured.
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::optional<double>> steps_;
  double done_ = 0;
  double total_ = 1;
  MeasuredProfile out_;
};

}  // namespace

double HeldOut::error() const {
  return measured_ms > 0 ? std::abs(predicted_ms - measured_ms) / measured_ms : 0;
}

double MeasuredProfile::ErrorMax(std::string_view what) const {
  double out = 0;
  for (const HeldOut& point : held_out) {
    out = point.what == what ? std::max(out, point.error()) : out;
  }
  return out;
}

std::vector<std::uint32_t> GeometricCounts(std::uint32_t low, std::uint32_t high,
                                           std::uint32_t count) {
  low = std::max(low, 1U);
  high = std::max(high, low);
  std::vector<std::uint32_t> out;
  const double ratio = static_cast<double>(high) / low;
  for (std::uint32_t i = 0; i < count; ++i) {
    const double place = count > 1 ? static_cast<double>(i) / (count - 1) : 1;
    const auto next = static_cast<std::uint32_t>(std::lround(low * std::pow(ratio, place)));
    if (out.empty() || next > out.back()) {
      out.push_back(next);
    }
  }
  return out;
}

Result<MeasuredProfile> MeasureProfile(
    BenchedEngine& engine, const ProfilePlan& plan,
    const std::function<void(double done, const std::string& what)>& progress) {
  return Measuring(engine, plan, progress).Run();
}

}  // namespace pixii::apps
