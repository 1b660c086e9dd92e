#include "control/instance_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/type_traits.h"
#include "wire/json.h"
#include "wire/messages/fields.h"

namespace pixii::control {

namespace {

using wire::Json;

constexpr std::string_view kInstanceRoot = "v1/instances/";
constexpr std::string_view kCardRoot = "v1/mdc/";
constexpr std::size_t kNameBytesMax = 64;
constexpr wire::JsonLimits kLimits{.depth_max = 32, .values_max = 1'000'000};

struct RoleName {
  WorkerRole role;
  std::string_view name;
};

constexpr std::array kRoles = {
    RoleName{WorkerRole::kAggregated, "aggregated"}, RoleName{WorkerRole::kPrefill, "prefill"},
    RoleName{WorkerRole::kDecode, "decode"}, RoleName{WorkerRole::kEncode, "encode"}};

Error NotA(std::string_view what) {
  return Error(Code::kInvalidArgument, fmt::format("it is not {}", what));
}

// ---- messages of wire/messages/fields.h as JSON

template <class T>
Json ToJson(const T& value) {
  if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::string> ||
                std::is_floating_point_v<T>) {
    return Json(value);
  } else if constexpr (std::is_enum_v<T>) {
    return Json(static_cast<std::uint64_t>(value));
  } else if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
    return Json(std::int64_t{value});
  } else if constexpr (std::is_integral_v<T>) {
    return Json(std::uint64_t{value});
  } else if constexpr (IsOptional<T>::value) {
    return value ? ToJson(*value) : Json();
  } else if constexpr (IsVector<T>::value) {
    Json::Array items;
    for (const auto& item : value) {
      items.push_back(ToJson(item));
    }
    return Json(std::move(items));
  } else {
    Json object{Json::Object{}};
    std::apply(
        [&](const auto&... field) { (object.Set(field.name, ToJson(value.*(field.member))), ...); },
        wire::kFields<T>);
    return object;
  }
}

template <class Number>
Result<void> ReadNumber(const Json& json, Number& value) {
  if (!json.is_number()) {
    return Fail(NotA("a number"));
  }
  const std::string& digits = json.digits();
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    return Fail(NotA(std::is_floating_point_v<Number> ? "a number of that size"
                                                      : "a whole number of that size"));
  }
  return {};
}

Result<void> InMember(std::string_view name, Result<void> read) {
  if (!read) {
    return Fail(read.error().code(), fmt::format("{}: {}", name, read.error().detail()));
  }
  return {};
}

template <class T>
Result<void> FromJson(const Json& json, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    if (!json.is_bool()) {
      return Fail(NotA("true or false"));
    }
    value = json.boolean();
    return {};
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!json.is_string()) {
      return Fail(NotA("a text"));
    }
    value = json.string();
    return {};
  } else if constexpr (std::is_same_v<T, wire::ModelTask>) {
    std::uint8_t raw = 0;
    PX_CHECK_OK(ReadNumber(json, raw));
    if (raw > static_cast<std::uint8_t>(wire::ModelTask::kClassify)) {
      return Fail(NotA("a task that is known here"));
    }
    value = static_cast<wire::ModelTask>(raw);
    return {};
  } else if constexpr (IsOptional<T>::value) {
    value.reset();
    return json.is_null() ? Result<void>() : FromJson(json, value.emplace());
  } else if constexpr (std::is_same_v<T, wire::MediaFit>) {
    std::uint8_t raw = 0;
    PX_CHECK_OK(ReadNumber(json, raw));
    if (raw > static_cast<std::uint8_t>(wire::MediaFit::kTiles)) {
      return Fail(NotA("a way of resizing that is known here"));
    }
    value = static_cast<wire::MediaFit>(raw);
    return {};
  } else if constexpr (std::is_enum_v<T>) {
    std::underlying_type_t<T> raw{};
    PX_CHECK_OK(ReadNumber(json, raw));
    value = static_cast<T>(raw);
    return {};
  } else if constexpr (std::is_arithmetic_v<T>) {
    return ReadNumber(json, value);
  } else if constexpr (IsVector<T>::value) {
    if (!json.is_array()) {
      return Fail(NotA("an array"));
    }
    for (const Json& item : json.array()) {
      PX_CHECK_OK(FromJson(item, value.emplace_back()));
    }
    return {};
  } else {
    if (!json.is_object()) {
      return Fail(NotA("an object"));
    }
    Result<void> all;
    const auto read = [&](const auto& field) {
      if (const Json* member = json.Find(field.name); member != nullptr && all) {
        all = InMember(field.name, FromJson(*member, value.*(field.member)));
      }
    };
    std::apply([&](const auto&... field) { (read(field), ...); }, wire::kFields<T>);
    return all;
  }
}

template <class T>
Result<void> ReadMember(const Json& object, std::string_view name, T& value) {
  const Json* member = object.Find(name);
  return member == nullptr ? Result<void>() : InMember(name, FromJson(*member, value));
}

// ---- instances

Result<WorkerRole> RoleOf(const Json& json) {
  std::string name;
  PX_CHECK_OK(FromJson(json, name));
  const auto* found = std::ranges::find(kRoles, name, &RoleName::name);
  if (found == kRoles.end()) {
    return Fail(Code::kInvalidArgument, fmt::format("role '{}' is not known here", name));
  }
  return found->role;
}

Json NeedsToJson(const Instance& instance) {
  Json::Array sets;
  for (const std::vector<WorkerRole>& set : instance.needs) {
    Json::Array roles;
    for (const WorkerRole role : set) {
      roles.emplace_back(NameOf(role));
    }
    sets.emplace_back(std::move(roles));
  }
  return Json(std::move(sets));
}

Result<void> ReadNeeds(const Json& json, Instance& instance) {
  if (!json.is_array()) {
    return Fail(NotA("an array"));
  }
  for (const Json& set : json.array()) {
    if (!set.is_array()) {
      return Fail(NotA("an array of arrays"));
    }
    std::vector<WorkerRole>& roles = instance.needs.emplace_back();
    for (const Json& name : set.array()) {
      PX_TRY(const WorkerRole role, RoleOf(name));
      roles.push_back(role);
    }
  }
  return {};
}

std::string PathOf(const Instance& instance) {
  return fmt::format("{}/{}/{}/{}", instance.ns, instance.component, instance.endpoint,
                     InstanceName(instance.id));
}

std::string PrefixOf(std::string_view root, std::string_view ns) {
  return ns.empty() ? std::string(root) : fmt::format("{}{}/", root, ns);
}

// The id at the end of an instance's key; nothing for another key.
std::optional<InstanceId> IdOfKey(std::string_view key) {
  if (!key.starts_with(kInstanceRoot) || std::ranges::count(key, '/') != 5) {
    return std::nullopt;
  }
  const std::string_view digits = key.substr(key.rfind('/') + 1);
  std::uint64_t id = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id, 16);
  if (error != std::errc() || end != digits.data() + digits.size() || id == 0) {
    return std::nullopt;
  }
  return InstanceId{id};
}

Result<Instance> ReadInstance(std::string_view text) {
  PX_TRY(const Json json, wire::ParseJson(text, kLimits));
  if (!json.is_object()) {
    return Fail(NotA("an object"));
  }
  Instance instance;
  PX_CHECK_OK(ReadMember(json, "instance_id", instance.id));
  PX_CHECK_OK(ReadMember(json, "namespace", instance.ns));
  PX_CHECK_OK(ReadMember(json, "component", instance.component));
  PX_CHECK_OK(ReadMember(json, "endpoint", instance.endpoint));
  if (const Json* transport = json.Find("transport")) {
    PX_CHECK_OK(InMember("transport", ReadMember(*transport, "pixii", instance.address)));
  }
  if (const Json* role = json.Find("role")) {
    PX_TRY(instance.role, RoleOf(*role));
  }
  if (const Json* needs = json.Find("needs")) {
    PX_CHECK_OK(InMember("needs", ReadNeeds(*needs, instance)));
  }
  PX_CHECK_OK(ReadMember(json, "data_parallel_start_rank", instance.rank_first));
  PX_CHECK_OK(ReadMember(json, "data_parallel_size", instance.rank_count));
  PX_CHECK_OK(ReadMember(json, "taints", instance.taints));
  PX_CHECK_OK(ReadMember(json, "draining", instance.draining));
  PX_CHECK_OK(ReadMember(json, "generation", instance.generation));
  PX_CHECK_OK(ReadMember(json, "started_ms", instance.started_ms));
  PX_CHECK_OK(ReadMember(json, "texts", instance.texts));
  PX_CHECK_OK(CheckInstance(instance));
  return instance;
}

// A registration's two values are written one after the other: the generation says which belong
// together.
Result<void> ReadCard(std::string_view text, Instance& instance, bool& same_generation) {
  PX_TRY(const Json json, wire::ParseJson(text, kLimits));
  std::uint64_t generation = 0;
  PX_CHECK_OK(ReadMember(json, "generation", generation));
  same_generation = generation == instance.generation;
  return ReadMember(json, "pixii", instance.card);
}

}  // namespace

Result<void> CheckName(std::string_view field, std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  if (name.empty() || name.size() > kNameBytesMax || !std::ranges::all_of(name, allowed)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} '{}' is not 1 to {} letters, digits, '-', '_' and '.'", field, name,
                            kNameBytesMax),
                std::string(field));
  }
  return {};
}

std::string InstanceName(InstanceId id) {
  return fmt::format("{:x}", static_cast<std::uint64_t>(id));
}

std::string InstancePrefix(std::string_view ns) { return PrefixOf(kInstanceRoot, ns); }

std::string CardPrefix(std::string_view ns) { return PrefixOf(kCardRoot, ns); }

std::string InstanceKey(const Instance& instance) {
  return std::string(kInstanceRoot) + PathOf(instance);
}

std::string CardKey(const Instance& instance) { return std::string(kCardRoot) + PathOf(instance); }

Result<void> CheckInstance(const Instance& instance) {
  PX_CHECK_OK(CheckName("namespace", instance.ns));
  PX_CHECK_OK(CheckName("component", instance.component));
  PX_CHECK_OK(CheckName("endpoint", instance.endpoint));
  if (instance.id == InstanceId{}) {
    return Fail(Code::kInvalidArgument, "an instance has an id above 0", "instance_id");
  }
  if (instance.address.empty()) {
    return Fail(Code::kInvalidArgument, "an instance has an address", "transport");
  }
  if (instance.rank_count == 0) {
    return Fail(Code::kInvalidArgument, "an instance has at least one rank", "data_parallel_size");
  }
  return {};
}

std::string_view NameOf(WorkerRole role) {
  return std::ranges::find(kRoles, role, &RoleName::role)->name;
}

std::string EncodeInstance(const Instance& instance) {
  Json json{Json::Object{}};
  json.Set("namespace", instance.ns);
  json.Set("component", instance.component);
  json.Set("endpoint", instance.endpoint);
  json.Set("instance_id", static_cast<std::uint64_t>(instance.id));
  json.Set("transport", Json(Json::Object{{"pixii", Json(instance.address)}}));
  json.Set("role", NameOf(instance.role));
  json.Set("needs", NeedsToJson(instance));
  json.Set("data_parallel_start_rank", ToJson(instance.rank_first));
  json.Set("data_parallel_size", ToJson(instance.rank_count));
  json.Set("taints", ToJson(instance.taints));
  json.Set("draining", instance.draining);
  json.Set("generation", instance.generation);
  json.Set("started_ms", instance.started_ms);
  json.Set("texts", instance.texts);
  return json.Dump();
}

std::string EncodeCard(const Instance& instance) {
  const wire::ModelCard& card = instance.card;
  Json limits{Json::Object{}};
  limits.Set("total_kv_blocks", ToJson(card.block_count));
  limits.Set("max_num_seqs", ToJson(card.batch_sequences_max));
  limits.Set("max_num_batched_tokens", ToJson(card.batch_tokens_max));
  limits.Set("data_parallel_size", ToJson(instance.rank_count));
  limits.Set("data_parallel_start_rank", ToJson(instance.rank_first));
  limits.Set("context_length", ToJson(card.context_tokens_max));
  Json json{Json::Object{}};
  json.Set("display_name", card.name);
  json.Set("context_length", ToJson(card.context_tokens_max));
  json.Set("kv_cache_block_size", ToJson(card.block_tokens));
  json.Set("mdcsum", card.fingerprint);
  json.Set("worker_type", NameOf(instance.role));
  json.Set("needs", NeedsToJson(instance));
  json.Set("runtime_config", std::move(limits));
  json.Set("generation", instance.generation);
  json.Set("pixii", ToJson(card));
  return json.Dump();
}

Result<Instance> DecodeInstance(std::string_view instance_text, std::string_view card_text) {
  PX_TRY(Instance instance, ReadInstance(instance_text));
  bool same_generation = false;
  PX_CHECK_OK(ReadCard(card_text, instance, same_generation));
  if (!same_generation) {
    return Fail(Code::kInvalidArgument, "generation: the card has another");
  }
  return instance;
}

InstanceReader::Known InstanceReader::ReadOne(InstanceId id, const std::string& key,
                                              const std::string& text, const Values& cards) {
  Known out{.instance_text = text,
            .card_key = {},
            .card_text = std::nullopt,
            .seen = {.id = id, .instance = std::nullopt},
            .unreadable = std::nullopt};
  Result<Instance> instance = ReadInstance(text);
  if (instance && InstanceKey(*instance) != key) {
    instance = Fail(Code::kInvalidArgument, "its value names another key");
  }
  if (!instance) {
    out.unreadable = {key, instance.error()};
    return out;
  }
  out.card_key = CardKey(*instance);
  const auto card = cards.find(out.card_key);
  if (card == cards.end()) {
    return out;
  }
  out.card_text = card->second;
  bool same_generation = false;
  if (Result<void> read = ReadCard(card->second, *instance, same_generation); !read) {
    out.unreadable = {out.card_key, read.error()};
  } else if (same_generation) {
    out.seen.instance = std::move(*instance);
  }
  return out;
}

std::vector<SeenInstance> InstanceReader::Read(const Values& instances, const Values& cards,
                                               const OnUnreadable& on_unreadable) {
  std::map<std::string, Known> now;
  std::vector<SeenInstance> seen;
  for (const auto& [key, text] : instances) {
    const std::optional<InstanceId> id = IdOfKey(key);
    if (!id) {
      continue;
    }
    const auto is_as_before = [&](const Known& old) {
      const auto card = cards.find(old.card_key);
      return old.instance_text == text &&
             (card == cards.end() ? !old.card_text : old.card_text == card->second);
    };
    auto before = known_.extract(key);
    if (before.empty() || !is_as_before(before.mapped())) {
      before = {};
    }
    const Known& one = before.empty()
                           ? now.emplace(key, ReadOne(*id, key, text, cards)).first->second
                           : now.insert(std::move(before)).position->second;
    if (one.unreadable) {
      on_unreadable(one.unreadable->first, one.unreadable->second);
    }
    seen.push_back(one.seen);
  }
  known_ = std::move(now);
  return seen;
}

}  // namespace pixii::control
