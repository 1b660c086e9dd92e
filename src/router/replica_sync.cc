#include "router/replica_sync.h"

#include <algorithm>
#include <utility>

namespace pixii::router {

using wire::ReplicaChange;
using wire::ReplicaLoad;
using wire::ReplicaMessage;

namespace {

constexpr std::uint32_t kPartsMax = 4096;  // of a whole state

// Of one request, for sums that do not depend on any order.
std::uint64_t Mark(std::uint64_t request, bool prefilled) {
  std::uint64_t x = request * 2 + (prefilled ? 1 : 0) + 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

ReplicaLoad LoadOf(RequestId id, const Placement& placement) {
  return {.request = Raw(id),
          .instance = Raw(placement.target.instance),
          .rank = placement.target.rank,
          .block_hashes = placement.prompt.block_hashes,
          .prompt_tokens = placement.prompt.token_count,
          .prefill_tokens = placement.prefill_tokens,
          .expected_output_tokens = placement.expected_output_tokens,
          .session = placement.session};
}

Placement PlacementOf(const ReplicaLoad& load) {
  return {.target = {InstanceId{load.instance}, load.rank},
          .prompt = {load.block_hashes, load.prompt_tokens},
          .prefill_tokens = std::min(load.prefill_tokens, load.prompt_tokens),
          .expected_output_tokens = load.expected_output_tokens,
          .session = load.session};
}

bool SamePool(const wire::PoolName& a, const wire::PoolName& b) {
  return a.model == b.model && a.group == b.group && a.block_tokens == b.block_tokens;
}

}  // namespace

ReplicaSync::ReplicaSync(ReplicaSyncOptions options, ReplicaId self, wire::PoolName pool,
                         std::uint64_t first_change)
    : options_(options), self_(self), pool_(std::move(pool)), next_(first_change) {}

void ReplicaSync::OnOwn(const LoadChange& change) {
  ReplicaChange told;
  const std::uint64_t request = Raw(change.id);
  const auto own = own_.find(request);
  switch (change.kind) {
    case LoadChange::Kind::kAdded:
      told.kind = ReplicaChange::Kind::kAdded;
      told.load = LoadOf(change.id, change.placement);
      checksum_ ^= Mark(request, told.load.prefill_tokens == 0);
      own_.insert_or_assign(request, told.load);
      break;
    case LoadChange::Kind::kPrefilled:
      if (own == own_.end() || own->second.prefill_tokens == 0) {
        return;
      }
      told.kind = ReplicaChange::Kind::kPrefilled;
      told.load.request = request;
      own->second.prefill_tokens = 0;
      checksum_ ^= Mark(request, false) ^ Mark(request, true);
      break;
    case LoadChange::Kind::kFreed:
      if (own == own_.end()) {
        return;
      }
      told.kind = ReplicaChange::Kind::kFreed;
      told.load.request = request;
      checksum_ ^= Mark(request, own->second.prefill_tokens == 0);
      own_.erase(own);
      break;
  }
  changes_.push_back(std::move(told));
  ++next_;
}

void ReplicaSync::OnMessage(const ReplicaMessage& message, rt::Time now) {
  const ReplicaId from{message.from};
  if (from == self_ || !SamePool(message.pool, pool_) ||
      (message.to != 0 && message.to != Raw(self_))) {
    return;
  }
  if (!peers_.contains(from) && peers_.size() >= options_.peers_max) {
    return;
  }
  Peer& peer = peers_[from];
  peer.heard = now;
  switch (message.kind) {
    case ReplicaMessage::Kind::kChanges:
      OnChanges(peer, message);
      break;
    case ReplicaMessage::Kind::kDigest:
      OnDigest(peer, message);
      break;
    case ReplicaMessage::Kind::kWhole:
      OnWhole(peer, message);
      break;
    case ReplicaMessage::Kind::kAsk:
      if (std::ranges::find(asked_by_, from) == asked_by_.end()) {
        asked_by_.push_back(from);
      }
      break;
  }
}

void ReplicaSync::OnChanges(Peer& peer, const ReplicaMessage& message) {
  if (message.first > peer.next) {
    peer.behind = true;
    return;
  }
  for (std::size_t i = peer.next - message.first; i < message.changes.size(); ++i) {
    Apply(peer, message.changes[i]);
    ++peer.next;
  }
}

void ReplicaSync::OnDigest(Peer& peer, const ReplicaMessage& message) {
  const bool differs = message.first == peer.next && message.count <= options_.loads_max &&
                       (message.count != peer.loads.size() || message.checksum != peer.checksum);
  peer.behind = peer.behind || differs || message.first > peer.next;
}

void ReplicaSync::Add(Peer& peer, const ReplicaLoad& load) {
  if (peer.loads.size() >= options_.loads_max) {
    return;
  }
  const auto [at, is_new] = peer.loads.try_emplace(load.request);
  if (!is_new) {
    return;
  }
  at->second = {RequestId{kElsewhere | ++last_id_}, load.prefill_tokens == 0};
  peer.checksum ^= Mark(load.request, at->second.prefilled);
  heard_.push_back({LoadChange::Kind::kAdded, at->second.id, PlacementOf(load)});
}

void ReplicaSync::Free(Peer& peer, Loads::iterator load) {
  peer.checksum ^= Mark(load->first, load->second.prefilled);
  heard_.push_back({LoadChange::Kind::kFreed, load->second.id, {}});
  peer.loads.erase(load);
}

void ReplicaSync::Apply(Peer& peer, const ReplicaChange& change) {
  if (change.kind == ReplicaChange::Kind::kAdded) {
    Add(peer, change.load);
    return;
  }
  const auto load = peer.loads.find(change.load.request);
  if (load == peer.loads.end()) {
    return;
  }
  if (change.kind == ReplicaChange::Kind::kFreed) {
    Free(peer, load);
  } else if (!std::exchange(load->second.prefilled, true)) {
    peer.checksum ^= Mark(load->first, false) ^ Mark(load->first, true);
    heard_.push_back({LoadChange::Kind::kPrefilled, load->second.id, {}});
  }
}

// Once all its parts are here, what is not among them is over.
void ReplicaSync::OnWhole(Peer& peer, const ReplicaMessage& message) {
  if (message.first < peer.next || message.first < peer.whole.next ||
      message.part >= message.part_count || message.part_count > kPartsMax) {
    return;
  }
  if (message.first > peer.whole.next) {
    peer.whole = {.next = message.first, .parts = {}};
  }
  std::vector<ReplicaLoad>& part = peer.whole.parts[message.part];
  part.clear();
  for (const ReplicaChange& change : message.changes) {
    part.push_back(change.load);
  }
  if (peer.whole.parts.size() < message.part_count) {
    return;
  }
  std::unordered_map<std::uint64_t, const ReplicaLoad*> said;
  for (const auto& [number, loads] : peer.whole.parts) {
    for (const ReplicaLoad& load : loads) {
      said.emplace(load.request, &load);
    }
  }
  for (auto at = peer.loads.begin(); at != peer.loads.end();) {
    const auto load = at++;
    const auto still = said.find(load->first);
    if (still == said.end() || (load->second.prefilled && still->second->prefill_tokens > 0)) {
      Free(peer, load);
    } else if (!load->second.prefilled && still->second->prefill_tokens == 0) {
      Apply(peer, {ReplicaChange::Kind::kPrefilled, *still->second});
    }
  }
  for (const auto& [request, load] : said) {
    Add(peer, *load);
  }
  peer.next = peer.whole.next;
  peer.whole.parts.clear();
  peer.behind = false;
}

ReplicaMessage ReplicaSync::Make(ReplicaMessage::Kind kind, ReplicaId to) const {
  ReplicaMessage out;
  out.from = Raw(self_);
  out.to = Raw(to);
  out.pool = pool_;
  out.kind = kind;
  out.first = next_;
  return out;
}

void ReplicaSync::SendWhole(ReplicaId to, std::vector<ReplicaMessage>& out) const {
  const std::size_t begin = out.size();
  std::size_t hashes = options_.part_hashes;
  for (const auto& [request, load] : own_) {
    if (hashes >= options_.part_hashes) {
      out.push_back(Make(ReplicaMessage::Kind::kWhole, to));
      hashes = 0;
    }
    hashes += load.block_hashes.size() + 1;
    out.back().changes.push_back({ReplicaChange::Kind::kAdded, load});
  }
  if (out.size() == begin) {
    out.push_back(Make(ReplicaMessage::Kind::kWhole, to));
  }
  for (std::size_t i = begin; i < out.size(); ++i) {
    out[i].part = static_cast<std::uint32_t>(i - begin);
    out[i].part_count = static_cast<std::uint32_t>(out.size() - begin);
  }
}

std::vector<ReplicaMessage> ReplicaSync::TakeMessages(rt::Time now) {
  std::vector<ReplicaMessage> out;
  const std::uint64_t first = next_ - changes_.size();
  for (std::size_t begin = 0; begin < changes_.size(); begin += options_.batch_changes) {
    const std::size_t end = std::min(begin + options_.batch_changes, changes_.size());
    ReplicaMessage message = Make(ReplicaMessage::Kind::kChanges);
    message.first = first + begin;
    message.changes.assign(
        std::make_move_iterator(changes_.begin() + static_cast<std::ptrdiff_t>(begin)),
        std::make_move_iterator(changes_.begin() + static_cast<std::ptrdiff_t>(end)));
    out.push_back(std::move(message));
  }
  changes_.clear();
  for (const ReplicaId peer : std::exchange(asked_by_, {})) {
    SendWhole(peer, out);
  }
  if (now >= digest_at_) {
    digest_at_ = now + options_.digest_period;
    ReplicaMessage message = Make(ReplicaMessage::Kind::kDigest);
    message.count = own_.size();
    message.checksum = checksum_;
    out.push_back(std::move(message));
  }
  for (auto at = peers_.begin(); at != peers_.end();) {
    auto& [id, peer] = *at;
    if (now - peer.heard >= options_.peer_expiry) {
      while (!peer.loads.empty()) {
        Free(peer, peer.loads.begin());
      }
      at = peers_.erase(at);
      continue;
    }
    if (peer.behind && now >= peer.ask_after) {
      peer.ask_after = now + options_.ask_pause;
      ++ask_count_;
      out.push_back(Make(ReplicaMessage::Kind::kAsk, id));
    }
    ++at;
  }
  return out;
}

std::vector<ReplicaSync::Heard> ReplicaSync::TakeHeard() { return std::exchange(heard_, {}); }

std::vector<RequestId> ReplicaSync::Running() const {
  std::vector<RequestId> out;
  for (const auto& [id, peer] : peers_) {
    for (const auto& [request, load] : peer.loads) {
      out.push_back(load.id);
    }
  }
  return out;
}

rt::Time ReplicaSync::next_time() const {
  rt::Time out = digest_at_;
  for (const auto& [id, peer] : peers_) {
    out = std::min(out, peer.heard + options_.peer_expiry);
    if (peer.behind) {
      out = std::min(out, peer.ask_after);
    }
  }
  return out;
}

}  // namespace pixii::router
