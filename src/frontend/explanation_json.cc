#include "frontend/explanation_json.h"

#include <utility>

namespace pixii::frontend {

using wire::Json;

namespace {

void SetTarget(Json& out, const wire::WorkerRank& target) {
  out.Set("worker_id", target.worker);
  out.Set("dp_rank", std::int64_t{target.rank});
}

Json CandidateJson(const control::RouteCandidate& from, bool scored) {
  Json out{Json::Object{}};
  SetTarget(out, from.target);
  out.Set("standing", from.standing);
  Json input{Json::Object{}};
  input.Set("device_blocks", std::int64_t{from.input.device_blocks});
  input.Set("host_blocks", std::int64_t{from.input.host_blocks});
  input.Set("disk_blocks", std::int64_t{from.input.disk_blocks});
  input.Set("shared_blocks", std::int64_t{from.input.shared_blocks});
  input.Set("active_prefill_tokens", from.input.active_prefill_tokens);
  input.Set("active_decode_blocks", from.input.active_decode_blocks);
  input.Set("added_decode_blocks", from.input.added_decode_blocks);
  input.Set("active_requests", std::int64_t{from.input.active_requests});
  out.Set("input", std::move(input));
  if (scored) {
    Json terms{Json::Object{}};
    terms.Set("raw_prefill_blocks", from.terms.raw_prefill_blocks);
    terms.Set("decay", from.terms.decay);
    terms.Set("credit", from.terms.credit);
    terms.Set("recompute", from.terms.recompute);
    terms.Set("adjusted_prefill", from.terms.adjusted_prefill);
    terms.Set("decode_blocks", from.terms.decode_blocks);
    terms.Set("active_requests", from.terms.active_requests);
    terms.Set("taint_factor", from.terms.taint_factor);
    terms.Set("cost", from.terms.cost);
    out.Set("terms", std::move(terms));
  }
  return out;
}

}  // namespace

std::string ExplanationJson(const control::RouteExplanation& from) {
  Json out{Json::Object{}};
  out.Set("mode", from.mode);
  if (from.asks_router) {
    out.Set("asks_router", true);
  }
  out.Set("block_size", std::int64_t{from.block_tokens});
  out.Set("isl_tokens", from.prompt_tokens);
  if (from.choice) {
    Json choice{Json::Object{}};
    SetTarget(choice, *from.choice);
    choice.Set("overlap_tokens", std::int64_t{from.overlap_tokens});
    choice.Set("waits", from.waits);
    out.Set("choice", std::move(choice));
  } else {
    out.Set("choice", Json());
    Json refusal{Json::Object{}};
    refusal.Set("code", CodeName(from.refusal->code()));
    refusal.Set("message", from.refusal->detail());
    out.Set("refusal", std::move(refusal));
  }
  Json::Array candidates;
  for (const control::RouteCandidate& one : from.candidates) {
    candidates.push_back(CandidateJson(one, from.scored));
  }
  out.Set("candidates", std::move(candidates));
  Json queue{Json::Object{}};
  queue.Set("requests", from.waiting_requests);
  queue.Set("isl_tokens", from.waiting_tokens);
  out.Set("waiting", std::move(queue));
  return out.Dump();
}

}  // namespace pixii::frontend
