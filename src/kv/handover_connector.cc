#include "kv/handover_connector.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "kv/handover_mover.h"
#include "obs/request_labels.h"

namespace pixii::kv {

namespace {

constexpr rt::Duration kTimeoutMin = std::chrono::milliseconds(1);

}  // namespace

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

void HandoverConnector::WatchEarly(RequestId request, EarlyNews news) {
  if (options_.pipelined) {
    mover_->Post([this, request, news = std::move(news)]() mutable {
      mover_->WatchEarly(request, std::move(news));
    });
  }
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

transport::AgentCounters HandoverConnector::transfers() const { return mover_->agent().counters(); }

std::vector<transport::PeerInfo> HandoverConnector::peers() const {
  return mover_->agent().peers();
}

std::string HandoverConnector::transport() const { return mover_->transport(); }

void HandoverConnector::Start(rt::Function<void()> wake) { mover_->SetWake(std::move(wake)); }

HandoverConnector::Brought HandoverConnector::ReadRecord(const ConnectorRequest& request) const {
  const auto refused = [&](const Error& error) {
    counters_->refused_records += 1;
    if (options_.log != nullptr) {
      obs::Event event(*options_.log, obs::EventId::kHandoverRefused);
      obs::AddLabels(event, request.traceparent, request.label).kv("why", error.ToString());
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
  const std::uint32_t count = HandoverBlockCount(record);
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
    if (const auto& record = found->second.record; record && record->block_count == 0) {
      mover_->Post([this, record] { mover_->Supply(record); });
    }
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
                 .to_end = first + targets.size() == brought_.at(request->id).block_count,
                 .deadline = request->deadline,
                 .request = request};
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

void HandoverConnector::Progress(const ConnectorRequestRef& request, std::uint32_t first,
                                 std::vector<BlockPin> pins) {
  if (!options_.pipelined || !request->prefill_only || memory_ == nullptr || pins.empty()) {
    return;
  }
  std::vector<BlockRef> blocks;
  for (const BlockPin& pin : pins) {
    blocks.push_back(pin.ref());
  }
  if (first == 0) {
    const std::uint64_t number = ++last_offer_;
    growing_[request->id] = number;
    kept_.emplace(number, std::move(pins));
    mover_->Post([this,
                  offer = Mover::Offer{.number = number,
                                       .request = request->id,
                                       .deadline = request->deadline,
                                       .blocks = std::move(blocks),
                                       .chain = request->chain.hashes,
                                       .asked = request},
                  memory = memory_]() mutable { mover_->Keep(std::move(offer), memory); });
    return;
  }
  const auto number = growing_.find(request->id);
  const auto kept = number == growing_.end() ? kept_.end() : kept_.find(number->second);
  if (kept != kept_.end()) {  // else nobody wants them any more
    std::ranges::move(pins, std::back_inserter(kept->second));
    mover_->Post([this, id = request->id, number = number->second, blocks = std::move(blocks)] {
      mover_->Grow(id, number, blocks);
    });
  }
}

void HandoverConnector::Finished(const ConnectorRequestRef& request, std::vector<BlockPin> pins) {
  brought_.erase(request->id);
  if (growing_.erase(request->id) > 0 && pins.empty()) {
    mover_->Post([this, id = request->id] { mover_->Forget(id); });
  }
  if (!request->prefill_only || pins.empty() || memory_ == nullptr) {
    return;
  }
  Mover::Offer offer{
      .number = ++last_offer_,
      .request = request->id,
      .deadline = request->deadline,
      .blocks = {},
      .chain = {request->chain.hashes.begin(),
                request->chain.hashes.begin() + static_cast<std::ptrdiff_t>(pins.size())},
      .whole = true,
      .asked = request};
  for (const BlockPin& pin : pins) {
    offer.blocks.push_back(pin.ref());
  }
  kept_.emplace(offer.number, std::move(pins));
  mover_->Post([this, offer = std::move(offer), memory = memory_]() mutable {
    mover_->Keep(std::move(offer), memory);
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
