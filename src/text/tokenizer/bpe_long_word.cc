#include "text/tokenizer/bpe_long_word.h"

#include <algorithm>

#include "text/tokenizer/merge_table.h"
#include "text/tokenizer/token_model.h"

namespace pixii::text {

namespace {

constexpr std::uint32_t kEnd = 0xFFFFFFFF;
// As a symbol's next: it was merged into its left neighbour.
constexpr std::uint32_t kGone = 0xFFFFFFFE;

}  // namespace

void BpeLongWord::Merge(const MergeTable& merges, std::span<BpeSymbol> symbols,
                        const std::vector<bool>* forbidden, std::uint64_t& steps,
                        std::vector<TokenId>& out) {
  merges_ = &merges;
  symbols_ = symbols;
  forbidden_ = forbidden;
  nodes_.clear();
  lists_.clear();
  ranks_.clear();
  slots_.assign(64, 0);
  open_rank_ = -1;
  steps_ = 0;
  auto count = static_cast<std::uint32_t>(symbols.size());
  nodes_.reserve(std::size_t{count} * 2);
  for (std::uint32_t i = 0; i < count; ++i) {
    symbols[i].previous = i == 0 ? kEnd : i - 1;
    symbols[i].next = i + 1 == count ? kEnd : i + 1;
  }
  for (std::uint32_t i = 0; i + 1 < count; ++i) {
    Consider(i);
  }
  while (!ranks_.empty()) {
    OpenNextList();
    auto rank = static_cast<std::uint32_t>(open_rank_);
    for (std::size_t i = 0; i < open_.size() || !urgent_.empty();) {
      Urgent next = i < open_.size() ? Urgent{rank} << 32 | open_[i] : ~Urgent{0};
      if (!urgent_.empty() && urgent_.front() < next) {
        std::pop_heap(urgent_.begin(), urgent_.end(), std::greater<>());
        next = urgent_.back();
        urgent_.pop_back();
      } else {
        ++i;
      }
      Apply(static_cast<std::uint32_t>(next >> 32), static_cast<std::uint32_t>(next));
    }
  }
  for (std::uint32_t i = 0; i != kEnd; i = symbols_[i].next) {
    out.push_back(symbols_[i].id);
  }
  steps += steps_;
}

// Queues the merge of the symbol at `position` with the next one, if there is one.
void BpeLongWord::Consider(std::uint32_t position) {
  ++steps_;
  const BpeSymbol& left = symbols_[position];
  const MergeTable::Entry* entry = merges_->Find(left.id, symbols_[left.next].id);
  if (entry == nullptr || IsForbidden(forbidden_, entry->merged)) {
    return;
  }
  if (entry->rank <= open_rank_) {
    urgent_.push_back(Urgent{entry->rank} << 32 | position);
    std::push_heap(urgent_.begin(), urgent_.end(), std::greater<>());
  } else {
    Append(entry->rank, position);
  }
}

// Where the list of `rank` is noted, or where to note it. Ranks are spread evenly by a
// multiplication.
std::uint32_t& BpeLongWord::ListSlot(std::uint32_t rank) {
  std::size_t mask = slots_.size() - 1;
  std::size_t at = (rank * 0x9E3779B1U) >> 7 & mask;
  while (slots_[at] != 0 && lists_[slots_[at] - 1].rank != rank) {
    at = (at + 1) & mask;
  }
  return slots_[at];
}

void BpeLongWord::GrowSlots() {
  slots_.assign(slots_.size() * 2, 0);
  for (std::uint32_t i = 0; i < lists_.size(); ++i) {
    ListSlot(lists_[i].rank) = i + 1;
  }
}

void BpeLongWord::Append(std::uint32_t rank, std::uint32_t position) {
  auto node = static_cast<std::uint32_t>(nodes_.size());
  nodes_.push_back({position, kEnd});
  std::uint32_t& slot = ListSlot(rank);
  if (slot != 0) {
    List& list = lists_[slot - 1];
    nodes_[list.tail].next = node;
    list.tail = node;
    return;
  }
  lists_.push_back({rank, node, node});
  slot = static_cast<std::uint32_t>(lists_.size());
  ranks_.push_back(rank);
  std::push_heap(ranks_.begin(), ranks_.end(), std::greater<>());
  if (lists_.size() * 2 > slots_.size()) {
    GrowSlots();
  }
}

void BpeLongWord::OpenNextList() {
  std::pop_heap(ranks_.begin(), ranks_.end(), std::greater<>());
  std::uint32_t rank = ranks_.back();
  ranks_.pop_back();
  open_rank_ = rank;
  open_.clear();
  for (std::uint32_t node = lists_[ListSlot(rank) - 1].head; node != kEnd;
       node = nodes_[node].next) {
    open_.push_back(nodes_[node].position);
  }
  if (!std::is_sorted(open_.begin(), open_.end())) {
    std::sort(open_.begin(), open_.end());
  }
  steps_ += open_.size();
}

void BpeLongWord::Apply(std::uint32_t rank, std::uint32_t position) {
  ++steps_;
  BpeSymbol& left = symbols_[position];
  if (left.next >= kGone) {
    return;
  }
  BpeSymbol& right = symbols_[left.next];
  const MergeTable::Entry* entry = merges_->Find(left.id, right.id);
  if (entry == nullptr || entry->rank != rank) {
    return;  // a neighbour has changed since
  }
  left.id = entry->merged;
  left.next = right.next;
  right.next = kGone;
  if (left.previous != kEnd) {
    Consider(left.previous);
  }
  if (left.next != kEnd) {
    symbols_[left.next].previous = position;
    Consider(position);
  }
}

}  // namespace pixii::text
