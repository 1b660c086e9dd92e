#include "worker/feature_link.h"

#include <algorithm>
#include <utility>

namespace pixii::worker {

namespace {

// Whether rows of the item will be wanted. Who goes on with blocks that another worker computed
// computes what is behind the last whole one; who only brings blocks, nothing.
bool IsWanted(const wire::MediaItem& item, const wire::GenerateRequest& request,
              std::uint32_t block_tokens) {
  if (item.encoded.empty() || request.fetch_only) {
    return false;
  }
  const std::uint64_t tail = request.prompt.size() % std::max(block_tokens, 1U);
  return request.handover.empty() ||
         std::uint64_t{item.begin} + item.count > request.prompt.size() - tail;
}

}  // namespace

FeatureLink::~FeatureLink() {
  *alive_ = false;
  for (const auto& [id, entry] : entries_) {
    loop_.CancelTimer(entry->timer);
    for (const auto& [digest, ticket] : entry->fetches) {
      fetcher_.Cancel(ticket);
    }
  }
}

Result<void> FeatureLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  const auto is_wanted = [&](const wire::MediaItem& item) {
    return fetches_all_ ? !item.encoded.empty()
                        : IsWanted(item, request, link().card().block_tokens);
  };
  const bool wants = std::ranges::any_of(request.media, is_wanted);
  if (!wants || entries_.contains(request.id)) {
    return link().Generate(std::move(request), std::move(on_frame));
  }
  const RequestId id = request.id;
  auto entry = std::make_shared<Entry>();
  entry->live_choices = request.choice_count;
  entry->begun = loop_.Now();
  std::erase_if(known_, [](const auto& one) { return one.second.expired(); });
  for (const wire::MediaItem& item : request.media) {
    const auto known = known_.find(item.digest);
    if (!is_wanted(item) || entry->fetches.contains(item.digest)) {
      continue;
    }
    if (FeatureFetcher::Features here = known == known_.end() ? nullptr : known->second.lock()) {
      offer_(item.digest, here);
      entry->held.push_back(std::move(here));
      continue;
    }
    entry->fetches[item.digest] = fetcher_.Fetch(
        item, [this, id, digest = item.digest](const Result<FeatureFetcher::Features>& features) {
          OnFetched(id, digest, features);
        });
  }
  if (entry->fetches.empty()) {
    PX_CHECK_OK(link().Generate(std::move(request), [this, id, alive = std::weak_ptr<bool>(alive_)](
                                                        wire::TokenFrame frame) {
      if (const auto here = alive.lock(); here && *here) {
        OnFrame(id, std::move(frame));
      }
    }));
  } else {
    if (request.deadline_left_ns > 0) {
      const rt::Time end = entry->begun + rt::Duration(request.deadline_left_ns);
      entry->timer = loop_.RunAt(end, [this, id, alive = std::weak_ptr<bool>(alive_)] {
        if (const auto here = alive.lock(); here && *here && entries_.contains(id)) {
          entries_.at(id)->timer = rt::TimerId::kNone;
          EndAll(id, wire::FinishReason::kError,
                 Error(Code::kDeadlineExceeded, "the request's deadline passed"));
        }
      });
    }
    entry->request = std::make_unique<wire::GenerateRequest>(std::move(request));
  }
  entry->on_frame = std::move(on_frame);
  entries_.emplace(id, std::move(entry));
  return {};
}

void FeatureLink::OnFetched(RequestId id, const std::string& digest,
                            const Result<FeatureFetcher::Features>& features) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) {
    return;
  }
  const EntryPtr entry = found->second;
  entry->fetches.erase(digest);
  if (features) {
    known_.insert_or_assign(digest, *features);
    offer_(digest, *features);
    entry->held.push_back(*features);
  }
  if (entry->fetches.empty()) {
    Forward(id, entry);
  }
}

// All that can come is here.
void FeatureLink::Forward(RequestId id, const EntryPtr& entry) {
  loop_.CancelTimer(std::exchange(entry->timer, rt::TimerId::kNone));
  const std::unique_ptr<wire::GenerateRequest> request = std::move(entry->request);
  if (request->deadline_left_ns > 0) {
    request->deadline_left_ns =
        std::max<std::int64_t>(request->deadline_left_ns - (loop_.Now() - entry->begun).count(), 1);
  }
  const std::weak_ptr<bool> alive(alive_);
  const Result<void> taken =
      link().Generate(std::move(*request), [this, id, alive](wire::TokenFrame frame) {
        if (const auto here = alive.lock(); here && *here) {
          OnFrame(id, std::move(frame));
        }
      });
  if (!taken) {
    EndAll(id, wire::FinishReason::kError, taken.error());
    return;
  }
  for (const std::uint32_t choice : entry->cancelled) {
    link().Cancel({id, choice});
  }
}

void FeatureLink::OnFrame(RequestId id, wire::TokenFrame frame) {
  const EntryPtr entry = entries_.at(id);
  if (frame.finish && --entry->live_choices == 0) {
    entries_.erase(id);  // first: the handler may send another of this id
  }
  entry->on_frame(std::move(frame));
}

void FeatureLink::EndAll(RequestId id, wire::FinishReason finish,
                         const std::optional<Error>& error) {
  const auto found = entries_.find(id);
  const EntryPtr entry = found->second;
  entries_.erase(found);
  loop_.CancelTimer(entry->timer);
  for (const auto& [digest, ticket] : entry->fetches) {
    fetcher_.Cancel(ticket);
  }
  const std::weak_ptr<bool> alive(alive_);
  for (std::uint32_t choice = 0; choice < entry->live_choices; ++choice) {
    wire::TokenFrame frame;
    frame.id = id;
    frame.choice = choice;
    frame.finish = finish;
    frame.error = error;
    entry->on_frame(std::move(frame));
    if (alive.expired()) {
      return;
    }
  }
}

// Before the engine has it, all of it ends behind this call.
void FeatureLink::Cancel(const wire::CancelRequest& cancel) {
  const auto found = entries_.find(cancel.id);
  if (found == entries_.end() || !found->second->request) {
    link().Cancel(cancel);
    return;
  }
  if (cancel.choice) {
    found->second->cancelled.push_back(*cancel.choice);
    return;
  }
  loop_.Post([this, id = cancel.id, alive = std::weak_ptr<bool>(alive_)] {
    const auto here = alive.lock();
    if (!here || !*here) {
      return;
    }
    const auto entry = entries_.find(id);
    if (entry != entries_.end() && entry->second->request) {
      EndAll(id, wire::FinishReason::kCancelled, std::nullopt);
    } else {
      link().Cancel({id, std::nullopt});
    }
  });
}

}  // namespace pixii::worker
