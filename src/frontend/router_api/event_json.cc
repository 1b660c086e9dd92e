#include "frontend/router_api/event_json.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/router_api/json_fields.h"

namespace pixii::frontend {

using wire::Json;
using wire::KvEvent;

namespace {

constexpr std::array<std::string_view, 4> kTiers = {"device", "host_pinned", "disk", "external"};

Json Words(const std::vector<std::uint64_t>& words) {
  Json::Array out;
  for (const std::uint64_t word : words) {
    out.emplace_back(word);
  }
  return Json(std::move(out));
}

Json StoredToJson(const KvEvent& event) {
  Json::Array blocks;
  for (const wire::KvBlock& block : event.blocks) {
    Json one{Json::Object{}};
    one.Set("block_hash", block.block_hash);
    one.Set("tokens_hash", block.tokens_hash);
    blocks.push_back(std::move(one));
  }
  Json out{Json::Object{}};
  out.Set("parent_hash", event.parent ? Json(*event.parent) : Json());
  out.Set("blocks", Json(std::move(blocks)));
  return out;
}

Result<void> ReadStored(const Json& stored, KvEvent& event) {
  PX_TRY(event.parent, WordField(stored, "parent_hash"));
  const Json* const blocks = stored.Find("blocks");
  if (blocks == nullptr || !blocks->is_array()) {
    return Bad("blocks", "is no list");
  }
  for (const Json& block : blocks->array()) {
    wire::KvBlock& one = event.blocks.emplace_back();
    PX_TRY(one.block_hash, Required("block_hash", WordField(block, "block_hash")));
    PX_TRY(one.tokens_hash, Required("tokens_hash", WordField(block, "tokens_hash")));
  }
  return {};
}

}  // namespace

Json EventToJson(const WorkerKvEvent& from) {
  const KvEvent& event = from.event;
  Json data{Json::Object{}};
  switch (event.kind) {
    case KvEvent::Kind::kStored:
      data.Set("stored", StoredToJson(event));
      break;
    case KvEvent::Kind::kRemoved: {
      Json removed{Json::Object{}};
      removed.Set("block_hashes", Words(event.removed));
      data.Set("removed", std::move(removed));
      break;
    }
    case KvEvent::Kind::kCleared:
      data = Json("cleared");
      break;
  }
  Json inner{Json::Object{}};
  inner.Set("event_id", event.id);
  inner.Set("data", std::move(data));
  inner.Set("dp_rank", std::uint64_t{event.rank});
  Json out{Json::Object{}};
  out.Set("worker_id", from.worker);
  out.Set("storage_tier", kTiers[static_cast<std::size_t>(event.tier)]);
  out.Set("event", std::move(inner));
  return out;
}

Result<WorkerKvEvent> EventFromJson(const Json& json) {
  WorkerKvEvent out;
  PX_TRY(out.worker, Required("worker_id", WordField(json, "worker_id")));
  PX_TRY(const std::optional<std::string> tier, TextField(json, "storage_tier"));
  const auto* const known = std::ranges::find(kTiers, tier.value_or("device"));
  if (known == kTiers.end()) {
    return Bad("storage_tier", "is no tier that is known here");
  }
  out.event.tier = static_cast<wire::KvTier>(known - kTiers.begin());
  const Json* const inner = json.Find("event");
  if (inner == nullptr || !inner->is_object()) {
    return Bad("event", "is no object");
  }
  PX_TRY(const std::optional<std::uint64_t> id, WordField(*inner, "event_id"));
  out.event.id = id.value_or(0);
  PX_TRY(const std::optional<std::uint64_t> rank, CountField(*inner, "dp_rank", 0, 0xffffffff));
  out.event.rank = static_cast<std::uint32_t>(rank.value_or(0));
  const Json* const data = inner->Find("data");
  if (data == nullptr) {
    return Bad("data", "is missing");
  }
  if (data->is_string() && data->string() == "cleared") {
    out.event.kind = KvEvent::Kind::kCleared;
  } else if (const Json* const stored = data->Find("stored")) {
    out.event.kind = KvEvent::Kind::kStored;
    PX_CHECK_OK(ReadStored(*stored, out.event));
  } else if (const Json* const removed = data->Find("removed")) {
    out.event.kind = KvEvent::Kind::kRemoved;
    PX_TRY(out.event.removed, Required("block_hashes", WordsField(*removed, "block_hashes")));
  } else {
    return Bad("data", "is neither stored, removed nor cleared");
  }
  return out;
}

}  // namespace pixii::frontend
