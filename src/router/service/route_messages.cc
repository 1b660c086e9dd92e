#include "router/service/route_messages.h"

#include <utility>

#include "wire/public_hash.h"

namespace pixii::router {

wire::RouteAsk AskOf(const RouteRequest& request, std::uint32_t block_tokens) {
  wire::RouteAsk out;
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
  out.required_taints = request.required_taints;
  out.preferred_taints = request.preferred_taints;
  out.session = request.session;
  out.policy_class = request.policy_class;
  out.priority_jump_s = request.priority_jump_s;
  out.strict_priority = request.strict_priority;
  out.expected_output_tokens = request.expected_output_tokens;
  out.instead = request.instead;
  return out;
}

RouteRequest RequestOf(wire::RouteAsk ask) {
  RouteRequest out;
  out.hashed = HashedPrompt{std::move(ask.block_hashes), ask.prompt_tokens};
  if (ask.pinned) {
    out.pinned = InstanceId{*ask.pinned};
  }
  out.rank = ask.rank;
  for (const std::uint64_t instance : ask.excluded) {
    out.excluded.push_back(InstanceId{instance});
  }
  out.required_taints = std::move(ask.required_taints);
  out.preferred_taints = std::move(ask.preferred_taints);
  out.session = std::move(ask.session);
  out.policy_class = std::move(ask.policy_class);
  out.priority_jump_s = ask.priority_jump_s;
  out.strict_priority = ask.strict_priority;
  out.expected_output_tokens = ask.expected_output_tokens;
  out.instead = ask.instead;
  return out;
}

}  // namespace pixii::router
