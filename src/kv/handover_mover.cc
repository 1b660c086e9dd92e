#include "kv/handover_mover.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "obs/request_labels.h"
#include "wire/messages/codec.h"

namespace pixii::kv {

namespace {

constexpr std::uint32_t kChunkBlocks = 64;
constexpr std::size_t kKeptShare = 2;   // of the cache's blocks, what is kept for others at most
constexpr std::size_t kReadersMax = 8;  // of one offer
// Of one notification, which is at most transport::kNotificationBytesMax.
constexpr std::size_t kRowsOfNote = 128;
static_assert(kRowsOfNote * kHandoverBlockBytes + 512 < transport::kNotificationBytesMax);
// Between two tries to close windows that a peer stands in the midst of.
constexpr rt::Duration kClosePause = std::chrono::milliseconds(100);
// Between two tries to tell a peer something whose connection is not there yet.
constexpr rt::Duration kTellPause = std::chrono::milliseconds(5);

std::uint32_t ChunkBlocksOf(const HandoverOptions& options) {
  return options.chunk_tokens == 0
             ? kChunkBlocks
             : std::max<std::uint32_t>(1, options.chunk_tokens / options.geometry.block_tokens);
}

}  // namespace

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

std::uint32_t HandoverBlockCount(const wire::HandoverRecord& record) {
  return record.block_count > 0 ? record.block_count : PackedBlockCount(record);
}

HandoverConnector::Mover::Mover(const HandoverOptions& options, const HashKey& key,
                                std::shared_ptr<HandoverCounters> counters)
    : options_(options),
      key_(key),
      counters_(std::move(counters)),
      block_bytes_(options.geometry.block_size_bytes),
      offers_(options.offers_max),
      fetch_({.chunk_blocks = ChunkBlocksOf(options)}) {}

HandoverConnector::Mover::~Mover() {
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

Result<void> HandoverConnector::Mover::Open(const AgentMaker& make_agent) {
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
  peers_.emplace(*agent_);
  instance_ = {.low = loop_->random().Next(), .high = loop_->random().Next()};
  if (own_loop_) {
    thread_ = rt::Thread("kv-handover", [this] { loop_->Run(); });
  }
  return {};
}

void HandoverConnector::Mover::Post(rt::Callback fn) {
  loop_->Post([alive = std::weak_ptr<bool>(alive_), fn = std::move(fn)]() mutable {
    if (!alive.expired()) {
      fn();
    }
  });
}

void HandoverConnector::Mover::SetWake(rt::Function<void()> wake) {
  rt::MutexLock lock(mutex_);
  wake_ = std::move(wake);
}

void HandoverConnector::Mover::TakeDone(std::vector<LoadEnd>& ended,
                                        std::vector<std::uint64_t>& dropped) {
  rt::MutexLock lock(mutex_);
  std::ranges::move(std::exchange(ended_, {}), std::back_inserter(ended));
  dropped = std::exchange(dropped_, {});
}

std::vector<HandoverSample> HandoverConnector::Mover::TakeSamples() {
  rt::MutexLock lock(mutex_);
  return std::exchange(samples_, {});
}

std::string HandoverConnector::Mover::transport() {
  rt::MutexLock lock(mutex_);
  return transport_;
}

void HandoverConnector::Mover::Say(obs::EventId id, const Error& error,
                                   const ConnectorRequestRef& of) const {
  if (options_.log != nullptr) {
    obs::Event event(*options_.log, id);
    if (of) {
      obs::AddLabels(event, of->traceparent, of->label);
    }
    event.kv("why", error.ToString());
  }
}

wire::HandoverRecord HandoverConnector::Mover::Own() const {
  wire::HandoverRecord own = OwnRecord(options_);
  own.abi = kHandoverAbi;
  own.instance_high = instance_.high;
  own.instance_low = instance_.low;
  own.agent = agent_->Metadata();
  own.region = static_cast<std::uint64_t>(region_.value_or(transport::RegionKey{}));
  return own;
}

// The cache's memory is another one after the worker has slept, unless it lies in a file.
Result<void> HandoverConnector::Mover::UseMemory(std::byte* memory) {
  if (region_ && memory == memory_) {
    return {};
  }
  if (region_) {
    PX_CHECK_OK(agent_->Deregister(*region_));
    region_.reset();
  }
  PX_TRY(region_,
         agent_->Register({memory, block_bytes_ * options_.geometry.block_count},
                          {.window_bytes = block_bytes_, .file = options_.geometry.memory}));
  memory_ = memory;
  return {};
}

Result<transport::PeerId> HandoverConnector::Mover::PeerOf(const std::string& agent) {
  return peers_->Find(agent, [this](transport::PeerId peer) {
    return std::ranges::any_of(fetches_,
                               [&](const auto& fetch) { return fetch.second.peer == peer; }) ||
           std::ranges::any_of(kept_, [&](const auto& kept) {
             return std::ranges::find(kept.second.readers, peer, &Reader::peer) !=
                    kept.second.readers.end();
           });
  });
}

// ---- offers

void HandoverConnector::Mover::Refuse(const Offer& offer, const Error& error) {
  Say(obs::EventId::kHandoverRefused, error, offer.asked);
  Drop({offer.number});
}

void HandoverConnector::Mover::Keep(Offer offer, std::byte* memory) {
  if (Result<void> usable = UseMemory(memory); !usable) {
    return Refuse(offer, usable.error());
  }
  if (const auto early = by_request_.find(offer.request); early != by_request_.end()) {
    const Hash128 transfer = early->second;
    if (Continue(transfer, offer)) {
      return;
    }
    offers_.Cancel(transfer);
    EndOffers();
  }
  const Hash128 transfer{.low = loop_->random().Next(), .high = loop_->random().Next()};
  const rt::Time lease =
      offer.whole ? std::min(loop_->Now() + options_.timeout, offer.deadline) : offer.deadline;
  if (!offers_.Offer(transfer, lease)) {
    return Refuse(offer, Error(Code::kResourceExhausted, "too many hand-overs are kept"));
  }
  counters_->offers += 1;
  counters_->offered_blocks += offer.blocks.size();
  Kept& kept = kept_[transfer];
  kept.offer = std::move(offer);
  by_request_[kept.offer.request] = transfer;
  if (Result<void> opened = OpenBlocks(kept); !opened) {
    Say(obs::EventId::kHandoverRefused, opened.error(), kept.offer.asked);
    offers_.Cancel(transfer);
  } else {
    kept.record = RecordOf(transfer, kept);
    if (!kept.offer.whole) {
      counters_->early_offers += 1;
      TellEarly(kept);
    }
  }
  EndOffers();
  MakeRoom(transfer);
}

// What nobody comes for must not keep the blocks from those who compute.
void HandoverConnector::Mover::MakeRoom(const Hash128& newest) {
  while (open_.size() > options_.geometry.block_count / kKeptShare && closing_.empty() &&
         offers_.ExpireOne(newest)) {
    EndOffers();
  }
}

// Whether it is what was offered early, and more.
bool HandoverConnector::Mover::Continue(const Hash128& transfer, Offer& offer) {
  Kept& kept = kept_.at(transfer);
  const std::vector<BlockRef>& early = kept.offer.blocks;
  if (kept.offer.whole || !offer.whole || early.size() > offer.blocks.size() ||
      kept.offer.chain.size() != offer.chain.size() ||
      !std::equal(early.begin(), early.end(), offer.blocks.begin())) {
    return false;
  }
  counters_->offered_blocks += offer.blocks.size() - early.size();
  Drop({kept.offer.number});  // the others are pins of the same
  kept.offer = std::move(offer);
  if (!OpenBlocks(kept)) {
    offers_.Cancel(transfer);
  } else {
    kept.record = RecordOf(transfer, kept);
    offers_.Renew(transfer, std::min(loop_->Now() + options_.timeout, kept.offer.deadline));
    TellReaders();
  }
  EndOffers();
  MakeRoom(transfer);
  return true;
}

void HandoverConnector::Mover::Grow(RequestId request, std::uint64_t number,
                                    const std::vector<BlockRef>& blocks) {
  const auto found = by_request_.find(request);
  if (found == by_request_.end()) {
    return;  // it is kept no more, and its pins go with the number
  }
  const Hash128 transfer = found->second;
  Kept& kept = kept_.at(transfer);
  if (kept.offer.number != number) {
    return;
  }
  counters_->offered_blocks += blocks.size();
  std::ranges::copy(blocks, std::back_inserter(kept.offer.blocks));
  if (Result<void> opened = OpenBlocks(kept); !opened) {
    Say(obs::EventId::kHandoverRefused, opened.error(), kept.offer.asked);
    offers_.Cancel(transfer);
    EndOffers();
    return;
  }
  TellReaders();
  SetTimer();
}

std::string HandoverConnector::Mover::RecordOf(const Hash128& transfer, const Kept& kept) const {
  wire::HandoverRecord record = Own();
  record.transfer_high = transfer.high;
  record.transfer_low = transfer.low;
  record.last_high = kept.offer.chain.back().high;
  record.last_low = kept.offer.chain.back().low;
  record.blocks = PackBlocks(kept.rows);
  record.chain = PackHashes(kept.offer.chain);
  record.block_count = kept.offer.whole ? 0 : static_cast<std::uint32_t>(kept.offer.chain.size());
  return EncodeHandover(record, key_);
}

Result<void> HandoverConnector::Mover::OpenBlocks(Kept& kept) {
  while (kept.opened < kept.offer.blocks.size()) {
    const BlockRef& ref = kept.offer.blocks[kept.opened];
    PX_CHECK_OK(OpenBlock(ref));
    ++kept.opened;
    kept.rows.push_back({.block = Raw(ref.id),
                         .generation = ref.generation,
                         .sum = key_.Digest(Bytes(Raw(ref.id)))});
  }
  return {};
}

Result<void> HandoverConnector::Mover::OpenBlock(const BlockRef& ref) {
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
bool HandoverConnector::Mover::CloseBlocks(Kept& kept) {
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

void HandoverConnector::Mover::WatchEarly(RequestId request, EarlyNews news) {
  expected_[request] = std::move(news);
  if (const auto found = by_request_.find(request); found != by_request_.end()) {
    TellEarly(kept_.at(found->second));
  }
}

void HandoverConnector::Mover::TellEarly(const Kept& kept) {
  const auto expected = expected_.find(kept.offer.request);
  if (expected != expected_.end() && !kept.offer.whole) {
    const EarlyNews news = std::move(expected->second);
    expected_.erase(expected);
    news(kept.record);
  }
}

void HandoverConnector::Mover::Watch(RequestId request, News news) {
  expected_.erase(request);
  const auto found = by_request_.find(request);
  if (found == by_request_.end()) {
    news(std::nullopt);
    return;
  }
  const Hash128 transfer = found->second;
  Kept& kept = kept_.at(transfer);
  kept.news = std::move(news);
  kept.news(kept.record);
  if (kept.released) {
    offers_.OnRelease(transfer, true);
    EndOffers();
  }
}

void HandoverConnector::Mover::Forget(RequestId request) {
  expected_.erase(request);
  if (const auto found = by_request_.find(request); found != by_request_.end()) {
    offers_.Cancel(Hash128(found->second));
    EndOffers();
  }
}

void HandoverConnector::Mover::ForgetAll() {
  for (const auto& [transfer, kept] : kept_) {
    offers_.Cancel(transfer);
  }
  EndOffers();
}

void HandoverConnector::Mover::EndOffers() {
  for (const OfferTable::End& end : offers_.TakeEnded()) {
    const auto found = kept_.find(end.transfer);
    Kept& kept = found->second;
    counters_->offer_ends[static_cast<std::size_t>(end.state)] += 1;
    counters_->offers -= 1;
    by_request_.erase(kept.offer.request);
    if (kept.news) {
      kept.news(std::nullopt);
    }
    if (!kept.offer.whole) {
      wire::HandoverNote note;
      note.more = {
          .transfer_high = end.transfer.high, .transfer_low = end.transfer.low, .withdrawn = true};
      for (const Reader& reader : kept.readers) {
        (void)agent_->Notify(reader.peer,
                             wire::Encode(note));  // else it waits no longer than it may
      }
    }
    closing_.push_back(std::move(kept));
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

void HandoverConnector::Mover::Drop(std::vector<std::uint64_t> numbers) {
  rt::MutexLock lock(mutex_);
  std::ranges::copy(numbers, std::back_inserter(dropped_));
  if (wake_) {
    wake_();
  }
}

// ---- what the two sides tell each other

void HandoverConnector::Mover::OnAgent() {
  woken_ = false;
  transport::Notification note;
  while (agent_->TakeNotification(note)) {
    OnNote(note.bytes);
  }
  for (auto& [id, fetch] : fetches_) {
    PollChunks(id, fetch);
    Claim(fetch);
  }
  TellReaders();
  Act();
}

void HandoverConnector::Mover::OnNote(const std::string& bytes) {
  const Result<wire::HandoverNote> note = wire::Decode<wire::HandoverNote>(bytes);
  if (!note) {
    Say(obs::EventId::kHandoverRefused, note.error());
    return;
  }
  if (note->claim) {
    OnClaim(*note->claim);
  }
  if (note->release) {
    OnRelease(*note->release);
  }
  if (note->more) {
    OnMore(*note->more);
  }
  EndOffers();
}

void HandoverConnector::Mover::OnClaim(const wire::HandoverClaim& claim) {
  const Hash128 transfer{.low = claim.transfer_low, .high = claim.transfer_high};
  offers_.OnClaim(transfer);
  const auto found = kept_.find(transfer);
  if (claim.agent.empty() || found == kept_.end() || found->second.readers.size() >= kReadersMax) {
    return;
  }
  if (const Result<transport::PeerId> peer = PeerOf(claim.agent)) {
    found->second.readers.push_back({.peer = *peer, .told = claim.known});
    TellReaders();
  }
}

// One who read while it grew has all before its own side knows that the prompt is computed: then
// the record is still to be told.
void HandoverConnector::Mover::OnRelease(const wire::HandoverRelease& release) {
  const Hash128 transfer{.low = release.transfer_low, .high = release.transfer_high};
  const auto found = kept_.find(transfer);
  if (found != kept_.end() && !found->second.news) {
    found->second.released = found->second.released || release.done;
    return;
  }
  offers_.OnRelease(transfer, release.done);
}

void HandoverConnector::Mover::TellReaders() {
  for (auto& [transfer, kept] : kept_) {
    std::erase_if(kept.readers, [&, &key = transfer, &one = kept](Reader& reader) {
      return !Tell(key, one, reader);
    });
  }
}

// Whether it is to be told more, later.
bool HandoverConnector::Mover::Tell(const Hash128& transfer, const Kept& kept, Reader& reader) {
  while (reader.told < kept.rows.size()) {
    const std::size_t count = std::min(kRowsOfNote, kept.rows.size() - reader.told);
    wire::HandoverNote note;
    note.more = {.transfer_high = transfer.high,
                 .transfer_low = transfer.low,
                 .first = reader.told,
                 .blocks = PackBlocks(std::span(kept.rows).subspan(reader.told, count))};
    if (const Result<void> sent = agent_->Notify(reader.peer, wire::Encode(note)); !sent) {
      return agent_->peer(reader.peer).state != transport::PeerState::kBroken;
    }
    reader.told += static_cast<std::uint32_t>(count);
  }
  return !kept.offer.whole;
}

bool HandoverConnector::Mover::HasUntold() const {
  return std::ranges::any_of(kept_, [](const auto& one) {
    const Kept& kept = one.second;
    return std::ranges::any_of(
        kept.readers, [&](const Reader& reader) { return reader.told < kept.rows.size(); });
  });
}

void HandoverConnector::Mover::SetTimer() {
  counters_->chunks_running = fetch_.chunks_running();
  loop_->CancelTimer(timer_);
  rt::Time next = std::min(offers_.next_time(), fetch_.next_time());
  if (!closing_.empty()) {
    next = std::min(next, loop_->Now() + kClosePause);
  }
  if (HasUntold() || HasUnclaimed()) {
    next = std::min(next, loop_->Now() + kTellPause);
  }
  timer_ = next == rt::kNever ? rt::TimerId::kNone : loop_->RunAt(next, [this] { OnTime(); });
}

void HandoverConnector::Mover::OnTime() {
  timer_ = rt::TimerId::kNone;
  offers_.OnTime(loop_->Now());
  fetch_.OnTime(loop_->Now());
  for (auto& [id, fetch] : fetches_) {
    Claim(fetch);
  }
  TellReaders();
  EndOffers();
  Act();
}

}  // namespace pixii::kv
