#include "kv/connector_stack.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace pixii::kv {

namespace {

std::vector<BlockPin> Shared(const std::vector<BlockPin>& pins) {
  std::vector<BlockPin> more;
  for (const BlockPin& pin : pins) {
    more.push_back(pin.Share());
  }
  return more;
}

std::vector<PublishedBlock> Shared(const std::vector<PublishedBlock>& blocks) {
  std::vector<PublishedBlock> more;
  for (const PublishedBlock& block : blocks) {
    more.push_back({.hash = block.hash,
                    .parent = block.parent,
                    .root = block.root,
                    .index = block.index,
                    .tokens = block.tokens,
                    .bytes = block.bytes,
                    .pin = block.pin.Share()});
  }
  return more;
}

}  // namespace

ConnectorStack::ConnectorStack(std::vector<std::unique_ptr<Connector>> parts)
    : parts_(std::move(parts)) {
  PX_ASSERT(!parts_.empty());
}

void ConnectorStack::Start(rt::Function<void()> wake) {
  auto shared = std::make_shared<rt::Function<void()>>(std::move(wake));
  for (const std::unique_ptr<Connector>& part : parts_) {
    part->Start([shared] { (*shared)(); });
  }
}

ConnectorStack::Choice ConnectorStack::Choose(const ConnectorRequestRef& request,
                                              std::uint32_t first) const {
  Choice best{.part = parts_.front().get()};
  for (const std::unique_ptr<Connector>& part : parts_) {
    if (const std::uint32_t blocks = part->Match(request, first); blocks > best.blocks) {
      best = {.part = part.get(), .blocks = blocks};
    }
  }
  for (std::size_t i = 0; best.blocks == 0 && i < parts_.size(); ++i) {
    best = {.part = parts_[i].get(), .blocks = parts_[i]->Guess(request, first)};
  }
  return best;
}

std::uint32_t ConnectorStack::Match(const ConnectorRequestRef& request, std::uint32_t first) {
  return Choose(request, first).blocks;
}

void ConnectorStack::Load(LoadId id, const ConnectorRequestRef& request, std::uint32_t first,
                          std::span<const BlockMemory> targets) {
  Connector* const part = Choose(request, first).part;
  loads_.emplace(id, part);
  part->Load(id, request, first, targets);
}

void ConnectorStack::Expect(std::span<const ExpectedRequest> waiting) {
  for (const std::unique_ptr<Connector>& part : parts_) {
    part->Expect(waiting);
  }
}

void ConnectorStack::Cancel(LoadId id) { loads_.at(id)->Cancel(id); }

void ConnectorStack::Published(std::vector<PublishedBlock> blocks) {
  for (std::size_t i = 0; i + 1 < parts_.size(); ++i) {
    parts_[i]->Published(Shared(blocks));
  }
  parts_.back()->Published(std::move(blocks));
}

void ConnectorStack::Progress(const ConnectorRequestRef& request, std::uint32_t first,
                              std::vector<BlockPin> pins) {
  for (std::size_t i = 0; i + 1 < parts_.size(); ++i) {
    parts_[i]->Progress(request, first, Shared(pins));
  }
  parts_.back()->Progress(request, first, std::move(pins));
}

void ConnectorStack::Distrust(std::span<const Hash128> hashes) {
  for (const std::unique_ptr<Connector>& part : parts_) {
    part->Distrust(hashes);
  }
}

void ConnectorStack::Clear(bool lasting) {
  for (const std::unique_ptr<Connector>& part : parts_) {
    part->Clear(lasting);
  }
}

void ConnectorStack::Finished(const ConnectorRequestRef& request, std::vector<BlockPin> pins) {
  for (std::size_t i = 0; i + 1 < parts_.size(); ++i) {
    parts_[i]->Finished(request, Shared(pins));
  }
  parts_.back()->Finished(request, std::move(pins));
}

rt::Time ConnectorStack::Poll(rt::Time now, std::vector<LoadEnd>& ended) {
  rt::Time next = rt::kNever;
  const std::size_t before = ended.size();
  for (const std::unique_ptr<Connector>& part : parts_) {
    next = std::min(next, part->Poll(now, ended));
  }
  for (std::size_t i = before; i < ended.size(); ++i) {
    loads_.erase(ended[i].id);
  }
  return next;
}

bool ConnectorStack::DrainEvents(CacheChanges& out, bool everything) {
  bool any = false;
  for (const std::unique_ptr<Connector>& part : parts_) {
    any = part->DrainEvents(out, everything) || any;
  }
  return any;
}

bool ConnectorStack::lost_events() const {
  return std::ranges::any_of(
      parts_, [](const std::unique_ptr<Connector>& part) { return part->lost_events(); });
}

bool ConnectorStack::idle() const {
  return std::ranges::all_of(parts_,
                             [](const std::unique_ptr<Connector>& part) { return part->idle(); });
}

}  // namespace pixii::kv
