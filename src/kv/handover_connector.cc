#include "kv/handover_connector.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "base/assert.h"
#include "rt/loop.h"
#include "wire/messages/codec.h"

namespace pixii::kv {

namespace {

constexpr std::uint32_t kChunkBlocks = 64;
constexpr std::size_t kSamplesMax = 1024;
constexpr std::size_t kPeersMax = 256;
// Between two tries to close windows that a peer stands in the midst of.
constexpr rt::Duration kClosePause = std::chrono::milliseconds(100);
constexpr rt::Duration kTimeoutMin = std::chrono::milliseconds(1);

std::uint32_t ChunkBlocksOf(const HandoverOptions& options) {
  return options.chunk_tokens == 0
             ? kChunkBlocks
             : std::max<std::uint32_t>(1, options.chunk_tokens / options.geometry.block_tokens);
}

// What both sides must have in common.
wire::HandoverRecord OwnRecord(const HandoverOptions& options) {
  const BlockGeometry& geometry = options.geometry;
  wire::HandoverRecord own;
  own.layout = {.block_tokens = geometry.block_tokens,
                .block_bytes = geometry.block_size_bytes,
                .dtype = geometry.kv_dtype,
                .cut = geometry.layout ? EncodeLayout(*geometry.layout) : std::string()};
  own.model_fingerprint = geometry.model_fingerprint;
  own.numerics_id = geometry.numerics_id;
  return own;
}

}  // namespace

// All that happens beside the engine: the agent, leases, transfers. On its own thread, but for what
// stands under the mutex.
class HandoverConnector::Mover final {
 public:
  /// A prompt's blocks that the engine's side keeps pinned.
  struct Offer {
    std::uint64_t number = 0;
    RequestId request{};
    rt::Time deadline{};
    std::vector<BlockRef> blocks;
    std::vector<Hash128> chain;  // their identities
  };

  struct Job {
    LoadId id{};
    std::shared_ptr<const wire::HandoverRecord> record;
    std::shared_ptr<const HandoverLayout> layout;  // null: their blocks are as ours
    std::uint32_t first = 0;
    std::vector<BlockMemory> targets;
    rt::Time deadline{};
  };

  Mover(const HandoverOptions& options, const HashKey& key,
        std::shared_ptr<HandoverCounters> counters)
      : options_(options),
        key_(key),
        counters_(std::move(counters)),
        block_bytes_(options.geometry.block_size_bytes),
        offers_(options.offers_max),
        fetch_({.chunk_blocks = ChunkBlocksOf(options)}) {}

  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;

  ~Mover() {
    if (loop_ == nullptr) {
      return;
    }
    if (thread_.joinable()) {
      loop_->Stop();
      thread_.Join();
    }
    alive_.reset();
    loop_->CancelTimer(timer_);
    agent_.reset();  // nothing is written or read afterwards
  }

  Result<void> Open(const AgentMaker& make_agent) {
    loop_ = options_.loop;
    if (loop_ == nullptr) {
      PX_TRY(own_loop_, rt::MakeLoop());
      loop_ = own_loop_.get();
    }
    PX_TRY(agent_, make_agent(*loop_, [this] {
             if (!woken_.exchange(true)) {
               Post([this] { OnAgent(); });
             }
           }));
    instance_ = {.low = loop_->random().Next(), .high = loop_->random().Next()};
    if (own_loop_) {
      thread_ = rt::Thread("kv-handover", [this] { loop_->Run(); });
    }
    return {};
  }

  /// Any thread. What is left when it goes is not run.
  void Post(rt::Callback fn) {
    loop_->Post([alive = std::weak_ptr<bool>(alive_), fn = std::move(fn)]() mutable {
      if (!alive.expired()) {
        fn();
      }
    });
  }

  void SetWake(rt::Function<void()> wake) {
    rt::MutexLock lock(mutex_);
    wake_ = std::move(wake);
  }

  // ---- any thread

  void TakeDone(std::vector<LoadEnd>& ended, std::vector<std::uint64_t>& dropped) {
    rt::MutexLock lock(mutex_);
    std::ranges::move(std::exchange(ended_, {}), std::back_inserter(ended));
    dropped = std::exchange(dropped_, {});
  }

  std::vector<HandoverSample> TakeSamples() {
    rt::MutexLock lock(mutex_);
    return std::exchange(samples_, {});
  }

  std::string transport() {
    rt::MutexLock lock(mutex_);
    return transport_;
  }

  // ---- its own thread: offers

  void MakeOffer(Offer offer, std::byte* memory) {
    const rt::Time now = loop_->Now();
    const Hash128 transfer{.low = loop_->random().Next(), .high = loop_->random().Next()};
    Result<void> usable = UseMemory(memory);
    if (usable && !offers_.Offer(transfer, std::min(now + options_.timeout, offer.deadline))) {
      usable = Fail(Code::kResourceExhausted, "too many hand-overs are kept");
    }
    if (!usable) {
      Say(obs::EventId::kHandoverRefused, usable.error());
      Drop({offer.number});
      return;
    }
    counters_->offers += 1;
    counters_->offered_blocks += offer.blocks.size();
    std::vector<HandoverBlock> rows;
    rows.reserve(offer.blocks.size());
    for (const BlockRef& ref : offer.blocks) {
      rows.push_back({.block = Raw(ref.id),
                      .generation = ref.generation,
                      .sum = key_.Digest(Bytes(Raw(ref.id)))});
    }
    wire::HandoverRecord record = Own();
    record.transfer_high = transfer.high;
    record.transfer_low = transfer.low;
    record.last_high = offer.chain.back().high;
    record.last_low = offer.chain.back().low;
    record.blocks = PackBlocks(rows);
    record.chain = PackHashes(offer.chain);
    Kept& kept = kept_[transfer];
    kept.offer = std::move(offer);
    by_request_[kept.offer.request] = transfer;
    for (const BlockRef& ref : kept.offer.blocks) {
      if (Result<void> opened = OpenBlock(ref); !opened) {
        Say(obs::EventId::kHandoverRefused, opened.error());
        offers_.Cancel(transfer);
        break;
      }
      ++kept.opened;
    }
    kept.record = EncodeHandover(record, key_);
    EndOffers();
  }

  void Watch(RequestId request, News news) {
    const auto found = by_request_.find(request);
    if (found == by_request_.end()) {
      news(std::nullopt);
      return;
    }
    Kept& kept = kept_.at(found->second);
    kept.news = std::move(news);
    kept.news(kept.record);
  }

  void Forget(RequestId request) {
    if (const auto found = by_request_.find(request); found != by_request_.end()) {
      offers_.Cancel(Hash128(found->second));
      EndOffers();
    }
  }

  void ForgetAll() {
    for (const auto& [transfer, kept] : kept_) {
      offers_.Cancel(transfer);
    }
    EndOffers();
  }

  // ---- its own thread: loads

  void Begin(Job job) {
    const LoadId id = job.id;
    Fetch fetch{
        .job = std::move(job), .peer = {}, .begun = loop_->Now(), .chunks = {}, .stagings = {}};
    counters_->loads_running += 1;
    Result<void> ready = UseMemory(BaseOf(fetch.job.targets.front()));
    if (ready) {
      Result<transport::PeerId> peer = PeerOf(fetch.job.record->agent);
      ready = peer ? Result<void>() : Fail(peer.error());
      fetch.peer = peer.value_or(transport::PeerId{});
    }
    const auto count = static_cast<std::uint32_t>(fetch.job.targets.size());
    const rt::Time deadline = std::min(fetch.begun + options_.timeout, fetch.job.deadline);
    fetches_.emplace(id, std::move(fetch));
    if (!ready) {
      EndLoad({.kind = {}, .load = id, .state = HandoverState::kFailed, .error = ready.error()});
      return;
    }
    fetch_.Begin(id, count, deadline);
    Act();
  }

  void CancelLoad(LoadId id) {
    fetch_.Cancel(id);
    Act();
  }

 private:
  struct Kept {
    Offer offer;
    std::size_t opened = 0;  // the first ones of its blocks
    std::string record;
    News news;
  };

  /// Their blocks on their way.
  struct Staging {
    Interval blocks;  // of the record
    std::unique_ptr<std::vector<std::byte>> memory;
    transport::RegionKey region{};
  };

  struct Fetch {
    Job job;
    transport::PeerId peer{};
    rt::Time begun{};
    bool claimed = false;
    std::map<std::uint32_t, std::pair<transport::TransferId, std::uint32_t>>
        chunks;                                 // by first: and blocks
    std::map<std::uint32_t, Staging> stagings;  // likewise, where their blocks are not as ours
  };

  struct OpenedBlock {
    std::uint32_t generation = 0;
    std::uint32_t count = 0;  // offers that want it open
  };

  static std::byte* BaseOf(const BlockMemory& block) {
    return block.bytes.data() - std::size_t{Raw(block.ref.id)} * block.bytes.size();
  }

  std::span<std::byte> Bytes(std::uint32_t block) const {
    return {memory_ + std::size_t{block} * block_bytes_, block_bytes_};
  }

  void Say(obs::EventId id, const Error& error) const {
    if (options_.log != nullptr) {
      obs::Event(*options_.log, id).kv("why", error.ToString());
    }
  }

  wire::HandoverRecord Own() const {
    wire::HandoverRecord own = OwnRecord(options_);
    own.abi = kHandoverAbi;
    own.instance_high = instance_.high;
    own.instance_low = instance_.low;
    own.agent = agent_->Metadata();
    own.region = static_cast<std::uint64_t>(region_.value_or(transport::RegionKey{}));
    return own;
  }

  // The cache's memory is another one after the worker has slept.
  Result<void> UseMemory(std::byte* memory) {
    if (region_ && memory == memory_) {
      return {};
    }
    if (region_) {
      PX_CHECK_OK(agent_->Deregister(*region_));
      region_.reset();
    }
    PX_TRY(region_, agent_->Register({memory, block_bytes_ * options_.geometry.block_count},
                                     {.window_bytes = block_bytes_, .file = {}}));
    memory_ = memory;
    return {};
  }

  Result<void> OpenBlock(const BlockRef& ref) {
    OpenedBlock& open = open_[Raw(ref.id)];
    if (open.count == 0) {
      open.generation = ref.generation;
      PX_CHECK_OK(agent_->Open(*region_, {.first = Raw(ref.id), .count = 1}, ref.generation,
                               transport::Access::kRead));
    }
    PX_ASSERT(open.generation == ref.generation);  // it has been pinned since
    ++open.count;
    return {};
  }

  // False: it is to be tried again.
  bool CloseBlocks(Kept& kept) {
    while (kept.opened > 0) {
      const std::uint32_t block = Raw(kept.offer.blocks[kept.opened - 1].id);
      const auto open = open_.find(block);
      if (open->second.count == 1) {
        if (!agent_->Close(*region_, {.first = block, .count = 1})) {
          return false;
        }
        open_.erase(open);
      } else {
        --open->second.count;
      }
      --kept.opened;
    }
    return true;
  }

  void EndOffers() {
    for (const OfferTable::End& end : offers_.TakeEnded()) {
      const auto found = kept_.find(end.transfer);
      counters_->offer_ends[static_cast<std::size_t>(end.state)] += 1;
      counters_->offers -= 1;
      by_request_.erase(found->second.offer.request);
      if (found->second.news) {
        found->second.news(std::nullopt);
      }
      closing_.push_back(std::move(found->second));
      kept_.erase(found);
    }
    std::vector<std::uint64_t> dropped;
    std::erase_if(closing_, [&](Kept& kept) {
      const bool closed = CloseBlocks(kept);
      if (closed) {
        counters_->offered_blocks -= kept.offer.blocks.size();
        dropped.push_back(kept.offer.number);
      }
      return closed;
    });
    if (!dropped.empty()) {
      Drop(std::move(dropped));
    }
    SetTimer();
  }

  void Drop(std::vector<std::uint64_t> numbers) {
    rt::MutexLock lock(mutex_);
    std::ranges::copy(numbers, std::back_inserter(dropped_));
    if (wake_) {
      wake_();
    }
  }

  Result<transport::PeerId> PeerOf(const std::string& agent) {
    if (const auto known = peers_.find(agent); known != peers_.end()) {
      return known->second;
    }
    if (peers_.size() >= kPeersMax) {
      const auto unused = std::ranges::find_if(peers_, [this](const auto& peer) {
        return std::ranges::none_of(
            fetches_, [&](const auto& fetch) { return fetch.second.peer == peer.second; });
      });
      if (unused == peers_.end()) {
        return Fail(Code::kResourceExhausted, "blocks come from too many workers at a time");
      }
      agent_->Disconnect(unused->second);
      peers_.erase(unused);
    }
    PX_TRY(const transport::PeerId peer, agent_->Connect(agent));
    peers_.emplace(agent, peer);
    return peer;
  }

  void OnAgent() {
    woken_ = false;
    transport::Notification note;
    while (agent_->TakeNotification(note)) {
      OnNote(note.bytes);
    }
    for (auto& [id, fetch] : fetches_) {
      PollChunks(id, fetch);
      Claim(fetch);
    }
    Act();
  }

  void OnNote(const std::string& bytes) {
    const Result<wire::HandoverNote> note = wire::Decode<wire::HandoverNote>(bytes);
    if (!note) {
      Say(obs::EventId::kHandoverRefused, note.error());
      return;
    }
    if (note->claim) {
      offers_.OnClaim({.low = note->claim->transfer_low, .high = note->claim->transfer_high});
    }
    if (note->release) {
      offers_.OnRelease({.low = note->release->transfer_low, .high = note->release->transfer_high},
                        note->release->done);
    }
    EndOffers();
  }

  void Claim(Fetch& fetch) {
    if (fetch.claimed || fetch.chunks.empty()) {
      return;
    }
    wire::HandoverNote note;
    note.claim = {.transfer_high = fetch.job.record->transfer_high,
                  .transfer_low = fetch.job.record->transfer_low};
    fetch.claimed = agent_->Notify(fetch.peer, wire::Encode(note)).has_value();
  }

  void PollChunks(LoadId id, Fetch& fetch) {
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
      DropStaging(fetch, first);
      fetch_.OnChunk(id, first, proven, came ? std::nullopt : status.error);
    }
  }

  // Puts the proven ones of a chunk's blocks into ours; how many of these are whole.
  std::uint32_t Unpack(const Fetch& fetch, std::uint32_t first, std::uint32_t count) {
    const Staging& staging = fetch.stagings.at(first);
    const std::uint64_t size = fetch.job.layout->source_size_bytes();
    const std::span<const std::byte> bytes(*staging.memory);
    Interval proven{staging.blocks.begin, staging.blocks.begin};
    for (; proven.end < staging.blocks.end; ++proven.end) {
      const std::uint64_t at = (proven.end - staging.blocks.begin) * size;
      if (key_.Digest(bytes.subspan(at, size)) != PackedBlock(*fetch.job.record, proven.end).sum) {
        counters_->corrupt_blocks += 1;
        break;
      }
    }
    return fetch.job.layout->Fill(bytes, proven, fetch.job.first + first,
                                  std::span(fetch.job.targets).subspan(first, count));
  }

  void DropStaging(Fetch& fetch, std::uint32_t first) {
    const auto found = fetch.stagings.find(first);
    if (found == fetch.stagings.end()) {
      return;
    }
    // Memory goes when the agent knows it no more.
    kept_stagings_.push_back(std::move(found->second));
    fetch.stagings.erase(found);
    std::erase_if(kept_stagings_, [this](const Staging& staging) {
      return agent_->Deregister(staging.region).has_value();
    });
  }

  // The first ones whose bytes are what was handed over.
  std::uint32_t ProvenOf(const Fetch& fetch, std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      const HandoverBlock block = PackedBlock(*fetch.job.record, fetch.job.first + first + i);
      if (key_.Digest(fetch.job.targets[first + i].bytes) != block.sum) {
        counters_->corrupt_blocks += 1;
        return i;
      }
    }
    return count;
  }

  void Act() {
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

  void PostChunk(const FetchTable::Action& action) {
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
      const HandoverBlock block = PackedBlock(*fetch.job.record, fetch.job.first + i);
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
                      .deadline = std::min(fetch.begun + options_.timeout, fetch.job.deadline)});
    if (!posted) {
      DropStaging(fetch, action.first);
      fetch_.OnChunk(action.load, action.first, 0, posted.error());
      return;
    }
    fetch.chunks.emplace(action.first, std::pair(*posted, action.count));
    Claim(fetch);
  }

  // Memory for their blocks that a chunk of ours needs.
  Result<void> Stage(Fetch& fetch, const FetchTable::Action& action,
                     std::vector<transport::Descriptor>& local,
                     std::vector<transport::Descriptor>& remote) {
    const std::uint64_t size = fetch.job.layout->source_size_bytes();
    Staging staging;
    staging.blocks = fetch.job.layout->Sources(fetch.job.first + action.first, action.count);
    staging.memory =
        std::make_unique<std::vector<std::byte>>(staging.blocks.size() * std::size_t{size});
    PX_TRY(staging.region, agent_->Register(*staging.memory, {.window_bytes = size, .file = {}}));
    for (std::uint32_t i = staging.blocks.begin; i < staging.blocks.end; ++i) {
      const HandoverBlock block = PackedBlock(*fetch.job.record, i);
      local.push_back({.region = staging.region,
                       .offset = (i - staging.blocks.begin) * size,
                       .size_bytes = size});
      remote.push_back({.region = transport::RegionKey{fetch.job.record->region},
                        .offset = std::size_t{block.block} * size,
                        .size_bytes = size,
                        .generation = block.generation});
    }
    fetch.stagings.emplace(action.first, std::move(staging));
    return {};
  }

  void EndLoad(FetchTable::Action end) {
    const auto found = fetches_.find(end.load);
    const Fetch fetch = std::move(found->second);
    fetches_.erase(found);
    const bool done = end.state == HandoverState::kDone;
    wire::HandoverNote note;
    note.release = {.transfer_high = fetch.job.record->transfer_high,
                    .transfer_low = fetch.job.record->transfer_low,
                    .done = done};
    if (fetch.peer != transport::PeerId{}) {
      (void)agent_->Notify(fetch.peer, wire::Encode(note));  // else its lease ends
    }
    const std::uint64_t bytes = std::uint64_t{end.count} * block_bytes_;
    counters_->load_ends[static_cast<std::size_t>(end.state)] += 1;
    counters_->loaded_bytes += bytes;
    counters_->loads_running -= 1;
    if (end.error && end.state != HandoverState::kCancelled) {
      Say(obs::EventId::kHandoverFailed, *end.error);
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

  void SetTimer() {
    loop_->CancelTimer(timer_);
    rt::Time next = std::min(offers_.next_time(), fetch_.next_time());
    if (!closing_.empty()) {
      next = std::min(next, loop_->Now() + kClosePause);
    }
    timer_ = next == rt::kNever ? rt::TimerId::kNone : loop_->RunAt(next, [this] {
      timer_ = rt::TimerId::kNone;
      offers_.OnTime(loop_->Now());
      fetch_.OnTime(loop_->Now());
      EndOffers();
      Act();
    });
  }

  const HandoverOptions& options_;
  const HashKey& key_;
  std::shared_ptr<HandoverCounters> counters_;
  std::unique_ptr<rt::Loop> own_loop_;  // null: it is somebody else's
  rt::Loop* loop_ = nullptr;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::atomic<bool> woken_{false};
  std::shared_ptr<transport::Agent> agent_;
  Hash128 instance_;
  std::optional<transport::RegionKey> region_;
  std::byte* memory_ = nullptr;  // of the region
  const std::size_t block_bytes_;
  OfferTable offers_;
  std::unordered_map<Hash128, Kept, Hash128Hasher> kept_;
  std::unordered_map<RequestId, Hash128> by_request_;
  std::vector<Kept> closing_;  // that have ended, with windows that could not be closed yet
  std::unordered_map<std::uint32_t, OpenedBlock> open_;
  FetchTable fetch_;
  std::map<LoadId, Fetch> fetches_;
  std::vector<Staging> kept_stagings_;
  std::map<std::string, transport::PeerId> peers_;
  rt::TimerId timer_ = rt::TimerId::kNone;
  rt::Mutex mutex_;
  rt::Function<void()> wake_ PX_GUARDED_BY(mutex_);
  std::vector<LoadEnd> ended_ PX_GUARDED_BY(mutex_);
  std::vector<std::uint64_t> dropped_ PX_GUARDED_BY(mutex_);
  std::vector<HandoverSample> samples_ PX_GUARDED_BY(mutex_);
  std::string transport_ PX_GUARDED_BY(mutex_);
  rt::Thread thread_;
};

HandoverConnector::HandoverConnector(HandoverOptions options)
    : options_(std::move(options)),
      key_(options_.key),
      counters_(std::make_shared<HandoverCounters>()),
      mover_(std::make_unique<Mover>(options_, key_, counters_)) {
  options_.timeout = std::max(options_.timeout, kTimeoutMin);
}

HandoverConnector::~HandoverConnector() { mover_.reset(); }

Result<std::unique_ptr<HandoverConnector>> HandoverConnector::Create(HandoverOptions options,
                                                                     const AgentMaker& make_agent) {
  PX_ASSERT(options.geometry.block_count > 0 && options.geometry.block_size_bytes > 0);
  auto out = std::unique_ptr<HandoverConnector>(
      new HandoverConnector(std::move(options)));  // tidy: new the constructor is private
  PX_CHECK_OK(out->mover_->Open(make_agent));
  return out;
}

void HandoverConnector::Watch(RequestId request, News news) {
  mover_->Post([this, request, news = std::move(news)]() mutable {
    mover_->Watch(request, std::move(news));
  });
}

void HandoverConnector::Forget(RequestId request) {
  mover_->Post([this, request] { mover_->Forget(request); });
}

std::vector<HandoverSample> HandoverConnector::TakeSamples() { return mover_->TakeSamples(); }

std::string HandoverConnector::transport() const { return mover_->transport(); }

void HandoverConnector::Start(rt::Function<void()> wake) { mover_->SetWake(std::move(wake)); }

HandoverConnector::Brought HandoverConnector::ReadRecord(const ConnectorRequest& request) const {
  const auto refused = [this](const Error& error) {
    counters_->refused_records += 1;
    if (options_.log != nullptr) {
      obs::Event(*options_.log, obs::EventId::kHandoverRefused).kv("why", error.ToString());
    }
    return Brought();
  };
  Result<wire::HandoverRecord> record = DecodeHandover(request.handover, key_);
  if (!record) {
    return refused(record.error());
  }
  if (Result<void> same = CheckHandover(*record, OwnRecord(options_)); !same) {
    return refused(same.error());
  }
  Result<std::shared_ptr<const HandoverLayout>> layout =
      HandoverLayout::Create(record->layout, options_.geometry);
  if (!layout) {
    return refused(layout.error());
  }
  const std::uint32_t count = UsableBlocks(*record, layout->get(), request.chain);
  if (count == 0) {
    return refused(Error(Code::kInvalidArgument,
                         "the hand-over's blocks are not those of the request's tokens"));
  }
  return {.record = std::make_shared<const wire::HandoverRecord>(std::move(*record)),
          .layout = std::move(*layout),
          .block_count = count};
}

std::uint32_t HandoverConnector::UsableBlocks(const wire::HandoverRecord& record,
                                              const HandoverLayout* layout,
                                              const BlockChain& chain) const {
  const std::uint32_t count = PackedBlockCount(record);
  if (layout != nullptr) {
    return count * kHandoverHashBytes != record.chain.size()
               ? 0
               : layout->Usable(record, chain, BlockIdentity(options_.geometry.identity_key));
  }
  const Hash128 last{.low = record.last_low, .high = record.last_high};
  const bool same = count > 0 && count <= chain.hashes.size() && chain.hashes[count - 1] == last;
  return same ? count : 0;
}

std::uint32_t HandoverConnector::Match(const ConnectorRequestRef& request, std::uint32_t first) {
  if (request->handover.empty()) {
    return 0;
  }
  auto found = brought_.find(request->id);
  if (found == brought_.end()) {
    found = brought_.emplace(request->id, ReadRecord(*request)).first;
  }
  return found->second.block_count - std::min(found->second.block_count, first);
}

void HandoverConnector::Load(LoadId id, const ConnectorRequestRef& request, std::uint32_t first,
                             std::span<const BlockMemory> targets) {
  Mover::Job job{.id = id,
                 .record = brought_.at(request->id).record,
                 .layout = brought_.at(request->id).layout,
                 .first = first,
                 .targets = {targets.begin(), targets.end()},
                 .deadline = request->deadline};
  // Not asked of again: what could not be had once is computed.
  brought_[request->id] = {};
  ++loads_;
  mover_->Post([this, job = std::move(job)]() mutable { mover_->Begin(std::move(job)); });
}

void HandoverConnector::Cancel(LoadId id) {
  mover_->Post([this, id] { mover_->CancelLoad(id); });
}

void HandoverConnector::Published(std::vector<PublishedBlock> blocks) {
  for (const PublishedBlock& block : blocks) {
    memory_ = block.bytes.data() - std::size_t{Raw(block.pin.id())} * block.bytes.size();
  }
}

void HandoverConnector::Distrust(std::span<const Hash128> /*hashes*/) {
  mover_->Post([this] { mover_->ForgetAll(); });  // rare: better one too many
}

void HandoverConnector::Finished(const ConnectorRequestRef& request, std::vector<BlockPin> pins) {
  brought_.erase(request->id);
  if (!request->prefill_only || pins.empty() || memory_ == nullptr) {
    return;
  }
  Mover::Offer offer{
      .number = ++last_offer_,
      .request = request->id,
      .deadline = request->deadline,
      .blocks = {},
      .chain = {request->chain.hashes.begin(),
                request->chain.hashes.begin() + static_cast<std::ptrdiff_t>(pins.size())}};
  for (const BlockPin& pin : pins) {
    offer.blocks.push_back(pin.ref());
  }
  kept_.emplace(offer.number, std::move(pins));
  mover_->Post([this, offer = std::move(offer), memory = memory_]() mutable {
    mover_->MakeOffer(std::move(offer), memory);
  });
}

rt::Time HandoverConnector::Poll(rt::Time /*now*/, std::vector<LoadEnd>& ended) {
  const std::size_t before = ended.size();
  std::vector<std::uint64_t> dropped;
  mover_->TakeDone(ended, dropped);
  loads_ -= ended.size() - before;
  for (const std::uint64_t number : dropped) {
    kept_.erase(number);
  }
  return rt::kNever;
}

bool HandoverConnector::idle() const { return kept_.empty() && loads_ == 0; }

}  // namespace pixii::kv
