#include "router/block_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/assert.h"
#include "wire/public_hash.h"

namespace pixii::router {

namespace {

constexpr std::uint64_t kEach = 0x0101010101010101U;
constexpr std::uint64_t kHighs = 0x8080808080808080U;

std::uint8_t TagOf(std::uint64_t hash) {
  const auto tag = static_cast<std::uint8_t>(hash >> 8);
  return tag == 0 ? 1 : tag;
}

// The high bit of each byte that is 0; of bytes above such a one perhaps wrongly.
std::uint64_t ZeroBytes(std::uint64_t bytes) { return (bytes - kEach) & ~bytes & kHighs; }

}  // namespace

std::uint64_t ChainHashOf(std::uint64_t parent, std::uint64_t tokens) {
  return parent == 0 ? tokens : wire::PublicChainHash(parent, tokens);
}

BlockTable::BlockTable() {
  for (std::uint32_t i = 0; i < 2; ++i) {
    segments_.push_back(std::make_unique<Segment>());
    segment_bits_.push_back(1);
    segment_size_.push_back(0);
    segment_of_.push_back(i);
    directory_.push_back(segments_.back().get());
  }
}

std::size_t BlockTable::bytes() const {
  return chunks_.size() * sizeof(Chunk) + segments_.size() * sizeof(Segment) +
         directory_.size() * (sizeof(Segment*) + sizeof(std::uint32_t)) +
         segments_.size() * (sizeof(std::unique_ptr<Segment>) + 3);
}

std::uint32_t BlockTable::SegmentIndex(std::uint64_t hash) const {
  return segment_of_[hash >> (64 - bits_)];
}

// The place of the id that has the hash's tag and for which is(id) holds.
template <class Is>
BlockTable::Place BlockTable::Look(std::uint64_t hash, Is is) const {
  Segment& segment = *directory_[hash >> (64 - bits_)];
  const std::uint64_t wanted = TagOf(hash) * kEach;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    Bucket& bucket = segment.buckets[(hash + i) % kBuckets];
    std::uint64_t low = 0;
    std::uint32_t high = 0;
    std::memcpy(&low, bucket.tags, sizeof(low));
    std::memcpy(&high, bucket.tags + sizeof(low), sizeof(high));
    for (std::uint64_t found = ZeroBytes(low ^ wanted); found != 0; found &= found - 1) {
      const auto slot = static_cast<std::uint32_t>(std::countr_zero(found)) / 8;
      if (bucket.tags[slot] != 0 && is(bucket.ids[slot])) {
        return {&bucket, slot};
      }
    }
    for (std::uint64_t found = ZeroBytes((high ^ wanted) | (~std::uint64_t{0} << 32)); found != 0;
         found &= found - 1) {
      const auto slot = static_cast<std::uint32_t>(std::countr_zero(found)) / 8 + 8;
      if (slot < kBucketSlots && bucket.tags[slot] != 0 && is(bucket.ids[slot])) {
        return {&bucket, slot};
      }
    }
    if (bucket.passed == 0) {
      break;
    }
  }
  return {};
}

void BlockTable::PrefetchNode(std::uint64_t hash) const {
  Look(hash, [this](Id id) {
    __builtin_prefetch(&at(id));
    return true;
  });
}

BlockTable::Id BlockTable::Find(std::uint64_t hash, std::uint64_t parent, std::uint64_t tokens) {
  const Place place = Look(hash, [&](Id id) {
    const BlockNode& node = at(id);
    return node.tokens == tokens && node.parent == parent;
  });
  if (place.bucket == nullptr) {
    return kNone;
  }
  MarkRecent(place.bucket->ids[place.slot]);
  return place.bucket->ids[place.slot];
}

BlockTable::Id BlockTable::FindByHash(std::uint64_t hash) const {
  const Place place = Look(hash, [&](Id id) {
    const BlockNode& node = at(id);
    return ChainHashOf(node.parent, node.tokens) == hash;
  });
  return place.bucket == nullptr ? kNone : place.bucket->ids[place.slot];
}

void BlockTable::Put(Segment& segment, std::uint64_t hash, Id id) {
  for (std::size_t i = 0;; ++i) {
    PX_DASSERT(i < kBuckets);
    Bucket& bucket = segment.buckets[(hash + i) % kBuckets];
    for (std::uint32_t slot = 0; slot < kBucketSlots; ++slot) {
      if (bucket.tags[slot] == 0) {
        bucket.tags[slot] = TagOf(hash);
        bucket.ids[slot] = id;
        return;
      }
    }
    bucket.passed = static_cast<std::uint8_t>(std::min(bucket.passed + 1, 255));
  }
}

bool BlockTable::Split(std::uint64_t hash) {
  const std::uint32_t index = SegmentIndex(hash);
  if (segment_bits_[index] == kDirectoryBits) {
    return false;
  }
  if (segment_bits_[index] == bits_) {
    std::vector<std::uint32_t> doubled(segment_of_.size() * 2);
    for (std::size_t i = 0; i < doubled.size(); ++i) {
      doubled[i] = segment_of_[i / 2];
    }
    segment_of_ = std::move(doubled);
    ++bits_;
    directory_.resize(segment_of_.size());
    for (std::size_t i = 0; i < directory_.size(); ++i) {
      directory_[i] = segments_[segment_of_[i]].get();
    }
  }
  const std::uint32_t bits = ++segment_bits_[index];
  const auto other = static_cast<std::uint32_t>(segments_.size());
  segments_.push_back(std::make_unique<Segment>());
  segment_bits_.push_back(static_cast<std::uint8_t>(bits));
  segment_size_.push_back(0);
  // The entries that begin with the old segment's bits; the upper half of them becomes the other's.
  const std::size_t span = std::size_t{1} << (bits_ - bits);
  const std::size_t first = (hash >> (64 - bits + 1) << 1) * span;
  for (std::size_t i = first + span; i < first + 2 * span; ++i) {
    segment_of_[i] = other;
    directory_[i] = segments_[other].get();
  }
  Id ids[kBuckets * kBucketSlots];
  std::size_t count = 0;
  Segment& old = *segments_[index];
  for (const Bucket& bucket : old.buckets) {
    for (std::uint32_t slot = 0; slot < kBucketSlots; ++slot) {
      if (bucket.tags[slot] != 0) {
        ids[count++] = bucket.ids[slot];
        __builtin_prefetch(&at(bucket.ids[slot]));
      }
    }
  }
  old = Segment{};
  segment_size_[index] = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const BlockNode& node = at(ids[i]);
    const std::uint64_t its_hash = ChainHashOf(node.parent, node.tokens);
    const std::uint32_t to = SegmentIndex(its_hash);
    Put(*segments_[to], its_hash, ids[i]);
    ++segment_size_[to];
  }
  return true;
}

BlockTable::Id BlockTable::Insert(std::uint64_t hash, std::uint64_t parent, std::uint64_t tokens,
                                  bool may_grow) {
  if (segment_size_[SegmentIndex(hash)] >= kSplitSize && may_grow) {
    Split(hash);
  }
  const std::uint32_t segment = SegmentIndex(hash);
  if (segment_size_[segment] >= kSegmentSizeMax) {
    return kNone;
  }
  Id id = free_;
  if (id != kNone) {
    free_ = static_cast<Id>(at(id).parent);
  } else {
    if (fresh_ == chunks_.size() * kChunkNodes) {
      if (!may_grow || fresh_ + kChunkNodes >= kNone) {
        return kNone;
      }
      chunks_.push_back(std::make_unique<Chunk>());
    }
    id = static_cast<Id>(fresh_++);
  }
  at(id) = {parent, tokens, 0, 0};
  Put(*segments_[segment], hash, id);
  MarkRecent(id);
  ++segment_size_[segment];
  ++size_;
  return id;
}

void BlockTable::Erase(Id id) {
  BlockNode& node = at(id);
  const std::uint64_t hash = ChainHashOf(node.parent, node.tokens);
  const Place place = Look(hash, [&](Id one) { return one == id; });
  PX_ASSERT(place.bucket != nullptr);
  place.bucket->tags[place.slot] = 0;
  const std::uint32_t segment = SegmentIndex(hash);
  for (std::size_t i = 0;; ++i) {
    Bucket& bucket = segments_[segment]->buckets[(hash + i) % kBuckets];
    if (&bucket == place.bucket) {
      break;
    }
    if (bucket.passed < 255) {
      --bucket.passed;
    }
  }
  --segment_size_[segment];
  --size_;
  node = {free_, 0, 0, 0};
  free_ = id;
}

BlockTable::Id BlockTable::NextVictim() {
  // Twice round: the first time clears what was used lately.
  for (std::size_t i = 0; i < 2 * fresh_ && size_ > 0; ++i) {
    const auto id = static_cast<Id>(hand_);
    hand_ = hand_ + 1 < fresh_ ? hand_ + 1 : 0;
    if (!HasHolders(at(id))) {
      continue;
    }
    std::uint64_t& word = chunks_[id / kChunkNodes]->recent[id % kChunkNodes / 64];
    const std::uint64_t bit = std::uint64_t{1} << id % 64;
    if ((word & bit) == 0) {
      return id;
    }
    word &= ~bit;
  }
  return kNone;
}

}  // namespace pixii::router
