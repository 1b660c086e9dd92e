#include "worker/handover_link.h"

#include <algorithm>
#include <utility>

namespace pixii::worker {

Result<void> HandoverLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  if (!request.prefill_only) {
    return link().Generate(std::move(request), std::move(on_frame));
  }
  const RequestId id = request.id;
  const bool early = request.early_handover;
  auto entry = std::make_shared<HandoverEntry>();
  entry->on_frame = std::move(on_frame);
  entry->choices.resize(request.choice_count, Choice::kRuns);
  entry->cancelled.resize(request.choice_count);
  PX_CHECK_OK(
      link().Generate(std::move(request), WhileAlive([this, id, entry](wire::TokenFrame frame) {
                        OnFrame(id, entry, std::move(frame));
                      })));
  entries().emplace(id, std::move(entry));
  if (early) {
    keeper_.WatchEarly(
        id, WhileAlive([this, id](std::string record) { OnEarlyNews(id, std::move(record)); }));
  }
  return {};
}

// Of no use to whom tokens have come already.
void HandoverLink::OnEarlyNews(RequestId id, std::string record) {
  const EntryPtr entry = Find(id);
  if (entry == nullptr) {
    return;
  }
  const auto runs = std::ranges::find(entry->choices, Choice::kRuns);
  if (runs == entry->choices.end()) {
    return;
  }
  wire::TokenFrame frame;
  frame.id = id;
  frame.choice = static_cast<std::uint32_t>(runs - entry->choices.begin());
  frame.early_handover = std::move(record);
  entry->on_frame(std::move(frame));
}

void HandoverLink::OnFrame(RequestId id, const EntryPtr& entry, wire::TokenFrame frame) {
  const std::uint32_t choice = frame.choice;
  const bool may_go_on = frame.finish == wire::FinishReason::kLength && !entry->cancelled[choice];
  if (frame.finish) {
    entry->choices[choice] = may_go_on ? Choice::kHeld : Choice::kEnded;
  }
  if (may_go_on) {
    frame.finish.reset();
  }
  const bool settled = std::ranges::find(entry->choices, Choice::kRuns) == entry->choices.end();
  if (Tell(entry, std::move(frame)) && settled && entries().contains(id)) {
    Settle(id, entry);
  }
}

// The worker below has done all that it was asked for.
void HandoverLink::Settle(RequestId id, const EntryPtr& entry) {
  if (std::ranges::find(entry->choices, Choice::kHeld) == entry->choices.end()) {
    entries().erase(id);
    keeper_.Forget(id);
    return;
  }
  if (std::exchange(entry->watched, true)) {
    return;
  }
  keeper_.Watch(id, WhileAlive([this, id](std::optional<std::string> record) {
                  OnNews(id, std::move(record));
                }));
}

void HandoverLink::OnNews(RequestId id, std::optional<std::string> record) {
  const EntryPtr entry = Find(id);
  if (entry == nullptr) {
    return;
  }
  if (!record) {
    EndHeld(id, entry, wire::FinishReason::kLength, std::nullopt);
    return;
  }
  wire::TokenFrame frame;
  frame.id = id;
  frame.choice = static_cast<std::uint32_t>(std::ranges::find(entry->choices, Choice::kHeld) -
                                            entry->choices.begin());
  frame.handover = std::move(*record);
  entry->on_frame(std::move(frame));
}

void HandoverLink::EndHeld(RequestId id, const EntryPtr& entry, wire::FinishReason finish,
                           std::optional<std::uint32_t> choice) {
  std::vector<std::uint32_t> ended;
  for (std::uint32_t i = 0; i < entry->choices.size(); ++i) {
    if (entry->choices[i] == Choice::kHeld && (!choice || *choice == i)) {
      entry->choices[i] = Choice::kEnded;
      ended.push_back(i);
    }
  }
  if (std::ranges::all_of(entry->choices, [](Choice one) { return one == Choice::kEnded; })) {
    entries().erase(id);
    keeper_.Forget(id);
  }
  TellEnd(id, entry, ended, finish);
}

// What is held ends behind this call, as what runs does.
void HandoverLink::Cancel(const wire::CancelRequest& cancel) {
  if (const EntryPtr entry = Find(cancel.id)) {
    std::vector<bool>& cancelled = entry->cancelled;
    for (std::uint32_t i = 0; i < cancelled.size(); ++i) {
      cancelled[i] = cancelled[i] || !cancel.choice || *cancel.choice == i;
    }
    loop().Post(WhileAlive([this, cancel] {
      if (const EntryPtr here = Find(cancel.id)) {
        EndHeld(cancel.id, here, wire::FinishReason::kCancelled, cancel.choice);
      }
    }));
  }
  link().Cancel(cancel);
}

}  // namespace pixii::worker
