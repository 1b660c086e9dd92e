#include "frontend/fleet/prefill_path.h"

#include <algorithm>
#include <array>

namespace pixii::frontend {

const char* NameOf(PrefillPath path) {
  static constexpr std::array<const char*, kPrefillPathCount> kNames = {
      "prefill",         "local_nothing_to_do",  "local_short",         "local_prefill_busy",
      "local_no_worker", "fallback_unavailable", "fallback_overloaded", "fallback_no_record"};
  return kNames[static_cast<std::size_t>(path)];
}

std::optional<double> BusyShareOf(const control::RouteExplanation& route,
                                  std::uint32_t batch_tokens_max) {
  if (!route.choice || batch_tokens_max == 0) {
    return std::nullopt;
  }
  const auto found =
      std::ranges::find(route.candidates, *route.choice, &control::RouteCandidate::target);
  if (found == route.candidates.end()) {
    return std::nullopt;
  }
  return static_cast<double>(found->input.active_prefill_tokens) / batch_tokens_max;
}

namespace {

bool IsShort(const wire::GenerateRequest& request, const PrefillOptions& options,
             const PrefillOutlook& outlook) {
  const std::uint64_t prompt = request.prompt.size();
  const std::uint64_t left = prompt - std::min<std::uint64_t>(prompt, outlook.overlap_tokens);
  return left < options.short_tokens &&
         static_cast<double>(left) < options.short_ratio * static_cast<double>(prompt);
}

// Of a policy that asks for it; a decode worker that is busy, or of which nobody knows, computes
// nothing.
bool MayBypass(const PrefillOptions& options, const PrefillOutlook& outlook) {
  return !options.decode_busy_at ||
         (outlook.decode_busy && *outlook.decode_busy <= *options.decode_busy_at);
}

}  // namespace

PrefillPath ChoosePath(const wire::GenerateRequest& request, const PrefillOptions& options,
                       const PrefillOutlook& outlook) {
  const bool begun =
      std::ranges::any_of(request.generated, [](const auto& tokens) { return !tokens.empty(); });
  // Without fallback those who decode compute no prompt if they need not, as SGLang's cannot.
  const bool too_little = (request.stop.max_tokens <= 1 && !request.prefill_only) ||
                          request.prompt.size() < outlook.block_tokens;
  if (request.pool || (too_little && (options.fallback || !outlook.prefill_there)) || begun ||
      !request.handover.empty() || (!outlook.decode_there && !request.prefill_only)) {
    return PrefillPath::kNothingToDo;
  }
  if (!outlook.prefill_there) {
    return PrefillPath::kNoWorker;
  }
  if (outlook.all_there) {
    return PrefillPath::kShort;
  }
  if (!options.conditional || request.prefill_only || !MayBypass(options, outlook)) {
    return PrefillPath::kPrefill;
  }
  if (options.policy != LocalPrefillPolicy::kPrefillBusy && IsShort(request, options, outlook)) {
    return PrefillPath::kShort;
  }
  const bool busy = options.prefill_busy_at && outlook.prefill_busy &&
                    *outlook.prefill_busy > *options.prefill_busy_at;
  return options.policy != LocalPrefillPolicy::kShort && busy ? PrefillPath::kPrefillBusy
                                                              : PrefillPath::kPrefill;
}

}  // namespace pixii::frontend
