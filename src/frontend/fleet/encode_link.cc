#include "frontend/fleet/encode_link.h"

#include <algorithm>
#include <utility>

namespace pixii::frontend {

EncodeLink::~EncodeLink() { *alive_ = false; }

Result<void> EncodeLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  if (!EncodeFlight::Wants(request)) {
    return link_.Generate(std::move(request), std::move(on_frame));
  }
  const RequestId id = request.id;
  auto entry = std::make_shared<Entry>(std::move(request), std::move(on_frame));
  if (!encode_.has_worker()) {
    counters_.no_worker += entry->flight.picture_count();
    return link_.Generate(entry->flight.Take(), std::move(entry->on_frame));
  }
  entry->begun = loop_.Now();
  entry->live_choices = entry->flight.request().choice_count;
  entry->first_frames = entry->live_choices;
  entry->streams.resize(entry->flight.picture_count());
  entries_.emplace(id, entry);
  // Not inside this call: what nobody takes is forwarded, and its frames must not come before.
  loop_.Post([this, entry, alive = std::weak_ptr<bool>(alive_)] {
    for (std::size_t picture = 0; picture < entry->streams.size(); ++picture) {
      const auto here = alive.lock();
      if (here && *here && !entry->forwarded && entries_.contains(entry->id)) {
        Ask(entry, picture);
      }
    }
  });
  return {};
}

std::vector<EncodeCandidate> EncodeLink::Candidates() const {
  std::vector<EncodeCandidate> out;
  for (const auto& [instance, load] : encode_.loads()) {
    const auto own = waiting_at_.find(instance);
    const std::uint32_t said = load.running + load.queued;
    out.push_back(
        {.instance = instance, .load = std::max(said, own == waiting_at_.end() ? 0 : own->second)});
  }
  return out;
}

void EncodeLink::Ask(const EntryPtr& entry, std::size_t picture) {
  Stream& stream = entry->streams[picture];
  const std::vector<EncodeCandidate> candidates = Candidates();
  const std::optional<control::InstanceId> place =
      PlacePicture(entry->flight.digest(picture), candidates);
  if (!place) {
    Go(entry, entry->flight.OnRefused(
                  picture, Error(Code::kUnavailable, "no worker that encodes is there")));
    return;
  }
  stream.id = RequestId{++last_stream_};
  stream.at = place;
  stream.open = true;
  ++waiting_at_[*place];
  wire::GenerateRequest request = entry->flight.Ask(picture);
  request.id = stream.id;
  if (request.deadline_left_ns > 0) {
    request.deadline_left_ns =
        std::max<std::int64_t>(request.deadline_left_ns - (loop_.Now() - entry->begun).count(), 1);
  }
  (void)encode_.GenerateAt(
      std::move(request), router::Target{.instance = *place, .rank = 0},
      [this, entry, picture, alive = std::weak_ptr<bool>(alive_)](const wire::TokenFrame& frame) {
        if (const auto here = alive.lock(); here && *here && entry->streams[picture].open) {
          OnAnswer(entry, picture, frame);
        }
      });
}

void EncodeLink::OnAnswer(const EntryPtr& entry, std::size_t picture,
                          const wire::TokenFrame& frame) {
  Stream& stream = entry->streams[picture];
  if (frame.finish || !frame.handover.empty()) {
    NoWait(stream);
  }
  stream.open = !frame.finish;
  if (entry->forwarded) {
    return;  // who computes has what he got, or has made it himself
  }
  if (frame.error && log_ != nullptr) {
    obs::Event(*log_, obs::EventId::kEncodeFellBack)
        .kv("request", Raw(entry->id))
        .kv("why", frame.error->ToString());
  }
  Go(entry, entry->flight.OnFrame(picture, frame));
}

void EncodeLink::Go(const EntryPtr& entry, EncodeFlight::Next next) {
  switch (next) {
    case EncodeFlight::Next::kWait:
      return;
    case EncodeFlight::Next::kForward:
      Forward(entry);
      return;
    case EncodeFlight::Next::kFail:
      EndAll(entry, wire::FinishReason::kError, entry->flight.failure());
      return;
  }
}

void EncodeLink::Forward(const EntryPtr& entry) {
  entry->forwarded = true;
  const std::size_t missed = entry->flight.missed_count();
  counters_.missed += missed;
  counters_.encoded += entry->flight.picture_count() - missed;
  const std::vector<std::uint32_t> cancelled = entry->flight.cancelled_choices();
  wire::GenerateRequest request = entry->flight.Take();
  if (request.deadline_left_ns > 0) {
    request.deadline_left_ns =
        std::max<std::int64_t>(request.deadline_left_ns - (loop_.Now() - entry->begun).count(), 1);
  }
  const std::weak_ptr<bool> alive(alive_);
  const Result<void> taken =
      link_.Generate(std::move(request), [this, entry, alive](wire::TokenFrame frame) {
        if (const auto here = alive.lock(); here && *here) {
          OnFrame(entry, std::move(frame));
        }
      });
  if (!taken) {
    EndAll(entry, wire::FinishReason::kError, taken.error());
    return;
  }
  for (const std::uint32_t choice : cancelled) {
    link_.Cancel({entry->id, choice});
    if (alive.expired()) {
      return;
    }
  }
}

void EncodeLink::OnFrame(const EntryPtr& entry, wire::TokenFrame frame) {
  entry->token_frames += frame.tokens.empty() ? 0 : 1;
  const bool ends = frame.finish && --entry->live_choices == 0;
  if (ends) {
    entries_.erase(entry->id);  // first: the handler may send another of this id
  }
  // The first ones may be a prefill worker's, and who goes on wants the prompt's last rows.
  const bool computed = entry->token_frames > entry->first_frames;
  if ((computed || ends) && !Release(entry)) {
    return;
  }
  entry->on_frame(std::move(frame));
}

void EncodeLink::EndAll(const EntryPtr& entry, wire::FinishReason finish,
                        const std::optional<Error>& error) {
  std::vector<wire::TokenFrame> frames = entry->flight.EndAll(finish, error);
  entries_.erase(entry->id);
  entry->forwarded = true;
  if (!Release(entry)) {
    return;
  }
  const std::weak_ptr<bool> alive(alive_);
  for (wire::TokenFrame& frame : frames) {
    frame.id = entry->id;
    entry->on_frame(std::move(frame));
    if (alive.expired()) {
      return;
    }
  }
}

// Nothing need be kept for it any more, nor looked at. False: this is gone.
bool EncodeLink::Release(const EntryPtr& entry) {
  const std::weak_ptr<bool> alive(alive_);
  for (Stream& stream : entry->streams) {
    NoWait(stream);
    if (std::exchange(stream.open, false)) {
      encode_.Cancel({stream.id, std::nullopt});
      if (alive.expired()) {
        return false;
      }
    }
  }
  return true;
}

void EncodeLink::NoWait(Stream& stream) {
  const std::optional<control::InstanceId> at = std::exchange(stream.at, std::nullopt);
  if (!at) {
    return;
  }
  const auto waiting = waiting_at_.find(*at);
  if (--waiting->second == 0) {
    waiting_at_.erase(waiting);
  }
}

void EncodeLink::Cancel(const wire::CancelRequest& cancel) {
  const auto found = entries_.find(cancel.id);
  if (found == entries_.end() || found->second->forwarded) {
    link_.Cancel(cancel);
    return;
  }
  const EntryPtr entry = found->second;
  if (entry->flight.OnCancel(cancel.choice)) {
    EndAll(entry, wire::FinishReason::kCancelled, std::nullopt);
  }
}

}  // namespace pixii::frontend
