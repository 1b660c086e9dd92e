// The side of a HandoverConnector::Mover that fetches.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "kv/handover_mover.h"
#include "wire/messages/codec.h"

namespace pixii::kv {

namespace {

constexpr std::size_t kSamplesMax = 1024;

Hash128 TransferOf(const wire::HandoverRecord& record) {
  return {.low = record.transfer_low, .high = record.transfer_high};
}

std::vector<HandoverBlock> RowsOf(const wire::HandoverRecord& record) {
  std::vector<HandoverBlock> rows;
  for (std::uint32_t i = 0; i < PackedBlockCount(record); ++i) {
    rows.push_back(PackedBlock(record, i));
  }
  return rows;
}

}  // namespace

void HandoverConnector::Mover::Begin(Job job) {
  const LoadId id = job.id;
  Fetch fetch{.job = std::move(job),
              .rows = {},
              .peer = {},
              .begun = loop_->Now(),
              .deadline = {},
              .chunks = {},
              .stagings = {}};
  fetch.rows = RowsOf(*fetch.job.record);
  fetch.deadline = std::min(fetch.begun + options_.timeout, fetch.job.deadline);
  counters_->loads_running += 1;
  Result<void> ready = UseMemory(BaseOf(fetch.job.targets.front()));
  if (ready) {
    Result<transport::PeerId> peer = PeerOf(fetch.job.record->agent);
    ready = peer ? Result<void>() : Fail(peer.error());
    fetch.peer = peer.value_or(transport::PeerId{});
  }
  Fetch& kept = fetches_.emplace(id, std::move(fetch)).first->second;
  if (!ready) {
    EndLoad({.kind = {}, .load = id, .state = HandoverState::kFailed, .error = ready.error()});
    return;
  }
  fetch_.Begin(id,
               {.block_count = static_cast<std::uint32_t>(kept.job.targets.size()),
                .available = AvailableOf(kept)},
               kept.deadline);
  Claim(kept);
  Act();
}

void HandoverConnector::Mover::CancelLoad(LoadId id) {
  fetch_.Cancel(id);
  Act();
}

void HandoverConnector::Mover::Supply(const std::shared_ptr<const wire::HandoverRecord>& record) {
  for (auto& [id, fetch] : fetches_) {
    if (TransferOf(*fetch.job.record) == TransferOf(*record) && !fetch.knows_all()) {
      AddRows(id, fetch, RowsOf(*record));
    }
  }
  Act();
}

// Of its targets, those whose blocks are known.
std::uint32_t HandoverConnector::Mover::AvailableOf(const Fetch& fetch) const {
  const auto known = static_cast<std::uint32_t>(fetch.rows.size());
  const std::uint32_t ours = fetch.job.layout ? fetch.job.layout->WholeOf(known) : known;
  const std::uint32_t behind = ours - std::min(ours, fetch.job.first);
  return std::min(behind, static_cast<std::uint32_t>(fetch.job.targets.size()));
}

void HandoverConnector::Mover::AddRows(LoadId id, Fetch& fetch, std::vector<HandoverBlock> rows) {
  rows.resize(std::min<std::size_t>(rows.size(), HandoverBlockCount(*fetch.job.record)));
  if (rows.size() <= fetch.rows.size()) {
    return;
  }
  fetch.rows = std::move(rows);
  fetch.deadline = std::min(loop_->Now() + options_.timeout, fetch.job.deadline);
  fetch_.OnMore(id, AvailableOf(fetch), fetch.deadline);
}

void HandoverConnector::Mover::OnMore(const wire::HandoverMore& more) {
  const Hash128 transfer{.low = more.transfer_low, .high = more.transfer_high};
  if (more.blocks.size() % kHandoverBlockBytes != 0) {
    Say(obs::EventId::kHandoverRefused,
        Error(Code::kDataCorrupt,
              fmt::format("{} bytes of blocks are no whole rows", more.blocks.size())));
    return;
  }
  std::vector<LoadId> withdrawn;
  for (auto& [id, fetch] : fetches_) {
    if (TransferOf(*fetch.job.record) != transfer || fetch.knows_all()) {
      continue;
    }
    if (more.withdrawn) {
      withdrawn.push_back(id);
      continue;
    }
    if (more.first > fetch.rows.size()) {
      continue;  // what lay between was lost: the whole record tells it
    }
    wire::HandoverRecord part;
    part.blocks = more.blocks;
    std::vector<HandoverBlock> rows(fetch.rows.begin(), fetch.rows.begin() + more.first);
    std::ranges::copy(RowsOf(part), std::back_inserter(rows));
    AddRows(id, fetch, std::move(rows));
  }
  for (const LoadId id : withdrawn) {
    fetch_.Fail(id, Error(Code::kUnavailable, "the prefill worker does not go on with the prompt"));
  }
}

void HandoverConnector::Mover::Claim(Fetch& fetch) {
  if (fetch.claimed || (fetch.chunks.empty() && fetch.knows_all())) {
    return;
  }
  wire::HandoverNote note;
  note.claim = {.transfer_high = fetch.job.record->transfer_high,
                .transfer_low = fetch.job.record->transfer_low,
                .agent = fetch.knows_all() ? std::string() : agent_->Metadata(),
                .known = static_cast<std::uint32_t>(fetch.rows.size())};
  fetch.claimed = agent_->Notify(fetch.peer, wire::Encode(note)).has_value();
}

bool HandoverConnector::Mover::HasUnclaimed() const {
  return std::ranges::any_of(
      fetches_, [](const auto& one) { return !one.second.claimed && !one.second.knows_all(); });
}

void HandoverConnector::Mover::PollChunks(LoadId id, Fetch& fetch) {
  for (auto chunk = fetch.chunks.begin(); chunk != fetch.chunks.end();) {
    const auto [first, running] = *chunk;
    const transport::TransferStatus status = agent_->Poll(running.first);
    if (status.state == transport::TransferState::kInProgress) {
      ++chunk;
      continue;
    }
    agent_->Release(running.first);
    chunk = fetch.chunks.erase(chunk);
    const bool came = status.state == transport::TransferState::kDone;
    counters_->chunks += came ? 1 : 0;
    const std::uint32_t proven = !came              ? 0
                                 : fetch.job.layout ? Unpack(fetch, first, running.second)
                                                    : ProvenOf(fetch, first, running.second);
    counters_->early_blocks += fetch.knows_all() ? 0 : proven;
    DropStaging(fetch, first);
    fetch_.OnChunk(id, first, proven, came ? std::nullopt : status.error);
  }
}

// Puts the proven ones of a chunk's blocks into ours; how many of these are whole.
std::uint32_t HandoverConnector::Mover::Unpack(const Fetch& fetch, std::uint32_t first,
                                               std::uint32_t count) {
  const Staging& staging = fetch.stagings.at(first);
  const std::uint64_t size = fetch.job.layout->source_size_bytes();
  const std::span<const std::byte> bytes(*staging.memory);
  Interval proven{staging.blocks.begin, staging.blocks.begin};
  for (; proven.end < staging.blocks.end; ++proven.end) {
    const std::uint64_t at = (proven.end - staging.blocks.begin) * size;
    if (key_.Digest(bytes.subspan(at, size)) != fetch.rows[proven.end].sum) {
      counters_->corrupt_blocks += 1;
      break;
    }
  }
  return fetch.job.layout->Fill(bytes, proven, fetch.job.first + first,
                                std::span(fetch.job.targets).subspan(first, count));
}

void HandoverConnector::Mover::DropStaging(Fetch& fetch, std::uint32_t first) {
  const auto found = fetch.stagings.find(first);
  if (found == fetch.stagings.end()) {
    return;
  }
  // Memory goes when the agent knows it no more.
  kept_stagings_.push_back(std::move(found->second));
  fetch.stagings.erase(found);
  std::erase_if(kept_stagings_, [this](const Staging& staging) {
    const bool gone = agent_->Deregister(staging.region).has_value();
    counters_->staging_bytes -= gone ? staging.memory->size() : 0;
    return gone;
  });
}

// The first ones whose bytes are what was handed over.
std::uint32_t HandoverConnector::Mover::ProvenOf(const Fetch& fetch, std::uint32_t first,
                                                 std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    const HandoverBlock& block = fetch.rows[fetch.job.first + first + i];
    if (key_.Digest(fetch.job.targets[first + i].bytes) != block.sum) {
      counters_->corrupt_blocks += 1;
      return i;
    }
  }
  return count;
}

void HandoverConnector::Mover::Act() {
  for (std::vector<FetchTable::Action> actions = fetch_.TakeActions(); !actions.empty();
       actions = fetch_.TakeActions()) {
    for (FetchTable::Action& action : actions) {
      switch (action.kind) {
        case FetchTable::Action::Kind::kPost:
          PostChunk(action);
          break;
        case FetchTable::Action::Kind::kCancel:
          for (const auto& [first, running] : fetches_.at(action.load).chunks) {
            agent_->Cancel(running.first);
          }
          Post([this] { OnAgent(); });  // it may have ended at once
          break;
        case FetchTable::Action::Kind::kEnd:
          EndLoad(std::move(action));
          break;
      }
    }
  }
  SetTimer();
}

void HandoverConnector::Mover::PostChunk(const FetchTable::Action& action) {
  Fetch& fetch = fetches_.at(action.load);
  std::vector<transport::Descriptor> local;
  std::vector<transport::Descriptor> remote;
  if (fetch.job.layout) {
    if (Result<void> made = Stage(fetch, action, local, remote); !made) {
      fetch_.OnChunk(action.load, action.first, 0, made.error());
      return;
    }
  }
  for (std::uint32_t i = fetch.job.layout ? action.first + action.count : action.first;
       i < action.first + action.count; ++i) {
    const HandoverBlock& block = fetch.rows[fetch.job.first + i];
    const BlockMemory& target = fetch.job.targets[i];
    local.push_back({.region = *region_,
                     .offset = std::size_t{Raw(target.ref.id)} * block_bytes_,
                     .size_bytes = block_bytes_});
    remote.push_back({.region = transport::RegionKey{fetch.job.record->region},
                      .offset = std::size_t{block.block} * block_bytes_,
                      .size_bytes = block_bytes_,
                      .generation = block.generation});
  }
  const Result<transport::TransferId> posted =
      agent_->Post({.operation = transport::Operation::kRead,
                    .peer = fetch.peer,
                    .local = local,
                    .remote = remote,
                    .notification = {},
                    .deadline = fetch.deadline});
  if (!posted) {
    DropStaging(fetch, action.first);
    fetch_.OnChunk(action.load, action.first, 0, posted.error());
    return;
  }
  fetch.chunks.emplace(action.first, std::pair(*posted, action.count));
  Claim(fetch);
  if (agent_->Poll(*posted).state != transport::TransferState::kInProgress) {
    Post([this] { OnAgent(); });  // what is done at once nobody is woken for
  }
}

// Memory for their blocks that a chunk of ours needs.
Result<void> HandoverConnector::Mover::Stage(Fetch& fetch, const FetchTable::Action& action,
                                             std::vector<transport::Descriptor>& local,
                                             std::vector<transport::Descriptor>& remote) {
  const std::uint64_t size = fetch.job.layout->source_size_bytes();
  Staging staging;
  staging.blocks = fetch.job.layout->Sources(fetch.job.first + action.first, action.count);
  staging.memory =
      std::make_unique<std::vector<std::byte>>(staging.blocks.size() * std::size_t{size});
  PX_TRY(staging.region, agent_->Register(*staging.memory, {.window_bytes = size, .file = {}}));
  for (std::uint32_t i = staging.blocks.begin; i < staging.blocks.end; ++i) {
    const HandoverBlock& block = fetch.rows[i];
    local.push_back({.region = staging.region,
                     .offset = (i - staging.blocks.begin) * size,
                     .size_bytes = size});
    remote.push_back({.region = transport::RegionKey{fetch.job.record->region},
                      .offset = std::size_t{block.block} * size,
                      .size_bytes = size,
                      .generation = block.generation});
  }
  counters_->staging_bytes += staging.memory->size();
  fetch.stagings.emplace(action.first, std::move(staging));
  return {};
}

// What was fetched while the prompt was computed lets go of it only if nothing more is wanted: who
// goes on with the request takes what is missing.
void HandoverConnector::Mover::EndLoad(FetchTable::Action end) {
  const auto found = fetches_.find(end.load);
  const Fetch fetch = std::move(found->second);
  fetches_.erase(found);
  const bool done = end.state == HandoverState::kDone;
  wire::HandoverNote note;
  note.release = {.transfer_high = fetch.job.record->transfer_high,
                  .transfer_low = fetch.job.record->transfer_low,
                  .done = done};
  const bool lets_go = !fetch.grows() || (done && fetch.job.to_end);
  if (fetch.peer != transport::PeerId{} && lets_go) {
    (void)agent_->Notify(fetch.peer, wire::Encode(note));  // else its lease ends
  }
  const std::uint64_t bytes = std::uint64_t{end.count} * block_bytes_;
  counters_->load_ends[static_cast<std::size_t>(end.state)] += 1;
  counters_->loaded_bytes += bytes;
  counters_->loads_running -= 1;
  if (end.error && end.state != HandoverState::kCancelled) {
    Say(obs::EventId::kHandoverFailed, *end.error, fetch.job.request);
  }
  rt::MutexLock lock(mutex_);
  ended_.push_back({.id = end.load, .blocks = end.count, .error = end.error});
  if (done) {
    transport_ = agent_->peer(fetch.peer).transport;
    if (samples_.size() < kSamplesMax) {
      samples_.push_back({.bytes = bytes, .took = loop_->Now() - fetch.begun});
    }
  }
  if (wake_) {
    wake_();
  }
}

}  // namespace pixii::kv
