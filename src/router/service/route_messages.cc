#include "router/service/route_messages.h"

#include <utility>

#include "wire/public_hash.h"

namespace pixii::router {

wire::RouteAsk AskOf(const RouteRequest& request, std::uint32_t block_tokens) {
  wire::RouteAsk out;
  static_cast<wire::RouteWishes&>(out) = request;
  out.id = Raw(request.id);
  if (request.hashed) {
    out.block_hashes = request.hashed->block_hashes;
    out.prompt_tokens = request.hashed->token_count;
  } else {
    out.block_hashes = wire::PublicBlockHashes(request.tokens, block_tokens,
                                               wire::PublicHashSeed(request.salt, request.adapter));
    out.prompt_tokens = request.tokens.size();
  }
  if (request.pinned) {
    out.pinned = Raw(*request.pinned);
  }
  out.rank = request.rank;
  for (const InstanceId instance : request.excluded) {
    out.excluded.push_back(Raw(instance));
  }
  out.session = request.session;
  out.priority_jump_s = request.priority_jump_s;
  return out;
}

RouteRequest RequestOf(wire::RouteAsk ask) {
  RouteRequest out;
  static_cast<wire::RouteWishes&>(out) = std::move(static_cast<wire::RouteWishes&>(ask));
  out.hashed = HashedPrompt{std::move(ask.block_hashes), ask.prompt_tokens};
  if (ask.pinned) {
    out.pinned = InstanceId{*ask.pinned};
  }
  out.rank = ask.rank;
  for (const std::uint64_t instance : ask.excluded) {
    out.excluded.push_back(InstanceId{instance});
  }
  out.session = std::move(ask.session);
  out.priority_jump_s = ask.priority_jump_s;
  return out;
}

}  // namespace pixii::router
