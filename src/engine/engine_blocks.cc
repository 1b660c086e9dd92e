// How the engine waits for blocks that a connector brings, and tells it of its own.
#include <algorithm>
#include <utility>

#include "engine/engine.h"
#include "engine/request_state.h"

namespace pixii::engine {

// Whether the request's first choice must not be queued yet: blocks of it come.
bool Engine::AwaitsBlocks(const RequestState& state) {
  const Sequence& first = state.sequences[state.leader];
  if (!traffic_ || !options_.reuse_blocks || first.whole_text || first.cold) {
    return false;
  }
  const wire::GenerateRequest& asked = state.request;
  auto request = std::make_shared<kv::ConnectorRequest>();
  request->id = asked.id;
  request->tenant = asked.tenant;
  request->priority = asked.priority;
  request->deadline = state.deadline;
  request->prefill_only = asked.prefill_only;
  request->handover = asked.handover;
  request->early_handover = asked.early_handover;
  request->traceparent = asked.traceparent;
  request->label = asked.label;
  kv::BlockChain& chain = request->chain;
  chain.root = first.chain.root;
  const std::uint32_t block_tokens = limits_.block_tokens;
  const std::uint32_t block_count = first.token_count() / block_tokens;
  Hash128 hash = chain.root->hash;
  chain.tokens.reserve(std::size_t{block_count} * block_tokens);
  chain.hashes.reserve(block_count);
  for (std::uint32_t i = 0; i < block_count * block_tokens; ++i) {
    chain.tokens.push_back(first.token(i));
  }
  for (std::uint32_t i = 0; i < block_count; ++i) {
    hash = cache_->Chain(
        hash, std::span(chain.tokens).subspan(std::size_t{i} * block_tokens, block_tokens));
    chain.hashes.push_back(hash);
  }
  // The last token is always computed, and so are rows whose logits are wanted.
  const std::uint32_t useful = asked.fetch_only ? block_count
                               : first.prompt_rows_end > first.prompt_rows_done
                                   ? 0
                                   : (first.token_count() - 1) / block_tokens;
  return traffic_->Begin(std::move(request), useful, first.rank);
}

// All that can be brought is there.
void Engine::BlocksCame(RequestId id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) {
    return;
  }
  RequestState& state = *found->second;
  Sequence& first = state.sequences[state.leader];
  if (state.siblings_held && first.phase == SequencePhase::kHeld) {
    state.queued = now_;
    if (state.request.fetch_only) {
      EndFetched(state);
    } else {
      Start(first);
    }
  }
}

// All that it was for is in the cache, or cannot be had.
void Engine::EndFetched(RequestState& state) {
  Sequence& sequence = state.sequences[0];
  kv::ChainPosition position = kv::StartOf(sequence.chain.root);
  std::vector<TokenId> scratch;
  const std::uint32_t block_tokens = limits_.block_tokens;
  while (options_.reuse_blocks && sequence.cached_tokens + block_tokens <= sequence.prompt.size() &&
         cache_->Find(position, sequence.tokens(sequence.cached_tokens, block_tokens, scratch))) {
    sequence.cached_tokens += block_tokens;
  }
  End(sequence, wire::FinishReason::kLength, std::nullopt);
}

// Whoever goes on with the prompt can have what is whole of it.
void Engine::TellProgress(const Sequence& sequence) {
  const RequestState& state = *sequence.request;
  if (traffic_ && state.request.early_handover && state.siblings_held && !sequence.is_shadow &&
      sequence.choice == state.leader) {
    TellPublished();  // its blocks first
    traffic_->Progress(state.request.id, std::span(sequence.blocks).first(sequence.chain_blocks));
  }
}

// `last` is the request's only choice that has not ended, and does now.
void Engine::EndTraffic(const Sequence& last, wire::FinishReason reason) {
  if (!traffic_) {
    return;
  }
  TellPublished();  // its blocks first
  const bool well = reason == wire::FinishReason::kStop || reason == wire::FinishReason::kLength;
  traffic_->End(last.request->request.id,
                std::span(last.blocks).first(well ? last.chain_blocks : 0));
}

// The next turn begins with what this one was. One that failed says nothing about it.
void Engine::KeepForSession(const Sequence& last, wire::FinishReason reason) {
  const wire::GenerateRequest& request = last.request->request;
  if (request.session.empty() || last.cold) {
    return;
  }
  const std::string session = request.tenant + '\0' + request.session;
  const bool well = reason == wire::FinishReason::kStop || reason == wire::FinishReason::kLength;
  if (request.session_final) {
    sessions_.End(session);
  } else if (well && !request.fetch_only) {
    sessions_.Keep(session, std::span(last.blocks).first(last.chain_blocks), now_);
  }
}

// Who hears that everything is gone has forgotten the slower tiers, too.
bool Engine::DrainKvEvents(kv::CacheChanges& out) {
  if (traffic_ && traffic_->lost_events()) {
    cache_->ResyncEvents();
  }
  const std::size_t before = out.events.size();
  bool any = cache_->DrainEvents(out);
  if (traffic_ && cache_->tells_events()) {
    const bool everything = std::any_of(
        out.events.begin() + static_cast<std::ptrdiff_t>(before), out.events.end(),
        [](const kv::CacheEvent& event) { return event.kind == kv::CacheEvent::Kind::kCleared; });
    any = traffic_->DrainEvents(out, everything) || any;
  }
  return any;
}

void Engine::ClearCache(bool lasting) {
  cache_->Clear();
  sessions_.Clear();
  if (traffic_) {
    traffic_->Clear(lasting);
  }
}

void Engine::StartConnector(rt::Function<void()> wake) {
  if (traffic_) {
    traffic_->Start(std::move(wake));
  }
}

void Engine::Poll(rt::Time now) {
  sessions_.Expire(now);
  if (!traffic_) {
    return;
  }
  stalled_ = false;
  ready_.clear();
  const std::uint32_t available = cache_->available_count();
  traffic_->Poll(now, ready_);
  if (!ready_.empty() || cache_->available_count() != available) {
    scheduler_.BlocksChanged();  // who did not fit is looked at anew
  }
  for (const RequestId id : ready_) {
    BlocksCame(id);
  }
}

rt::Time Engine::next_poll() const {
  if (!traffic_) {
    return sessions_.next_expiry();
  }
  const rt::Time due = std::min(traffic_->next_poll(), sessions_.next_expiry());
  return stalled_ ? std::min(due, next_deadline_) : due;
}

// Pre: no step is in flight.
void Engine::StartLoads() {
  if (traffic_) {
    traffic_->StartLoads(scheduler_);
  }
}

void Engine::TellPublished() {
  if (traffic_) {
    if (std::vector<kv::PublishedBlock> blocks = scheduler_.TakePublished(); !blocks.empty()) {
      traffic_->Published(std::move(blocks));
    }
  }
}

}  // namespace pixii::engine
