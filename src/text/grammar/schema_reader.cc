#include "text/grammar/schema_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/utf8.h"
#include "text/grammar/pattern.h"
#include "text/grammar/schema_places.h"
#include "text/grammar/string_formats.h"
#include "text/grammar/text_states.h"

namespace pixii::text::grammar {

namespace {

constexpr std::int64_t kMagnitudeMax = 90'000;  // digits before or behind the point of a bound

using Kind = FormulaStore::Kind;

std::u32string CodePoints(std::string_view text) {
  std::u32string out;
  while (!text.empty()) {
    std::size_t size = Utf8SequenceLength(text);
    out += DecodeUtf8(text);
    text.remove_prefix(size);
  }
  return out;
}

ValueKind KindOf(const wire::Json& value) {
  switch (value.kind()) {
    case wire::Json::Kind::kNull:
      return ValueKind::kNull;
    case wire::Json::Kind::kBool:
      return value.boolean() ? ValueKind::kTrue : ValueKind::kFalse;
    case wire::Json::Kind::kNumber:
      return ValueKind::kNumber;
    case wire::Json::Kind::kString:
      return ValueKind::kString;
    case wire::Json::Kind::kArray:
      return ValueKind::kArray;
    default:
      return ValueKind::kObject;
  }
}

RegexId WordsAsTexts(FormulaStore& store, std::vector<std::u32string> words) {
  for (std::u32string& word : words) {
    word += kTextEnd;
  }
  return store.regexes.Words(std::move(words));
}

class Reader final {
 public:
  Reader(FormulaStore& store, SchemaPlaces& places) : store_(store), places_(places) {}

  Result<FormulaId> Read() {
    FormulaId root = SchemaAt(places_.root());
    while (!work_.empty()) {
      auto [place, number] = work_.back();
      work_.pop_back();
      PX_TRY(FormulaId formula, Build(place));
      store_.DefineSchema(number, formula);
      if (store_.regexes.fuel.exhausted || numbers_.size() > kSchemasMax) {
        return Fail(Code::kTooLarge, "the schema is past the budget of compilation");
      }
    }
    PX_CHECK_OK(RefuseEndlessReferences());
    return root;
  }

 private:
  // What is being read: a keyword of a schema.
  struct Keyword {
    const SchemaPlace& place;
    std::string_view name;
    const wire::Json& value;
  };

  static tl::unexpected<Error> Complain(Code code, const Keyword& keyword, std::string_view what) {
    std::string pointer = PointerStep(keyword.place.pointer, keyword.name);
    return Fail(code, fmt::format("{} at {}: {}", keyword.name, pointer, what), pointer);
  }

  static tl::unexpected<Error> Bad(const Keyword& keyword, std::string_view what) {
    return Complain(Code::kInvalidArgument, keyword, what);
  }

  static tl::unexpected<Error> Refuse(const Keyword& keyword, std::string_view what) {
    return Complain(Code::kUnsupported, keyword, what);
  }

  FormulaId SchemaAt(const SchemaPlace& place) {
    if (place.json->is_bool()) {
      return place.json->boolean() ? kTrue : kFalse;
    }
    if (place.json->is_object() && place.json->object().empty()) {
      return kTrue;
    }
    auto [number, fresh] = numbers_.try_emplace(place.json, 0);
    if (fresh) {
      number->second = store_.DeclareSchema();
      work_.emplace_back(place, number->second);
    }
    return store_.Atom(Kind::kSchema, number->second);
  }

  FormulaId Below(const SchemaPlace& from, const wire::Json& json, std::string_view pointer) {
    return SchemaAt(places_.At(json, pointer, from.resource));
  }

  FormulaId Below(const Keyword& keyword) {
    return Below(keyword.place, keyword.value, PointerStep(keyword.place.pointer, keyword.name));
  }

  std::vector<FormulaId> ListBelow(const Keyword& keyword) {
    std::vector<FormulaId> out;
    std::string pointer = PointerStep(keyword.place.pointer, keyword.name);
    for (std::size_t i = 0; i < keyword.value.array().size(); ++i) {
      out.push_back(
          Below(keyword.place, keyword.value.array()[i], PointerStep(pointer, std::to_string(i))));
    }
    return out;
  }

  static const wire::Json* Get(const SchemaPlace& place, std::string_view keyword) {
    return place.json->Find(keyword);
  }

  static Result<std::uint32_t> Count(const Keyword& keyword) {
    std::optional<Decimal> value =
        keyword.value.is_number() ? Decimal::Parse(keyword.value.digits()) : std::nullopt;
    if (!value || !value->IsInteger() || value->negative()) {
      return Bad(keyword, "is no count");
    }
    std::optional<__int128> units = value->InUnits(0);
    if (!units || *units > kUnbounded - 1) {
      return kUnbounded - 1;
    }
    return static_cast<std::uint32_t>(*units);
  }

  static Result<Decimal> NumberOf(const Keyword& keyword) {
    std::optional<Decimal> value =
        keyword.value.is_number() ? Decimal::Parse(keyword.value.digits()) : std::nullopt;
    if (!value) {
      return Bad(keyword, "is no number");
    }
    if (!value->is_zero() && std::abs(value->magnitude()) > kMagnitudeMax) {
      return Refuse(keyword, "its exponent is larger than answers are written with");
    }
    return *value;
  }

  Result<std::vector<KeyId>> Keys(const Keyword& keyword, const wire::Json& list) {
    std::vector<KeyId> out;
    if (!list.is_array()) {
      return Bad(keyword, "is no list of names");
    }
    for (const wire::Json& name : list.array()) {
      if (!name.is_string()) {
        return Bad(keyword, "is no list of names");
      }
      out.push_back(store_.Key(name.string()));
    }
    return out;
  }

  Result<FormulaId> Build(const SchemaPlace& place) {
    if (!place.json->is_object()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{} is no schema: neither an object nor true or false",
                              place.pointer.empty() ? "/" : place.pointer),
                  place.pointer);
    }
    Draft draft = places_.DraftOf(place);
    std::vector<FormulaId> parts;
    if (const wire::Json* reference = Get(place, "$ref")) {
      PX_TRY(FormulaId target, Reference({place, "$ref", *reference}));
      if (draft <= Draft::k7) {
        return target;  // its neighbours say nothing
      }
      parts.push_back(target);
    }
    for (std::string_view name : {"$dynamicRef", "$recursiveRef"}) {
      if (const wire::Json* reference = Get(place, name)) {
        PX_TRY(FormulaId target, Reference({place, name, *reference}));
        parts.push_back(target);
      }
    }
    PX_CHECK_OK(General(place, parts));
    PX_CHECK_OK(Applied(place, parts));
    PX_CHECK_OK(Strings(place, parts));
    PX_CHECK_OK(Numbers(place, parts));
    PX_CHECK_OK(Objects(place, parts));
    PX_CHECK_OK(Arrays(place, parts));
    return store_.And(std::move(parts));
  }

  Result<SchemaPlace> Target(const Keyword& keyword) {
    if (!keyword.value.is_string()) {
      return Bad(keyword, "is no reference");
    }
    const std::string& text = keyword.value.string();
    if (keyword.name == "$dynamicRef") {
      std::size_t hash = text.find('#');
      std::string_view name =
          hash == std::string::npos ? "" : std::string_view(text).substr(hash + 1);
      if (places_.DynamicAnchorCount(name) > 1) {
        return Refuse(keyword, "several schemas have this dynamic anchor");
      }
    }
    if (keyword.name == "$recursiveRef" && places_.recursive_anchor()) {
      return Refuse(keyword, "the schema has a recursive anchor");
    }
    Result<SchemaPlace> target = places_.Follow(keyword.place, text);
    if (!target) {
      return Complain(target.error().code(), keyword, target.error().detail());
    }
    return target;
  }

  Result<FormulaId> Reference(const Keyword& keyword) {
    PX_TRY(const SchemaPlace target, Target(keyword));
    return SchemaAt(target);
  }

  // type, enum, const.
  Result<void> General(const SchemaPlace& place, std::vector<FormulaId>& parts) {
    if (const wire::Json* type = Get(place, "type")) {
      PX_TRY(FormulaId formula, Type({place, "type", *type}));
      parts.push_back(formula);
    }
    if (const wire::Json* values = Get(place, "enum")) {
      Keyword keyword{place, "enum", *values};
      if (!values->is_array()) {
        return Bad(keyword, "is no list");
      }
      std::vector<FormulaId> ways;
      std::vector<std::u32string> words;
      for (const wire::Json& value : values->array()) {
        if (value.is_string()) {
          words.push_back(CodePoints(value.string()));
        } else {
          ways.push_back(FormulaOfConstant(store_, value));
        }
      }
      if (!words.empty()) {
        ways.push_back(store_.And({store_.Kinds(KindBit(ValueKind::kString)),
                                   store_.Text(WordsAsTexts(store_, std::move(words)))}));
      }
      parts.push_back(store_.Or(std::move(ways)));
    }
    if (const wire::Json* value = Get(place, "const")) {
      parts.push_back(FormulaOfConstant(store_, *value));
    }
    return {};
  }

  Result<FormulaId> Type(const Keyword& keyword) {
    std::vector<FormulaId> ways;
    std::vector<const wire::Json*> names = {&keyword.value};
    if (keyword.value.is_array()) {
      names.clear();
      for (const wire::Json& name : keyword.value.array()) {
        names.push_back(&name);
      }
    }
    for (const wire::Json* name : names) {
      std::string_view text = name->is_string() ? std::string_view(name->string()) : "";
      FormulaId number = store_.Kinds(KindBit(ValueKind::kNumber));
      if (text == "null") {
        ways.push_back(store_.Kinds(KindBit(ValueKind::kNull)));
      } else if (text == "boolean") {
        ways.push_back(store_.Kinds(KindBit(ValueKind::kTrue) | KindBit(ValueKind::kFalse)));
      } else if (text == "string") {
        ways.push_back(store_.Kinds(KindBit(ValueKind::kString)));
      } else if (text == "array") {
        ways.push_back(store_.Kinds(KindBit(ValueKind::kArray)));
      } else if (text == "object") {
        ways.push_back(store_.Kinds(KindBit(ValueKind::kObject)));
      } else if (text == "number") {
        ways.push_back(number);
      } else if (text == "integer") {
        ways.push_back(store_.And({number, store_.Number({})}));
      } else {
        return Bad(keyword, fmt::format("{} is no type", name->Dump().substr(0, 80)));
      }
    }
    return store_.Or(std::move(ways));
  }

  // allOf, anyOf, oneOf, not, if.
  Result<void> Applied(const SchemaPlace& place, std::vector<FormulaId>& parts) {
    for (std::string_view name : {"allOf", "anyOf", "oneOf"}) {
      const wire::Json* list = Get(place, name);
      if (list == nullptr) {
        continue;
      }
      Keyword keyword{place, name, *list};
      if (!list->is_array() || list->array().empty()) {
        return Bad(keyword, "is no list of schemas");
      }
      std::vector<FormulaId> all = ListBelow(keyword);
      parts.push_back(name == "allOf"   ? store_.And(std::move(all))
                      : name == "anyOf" ? store_.Or(std::move(all))
                                        : store_.OneOf(std::move(all)));
    }
    if (const wire::Json* schema = Get(place, "not")) {
      parts.push_back(store_.Not(Below({place, "not", *schema})));
    }
    if (const wire::Json* condition = Get(place, "if")) {
      FormulaId test = Below({place, "if", *condition});
      const wire::Json* then = Get(place, "then");
      const wire::Json* otherwise = Get(place, "else");
      FormulaId yes = then != nullptr ? Below({place, "then", *then}) : kTrue;
      FormulaId no = otherwise != nullptr ? Below({place, "else", *otherwise}) : kTrue;
      parts.push_back(store_.Or({store_.And({test, yes}), store_.And({store_.Not(test), no})}));
    }
    return {};
  }

  Result<void> Strings(const SchemaPlace& place, std::vector<FormulaId>& parts) {
    RegexStore& regexes = store_.regexes;
    std::vector<RegexId> all = {regexes.full()};
    std::uint32_t min = 0;
    std::uint32_t max = kUnbounded;
    if (const wire::Json* value = Get(place, "minLength")) {
      PX_TRY(min, Count({place, "minLength", *value}));
    }
    if (const wire::Json* value = Get(place, "maxLength")) {
      PX_TRY(max, Count({place, "maxLength", *value}));
    }
    if (min > max) {
      all.push_back(RegexStore::kNothing);
    } else if (min > 0 || max != kUnbounded) {
      all.push_back(regexes.Length(min, max));
    }
    if (const wire::Json* value = Get(place, "pattern")) {
      PX_TRY(RegexId language, Pattern({place, "pattern", *value}));
      all.push_back(language);
    }
    if (const wire::Json* value = Get(place, "format")) {
      PX_TRY(RegexId language, Format({place, "format", *value}));
      all.push_back(language);
    }
    RegexId language = regexes.And(std::move(all));
    if (language != regexes.full()) {
      parts.push_back(store_.Text(language));
    }
    return {};
  }

  Result<RegexId> Pattern(const Keyword& keyword) {
    if (!keyword.value.is_string()) {
      return Bad(keyword, "is no pattern");
    }
    Result<RegexId> language =
        ParsePattern(store_.regexes, keyword.value.string(), PatternMode::kSearch);
    if (!language) {
      return Complain(language.error().code(), keyword, language.error().detail());
    }
    if (TooCostly(*language)) {
      return Complain(Code::kTooLarge, keyword,
                      "the pattern is too ambiguous: its automaton grows with every character");
    }
    return language;
  }

  // Following texts through the language would soon pass any budget worth having.
  bool TooCostly(RegexId language) {
    constexpr std::uint64_t kProbeSteps = 300'000;
    constexpr std::string_view kProbes = "a0.-A_/ ";
    constexpr std::size_t kPlacesMax = 400;
    Fuel& fuel = store_.regexes.fuel;
    const Fuel before = fuel;
    fuel.steps = std::min(before.steps, kProbeSteps);
    const std::uint64_t given = fuel.steps;
    TextStates texts;
    std::vector<std::uint32_t> met = {texts.Start(store_.regexes, {language})};
    for (std::size_t at = 0; at < met.size() && met.size() < kPlacesMax; ++at) {
      for (char c : kProbes) {
        std::uint32_t next = texts.Next(store_.regexes, met[at], static_cast<char32_t>(c));
        if (next != TextStates::kDead && std::find(met.begin(), met.end(), next) == met.end()) {
          met.push_back(next);
        }
      }
    }
    bool costly = fuel.exhausted && !before.exhausted && given == kProbeSteps;
    fuel.steps = before.steps - (given - fuel.steps);
    fuel.exhausted = fuel.exhausted && !costly;
    return costly;
  }

  Result<RegexId> Format(const Keyword& keyword) {
    if (!keyword.value.is_string()) {
      return Bad(keyword, "is no name of a format");
    }
    const std::string& name = keyword.value.string();
    switch (SupportOfFormat(name)) {
      case FormatSupport::kAnnotation:
        return store_.regexes.full();
      case FormatSupport::kRefused:
        return Refuse(keyword, fmt::format("the format {} is not enforced", name));
      case FormatSupport::kPattern:
        break;
    }
    auto [language, fresh] = formats_.try_emplace(name, RegexStore::kNothing);
    if (fresh) {
      PX_TRY(language->second,
             ParsePattern(store_.regexes, FormatPattern(name), PatternMode::kWhole));
    }
    return language->second;
  }

  Result<void> Numbers(const SchemaPlace& place, std::vector<FormulaId>& parts) {
    auto bound = [&](std::string_view name, std::string_view exclusive,
                     NumberRule::Kind kind) -> Result<void> {
      const wire::Json* open = Get(place, exclusive);
      bool flag = open != nullptr && open->is_bool();  // draft 4
      if (const wire::Json* value = Get(place, name)) {
        PX_TRY(Decimal limit, NumberOf({place, name, *value}));
        parts.push_back(store_.Number({kind, flag && open->boolean(), std::move(limit)}));
      }
      if (open != nullptr && !flag) {
        PX_TRY(Decimal limit, NumberOf({place, exclusive, *open}));
        parts.push_back(store_.Number({kind, true, std::move(limit)}));
      }
      return {};
    };
    PX_CHECK_OK(bound("minimum", "exclusiveMinimum", NumberRule::Kind::kAtLeast));
    PX_CHECK_OK(bound("maximum", "exclusiveMaximum", NumberRule::Kind::kAtMost));
    if (const wire::Json* value = Get(place, "multipleOf")) {
      Keyword keyword{place, "multipleOf", *value};
      PX_TRY(Decimal step, NumberOf(keyword));
      if (step.is_zero() || step.negative()) {
        return Bad(keyword, "is not above 0");
      }
      if (step.digits().size() > kStepDigitsMax) {
        return Refuse(keyword, fmt::format("more than {} digits", kStepDigitsMax));
      }
      parts.push_back(store_.Number({NumberRule::Kind::kMultiple, false, std::move(step)}));
    }
    return {};
  }

  // named and patterns of `place`; nothing if it has neither.
  Result<std::optional<PropertyTable>> Table(const SchemaPlace& place) {
    const wire::Json* named = Get(place, "properties");
    const wire::Json* patterns = Get(place, "patternProperties");
    if (named == nullptr && patterns == nullptr) {
      return std::optional<PropertyTable>();
    }
    PropertyTable table;
    if (named != nullptr) {
      Keyword keyword{place, "properties", *named};
      if (!named->is_object()) {
        return Bad(keyword, "is no object of schemas");
      }
      std::string pointer = PointerStep(place.pointer, "properties");
      for (const auto& [name, schema] : named->object()) {
        KeyId key = store_.Key(name);
        table.named[key] = Below(place, schema, PointerStep(pointer, name));
        table.names.push_back(key);
      }
    }
    if (patterns != nullptr) {
      Keyword keyword{place, "patternProperties", *patterns};
      if (!patterns->is_object()) {
        return Bad(keyword, "is no object of schemas");
      }
      std::string pointer = PointerStep(place.pointer, "patternProperties");
      for (const auto& [pattern, schema] : patterns->object()) {
        PX_TRY(RegexId language, Pattern({place, "patternProperties", wire::Json(pattern)}));
        table.patterns.emplace_back(language, Below(place, schema, PointerStep(pointer, pattern)));
      }
    }
    return std::optional(std::move(table));
  }

  Result<void> Objects(const SchemaPlace& place, std::vector<FormulaId>& parts) {
    PX_TRY(std::optional<PropertyTable> table, Table(place));
    if (const wire::Json* value = Get(place, "additionalProperties")) {
      if (!table) {
        table.emplace();
      }
      table->additional = Below({place, "additionalProperties", *value});
    }
    if (table) {
      parts.push_back(store_.Properties(std::move(*table)));
    }
    if (const wire::Json* value = Get(place, "required")) {
      // In draft 3, which some still write inside newer drafts, it is a flag of the member.
      if (!value->is_bool()) {
        PX_TRY(std::vector<KeyId> keys, Keys({place, "required", *value}, *value));
        parts.push_back(store_.Has(std::move(keys)));
      } else {
        return Bad({place, "required", *value}, "is no list of names");
      }
    }
    if (const wire::Json* value = Get(place, "minProperties")) {
      PX_TRY(std::uint32_t count, Count({place, "minProperties", *value}));
      parts.push_back(count == 0 ? kTrue : store_.Atom(Kind::kMinProperties, count));
    }
    if (const wire::Json* value = Get(place, "maxProperties")) {
      PX_TRY(std::uint32_t count, Count({place, "maxProperties", *value}));
      parts.push_back(store_.Atom(Kind::kMaxProperties, count));
    }
    if (const wire::Json* value = Get(place, "propertyNames")) {
      FormulaId names = Below({place, "propertyNames", *value});
      parts.push_back(names == kTrue ? kTrue : store_.Atom(Kind::kNames, names));
    }
    for (std::string_view name : {"dependentRequired", "dependentSchemas", "dependencies"}) {
      if (const wire::Json* value = Get(place, name)) {
        PX_CHECK_OK(Dependent({place, name, *value}, parts));
      }
    }
    if (const wire::Json* value = Get(place, "unevaluatedProperties")) {
      PX_CHECK_OK(Unevaluated({place, "unevaluatedProperties", *value}, false, parts));
    }
    return {};
  }

  Result<void> Dependent(const Keyword& keyword, std::vector<FormulaId>& parts) {
    if (!keyword.value.is_object()) {
      return Bad(keyword, "is no object");
    }
    std::string pointer = PointerStep(keyword.place.pointer, keyword.name);
    for (const auto& [name, value] : keyword.value.object()) {
      FormulaId absent = store_.Not(store_.Has({store_.Key(name)}));
      bool names = keyword.name == "dependentRequired" ||
                   (keyword.name == "dependencies" && value.is_array());
      FormulaId then = kTrue;
      if (names) {
        PX_TRY(std::vector<KeyId> keys, Keys(keyword, value));
        then = store_.Has(std::move(keys));
      } else {
        then = store_.And(
            {store_.Kinds(~0U), Below(keyword.place, value, PointerStep(pointer, name))});
        // Only objects can have the name.
        then = store_.Or({store_.Kinds(~KindBit(ValueKind::kObject)), then});
      }
      parts.push_back(store_.Or({absent, then}));
    }
    return {};
  }

  Result<void> Arrays(const SchemaPlace& place, std::vector<FormulaId>& parts) {
    PX_TRY(std::optional<ItemTable> table, ItemsOf(place));
    if (table) {
      parts.push_back(store_.Items(std::move(*table)));
    }
    if (const wire::Json* value = Get(place, "minItems")) {
      PX_TRY(std::uint32_t count, Count({place, "minItems", *value}));
      parts.push_back(count == 0 ? kTrue : store_.Atom(Kind::kMinItems, count));
    }
    if (const wire::Json* value = Get(place, "maxItems")) {
      PX_TRY(std::uint32_t count, Count({place, "maxItems", *value}));
      parts.push_back(store_.Atom(Kind::kMaxItems, count));
    }
    if (const wire::Json* value = Get(place, "uniqueItems")) {
      if (!value->is_bool()) {
        return Bad({place, "uniqueItems", *value}, "is neither true nor false");
      }
      if (value->boolean()) {
        if (HasListedContainer(Get(place, "items"))) {
          return Refuse({place, "uniqueItems", *value},
                        "its items are of a few lists or objects, which are told apart too late");
        }
        parts.push_back(store_.Atom(Kind::kUnique, 0));
      }
    }
    if (const wire::Json* value = Get(place, "contains")) {
      std::uint32_t least = 1;
      std::uint32_t most = kUnbounded;
      if (places_.DraftOf(place) >= Draft::k2019) {
        if (const wire::Json* count = Get(place, "minContains")) {
          PX_TRY(least, Count({place, "minContains", *count}));
        }
        if (const wire::Json* count = Get(place, "maxContains")) {
          PX_TRY(most, Count({place, "maxContains", *count}));
        }
      }
      FormulaId schema = Below({place, "contains", *value});
      if (least > 0 || most != kUnbounded) {
        parts.push_back(store_.Atom(Kind::kContains, schema, least, most));
      }
    }
    if (const wire::Json* value = Get(place, "unevaluatedItems")) {
      PX_CHECK_OK(Unevaluated({place, "unevaluatedItems", *value}, true, parts));
    }
    return {};
  }

  // Whether `schema` lists its values, lists or objects among them.
  static bool HasListedContainer(const wire::Json* schema) {
    if (schema == nullptr || !schema->is_object()) {
      return false;
    }
    const wire::Json* one = schema->Find("const");
    const wire::Json* several = schema->Find("enum");
    const auto container = [](const wire::Json& value) {
      return value.is_array() || value.is_object();
    };
    return (one != nullptr && container(*one)) ||
           (several != nullptr && several->is_array() &&
            std::any_of(several->array().begin(), several->array().end(), container));
  }

  Result<std::optional<ItemTable>> ItemsOf(const SchemaPlace& place) {
    const wire::Json* prefix = Get(place, "prefixItems");
    const wire::Json* items = Get(place, "items");
    if (prefix != nullptr && !prefix->is_array()) {
      return Bad({place, "prefixItems", *prefix}, "is no list of schemas");
    }
    ItemTable table;
    if (prefix != nullptr) {
      table.prefix = ListBelow({place, "prefixItems", *prefix});
    }
    if (items != nullptr && items->is_array()) {
      if (prefix != nullptr) {
        return Bad({place, "items", *items}, "is a list beside prefixItems");
      }
      table.prefix = ListBelow({place, "items", *items});
      if (const wire::Json* rest = Get(place, "additionalItems")) {
        table.rest = Below({place, "additionalItems", *rest});
      }
    } else if (items != nullptr) {
      table.rest = Below({place, "items", *items});
    } else if (prefix == nullptr) {
      return std::optional<ItemTable>();
    }
    return std::optional(std::move(table));
  }

  // unevaluatedProperties and unevaluatedItems.
  Result<void> Unevaluated(const Keyword& keyword, bool items, std::vector<FormulaId>& parts) {
    Evaluation evaluation;
    evaluation.otherwise = Below(keyword);
    if (evaluation.otherwise == kTrue) {
      return {};
    }
    std::vector<const wire::Json*> path;
    PX_CHECK_OK(Evaluated(keyword, keyword.place, kTrue, items, path, evaluation));
    parts.push_back(store_.Unevaluated(std::move(evaluation), items));
    return {};
  }

  // Adds what `place` evaluates where `condition` holds.
  Result<void> Evaluated(const Keyword& keyword, const SchemaPlace& place, FormulaId condition,
                         bool items, std::vector<const wire::Json*>& path, Evaluation& evaluation) {
    if (!place.json->is_object()) {
      return {};
    }
    if (std::find(path.begin(), path.end(), place.json) != path.end() || path.size() > 64) {
      return Refuse(keyword, "it sees a schema that contains itself");
    }
    path.push_back(place.json);
    PX_CHECK_OK(EvaluatedHere(keyword, place, condition, items, evaluation));
    auto below = [&](std::string_view name, const wire::Json& json, std::string_view pointer,
                     FormulaId extra) -> Result<void> {
      (void)name;
      SchemaPlace child = places_.At(json, pointer, place.resource);
      return Evaluated(keyword, child, store_.And({condition, extra}), items, path, evaluation);
    };
    for (std::string_view name : {"$ref", "$dynamicRef", "$recursiveRef"}) {
      if (const wire::Json* reference = Get(place, name)) {
        PX_TRY(const SchemaPlace target, Target({place, name, *reference}));
        PX_CHECK_OK(Evaluated(keyword, target, condition, items, path, evaluation));
      }
    }
    for (std::string_view name : {"allOf", "anyOf", "oneOf"}) {
      const wire::Json* list = Get(place, name);
      if (list == nullptr || !list->is_array()) {
        continue;
      }
      std::string pointer = PointerStep(place.pointer, name);
      for (std::size_t i = 0; i < list->array().size(); ++i) {
        const wire::Json& json = list->array()[i];
        std::string at = PointerStep(pointer, std::to_string(i));
        FormulaId holds = name == "allOf" ? kTrue : Below(place, json, at);
        PX_CHECK_OK(below(name, json, at, holds));
      }
    }
    if (const wire::Json* test = Get(place, "if")) {
      FormulaId holds = Below({place, "if", *test});
      PX_CHECK_OK(below("if", *test, PointerStep(place.pointer, "if"), holds));
      if (const wire::Json* then = Get(place, "then")) {
        PX_CHECK_OK(below("then", *then, PointerStep(place.pointer, "then"), holds));
      }
      if (const wire::Json* no = Get(place, "else")) {
        PX_CHECK_OK(below("else", *no, PointerStep(place.pointer, "else"), store_.Not(holds)));
      }
    }
    const wire::Json* dependent = Get(place, "dependentSchemas");
    if (dependent != nullptr && dependent->is_object()) {
      std::string pointer = PointerStep(place.pointer, "dependentSchemas");
      for (const auto& [name, json] : dependent->object()) {
        PX_CHECK_OK(below("dependentSchemas", json, PointerStep(pointer, name),
                          store_.Has({store_.Key(name)})));
      }
    }
    path.pop_back();
    return {};
  }

  Result<void> EvaluatedHere(const Keyword& keyword, const SchemaPlace& place, FormulaId condition,
                             bool items, Evaluation& evaluation) {
    Evaluation::Part part{condition, kNone, false, kNone, false, kFalse};
    bool self = place.json == keyword.place.json;
    if (items) {
      PX_TRY(std::optional<ItemTable> table, ItemsOf(place));
      const wire::Json* rest = Get(place, "items");
      part.all_items = (rest != nullptr && !rest->is_array()) ||
                       (rest != nullptr && Get(place, "additionalItems") != nullptr) ||
                       (!self && Get(place, "unevaluatedItems") != nullptr);
      if (table) {
        part.items = store_.AddTable(std::move(*table));
      }
      const wire::Json* contains = Get(place, "contains");
      if (contains != nullptr && places_.DraftOf(place) >= Draft::k2020) {
        part.contains = Below({place, "contains", *contains});
      }
    } else {
      PX_TRY(std::optional<PropertyTable> table, Table(place));
      part.all_properties = Get(place, "additionalProperties") != nullptr ||
                            (!self && Get(place, "unevaluatedProperties") != nullptr);
      if (table) {
        part.properties = store_.AddTable(std::move(*table));
      }
    }
    evaluation.parts.push_back(part);
    return {};
  }

  // A schema that refers to itself without a member or item between says nothing that ends.
  Result<void> RefuseEndlessReferences() {
    std::vector<std::uint8_t> state(store_.schema_count(), 0);  // 1: on the way, 2: done
    for (std::uint32_t start = 0; start < state.size(); ++start) {
      if (state[start] == 0 && !Ends(start, state)) {
        return Fail(Code::kUnsupported,
                    "$ref: a schema refers to itself without a property or item between", "$ref");
      }
    }
    return {};
  }

  bool Ends(std::uint32_t start, std::vector<std::uint8_t>& state) {
    struct Step {
      std::uint32_t schema;
      std::vector<std::uint32_t> next;
    };

    std::vector<Step> path;
    auto enter = [&](std::uint32_t schema) {
      state[schema] = 1;
      Step step{schema, {}};
      InPlace(store_.SchemaFormula(schema), step.next);
      path.push_back(std::move(step));
    };
    enter(start);
    while (!path.empty()) {
      Step& top = path.back();
      if (top.next.empty()) {
        state[top.schema] = 2;
        path.pop_back();
        continue;
      }
      std::uint32_t next = top.next.back();
      top.next.pop_back();
      if (state[next] == 1) {
        return false;
      }
      if (state[next] == 0) {
        enter(next);
      }
    }
    return true;
  }

  void InPlace(FormulaId formula, std::vector<std::uint32_t>& out) const {
    const FormulaStore::Node& node = store_.node(formula);
    if (node.kind == Kind::kSchema) {
      out.push_back(node.a);
    } else if (node.kind == Kind::kNot) {
      InPlace(node.a, out);
    }
    for (FormulaId part : node.parts) {
      InPlace(part, out);
    }
  }

  FormulaStore& store_;
  SchemaPlaces& places_;
  std::unordered_map<const wire::Json*, std::uint32_t> numbers_;
  std::vector<std::pair<SchemaPlace, std::uint32_t>> work_;
  std::unordered_map<std::string, RegexId> formats_;
};

}  // namespace

FormulaId FormulaOfConstant(FormulaStore& store, const wire::Json& value) {
  FormulaId kind = store.Kinds(KindBit(KindOf(value)));
  switch (value.kind()) {
    case wire::Json::Kind::kNumber:
      return store.And({kind, store.Number({NumberRule::Kind::kEquals, false,
                                            Decimal::Parse(value.digits()).value_or(Decimal())})});
    case wire::Json::Kind::kString:
      return store.And({kind, store.Text(WordsAsTexts(store, {CodePoints(value.string())}))});
    case wire::Json::Kind::kArray: {
      ItemTable table;
      for (const wire::Json& item : value.array()) {
        table.prefix.push_back(FormulaOfConstant(store, item));
      }
      table.rest = kFalse;
      auto count = static_cast<std::uint32_t>(table.prefix.size());
      FormulaId least = count == 0 ? kTrue : store.Atom(Kind::kMinItems, count);
      return store.And({kind, store.Items(std::move(table)), least});
    }
    case wire::Json::Kind::kObject: {
      PropertyTable table;
      std::vector<KeyId> keys;
      for (const auto& [name, member] : value.object()) {
        KeyId key = store.Key(name);
        table.named[key] = FormulaOfConstant(store, member);
        table.names.push_back(key);
        keys.push_back(key);
      }
      table.additional = kFalse;
      return store.And({kind, store.Properties(std::move(table)), store.Has(std::move(keys))});
    }
    default:
      return kind;
  }
}

Result<FormulaId> ReadSchema(FormulaStore& store, const wire::Json& schema) {
  PX_TRY(SchemaPlaces places, SchemaPlaces::Find(schema));
  return Reader(store, places).Read();
}

}  // namespace pixii::text::grammar
