#include "worker/feature_fetcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::worker {

Result<std::unique_ptr<FeatureFetcher>> FeatureFetcher::Create(
    rt::Loop& loop, FeatureFetcherOptions options, const FeatureAgentMaker& make_agent) {
  auto made = std::unique_ptr<FeatureFetcher>(
      new FeatureFetcher(loop, std::move(options)));  // tidy: new the constructor is private
  FeatureFetcher* const self = made.get();
  PX_TRY(made->agent_, make_agent([self, &loop, alive = std::weak_ptr<bool>(made->alive_)] {
           if (!self->woken_.exchange(true)) {
             loop.Post([self, alive] {
               if (const auto here = alive.lock(); here && *here) {
                 self->OnAgent();
               }
             });
           }
         }));
  made->peers_.emplace(*made->agent_);
  return made;
}

// The agent goes first: nothing is written into memory of ours any more, and nobody wakes us.
FeatureFetcher::~FeatureFetcher() {
  *alive_ = false;
  agent_.reset();
}

std::uint64_t FeatureFetcher::Fetch(const wire::MediaItem& item, Handler on_end) {
  const std::uint64_t ticket = ++last_ticket_;
  if (const auto known = running_.find(item.digest); known != running_.end()) {
    known->second.waiting.emplace(ticket, std::move(on_end));
    return ticket;
  }
  if (const Result<void> begun = Begin(item, ticket, on_end); !begun) {
    loop_.Post(
        [why = begun.error(), on_end = std::move(on_end), alive = std::weak_ptr<bool>(alive_)] {
          if (const auto here = alive.lock(); here && *here) {
            on_end(Fail(why));
          }
        });
  }
  return ticket;
}

Result<void> FeatureFetcher::Begin(const wire::MediaItem& item, std::uint64_t ticket,
                                   Handler on_end) {
  Result<wire::FeatureRecord> record = DecodeFeatureRecord(item.encoded, key_);
  Result<void> good =
      record ? CheckFeatureRecord(*record, item, options_.own) : Result<void>(Fail(record.error()));
  if (!good) {
    ++counters_.refused;
    return good;
  }
  Running running;
  running.record = std::move(*record);
  Result<void> posted = Post(running);
  if (!posted) {
    ++counters_.failed;
    Drop(std::move(running));
    return posted;
  }
  running.waiting.emplace(ticket, std::move(on_end));
  running_.emplace(item.digest, std::move(running));
  // It may be done already; then nobody wakes us.
  loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      OnAgent();
    }
  });
  return {};
}

Result<void> FeatureFetcher::Post(Running& running) {
  const wire::FeatureRecord& record = running.record;
  PX_TRY(running.peer, peers_->Find(record.agent, [this](transport::PeerId peer) {
    const auto is = [peer](const Running& one) { return one.peer == peer; };
    return std::ranges::any_of(running_, [&](const auto& one) { return is(one.second); }) ||
           std::ranges::any_of(stopped_, is);
  }));
  running.floats.resize(std::size_t{record.rows} * record.row_size);
  const std::span<std::byte> memory = std::as_writable_bytes(std::span(running.floats));
  PX_TRY(running.region, agent_->Register(memory, {}));
  const transport::Descriptor local{.region = running.region, .size_bytes = memory.size()};
  const transport::Descriptor remote{.region = transport::RegionKey{record.region},
                                     .size_bytes = memory.size(),
                                     .generation = record.generation};
  PX_TRY(running.transfer, agent_->Post({.operation = transport::Operation::kRead,
                                         .peer = running.peer,
                                         .local = {&local, 1},
                                         .remote = {&remote, 1},
                                         .notification = std::nullopt,
                                         .deadline = loop_.Now() + options_.timeout}));
  return {};
}

void FeatureFetcher::Cancel(std::uint64_t ticket) {
  for (auto running = running_.begin(); running != running_.end(); ++running) {
    if (running->second.waiting.erase(ticket) == 0) {
      continue;
    }
    if (running->second.waiting.empty()) {
      agent_->Cancel(running->second.transfer);
      stopped_.push_back(std::move(running->second));
      running_.erase(running);
      OnAgent();
    }
    return;
  }
}

void FeatureFetcher::OnAgent() {
  woken_.store(false);
  std::vector<Running> stopped = std::exchange(stopped_, {});
  for (Running& one : stopped) {
    const bool over = one.transfer == transport::TransferId{} ||
                      agent_->Poll(one.transfer).state != transport::TransferState::kInProgress;
    if (over) {
      Drop(std::move(one));
    } else {
      stopped_.push_back(std::move(one));
    }
  }
  std::vector<std::pair<Handler, Result<Features>>> ended;
  for (auto running = running_.begin(); running != running_.end();) {
    const transport::TransferStatus status = agent_->Poll(running->second.transfer);
    if (status.state == transport::TransferState::kInProgress) {
      ++running;
      continue;
    }
    const Result<Features> features = Take(running->second, status);
    for (auto& [ticket, handler] : running->second.waiting) {
      ended.emplace_back(std::move(handler), features);
    }
    Drop(std::move(running->second));
    running = running_.erase(running);
  }
  const std::weak_ptr<bool> alive(alive_);
  for (const auto& [handler, features] : ended) {
    handler(features);
    if (alive.expired()) {
      return;
    }
  }
}

Result<FeatureFetcher::Features> FeatureFetcher::Take(Running& running,
                                                      const transport::TransferStatus& status) {
  if (status.state != transport::TransferState::kDone) {
    ++counters_.failed;
    return Fail(status.error.value_or(Error(Code::kCancelled, "the transfer was cancelled")));
  }
  const wire::FeatureRecord& record = running.record;
  const auto bytes = std::as_bytes(std::span(running.floats));
  const Hash128 sum{.low = record.sum_low, .high = record.sum_high};
  if (FeatureSum(record.digest, bytes, key_) != sum) {
    ++counters_.corrupt;
    return Fail(Code::kDataCorrupt, "features came that are not those of the record");
  }
  ++counters_.fetched;
  counters_.bytes += bytes.size();
  const std::uint32_t levels = options_.row_levels;
  return std::make_shared<const model::VisionFeatures>(
      model::UnpackFeatures(running.floats, static_cast<std::int32_t>(record.rows),
                            static_cast<std::int32_t>(record.row_size / (1 + levels)),
                            static_cast<std::int32_t>(levels)));
}

// Memory goes when the agent knows it no more.
void FeatureFetcher::Drop(Running running) {
  if (running.transfer != transport::TransferId{}) {
    agent_->Release(running.transfer);
    running.transfer = {};
  }
  running.waiting.clear();
  if (running.region != transport::RegionKey{} && !agent_->Deregister(running.region)) {
    stopped_.push_back(std::move(running));
  }
}

}  // namespace pixii::worker
