#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"
#include "text/grammar/grammar.h"
#include "text/grammar/json_machine.h"
#include "text/grammar/notation_machine.h"
#include "text/grammar/pattern.h"
#include "text/grammar/rule_machine.h"
#include "text/grammar/rule_reader.h"
#include "text/grammar/schema_reader.h"
#include "text/grammar/script_machine.h"
#include "text/grammar/tag_machine.h"
#include "text/grammar/text_machine.h"

namespace pixii::text::grammar {

namespace {

using Compiled = Result<std::unique_ptr<Machine>>;

Error PastBudget() { return {Code::kTooLarge, "the grammar is past the budget of compilation"}; }

Result<FormulaId> ReadSchemaText(FormulaStore& store, std::string_view text) {
  Result<wire::Json> schema = wire::ParseJson(text);
  if (!schema) {
    return Fail(Code::kInvalidArgument, "the schema is no JSON: " + schema.error().detail());
  }
  return ReadSchema(store, *schema);
}

Compiled CompileJson(const GrammarSpec& spec, const CompileBudget& budget) {
  FormulaStore store;
  store.regexes.fuel = {budget.steps_max, budget.nodes_max, false};
  FormulaId root = kTrue;
  if (spec.kind == GrammarKind::kJsonObject) {
    root = store.Kinds(KindBit(ValueKind::kObject));
  } else {
    PX_TRY(root, ReadSchemaText(store, spec.text));
  }
  auto machine = std::make_unique<JsonMachine>(std::move(store),
                                               JsonMachineOptions{spec.spelling, budget.depth_max});
  machine->AddRoot(root);
  bool possible = machine->Possible(root);
  if (machine->fuel().exhausted) {
    return Fail(PastBudget());
  }
  if (!possible) {
    return Fail(Code::kInvalidArgument, "no JSON value satisfies the schema");
  }
  return machine;
}

Compiled CompileText(const GrammarSpec& spec, const CompileBudget& budget) {
  RegexStore store;
  store.fuel = {budget.steps_max, budget.nodes_max, false};
  RegexId language = RegexStore::kNothing;
  if (spec.kind == GrammarKind::kRegex) {
    PX_TRY(language, ParsePattern(store, spec.text, PatternMode::kWhole));
  } else {
    std::vector<std::u32string> words;
    for (const std::string& choice : spec.choices) {
      if (!IsValidUtf8(choice)) {
        return Fail(Code::kInvalidArgument, "a choice is no well-formed UTF-8");
      }
      std::u32string word;
      for (std::string_view rest = choice; !rest.empty();) {
        word += DecodeUtf8(rest);
        rest.remove_prefix(Utf8SequenceLength(rest));
      }
      words.push_back(word + kTextEnd);
    }
    language = store.Words(std::move(words));
  }
  auto machine = std::make_unique<TextMachine>(std::move(store), language);
  if (machine->fuel().exhausted) {
    return Fail(PastBudget());
  }
  if (!machine->possible()) {
    return Fail(Code::kInvalidArgument, "no text matches the grammar");
  }
  return machine;
}

Compiled CompileRules(const GrammarSpec& spec, const CompileBudget& budget) {
  RegexStore store;
  store.fuel = {budget.steps_max, budget.nodes_max, false};
  RuleSet rules;
  std::uint32_t start = 0;
  if (spec.kind == GrammarKind::kEbnf) {
    PX_TRY(start, ReadEbnf(rules, store, spec.text));
  } else {
    PX_TRY(start, ReadLark(rules, store, spec.text));
  }
  auto machine = std::make_unique<RuleMachine>(std::move(store), std::move(rules), start);
  if (machine->fuel().exhausted) {
    return Fail(PastBudget());
  }
  return machine;
}

// What a tag of white space or digits would end inside JSON itself is not told from it.
bool EndIsClear(std::string_view end) {
  constexpr std::string_view kInside = " \t\r\n0123456789.eE+-";
  return end.empty() || kInside.find(end[0]) == std::string_view::npos;
}

Result<std::vector<TagWords>> ReadTags(const GrammarSpec& spec) {
  std::vector<TagWords> out;
  std::size_t bytes = 0;
  for (const StructuralTag& tag : spec.tags) {
    bytes += tag.begin.size();
    if (tag.begin.empty() || !IsValidUtf8(tag.begin) || !IsValidUtf8(tag.end)) {
      return Fail(Code::kInvalidArgument, "structural tag: begin is empty or no UTF-8");
    }
    if (!EndIsClear(tag.end)) {
      return Fail(Code::kUnsupported,
                  "structural tag: an end that begins with white space or as a number goes on");
    }
    out.push_back({tag.begin, tag.end});
  }
  if (out.empty() || out.size() > kTagsMax || bytes > kTagBytesMax) {
    return Fail(Code::kInvalidArgument, fmt::format("structural tags: 1 to {} of them with {} "
                                                    "bytes of beginnings are read",
                                                    kTagsMax, kTagBytesMax));
  }
  for (const TagWords& tag : out) {
    for (const TagWords& other : out) {
      if (&tag != &other && other.begin.starts_with(tag.begin)) {
        return Fail(Code::kUnsupported,
                    fmt::format("structural tags: {} begins another tag's beginning", tag.begin));
      }
    }
  }
  for (const std::string& trigger : spec.triggers) {
    bool leads = false;
    for (const TagWords& tag : out) {
      if (!trigger.empty() && tag.begin.find(trigger, 1) != std::string::npos) {
        return Fail(Code::kUnsupported,
                    fmt::format("structural tags: {} holds the trigger {}", tag.begin, trigger));
      }
      leads = leads || (!trigger.empty() && tag.begin.starts_with(trigger));
    }
    if (!leads) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("structural tags: no tag begins with the trigger {}", trigger));
    }
  }
  return out;
}

Compiled CompileTags(const GrammarSpec& spec, const CompileBudget& budget) {
  PX_TRY(std::vector<TagWords> tags, ReadTags(spec));
  FormulaStore store;
  store.regexes.fuel = {budget.steps_max, budget.nodes_max, false};
  std::vector<FormulaId> roots;
  for (const StructuralTag& tag : spec.tags) {
    PX_TRY(roots.emplace_back(), ReadSchemaText(store, tag.schema.empty() ? "true" : tag.schema));
  }
  JsonMachine json(std::move(store), {spec.spelling, budget.depth_max});
  for (FormulaId root : roots) {
    json.AddRoot(root);
    if (!json.Possible(root)) {
      return Fail(Code::kInvalidArgument, "no JSON value satisfies the schema of a tag");
    }
  }
  if (json.fuel().exhausted) {
    return Fail(PastBudget());
  }
  std::vector<std::string> triggers = spec.triggers;
  for (std::size_t i = 0; triggers.size() < tags.size() && spec.triggers.empty(); ++i) {
    triggers.push_back(tags[i].begin);
  }
  return std::make_unique<TagMachine>(std::move(json), std::move(tags), std::move(triggers));
}

// The values of a script are the roots.
Compiled CompileValues(const GrammarSpec& spec, const CompileBudget& budget) {
  FormulaStore store;
  store.regexes.fuel = {budget.steps_max, budget.nodes_max, false};
  std::vector<FormulaId> roots;
  for (const wire::ScriptValue& value : spec.script.values) {
    Result<FormulaId> root = ReadSchemaText(store, value.schema);
    if (!root) {
      return Fail(root.error().code(), fmt::format("{}: {}", value.name, root.error().detail()),
                  root.error().param());
    }
    roots.push_back(value.any_kind ? *root
                                   : store.And({*root, store.Kinds(KindBit(ValueKind::kObject))}));
  }
  // Their readers count what stands around them, too.
  constexpr std::uint32_t kDepthMax = 100;
  auto json = std::make_unique<JsonMachine>(
      std::move(store), JsonMachineOptions{spec.spelling, std::min(budget.depth_max, kDepthMax)});
  for (std::size_t i = 0; i < roots.size(); ++i) {
    json->AddRoot(roots[i]);
    if (!json->Possible(roots[i])) {
      return Fail(Code::kInvalidArgument, fmt::format("{}: no JSON object satisfies the schema",
                                                      spec.script.values[i].name));
    }
  }
  if (json->fuel().exhausted) {
    return Fail(PastBudget());
  }
  if (spec.script.notation == wire::ScriptNotation::kJson) {
    return json;
  }
  return std::make_unique<NotationMachine>(std::move(*json), spec.script);
}

Compiled CompileBody(const GrammarSpec& spec, const CompileBudget& budget) {
  switch (spec.kind) {
    case GrammarKind::kJsonSchema:
    case GrammarKind::kJsonObject:
      return CompileJson(spec, budget);
    case GrammarKind::kRegex:
    case GrammarKind::kChoice:
      return CompileText(spec, budget);
    case GrammarKind::kEbnf:
    case GrammarKind::kLark:
      return CompileRules(spec, budget);
    case GrammarKind::kStructuralTags:
      return CompileTags(spec, budget);
    case GrammarKind::kScript:
      return CompileValues(spec, budget);
  }
  return Fail(Code::kUnsupported, "this kind of grammar is not built");
}

// What the first mask of nearly every answer needs is derived here, not on the engine thread.
// False: it costs more than a mask may.
bool Warm(Machine& machine) {
  constexpr std::uint64_t kStepsOfMask = 4'000'000;
  const std::uint64_t left = machine.fuel().steps;
  const std::size_t mark = machine.Mark();
  for (std::string_view beginning : {"{\"", "{\n", "[{\"", "[\"", "\""}) {
    machine.fuel().steps = kStepsOfMask;
    State at = machine.Start();
    for (char c : beginning) {
      if (!machine.Step(at, static_cast<std::uint8_t>(c))) {
        break;
      }
      machine.RunOf(at);
    }
  }
  machine.Release(mark);
  machine.fuel().steps = left;
  return !machine.fuel().exhausted;
}

}  // namespace

Grammar::Grammar(std::unique_ptr<const Machine> machine) : machine_(std::move(machine)) {}

Grammar::~Grammar() = default;

Result<std::shared_ptr<const Grammar>> Compile(const GrammarSpec& spec,
                                               const CompileBudget& budget) {
  if (spec.text.size() > budget.text_bytes_max) {
    return Fail(Code::kTooLarge, fmt::format("the grammar has {} bytes, at most {} are read",
                                             spec.text.size(), budget.text_bytes_max));
  }
  Compiled machine = CompileBody(spec, budget);
  if (machine && !spec.script.empty()) {
    machine = ScriptMachine::Create(spec.script, std::move(*machine));
  }
  if (!machine) {
    return Fail(machine.error());
  }
  if (!Warm(**machine) || (*machine)->size_bytes() > budget.bytes_max) {
    return Fail(PastBudget());
  }
  return std::make_shared<const Grammar>(std::move(*machine));
}

}  // namespace pixii::text::grammar
