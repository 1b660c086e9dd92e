#include "frontend/fleet/prefill_link.h"

#include <algorithm>
#include <utility>

#include "obs/request_labels.h"

namespace pixii::frontend {

namespace {

// Callers number their requests upwards from small numbers.
constexpr std::uint64_t kFetchIds = 1ULL << 63U;

}  // namespace

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

// `cached`: tokens of the prompt that who decodes has, as it said; nothing: it was not asked.
PrefillPath PrefillLink::PathOf(const wire::GenerateRequest& request,
                                std::optional<std::uint32_t> cached) {
  PrefillOutlook outlook;
  outlook.block_tokens = std::max(decode_.card().block_tokens, prefill_.card().block_tokens);
  outlook.decode_there = decode_.has_worker();
  outlook.prefill_there = prefill_.has_worker();
  if (options_.conditional && outlook.prefill_there) {
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
  if (cached) {
    outlook.overlap_tokens = *cached;
    outlook.all_there = request.prompt.size() - *cached < decode_.card().block_tokens;
  }
  return ChoosePath(request, options_, outlook);
}

Result<void> PrefillLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  const PrefillPath path = PathOf(request, std::nullopt);
  if (path == PrefillPath::kNoWorker && !options_.fallback) {
    return Fail(Code::kUnavailable,
                "no prefill worker is there, and --no-decode-fallback forbids others to compute "
                "prompts");
  }
  const bool asks = options_.decode_first && path == PrefillPath::kPrefill && !request.prefill_only;
  if (!asks) {
    Count(path);
  }
  if (path != PrefillPath::kPrefill) {
    request.prefill_only = false;  // nothing is kept of it
    return decode_.Generate(std::move(request), std::move(on_frame));
  }
  const RequestId id = request.id;
  auto entry = std::make_shared<Entry>(std::move(request), options_.fallback, std::move(on_frame));
  entry->begun = loop_.Now();
  entries_.emplace(id, entry);
  if (asks) {
    entry->asks = true;
    SendFetch(entry, entry->flight.Fetch(""));
  } else {
    SendPrefill(entry);
  }
  return {};
}

void PrefillLink::SendPrefill(const EntryPtr& entry) {
  entry->prefill = RequestId{++last_prefill_};
  wire::GenerateRequest leg = entry->flight.Prefill();
  leg.id = entry->prefill;
  ShortenDeadline(*entry, leg);
  const Result<void> taken = prefill_.Generate(
      std::move(leg), [this, entry, alive = std::weak_ptr<bool>(alive_)](wire::TokenFrame frame) {
        if (const auto here = alive.lock(); here && *here) {
          KeepLegs(*entry, frame);
          Apply(entry, entry->flight.OnPrefillFrame(std::move(frame)));
        }
      });
  if (!taken) {
    Apply(entry, entry->flight.OnPrefillRefused(taken.error()));
    return;
  }
  for (const std::uint32_t choice : entry->flight.ended_choices()) {
    prefill_.Cancel({entry->prefill, choice});
  }
}

// Frames of one worker that nobody gets have them, too: they go with the next that somebody gets.
void PrefillLink::KeepLegs(Entry& entry, wire::TokenFrame& frame) {
  for (wire::RequestLeg& leg : std::exchange(frame.legs, {})) {
    entry.legs.push_back(std::move(leg));
  }
}

void PrefillLink::ShortenDeadline(const Entry& entry, wire::GenerateRequest& request) const {
  if (request.deadline_left_ns > 0) {
    request.deadline_left_ns =
        std::max<std::int64_t>(request.deadline_left_ns - (loop_.Now() - entry.begun).count(), 1);
  }
}

// Its failure costs nothing but what it would have saved.
void PrefillLink::SendFetch(const EntryPtr& entry, wire::GenerateRequest request) {
  entry->fetch = RequestId{kFetchIds + ++last_fetch_};
  entry->fetches = true;
  request.id = entry->fetch;
  ShortenDeadline(*entry, request);
  (void)decode_.GenerateAt(std::move(request), entry->first,
                           [this, entry, id = entry->fetch,
                            alive = std::weak_ptr<bool>(alive_)](wire::TokenFrame frame) {
                             const auto here = alive.lock();
                             if (here && *here) {
                               KeepLegs(*entry, frame);
                             }
                             if (here && *here && entry->fetches && entry->fetch == id) {
                               OnFetchFrame(entry, frame);
                             }
                           });
}

void PrefillLink::OnFetchFrame(const EntryPtr& entry, const wire::TokenFrame& frame) {
  if (frame.served_by) {
    entry->first = {.instance = control::InstanceId{frame.served_by->worker},
                    .rank = frame.served_by->rank};
  }
  if (frame.finish) {
    entry->fetches = false;
    if (std::exchange(entry->asks, false)) {
      GoOn(entry, frame.finish == wire::FinishReason::kLength ? frame.cached_tokens : 0);
    }
  }
}

// Who decodes has said what it has, or cannot be asked.
void PrefillLink::GoOn(const EntryPtr& entry, std::uint32_t cached) {
  const wire::GenerateRequest& request = entry->flight.request();
  if (entry->flight.ended_choices().size() == request.choice_count) {
    Apply(entry, entry->flight.EndCancelled());
    return;
  }
  const PrefillPath path = PathOf(request, cached);
  Count(path);
  if (path == PrefillPath::kPrefill) {
    SendPrefill(entry);
  } else {
    Apply(entry, entry->flight.DecodeAlone());
  }
}

void PrefillLink::EndFetch(const EntryPtr& entry) {
  if (std::exchange(entry->fetches, false)) {
    decode_.Cancel({entry->fetch, std::nullopt});
  }
}

void PrefillLink::Apply(const EntryPtr& entry, HandoverFlight::Outcome outcome) {
  const RequestId id = entry->flight.request().id;
  const std::weak_ptr<bool> alive(alive_);
  if (outcome.fell_back) {
    Count(*outcome.fell_back);
    if (log_ != nullptr) {
      const wire::GenerateRequest& request = entry->flight.request();
      obs::Event event(*log_, obs::EventId::kPrefillFellBack);
      obs::AddLabels(event, request.traceparent, request.label)
          .kv("request", Raw(id))
          .kv("why", NameOf(*outcome.fell_back));
    }
  }
  if (entry->flight.ended()) {
    entries_.erase(id);  // first: the handler may send another of this id
  }
  if (outcome.release || outcome.fell_back || entry->flight.ended()) {
    EndFetch(entry);
    if (alive.expired()) {
      return;
    }
  }
  if (outcome.release) {
    prefill_.Cancel({entry->prefill, std::nullopt});
    if (alive.expired()) {
      return;
    }
  }
  if (!outcome.frames.empty()) {
    outcome.frames.back().legs = std::exchange(entry->legs, {});
  }
  for (wire::TokenFrame& frame : outcome.frames) {
    frame.id = id;
    entry->on_frame(std::move(frame));
    if (alive.expired()) {
      return;
    }
  }
  if (outcome.fetch && !entry->fetches) {
    SendFetch(entry, std::move(*outcome.fetch));
  }
  if (outcome.decode) {
    SendDecode(entry, std::move(*outcome.decode));
  }
}

void PrefillLink::SendDecode(const EntryPtr& entry, wire::GenerateRequest request) {
  const RequestId id = request.id;
  ShortenDeadline(*entry, request);
  if (entry->fetches) {  // there it waits for the same blocks
    if (const std::optional<router::Target> target = decode_.TargetOf(entry->fetch)) {
      entry->first = target;
    }
  }
  const Result<void> taken = decode_.GenerateAt(
      std::move(request), entry->first,
      [this, entry, alive = std::weak_ptr<bool>(alive_)](wire::TokenFrame frame) {
        if (const auto here = alive.lock(); here && *here) {
          KeepLegs(*entry, frame);
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
  if (!cancel.choice && entry->fetches) {
    if (entry->asks) {
      entry->asks = false;
      entry->fetches = false;
      decode_.Cancel({entry->fetch, std::nullopt});
      if (!alive.expired()) {
        Apply(entry, entry->flight.EndCancelled());
      }
      return;
    }
    EndFetch(entry);
    if (alive.expired()) {
      return;
    }
  }
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
