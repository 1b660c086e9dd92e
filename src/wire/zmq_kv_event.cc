#include "wire/zmq_kv_event.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <span>
#include <utility>

#include "wire/msgpack.h"

namespace pixii::wire {

namespace {

constexpr std::size_t kHexHashSize = 64;  // digits of an identifier of media
constexpr std::size_t kHexHashUsed = 16;  // of them that its hash is made of
constexpr std::uint32_t kBlockTokensMax = 1U << 20;

constexpr std::string_view kStored = "BlockStored";
constexpr std::string_view kRemoved = "BlockRemoved";
constexpr std::string_view kCleared = "AllBlocksCleared";

tl::unexpected<Error> Bad(std::string_view field, std::string_view what) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}", field, what), std::string(field));
}

Error In(std::string_view field, const Error& error) {
  return Error(error.code(), fmt::format("{}: {}", field, error.detail()), std::string(field));
}

template <class Value, class From>
Result<Value> At(std::string_view field, From from) {
  if (!from) {
    return Fail(In(field, from.error()));
  }
  return static_cast<Value>(*from);
}

// As vLLM makes an integer of one: its last eight bytes.
std::uint64_t OfBytes(std::string_view bytes) {
  std::uint64_t value = 0;
  for (const char byte : bytes.substr(bytes.size() - std::min<std::size_t>(bytes.size(), 8))) {
    value = value << 8U | static_cast<unsigned char>(byte);
  }
  return value;
}

Result<std::uint64_t> ReadHash(MsgpackReader& in, std::string_view field) {
  const auto kind = in.Peek();
  if (kind == MsgpackReader::Kind::kBytes || kind == MsgpackReader::Kind::kText) {
    const Result<std::string_view> bytes = in.Text();
    if (!bytes) {
      return Fail(In(field, bytes.error()));
    }
    return bytes->empty() ? Result<std::uint64_t>(Bad(field, "an empty hash")) : OfBytes(*bytes);
  }
  return At<std::uint64_t>(field, in.Bits());
}

Result<std::string> ReadText(MsgpackReader& in, std::string_view field) {
  return in.TakeNil() ? std::string() : At<std::string>(field, in.Text());
}

Result<void> ReadHashes(MsgpackReader& in, EngineKvEvent& out) {
  PX_TRY(const std::uint32_t count, At<std::uint32_t>("block_hashes", in.Array()));
  out.hashes.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    PX_TRY(const std::uint64_t hash, ReadHash(in, "block_hashes"));
    out.hashes.push_back(hash);
  }
  return {};
}

Result<void> ReadParent(MsgpackReader& in, EngineKvEvent& out) {
  if (!in.TakeNil()) {
    PX_TRY(out.parent, ReadHash(in, "parent_block_hash"));
  }
  return {};
}

// A draft head's windows are pairs (token, next token): blocks are of the first of each.
Result<void> ReadTokens(MsgpackReader& in, EngineKvEvent& out) {
  PX_TRY(const std::uint32_t count, At<std::uint32_t>("token_ids", in.Array()));
  out.tokens.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    std::uint32_t behind = 0;
    if (in.Peek() == MsgpackReader::Kind::kArray) {
      PX_TRY(const std::uint32_t size, At<std::uint32_t>("token_ids", in.Array()));
      if (size == 0) {
        return Bad("token_ids", "an empty window");
      }
      behind = size - 1;
    }
    PX_TRY(const std::uint64_t token, At<std::uint64_t>("token_ids", in.Uint()));
    if (token > std::numeric_limits<std::uint32_t>::max()) {
      return Bad("token_ids", fmt::format("{} is no token", token));
    }
    out.tokens.push_back(static_cast<TokenId>(static_cast<std::uint32_t>(token)));
    for (; behind > 0; --behind) {
      PX_CHECK_OK(in.Skip());
    }
  }
  return {};
}

Result<void> ReadBlockTokens(MsgpackReader& in, EngineKvEvent& out) {
  PX_TRY(const std::uint64_t size, At<std::uint64_t>("block_size", in.Uint()));
  if (size == 0 || size > kBlockTokensMax) {
    return Bad("block_size", fmt::format("{} is not within 1 .. {}", size, kBlockTokensMax));
  }
  out.block_tokens = static_cast<std::uint32_t>(size);
  return {};
}

// An unknown medium is none that a router gives credit for.
Result<void> ReadMedium(MsgpackReader& in, EngineKvEvent& out) {
  PX_TRY(const std::string medium, ReadText(in, "medium"));
  out.tier = medium.empty() ? KvTier::kDevice : KvTierOf(medium).value_or(KvTier::kExternal);
  return {};
}

Result<void> ReadAdapter(MsgpackReader& in, EngineKvEvent& out) {
  PX_TRY(out.adapter, ReadText(in, "lora_name"));
  return {};
}

Result<void> ReadSalt(MsgpackReader& in, EngineKvEvent& out) {
  PX_TRY(out.salt, ReadText(in, "cache_salt"));
  return {};
}

Result<void> ReadGroup(MsgpackReader& in, EngineKvEvent& out) {
  if (!in.TakeNil()) {
    PX_TRY(out.group, At<std::int64_t>("group_idx", in.Int()));
  }
  return {};
}

Result<void> ReadAttention(MsgpackReader& in, EngineKvEvent& out) {
  PX_TRY(out.attention, ReadText(in, "kv_cache_spec_kind"));
  return {};
}

Result<void> ReadNothing(MsgpackReader& in, EngineKvEvent& /*out*/) { return in.Skip(); }

std::optional<std::uint64_t> OfHex(std::string_view text) {
  std::uint64_t value = 0;
  const bool all_hex = text.size() == kHexHashSize &&
                       text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
  if (!all_hex) {
    return std::nullopt;
  }
  std::from_chars(text.data(), text.data() + kHexHashUsed, value, 16);
  return value;
}

// What one block's key has besides its tokens: an identifier of media may stand alone or in an
// array with its place.
Result<void> ReadExtraKey(MsgpackReader& in, bool first, EngineKvEvent& out) {
  std::uint32_t behind = 0;
  if (in.Peek() == MsgpackReader::Kind::kArray) {
    PX_TRY(const std::uint32_t size, in.Array());
    if (size == 0) {
      return {};
    }
    behind = size - 1;
  }
  if (in.Peek() == MsgpackReader::Kind::kText) {
    PX_TRY(const std::string_view text, in.Text());
    if (const auto hash = OfHex(text)) {
      out.media.back().push_back(*hash);
    } else if (first && text.starts_with(kEngineSaltMark)) {
      out.salt = text.substr(kEngineSaltMark.size());
    }
  } else {
    PX_CHECK_OK(in.Skip());
  }
  for (; behind > 0; --behind) {
    PX_CHECK_OK(in.Skip());
  }
  return {};
}

Result<void> ReadExtraKeys(MsgpackReader& in, EngineKvEvent& out) {
  if (in.Peek() != MsgpackReader::Kind::kArray) {
    return in.Skip();
  }
  PX_TRY(const std::uint32_t count, in.Array());
  out.media.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    out.media.emplace_back();
    if (in.Peek() != MsgpackReader::Kind::kArray) {
      PX_CHECK_OK(in.Skip());
      continue;
    }
    PX_TRY(const std::uint32_t keys, in.Array());
    for (std::uint32_t k = 0; k < keys; ++k) {
      PX_CHECK_OK(ReadExtraKey(in, i == 0, out));
    }
  }
  return {};
}

// {"mm_hash": u64, ...}
Result<void> ReadMediaObject(MsgpackReader& in, std::vector<std::uint64_t>& out) {
  PX_TRY(const std::uint32_t fields, At<std::uint32_t>("mm_objects", in.Map()));
  for (std::uint32_t i = 0; i < fields; ++i) {
    PX_TRY(const std::string_view name, At<std::string_view>("mm_objects", in.Text()));
    if (name == "mm_hash") {
      PX_TRY(const std::uint64_t hash, ReadHash(in, "mm_hash"));
      out.push_back(hash);
    } else {
      PX_CHECK_OK(in.Skip());
    }
  }
  return {};
}

// Per block nil or {"mm_objects": [...]}.
Result<void> ReadMediaInfos(MsgpackReader& in, EngineKvEvent& out) {
  if (in.TakeNil()) {
    return {};
  }
  PX_TRY(const std::uint32_t count, At<std::uint32_t>("block_mm_infos", in.Array()));
  out.media.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    out.media.emplace_back();
    if (in.TakeNil()) {
      continue;
    }
    PX_TRY(const std::uint32_t fields, At<std::uint32_t>("block_mm_infos", in.Map()));
    for (std::uint32_t f = 0; f < fields; ++f) {
      PX_TRY(const std::string_view name, At<std::string_view>("block_mm_infos", in.Text()));
      if (name != "mm_objects" || in.Peek() != MsgpackReader::Kind::kArray) {
        PX_CHECK_OK(in.Skip());
        continue;
      }
      PX_TRY(const std::uint32_t objects, in.Array());
      for (std::uint32_t o = 0; o < objects; ++o) {
        PX_CHECK_OK(ReadMediaObject(in, out.media.back()));
      }
    }
  }
  return {};
}

struct EventField {
  std::string_view name;
  Result<void> (*read)(MsgpackReader& in, EngineKvEvent& out);
};

// In the order of the arrays; what stands under a name alone comes last.
constexpr std::size_t kStoredInOrder = 10;
constexpr auto kStoredFields = std::to_array<EventField>({{"block_hashes", ReadHashes},
                                                          {"parent_block_hash", ReadParent},
                                                          {"token_ids", ReadTokens},
                                                          {"block_size", ReadBlockTokens},
                                                          {"lora_id", ReadNothing},
                                                          {"medium", ReadMedium},
                                                          {"lora_name", ReadAdapter},
                                                          {"extra_keys", ReadExtraKeys},
                                                          {"group_idx", ReadGroup},
                                                          {"kv_cache_spec_kind", ReadAttention},
                                                          {"block_mm_infos", ReadMediaInfos},
                                                          {"cache_salt", ReadSalt}});
constexpr std::size_t kRemovedInOrder = 4;
constexpr auto kRemovedFields = std::to_array<EventField>({{"block_hashes", ReadHashes},
                                                           {"medium", ReadMedium},
                                                           {"group_idx", ReadGroup},
                                                           {"kv_cache_spec_kind", ReadAttention}});
constexpr auto kClearedFields = std::to_array<EventField>({{"medium", ReadMedium}});

struct EventType {
  std::string_view name;
  EngineKvEvent::Kind kind;
  std::span<const EventField> fields;
  std::size_t in_order;  // the first of them
  std::size_t needed;    // the first of them
};

constexpr auto kTypes = std::to_array<EventType>(
    {{kStored, EngineKvEvent::Kind::kStored, kStoredFields, kStoredInOrder, 4},
     {kRemoved, EngineKvEvent::Kind::kRemoved, kRemovedFields, kRemovedInOrder, 1},
     {kCleared, EngineKvEvent::Kind::kCleared, kClearedFields, 1, 0}});

const EventType* TypeOf(std::string_view name) {
  const auto* const found = std::ranges::find(kTypes, name, &EventType::name);
  return found == kTypes.end() ? nullptr : found;
}

Result<std::optional<EngineKvEvent>> ReadArrayEvent(MsgpackReader& in) {
  PX_TRY(const std::uint32_t count, in.Array());
  if (count == 0) {
    return Bad("type", "an event without one");
  }
  PX_TRY(const std::string_view name, At<std::string_view>("type", in.Text()));
  const EventType* type = TypeOf(name);
  if (type != nullptr && count - 1 < type->needed) {
    return Bad(type->fields[count - 1].name, fmt::format("is missing in a {}", name));
  }
  EngineKvEvent event;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    const bool known = type != nullptr && i < type->in_order;
    PX_CHECK_OK(known ? type->fields[i].read(in, event) : in.Skip());
  }
  if (type == nullptr) {
    return std::optional<EngineKvEvent>();
  }
  event.kind = type->kind;
  return std::optional(std::move(event));
}

// `type` may stand behind other fields: what is before it is read again.
Result<std::string_view> FindType(MsgpackReader in, std::uint32_t fields) {
  for (std::uint32_t i = 0; i < fields; ++i) {
    PX_TRY(const std::string_view name, At<std::string_view>("type", in.Text()));
    if (name == "type") {
      return At<std::string_view>("type", in.Text());
    }
    PX_CHECK_OK(in.Skip());
  }
  return Bad("type", "an event without one");
}

Result<std::optional<EngineKvEvent>> ReadMapEvent(MsgpackReader& in) {
  PX_TRY(const std::uint32_t count, in.Map());
  PX_TRY(const std::string_view type_name, FindType(in, count));
  const EventType* type = TypeOf(type_name);
  EngineKvEvent event;
  std::vector<bool> met(type == nullptr ? 0 : type->fields.size());
  for (std::uint32_t i = 0; i < count; ++i) {
    PX_TRY(const std::string_view name, At<std::string_view>("type", in.Text()));
    const auto field = type == nullptr ? std::span<const EventField>::iterator()
                                       : std::ranges::find(type->fields, name, &EventField::name);
    if (type == nullptr || field == type->fields.end()) {
      PX_CHECK_OK(in.Skip());
      continue;
    }
    const auto index = static_cast<std::size_t>(field - type->fields.begin());
    if (met[index]) {
      return Bad(name, "stands twice in an event");
    }
    met[index] = true;
    PX_CHECK_OK(field->read(in, event));
  }
  if (type == nullptr) {
    return std::optional<EngineKvEvent>();
  }
  for (std::size_t i = 0; i < type->needed; ++i) {
    if (!met[i]) {
      return Bad(type->fields[i].name, fmt::format("is missing in a {}", type_name));
    }
  }
  event.kind = type->kind;
  return std::optional(std::move(event));
}

Result<void> ReadEvents(MsgpackReader& in, EngineKvBatch& out) {
  PX_TRY(const std::uint32_t count, At<std::uint32_t>("events", in.Array()));
  for (std::uint32_t i = 0; i < count; ++i) {
    PX_TRY(std::optional<EngineKvEvent> event,
           in.Peek() == MsgpackReader::Kind::kMap ? ReadMapEvent(in) : ReadArrayEvent(in));
    if (event) {
      out.events.push_back(std::move(*event));
    }
  }
  return {};
}

Result<void> ReadRank(MsgpackReader& in, EngineKvBatch& out) {
  if (in.TakeNil()) {
    return {};
  }
  PX_TRY(const std::int64_t rank, At<std::int64_t>("data_parallel_rank", in.Int()));
  if (rank < 0 || rank > std::numeric_limits<std::int32_t>::max()) {
    return Bad("data_parallel_rank", fmt::format("{} is no rank", rank));
  }
  out.rank = static_cast<std::uint32_t>(rank);
  return {};
}

Result<EngineKvBatch> ReadArrayBatch(MsgpackReader& in) {
  EngineKvBatch batch;
  PX_TRY(const std::uint32_t count, in.Array());
  if (count < 2) {
    return Bad("events", "is missing in a batch");
  }
  PX_TRY(batch.seconds, At<double>("ts", in.Double()));
  PX_CHECK_OK(ReadEvents(in, batch));
  if (count > 2) {
    PX_CHECK_OK(ReadRank(in, batch));
  }
  for (std::uint32_t i = 3; i < count; ++i) {
    PX_CHECK_OK(in.Skip());
  }
  return batch;
}

Result<EngineKvBatch> ReadMapBatch(MsgpackReader& in) {
  EngineKvBatch batch;
  bool has_events = false;
  PX_TRY(const std::uint32_t count, in.Map());
  for (std::uint32_t i = 0; i < count; ++i) {
    PX_TRY(const std::string_view name, At<std::string_view>("batch", in.Text()));
    if (name == "ts") {
      PX_TRY(batch.seconds, At<double>("ts", in.Double()));
    } else if (name == "events" && !has_events) {
      has_events = true;
      PX_CHECK_OK(ReadEvents(in, batch));
    } else if (name == "data_parallel_rank") {
      PX_CHECK_OK(ReadRank(in, batch));
    } else {
      PX_CHECK_OK(in.Skip());
    }
  }
  if (!has_events) {
    return Bad("events", "is missing in a batch");
  }
  return batch;
}

std::string_view MediumOf(KvTier tier) {
  switch (tier) {
    case KvTier::kHost:
      return "CPU_PINNED";
    case KvTier::kDisk:
      return "DISK";
    case KvTier::kExternal:
      return "EXTERNAL";
    case KvTier::kDevice:
      break;
  }
  return "GPU";
}

void WriteText(MsgpackWriter& out, std::string_view text) {
  if (text.empty()) {
    out.Nil();
  } else {
    out.Text(text);
  }
}

void WriteExtraKeys(MsgpackWriter& out, const EngineKvEvent& event) {
  if (event.media.empty() && event.salt.empty()) {
    out.Nil();
    return;
  }
  out.Array(event.hashes.size());
  for (std::size_t i = 0; i < event.hashes.size(); ++i) {
    const std::size_t media = i < event.media.size() ? event.media[i].size() : 0;
    const bool salted = i == 0 && !event.salt.empty();
    if (media == 0 && !salted) {
      out.Nil();
      continue;
    }
    out.Array(media + (salted ? 1 : 0));
    for (std::size_t m = 0; m < media; ++m) {
      out.Text(fmt::format("{:016x}{:048x}", event.media[i][m], 0));
    }
    if (salted) {
      out.Text(fmt::format("{}{}", kEngineSaltMark, event.salt));
    }
  }
}

// The value of a field, in either form.
void WriteField(MsgpackWriter& out, const EngineKvEvent& event, std::string_view field) {
  if (field == "block_hashes") {
    out.Array(event.hashes.size());
    for (const std::uint64_t hash : event.hashes) {
      out.Uint(hash);
    }
  } else if (field == "parent_block_hash") {
    event.parent ? out.Uint(*event.parent) : out.Nil();
  } else if (field == "token_ids") {
    out.Array(event.tokens.size());
    for (const TokenId token : event.tokens) {
      out.Uint(static_cast<std::uint32_t>(token));
    }
  } else if (field == "block_size") {
    out.Uint(event.block_tokens);
  } else if (field == "medium") {
    out.Text(MediumOf(event.tier));
  } else if (field == "lora_name") {
    WriteText(out, event.adapter);
  } else if (field == "extra_keys") {
    WriteExtraKeys(out, event);
  } else if (field == "group_idx") {
    event.group ? out.Int(*event.group) : out.Nil();
  } else if (field == "kv_cache_spec_kind") {
    WriteText(out, event.attention);
  } else {
    out.Nil();
  }
}

void WriteEvent(MsgpackWriter& out, const EngineKvEvent& event, EngineKvForm form) {
  const EventType& type = kTypes[static_cast<std::size_t>(event.kind)];
  const std::size_t fields = type.kind == EngineKvEvent::Kind::kCleared ? 0 : type.in_order;
  if (form == EngineKvForm::kMaps) {
    out.Map(fields + 1);
    out.Text("type");
  } else {
    out.Array(fields + 1);
  }
  out.Text(type.name);
  for (std::size_t i = 0; i < fields; ++i) {
    if (form == EngineKvForm::kMaps) {
      out.Text(type.fields[i].name);
    }
    WriteField(out, event, type.fields[i].name);
  }
}

}  // namespace

std::optional<KvTier> KvTierOf(std::string_view medium) {
  static constexpr std::pair<std::string_view, KvTier> kNames[] = {
      {"GPU", KvTier::kDevice},       {"DEVICE", KvTier::kDevice},
      {"CPU", KvTier::kHost},         {"CPU_PINNED", KvTier::kHost},
      {"CPU_TIER1", KvTier::kHost},   {"CPU_TIER2", KvTier::kDisk},
      {"DISK", KvTier::kDisk},        {"NVME", KvTier::kDisk},
      {"STORAGE", KvTier::kDisk},     {"EXTERNAL", KvTier::kExternal},
      {"NETWORK", KvTier::kExternal}, {"REMOTE", KvTier::kExternal},
      {"SHARED", KvTier::kExternal}};
  for (const auto& [name, tier] : kNames) {
    if (std::ranges::equal(name, medium, [](char known, char given) {
          return known == (given >= 'a' && given <= 'z' ? static_cast<char>(given - 32) : given);
        })) {
      return tier;
    }
  }
  return std::nullopt;
}

Result<EngineKvBatch> DecodeEngineKvBatch(std::string_view payload) {
  MsgpackReader in(payload);
  PX_TRY(EngineKvBatch batch,
         in.Peek() == MsgpackReader::Kind::kMap ? ReadMapBatch(in) : ReadArrayBatch(in));
  if (!in.at_end()) {
    return Bad("batch", fmt::format("{} bytes stand behind it", in.size_bytes_left()));
  }
  return batch;
}

std::string EncodeEngineKvBatch(const EngineKvBatch& batch, EngineKvForm form) {
  std::string out;
  MsgpackWriter writer(out);
  writer.Array(3);
  writer.Double(batch.seconds);
  writer.Array(batch.events.size());
  for (const EngineKvEvent& event : batch.events) {
    WriteEvent(writer, event, form);
  }
  batch.rank ? writer.Uint(*batch.rank) : writer.Nil();
  return out;
}

Result<std::uint64_t> DecodeEngineKvSequence(std::string_view frame) {
  if (frame.size() != 8) {
    return Bad("sequence", fmt::format("{} bytes instead of 8", frame.size()));
  }
  return OfBytes(frame);
}

std::string EncodeEngineKvSequence(std::uint64_t sequence) {
  std::string out(8, '\0');
  for (std::size_t i = 8; i-- > 0; sequence >>= 8U) {
    out[i] = static_cast<char>(sequence & 0xFFU);
  }
  return out;
}

}  // namespace pixii::wire
