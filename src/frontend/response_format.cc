// The fields of a request that say what its answer must look like, in OpenAI's and vLLM's spelling.
#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "frontend/openai_draft.h"

namespace pixii::frontend {

using wire::Constraint;
using wire::ConstraintKind;
using wire::Json;

namespace {

// A weak model writes as much white space as it may, between any two words of JSON; this still lets
// it indent seven levels by four.
constexpr std::uint32_t kWhitespaceRunMax = 32;
constexpr std::size_t kChoicesMax = 10'000;

/// One field of a request may constrain its answer, `name` as the client wrote it.
Result<void> Set(std::string_view name, Constraint constraint, Draft& draft) {
  if (draft.constraint) {
    return Bad(name,
               fmt::format("the answer is constrained by {} already", draft.constraint_field));
  }
  draft.constraint = std::move(constraint);
  draft.constraint_field = name;
  return {};
}

Result<std::string> ReadText(std::string_view name, const Json& value) {
  if (!value.is_string() || value.string().empty()) {
    return Bad(name, "must be a string that is not empty");
  }
  return value.string();
}

Result<Constraint> SchemaOf(std::string_view name, const Json& value) {
  if (!value.is_object() && !value.is_bool()) {
    return Bad(name, "must be a JSON schema: an object, true or false");
  }
  return MakeConstraint(ConstraintKind::kJsonSchema, value.Dump());
}

Result<Constraint> ChoicesOf(std::string_view name, const Json& value) {
  if (!value.is_array() || value.array().empty() || value.array().size() > kChoicesMax) {
    return Bad(name, fmt::format("must be a list of 1 to {} texts", kChoicesMax));
  }
  Constraint out = MakeConstraint(ConstraintKind::kChoice, {});
  for (const Json& choice : value.array()) {
    PX_TRY(out.choices.emplace_back(), ReadText(name, choice));
  }
  return out;
}

// "::=" defines rules in EBNF and in no Lark grammar.
Result<Constraint> GrammarOf(std::string_view name, const Json& value) {
  PX_TRY(std::string text, ReadText(name, value));
  const bool ebnf = text.find("::=") != std::string::npos;
  return MakeConstraint(ebnf ? ConstraintKind::kEbnf : ConstraintKind::kLark, std::move(text));
}

// A schema, or its text.
Result<Constraint> JsonOf(std::string_view name, const Json& value) {
  if (!value.is_string()) {
    return SchemaOf(name, value);
  }
  const Result<Json> schema =
      wire::ParseJson(value.string(), {.depth_max = 128, .values_max = 1'000'000});
  if (!schema) {
    return Bad(name, fmt::format("its text is no JSON schema: {}", schema.error().detail()));
  }
  return SchemaOf(name, *schema);
}

Result<Constraint> RegexOf(std::string_view name, const Json& value) {
  PX_TRY(std::string regex, ReadText(name, value));
  return MakeConstraint(ConstraintKind::kRegex, std::move(regex));
}

// vLLM's forms: guided_NAME, and NAME of structured_outputs.
struct Form {
  std::string_view name;
  Result<Constraint> (*read)(std::string_view field, const Json& value);
};

constexpr std::string_view kGuided = "guided_";
constexpr auto kForms = std::to_array<Form>(
    {{"json", JsonOf}, {"regex", RegexOf}, {"choice", ChoicesOf}, {"grammar", GrammarOf}});

const Form* FindForm(std::string_view name) {
  const auto* found = std::ranges::find(kForms, name, &Form::name);
  return found == kForms.end() ? nullptr : found;
}

Result<wire::StructuralTag> TagOf(std::string_view name, const Json& value) {
  wire::StructuralTag out;
  if (!value.is_object()) {
    return Bad(name, "must be an object with begin, schema and end");
  }
  for (const auto& [key, item] : value.object()) {
    if (key == "begin") {
      PX_TRY(out.begin, ReadText(At(name, key), item));
    } else if (key == "end" && item.is_string()) {
      out.end = item.string();
    } else if (key == "schema") {
      PX_TRY(Constraint schema, SchemaOf(At(name, key), item));
      out.schema = std::move(schema.text);
    } else {
      return Bad(At(name, key), "is no field of a tag; those are begin, schema and end");
    }
  }
  if (out.begin.empty()) {
    return Bad(At(name, "begin"), "is missing");
  }
  return out;
}

Result<Constraint> TagsOf(std::string_view name, const Json& structures, const Json& triggers) {
  Constraint out = MakeConstraint(ConstraintKind::kStructuralTags, {});
  if (!structures.is_array() || structures.array().empty() || !triggers.is_array() ||
      triggers.array().empty()) {
    return Bad(name, "structures and triggers must be lists that are not empty");
  }
  for (const Json& tag : structures.array()) {
    PX_TRY(out.tags.emplace_back(), TagOf(At(name, "structures"), tag));
  }
  for (const Json& trigger : triggers.array()) {
    PX_TRY(out.triggers.emplace_back(), ReadText(At(name, "triggers"), trigger));
  }
  return out;
}

/// The members of `value`, which may have the `known` ones only.
Result<void> CheckMembers(std::string_view name, const Json& value,
                          std::initializer_list<std::string_view> known) {
  for (const auto& [key, item] : value.object()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return Bad(At(name, key), "unknown field");
    }
  }
  return {};
}

Result<void> ReadJsonSchemaFormat(std::string_view name, const Json& value, Draft& draft) {
  PX_CHECK_OK(CheckMembers(name, value, {"type", "json_schema"}));
  const std::string at = At(name, "json_schema");
  const Json* format = value.Find("json_schema");
  if (format == nullptr || !format->is_object()) {
    return Bad(at, "must be an object with name and schema");
  }
  PX_CHECK_OK(CheckMembers(at, *format, {"name", "description", "schema", "strict"}));
  const Json* given = format->Find("name");
  if (given == nullptr || !given->is_string()) {
    return Bad(At(at, "name"), "must be a string");
  }
  const Json* strict = format->Find("strict");
  if (strict != nullptr && !strict->is_null() && !strict->is_bool()) {
    return Bad(At(at, "strict"), "must be true or false");
  }
  const Json* schema = format->Find("schema");
  if (schema == nullptr) {
    return Bad(At(at, "schema"), "is missing");
  }
  PX_TRY(Constraint constraint, SchemaOf(At(at, "schema"), *schema));
  return Set(name, std::move(constraint), draft);
}

}  // namespace

Constraint MakeConstraint(ConstraintKind kind, std::string text) {
  Constraint out;
  out.kind = kind;
  out.text = std::move(text);
  out.spelling = {.whitespace_run_max = kWhitespaceRunMax, .needless_escapes = false};
  return out;
}

// "strict": false is enforced like true: an answer that follows the schema is right in both.
Result<void> ReadResponseFormat(std::string_view name, const Json& value, Draft& draft) {
  const Json* type = value.Find("type");
  if (type == nullptr || !type->is_string()) {
    return Bad(name, "must be an object with a type");
  }
  if (*type == Json("text")) {
    return CheckMembers(name, value, {"type"});
  }
  if (*type == Json("json_schema")) {
    return ReadJsonSchemaFormat(name, value, draft);
  }
  if (*type == Json("json_object")) {
    PX_CHECK_OK(CheckMembers(name, value, {"type", "schema"}));
    const Json* schema = value.Find("schema");
    if (schema == nullptr || schema->is_null()) {
      return Set(name, MakeConstraint(ConstraintKind::kJsonObject, {}), draft);
    }
    PX_TRY(Constraint constraint, SchemaOf(At(name, "schema"), *schema));
    return Set(name, std::move(constraint), draft);
  }
  if (*type == Json("structural_tag")) {
    PX_CHECK_OK(CheckMembers(name, value, {"type", "structures", "triggers"}));
    const Json* structures = value.Find("structures");
    const Json* triggers = value.Find("triggers");
    const Json none;
    PX_TRY(Constraint constraint, TagsOf(name, structures != nullptr ? *structures : none,
                                         triggers != nullptr ? *triggers : none));
    return Set(name, std::move(constraint), draft);
  }
  return NotDone(
      At(name, "type"),
      fmt::format("{} is none of text, json_object, json_schema and structural_tag", Shown(*type)));
}

Result<void> ReadGuided(std::string_view name, const Json& value, Draft& draft) {
  const Form* form = FindForm(name.substr(kGuided.size()));
  PX_TRY(Constraint constraint, form->read(name, value));
  return Set(name, std::move(constraint), draft);
}

Result<void> ReadStructuredOutputs(std::string_view name, const Json& value, Draft& draft) {
  if (!value.is_object()) {
    return Bad(name, "must be an object");
  }
  for (const auto& [key, item] : value.object()) {
    const std::string field = At(name, key);
    if (item.is_null()) {
      continue;
    }
    if (const Form* form = FindForm(key)) {
      PX_TRY(Constraint constraint, form->read(field, item));
      PX_CHECK_OK(Set(field, std::move(constraint), draft));
    } else if (key == "json_object" && item.is_bool()) {
      if (item.boolean()) {
        PX_CHECK_OK(Set(field, MakeConstraint(ConstraintKind::kJsonObject, {}), draft));
      }
    } else {
      return NotDone(field, "not supported");
    }
  }
  return {};
}

}  // namespace pixii::frontend
