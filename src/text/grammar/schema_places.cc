#include "text/grammar/schema_places.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace pixii::text::grammar {

namespace {

constexpr std::array kSingle = std::to_array<std::string_view>(
    {"additionalProperties", "additionalItems", "contains", "not", "if", "then", "else",
     "propertyNames", "unevaluatedItems", "unevaluatedProperties", "contentSchema"});
constexpr std::array kLists =
    std::to_array<std::string_view>({"allOf", "anyOf", "oneOf", "prefixItems"});
constexpr std::array kMaps =
    std::to_array<std::string_view>({"properties", "patternProperties", "definitions", "$defs",
                                     "dependentSchemas", "dependencies"});

bool HasScheme(std::string_view uri) {
  std::size_t colon = uri.find(':');
  if (colon == std::string_view::npos || colon == 0) {
    return false;
  }
  return std::all_of(uri.begin(), uri.begin() + static_cast<std::ptrdiff_t>(colon), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '-' || c == '.';
  });
}

std::string RemoveDots(std::string_view path) {
  std::vector<std::string_view> out;
  bool absolute = path.starts_with('/');
  while (!path.empty()) {
    path.remove_prefix(path.starts_with('/') ? 1 : 0);
    std::size_t slash = std::min(path.find('/'), path.size());
    std::string_view step = path.substr(0, slash);
    path.remove_prefix(slash);
    if (step == "..") {
      if (!out.empty()) {
        out.pop_back();
      }
    } else if (step != ".") {
      out.push_back(step);
    }
  }
  std::string joined;
  for (std::size_t i = 0; i < out.size(); ++i) {
    joined += (i > 0 || absolute ? "/" : "");
    joined += out[i];
  }
  return joined;
}

// RFC 3986, 5.2.2, without queries. Fragments were split off.
std::string ResolveUri(std::string_view base, std::string_view reference) {
  if (reference.empty()) {
    return std::string(base);
  }
  if (HasScheme(reference)) {
    return std::string(reference);
  }
  std::size_t path = 0;  // where the base's path begins
  if (std::size_t authority = base.find("://"); authority != std::string_view::npos) {
    path = std::min(base.find('/', authority + 3), base.size());
  } else if (HasScheme(base)) {
    path = base.find(':') + 1;
  }
  if (reference.starts_with("//")) {
    return std::string(base.substr(0, base.find(':') + 1)) + std::string(reference);
  }
  if (reference.starts_with('/')) {
    return std::string(base.substr(0, path)) + RemoveDots(reference);
  }
  std::size_t slash = base.rfind('/');
  std::string_view folder =
      slash == std::string_view::npos || slash < path ? "" : base.substr(path, slash + 1 - path);
  std::string merged = std::string(folder.empty() && path > 0 ? "/" : folder);
  merged += reference;
  return std::string(base.substr(0, path)) + RemoveDots(merged);
}

std::string PercentDecode(std::string_view text) {
  std::string out;
  auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 &&
        digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string Unescape(std::string_view step) {
  std::string out;
  for (std::size_t i = 0; i < step.size(); ++i) {
    if (step[i] == '~' && i + 1 < step.size() && (step[i + 1] == '0' || step[i + 1] == '1')) {
      out += step[++i] == '0' ? '~' : '/';
    } else {
      out += step[i];
    }
  }
  return out;
}

std::optional<Draft> DraftNamed(std::string_view uri) {
  struct Name {
    std::string_view part;
    Draft draft;
  };

  for (const Name& name : std::to_array<Name>({{"json-schema.org/draft-04/schema", Draft::k4},
                                               {"json-schema.org/draft-06/schema", Draft::k6},
                                               {"json-schema.org/draft-07/schema", Draft::k7},
                                               {"json-schema.org/draft/2019-09", Draft::k2019},
                                               {"json-schema.org/draft/2020-12", Draft::k2020},
                                               {"json-schema.org/schema", Draft::k2020}})) {
    if (uri.find(name.part) != std::string_view::npos) {
      return name.draft;
    }
  }
  return std::nullopt;
}

std::pair<std::string_view, std::string_view> SplitFragment(std::string_view uri) {
  std::size_t hash = uri.find('#');
  return hash == std::string_view::npos ? std::pair{uri, std::string_view{}}
                                        : std::pair{uri.substr(0, hash), uri.substr(hash + 1)};
}

const wire::Json* StringMember(const wire::Json& json, std::string_view key) {
  const wire::Json* member = json.Find(key);
  return member != nullptr && member->is_string() ? member : nullptr;
}

}  // namespace

std::string PointerStep(std::string_view pointer, std::string_view key) {
  std::string out(pointer);
  out += '/';
  for (char c : key) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

Result<SchemaPlaces> SchemaPlaces::Find(const wire::Json& root) {
  SchemaPlaces out;
  out.root_ = &root;
  out.resources_.push_back({"", &root, "", Draft::k2020});
  out.by_uri_[""] = 0;
  out.Index(root, "", 0);
  if (out.unknown_dialect_ != nullptr) {
    return Fail(Code::kUnsupported,
                fmt::format("$schema: {} is none of the drafts 4, 6, 7, 2019-09 and 2020-12",
                            out.unknown_dialect_->string().substr(0, 200)),
                "$schema");
  }
  return out;
}

void SchemaPlaces::Index(const wire::Json& json, std::string pointer, std::uint32_t resource) {
  std::vector<SchemaPlace> work = {{&json, std::move(pointer), resource}};
  while (!work.empty()) {
    SchemaPlace place = std::move(work.back());
    work.pop_back();
    if (!places_.contains(place.json)) {
      Enter(*place.json, std::move(place.pointer), place.resource, work);
    }
  }
}

void SchemaPlaces::Enter(const wire::Json& json, std::string pointer, std::uint32_t resource,
                         std::vector<SchemaPlace>& work) {
  if (!json.is_object()) {
    places_[&json] = {&json, std::move(pointer), resource};
    return;
  }
  Draft draft = resources_[resource].draft;
  if (const wire::Json* dialect = StringMember(json, "$schema")) {
    std::optional<Draft> named = DraftNamed(dialect->string());
    unknown_dialect_ = named ? unknown_dialect_ : dialect;
    draft = named.value_or(draft);
    if (&json == resources_[resource].root) {
      resources_[resource].draft = draft;
    }
  }
  const wire::Json* id = StringMember(json, draft == Draft::k4 ? "id" : "$id");
  bool shadowed = draft <= Draft::k7 && json.Find("$ref") != nullptr;
  if (id != nullptr && !shadowed) {
    auto [uri, fragment] = SplitFragment(id->string());
    if (!uri.empty()) {
      std::string base = ResolveUri(resources_[resource].base, uri);
      resource = static_cast<std::uint32_t>(resources_.size());
      resources_.push_back({base, &json, pointer, draft});
      by_uri_.try_emplace(base, resource);
    }
    if (!fragment.empty() && draft <= Draft::k7) {
      anchors_.try_emplace(resources_[resource].base + "#" + std::string(fragment), &json);
    }
  }
  for (std::string_view keyword : {"$anchor", "$dynamicAnchor"}) {
    if (const wire::Json* anchor = StringMember(json, keyword)) {
      anchors_.try_emplace(resources_[resource].base + "#" + anchor->string(), &json);
      if (keyword == "$dynamicAnchor") {
        dynamic_anchors_[anchor->string()].push_back(&json);
      }
    }
  }
  const wire::Json* recursive = json.Find("$recursiveAnchor");
  recursive_anchor_ =
      recursive_anchor_ || (recursive != nullptr && recursive->is_bool() && recursive->boolean());
  auto add = [&](const wire::Json& child, std::string at) {
    work.push_back({&child, std::move(at), resource});
  };
  for (const auto& [key, value] : json.object()) {
    bool list = std::find(kLists.begin(), kLists.end(), key) != kLists.end();
    bool map = std::find(kMaps.begin(), kMaps.end(), key) != kMaps.end();
    bool single = std::find(kSingle.begin(), kSingle.end(), key) != kSingle.end();
    std::string at = PointerStep(pointer, key);
    if ((list || key == "items") && value.is_array()) {
      for (std::size_t i = 0; i < value.array().size(); ++i) {
        add(value.array()[i], PointerStep(at, std::to_string(i)));
      }
    } else if (map && value.is_object()) {
      for (const auto& [name, child] : value.object()) {
        if (!child.is_array()) {
          add(child, PointerStep(at, name));
        }
      }
    } else if (single || key == "items") {
      add(value, std::move(at));
    }
  }
  places_[&json] = {&json, std::move(pointer), resource};
}

const SchemaPlace& SchemaPlaces::At(const wire::Json& json, std::string_view pointer,
                                    std::uint32_t resource) {
  if (!places_.contains(&json)) {
    Index(json, std::string(pointer), resource);
  }
  return places_.at(&json);
}

Result<SchemaPlace> SchemaPlaces::Follow(const SchemaPlace& from, std::string_view reference) {
  auto [uri, fragment] = SplitFragment(reference);
  std::string base = ResolveUri(resources_[from.resource].base, uri);
  auto known = by_uri_.find(base);
  if (known == by_uri_.end() && base == resources_[from.resource].base) {
    known = by_uri_.find(resources_[from.resource].base);
  }
  if (known == by_uri_.end()) {
    return Fail(Code::kUnsupported,
                fmt::format("the document {} is not part of the schema", base.substr(0, 200)));
  }
  std::uint32_t resource = known->second;
  const wire::Json* at = resources_[resource].root;
  std::string pointer = resources_[resource].pointer;
  std::string decoded = PercentDecode(fragment);
  if (decoded.empty()) {
    return At(*at, pointer, resource);
  }
  if (!decoded.starts_with('/')) {
    auto anchor = anchors_.find(resources_[resource].base + "#" + decoded);
    if (anchor == anchors_.end()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("no schema has the anchor {}", decoded.substr(0, 200)));
    }
    return places_.at(anchor->second);
  }
  std::string_view rest = decoded;
  while (!rest.empty()) {
    rest.remove_prefix(1);
    std::size_t slash = std::min(rest.find('/'), rest.size());
    std::string key = Unescape(rest.substr(0, slash));
    rest.remove_prefix(slash);
    const wire::Json* next = at->Find(key);
    if (at->is_array()) {
      std::size_t index = 0;
      for (char c : key) {
        index = c >= '0' && c <= '9' && index < 1'000'000
                    ? index * 10 + static_cast<std::size_t>(c - '0')
                    : 1'000'000;
      }
      next = !key.empty() && index < at->array().size() ? &at->array()[index] : nullptr;
    }
    if (next == nullptr) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{} leads nowhere", std::string(reference).substr(0, 200)));
    }
    at = next;
    pointer = PointerStep(pointer, key);
    if (auto place = places_.find(at); place != places_.end()) {
      resource = place->second.resource;
    }
  }
  return At(*at, pointer, resource);
}

std::optional<SchemaPlace> SchemaPlaces::OnlyDynamicAnchor(std::string_view name) const {
  auto found = dynamic_anchors_.find(std::string(name));
  if (found == dynamic_anchors_.end() || found->second.size() != 1) {
    return std::nullopt;
  }
  return places_.at(found->second[0]);
}

std::size_t SchemaPlaces::DynamicAnchorCount(std::string_view name) const {
  auto found = dynamic_anchors_.find(std::string(name));
  return found == dynamic_anchors_.end() ? 0 : found->second.size();
}

}  // namespace pixii::text::grammar
