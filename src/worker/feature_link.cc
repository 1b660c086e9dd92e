#include "worker/feature_link.h"

#include <algorithm>
#include <numeric>
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
  for (const auto& [id, entry] : entries()) {
    loop().CancelTimer(entry->timer);
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
  if (!wants || entries().contains(request.id)) {
    return link().Generate(std::move(request), std::move(on_frame));
  }
  const RequestId id = request.id;
  auto entry = std::make_shared<FeatureEntry>();
  entry->live_choices = request.choice_count;
  entry->begun = loop().Now();
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
    PX_CHECK_OK(link().Generate(std::move(request), WhileAlive([this, id](wire::TokenFrame frame) {
                                  OnFrame(id, std::move(frame));
                                })));
  } else {
    if (request.deadline_left_ns > 0) {
      const rt::Time end = entry->begun + rt::Duration(request.deadline_left_ns);
      entry->timer =
          loop().RunAt(end, WhileAlive([this, id] {
                         if (const EntryPtr late = Find(id)) {
                           late->timer = rt::TimerId::kNone;
                           EndAll(id, wire::FinishReason::kError,
                                  Error(Code::kDeadlineExceeded, "the request's deadline passed"));
                         }
                       }));
    }
    entry->request = std::make_unique<wire::GenerateRequest>(std::move(request));
  }
  entry->on_frame = std::move(on_frame);
  entries().emplace(id, std::move(entry));
  return {};
}

void FeatureLink::OnFetched(RequestId id, const std::string& digest,
                            const Result<FeatureFetcher::Features>& features) {
  const EntryPtr entry = Find(id);
  if (entry == nullptr) {
    return;
  }
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
  loop().CancelTimer(std::exchange(entry->timer, rt::TimerId::kNone));
  const std::unique_ptr<wire::GenerateRequest> request = std::move(entry->request);
  if (request->deadline_left_ns > 0) {
    request->deadline_left_ns = std::max<std::int64_t>(
        request->deadline_left_ns - (loop().Now() - entry->begun).count(), 1);
  }
  const Result<void> taken = link().Generate(
      std::move(*request),
      WhileAlive([this, id](wire::TokenFrame frame) { OnFrame(id, std::move(frame)); }));
  if (!taken) {
    EndAll(id, wire::FinishReason::kError, taken.error());
    return;
  }
  for (const std::uint32_t choice : entry->cancelled) {
    link().Cancel({id, choice});
  }
}

void FeatureLink::OnFrame(RequestId id, wire::TokenFrame frame) {
  const EntryPtr entry = entries().at(id);
  if (frame.finish && --entry->live_choices == 0) {
    entries().erase(id);  // first: the handler may send another of this id
  }
  entry->on_frame(std::move(frame));
}

void FeatureLink::EndAll(RequestId id, wire::FinishReason finish,
                         const std::optional<Error>& error) {
  const EntryPtr entry = entries().at(id);
  entries().erase(id);
  loop().CancelTimer(entry->timer);
  for (const auto& [digest, ticket] : entry->fetches) {
    fetcher_.Cancel(ticket);
  }
  std::vector<std::uint32_t> choices(entry->live_choices);
  std::iota(choices.begin(), choices.end(), 0U);
  TellEnd(id, entry, choices, finish, error);
}

// Before the engine has it, all of it ends behind this call.
void FeatureLink::Cancel(const wire::CancelRequest& cancel) {
  const EntryPtr entry = Find(cancel.id);
  if (entry == nullptr || !entry->request) {
    link().Cancel(cancel);
    return;
  }
  if (cancel.choice) {
    entry->cancelled.push_back(*cancel.choice);
    return;
  }
  loop().Post(WhileAlive([this, id = cancel.id] {
    if (const EntryPtr here = Find(id); here != nullptr && here->request) {
      EndAll(id, wire::FinishReason::kCancelled, std::nullopt);
    } else {
      link().Cancel({id, std::nullopt});
    }
  }));
}

}  // namespace pixii::worker
