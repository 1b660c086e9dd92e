#include "frontend/fleet/prefill_link.h"

#include <algorithm>
#include <utility>

namespace pixii::frontend {

PrefillLink::PrefillLink(rt::Loop& loop, FleetLink& prefill, FleetLink& decode,
                         PrefillOptions options, obs::Log* log)
    : ForwardingLink(decode),
      loop_(loop),
      prefill_(prefill),
      decode_(decode),
      options_(options),
      log_(log) {}

// A cancel would make the fleets look at what others wait for, whose handlers may be gone.
PrefillLink::~PrefillLink() { *alive_ = false; }

PrefillPath PrefillLink::PathOf(const wire::GenerateRequest& request) {
  PrefillOutlook outlook;
  outlook.block_tokens = decode_.card().block_tokens;
  outlook.decode_there = decode_.worker_count() > 0;
  outlook.workers = prefill_.worker_count();
  if (options_.conditional && outlook.workers > 0) {
    if (const Result<control::RouteExplanation> route = decode_.ExplainRoute(request)) {
      outlook.overlap_tokens = route->overlap_tokens;
      outlook.decode_busy = BusyShareOf(*route, decode_.card().batch_tokens_max);
    }
    if (options_.policy != LocalPrefillPolicy::kShort) {
      if (const Result<control::RouteExplanation> route = prefill_.ExplainRoute(request)) {
        outlook.prefill_busy = BusyShareOf(*route, prefill_.card().batch_tokens_max);
      }
    }
  }
  return ChoosePath(request, options_, outlook);
}

Result<void> PrefillLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  const PrefillPath path = PathOf(request);
  if (path == PrefillPath::kNoWorker && !options_.fallback) {
    return Fail(Code::kUnavailable,
                "no prefill worker is there, and --no-decode-fallback forbids others to compute "
                "prompts");
  }
  Count(path);
  if (path != PrefillPath::kPrefill) {
    request.prefill_only = false;  // nothing is kept of it
    return decode_.Generate(std::move(request), std::move(on_frame));
  }
  const RequestId id = request.id;
  auto entry = std::make_shared<Entry>(std::move(request), options_.fallback, std::move(on_frame));
  entry->begun = loop_.Now();
  entry->prefill = RequestId{++last_prefill_};
  wire::GenerateRequest leg = entry->flight.Prefill();
  leg.id = entry->prefill;
  PX_CHECK_OK(prefill_.Generate(
      std::move(leg), [this, entry, alive = std::weak_ptr<bool>(alive_)](wire::TokenFrame frame) {
        if (const auto here = alive.lock(); here && *here) {
          Apply(entry, entry->flight.OnPrefillFrame(std::move(frame)));
        }
      }));
  entries_.emplace(id, std::move(entry));
  return {};
}

void PrefillLink::Apply(const EntryPtr& entry, HandoverFlight::Outcome outcome) {
  const RequestId id = entry->flight.request().id;
  const std::weak_ptr<bool> alive(alive_);
  if (outcome.fell_back) {
    Count(*outcome.fell_back);
    if (log_ != nullptr) {
      obs::Event(*log_, obs::EventId::kPrefillFellBack)
          .kv("request", Raw(id))
          .kv("why", NameOf(*outcome.fell_back));
    }
  }
  if (entry->flight.ended()) {
    entries_.erase(id);  // first: the handler may send another of this id
  }
  if (outcome.release) {
    prefill_.Cancel({entry->prefill, std::nullopt});
    if (alive.expired()) {
      return;
    }
  }
  for (wire::TokenFrame& frame : outcome.frames) {
    frame.id = id;
    entry->on_frame(std::move(frame));
    if (alive.expired()) {
      return;
    }
  }
  if (outcome.decode) {
    SendDecode(entry, std::move(*outcome.decode));
  }
}

void PrefillLink::SendDecode(const EntryPtr& entry, wire::GenerateRequest request) {
  const RequestId id = request.id;
  if (request.deadline_left_ns > 0) {
    request.deadline_left_ns =
        std::max<std::int64_t>(request.deadline_left_ns - (loop_.Now() - entry->begun).count(), 1);
  }
  const Result<void> taken =
      decode_.Generate(std::move(request),
                       [this, entry, alive = std::weak_ptr<bool>(alive_)](wire::TokenFrame frame) {
                         if (const auto here = alive.lock(); here && *here) {
                           Apply(entry, entry->flight.OnDecodeFrame(std::move(frame)));
                         }
                       });
  if (!taken) {
    Apply(entry, entry->flight.OnDecodeRefused(taken.error()));
    return;
  }
  const std::weak_ptr<bool> alive(alive_);
  for (const std::uint32_t choice : entry->flight.ended_choices()) {
    decode_.Cancel({id, choice});
    if (alive.expired()) {
      return;
    }
  }
}

void PrefillLink::Cancel(const wire::CancelRequest& cancel) {
  const auto found = entries_.find(cancel.id);
  if (found == entries_.end()) {
    decode_.Cancel(cancel);
    return;
  }
  const EntryPtr entry = found->second;
  entry->flight.OnCancel(cancel.choice);
  const std::weak_ptr<bool> alive(alive_);
  if (!entry->flight.decodes()) {
    prefill_.Cancel({entry->prefill, cancel.choice});
    return;
  }
  if (!cancel.choice) {  // both at once: nothing is kept for whom nobody waits
    prefill_.Cancel({entry->prefill, std::nullopt});
    if (alive.expired()) {
      return;
    }
  }
  decode_.Cancel(cancel);
}

}  // namespace pixii::frontend
