#include "frontend/fleet/route_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "wire/messages/kv_event.h"

namespace pixii::frontend {

namespace {

constexpr std::size_t kTermsShownMax = 16;  // candidates of one line

control::WorkerRank RankOf(const router::Target& target) {
  return {.worker = Raw(target.instance), .rank = target.rank};
}

control::RouteCandidate CandidateOf(const router::Candidate& from) {
  return {.target = RankOf(from.target),
          .standing = std::string(router::StandingName(from.standing)),
          .device_blocks = from.input.device_blocks,
          .host_blocks = from.input.host_blocks,
          .disk_blocks = from.input.disk_blocks,
          .shared_blocks = from.input.shared_blocks,
          .active_prefill_tokens = from.input.active_prefill_tokens,
          .active_decode_blocks = from.input.active_decode_blocks,
          .added_decode_blocks = from.input.added_decode_blocks,
          .active_requests = from.input.active_requests,
          .raw_prefill_blocks = from.terms.raw_prefill_blocks,
          .decay = from.terms.decay,
          .credit = from.terms.credit,
          .recompute = from.terms.recompute,
          .adjusted_prefill = from.terms.adjusted_prefill,
          .decode_blocks = from.terms.decode_blocks,
          .active_request_cost = from.terms.active_requests,
          .taint_factor = from.terms.taint_factor,
          .cost = from.terms.cost};
}

}  // namespace

std::string_view ModeName(router::RouterMode mode) {
  using router::RouterMode;
  switch (mode) {
    case RouterMode::kRoundRobin:
      return "round-robin";
    case RouterMode::kRandom:
      return "random";
    case RouterMode::kPowerOfTwo:
      return "power-of-two";
    case RouterMode::kLeastLoaded:
      return "least-loaded";
    case RouterMode::kKv:
      return "kv";
    case RouterMode::kDirect:
      return "direct";
  }
  return "unknown";
}

router::RouteRequest RouteRequestOf(const wire::GenerateRequest& request) {
  router::RouteRequest out;
  out.tokens = request.prompt;
  if (request.choice_count == 1 && !request.generated.empty()) {
    out.tokens.insert(out.tokens.end(), request.generated[0].begin(), request.generated[0].end());
  }
  out.adapter = request.adapter;
  out.salt = wire::PublicSalt(request.tenant, request.cache_salt);
  out.rank = request.dp_rank;
  out.session = request.session;
  out.priority_jump_s = std::max(request.priority, 0);
  if (!request.routing) {
    return out;
  }
  const wire::RoutingHints& hints = *request.routing;
  if (hints.worker) {
    out.pinned = router::InstanceId{*hints.worker};
  }
  out.anywhere = hints.anywhere;
  out.required_taints = hints.required_taints;
  out.preferred_taints = hints.preferred_taints;
  out.policy_class = hints.policy_class;
  out.strict_priority = hints.strict_priority;
  out.expected_output_tokens = hints.expected_output_tokens;
  out.instead = hints.instead;
  return out;
}

control::RouteExplanation ExplanationOf(const router::Router& router,
                                        const router::Preview& preview,
                                        std::uint64_t prompt_tokens) {
  control::RouteExplanation out{.mode = std::string(ModeName(router.options().mode)),
                                .scored = router.options().mode == router::RouterMode::kKv,
                                .block_tokens = router.block_tokens(),
                                .prompt_tokens = prompt_tokens,
                                .choice = {},
                                .refusal = {},
                                .overlap_tokens = preview.overlap_tokens,
                                .candidates = {},
                                .waits = preview.waits,
                                .waiting_requests = router.waiting_count(),
                                .waiting_tokens = router.waiting_tokens()};
  if (preview.target) {
    out.choice = RankOf(*preview.target);
  } else {
    out.refusal = preview.target.error();
  }
  std::ranges::transform(preview.candidates, std::back_inserter(out.candidates), CandidateOf);
  return out;
}

std::string TermsText(std::span<const router::Candidate> candidates) {
  std::string out;
  for (const router::Candidate& one :
       candidates.subspan(0, std::min(candidates.size(), kTermsShownMax))) {
    fmt::format_to(std::back_inserter(out),
                   "{}{}:{} {} raw_prefill={:g} credit={:g} prefill={:g} decode={:g} requests={:g} "
                   "taints={:g} cost={:g}",
                   out.empty() ? "" : "; ", Raw(one.target.instance), one.target.rank,
                   router::StandingName(one.standing), one.terms.raw_prefill_blocks,
                   one.terms.credit, one.terms.adjusted_prefill, one.terms.decode_blocks,
                   one.terms.active_requests, one.terms.taint_factor, one.terms.cost);
  }
  return out;
}

}  // namespace pixii::frontend
