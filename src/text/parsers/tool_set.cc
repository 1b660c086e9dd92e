#include "text/parsers/tool_set.h"

#include <algorithm>
#include <cstdint>

#include "text/parsers/json_scanner.h"
#include "text/parsers/literal_parser.h"
#include "text/parsers/marker_scanner.h"

namespace pixii::text::parsers {

using wire::Json;

namespace {

constexpr std::uint32_t kString = wire::kScriptString;
constexpr std::uint32_t kNumber = wire::kScriptNumber;
constexpr std::uint32_t kBool = wire::kScriptBool;
constexpr std::uint32_t kNull = wire::kScriptNull;
constexpr std::uint32_t kObject = wire::kScriptObject;
constexpr std::uint32_t kArray = wire::kScriptArray;
constexpr std::uint32_t kAny = wire::kScriptAny;

constexpr int kSchemaDepthMax = 16;  // references and alternatives inside one another

std::uint32_t KindOfName(std::string_view type) {
  if (type == "string") {
    return kString;
  }
  if (type == "integer" || type == "number") {
    return kNumber;
  }
  if (type == "boolean") {
    return kBool;
  }
  return type == "null" ? kNull : type == "object" ? kObject : type == "array" ? kArray : kAny;
}

std::uint32_t KindOfValue(const Json& value) {
  switch (value.kind()) {
    case Json::Kind::kNull:
      return kNull;
    case Json::Kind::kBool:
      return kBool;
    case Json::Kind::kNumber:
      return kNumber;
    case Json::Kind::kString:
      return kString;
    case Json::Kind::kArray:
      return kArray;
    case Json::Kind::kObject:
      return kObject;
  }
  return kAny;
}

const Json* Referred(const Json& root, std::string_view reference) {
  if (!reference.starts_with("#/")) {
    return nullptr;
  }
  const Json* at = &root;
  for (reference.remove_prefix(2); at != nullptr && !reference.empty();) {
    std::size_t slash = std::min(reference.find('/'), reference.size());
    at = at->Find(reference.substr(0, slash));
    reference.remove_prefix(std::min(slash + 1, reference.size()));
  }
  return at;
}

std::uint32_t Kinds(const Json& schema, const Json& root, int depth) {
  if (depth > kSchemaDepthMax || !schema.is_object()) {
    return kAny;
  }
  const Json* reference = schema.Find("$ref");
  if (reference != nullptr && reference->is_string()) {
    const Json* target = Referred(root, reference->string());
    return target == nullptr ? kAny : Kinds(*target, root, depth + 1);
  }
  std::uint32_t kinds = 0;
  const Json* type = schema.Find("type");
  if (type != nullptr && type->is_string()) {
    kinds = KindOfName(type->string());
  } else if (type != nullptr && type->is_array()) {
    for (const Json& item : type->array()) {
      kinds |= item.is_string() ? KindOfName(item.string()) : kAny;
    }
  } else if (const Json* values = schema.Find("enum"); values != nullptr && values->is_array()) {
    for (const Json& item : values->array()) {
      kinds |= KindOfValue(item);
    }
  } else if (const Json* value = schema.Find("const"); value != nullptr) {
    kinds = KindOfValue(*value);
  } else {
    for (const char* name : {"anyOf", "oneOf", "allOf"}) {
      const Json* list = schema.Find(name);
      for (std::size_t i = 0; list != nullptr && list->is_array() && i < list->array().size();
           ++i) {
        kinds |= Kinds(list->array()[i], root, depth + 1);
      }
    }
    if (schema.Find("properties") != nullptr) {
      kinds |= kObject;
    }
    if (schema.Find("items") != nullptr) {
      kinds |= kArray;
    }
  }
  const Json* nullable = schema.Find("nullable");
  if (nullable != nullptr && *nullable == Json(true)) {
    kinds |= kNull;
  }
  return kinds == 0 ? kAny : kinds;
}

// The kind of value that JSON text is.
std::uint32_t KindOfText(char first) {
  switch (first) {
    case '{':
      return kObject;
    case '[':
      return kArray;
    case '"':
      return kString;
    case 't':
    case 'f':
      return kBool;
    case 'n':
      return kNull;
    default:
      return kNumber;
  }
}

}  // namespace

ToolSet::ToolSet(const Json& tools) {
  for (std::size_t i = 0; tools.is_array() && i < tools.array().size(); ++i) {
    const Json& tool = tools.array()[i];
    const Json* function = tool.Find("function");
    const Json& described = function == nullptr ? tool : *function;
    const Json* name = described.Find("name");
    if (name == nullptr || !name->is_string()) {
      continue;
    }
    const Json* parameters = described.Find("parameters");
    tools_.push_back({name->string(), parameters == nullptr ? Json() : *parameters});
  }
}

const Json* ToolSet::Find(std::string_view tool) const {
  auto found = std::ranges::find(tools_, tool, &Tool::name);
  return found == tools_.end() ? nullptr : &found->parameters;
}

bool ToolSet::AllowsNoArguments(std::string_view tool) const {
  const Json* parameters = Find(tool);
  const Json* required = parameters == nullptr ? nullptr : parameters->Find("required");
  return required == nullptr || !required->is_array() || required->array().empty();
}

std::string ToolSet::ParameterAt(std::string_view tool, std::size_t position) const {
  const Json* parameters = Find(tool);
  const Json* properties = parameters == nullptr ? nullptr : parameters->Find("properties");
  if (properties == nullptr || !properties->is_object() ||
      position >= properties->object().size()) {
    return {};
  }
  return properties->object()[position].first;
}

std::uint32_t MemberKinds(const Json& parameters, std::string_view name) {
  const Json* properties = parameters.Find("properties");
  const Json* schema = properties == nullptr ? nullptr : properties->Find(name);
  if (schema == nullptr) {
    schema = parameters.Find("additionalProperties");
  }
  return schema == nullptr ? kAny : Kinds(*schema, parameters, 0);
}

std::string ToolSet::Typed(std::string_view tool, std::string_view parameter,
                           std::string_view text) const {
  const Json* parameters = Find(tool);
  const std::uint32_t kinds = parameters == nullptr ? kAny : MemberKinds(*parameters, parameter);
  std::string_view value = Trimmed(text);
  if ((kinds & kAny) != 0) {
    return IsJson(value) && JsonKind(value) != '"' ? std::string(value) : Quoted(text);
  }
  if (kinds == kString) {
    return Quoted(text);
  }
  // What can be something else than a string is that.
  if (IsJson(value)) {
    std::uint32_t kind = KindOfText(JsonKind(value));
    if ((kinds & kind) != 0 && (kind != kString || (kinds & kString) == 0)) {
      return std::string(value);
    }
  } else if (std::optional<std::string> literal = PythonLiteral(value);
             literal && (kinds & KindOfText(JsonKind(*literal))) != 0 &&
             JsonKind(*literal) != '"') {
    return *literal;
  }
  return Quoted(text);
}

void ArgumentsBuilder::Set(std::string name, std::string json) {
  auto found = std::ranges::find(members_, name, &std::pair<std::string, std::string>::first);
  if (found != members_.end()) {
    found->second = std::move(json);
  } else {
    members_.emplace_back(std::move(name), std::move(json));
  }
}

std::string ArgumentsBuilder::Take() {
  std::string out = "{";
  for (const auto& [name, json] : members_) {
    out += out.size() == 1 ? "" : ", ";
    out += Quoted(name) + ": " + json;
  }
  members_.clear();
  return out + "}";
}

std::string Quoted(std::string_view text) {
  std::string out;
  wire::AppendJsonString(out, text);
  return out;
}

}  // namespace pixii::text::parsers
