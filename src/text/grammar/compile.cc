#include <fmt/format.h>

#include "base/utf8.h"
#include "text/grammar/grammar.h"
#include "text/grammar/json_machine.h"
#include "text/grammar/pattern.h"
#include "text/grammar/rule_machine.h"
#include "text/grammar/rule_reader.h"
#include "text/grammar/schema_reader.h"
#include "text/grammar/text_machine.h"

namespace pixii::text::grammar {

namespace {

using Compiled = Result<std::unique_ptr<Machine>>;

Error PastBudget() { return {Code::kTooLarge, "the grammar is past the budget of compilation"}; }

Compiled CompileJson(const GrammarSpec& spec, const CompileBudget& budget) {
  FormulaStore store;
  store.regexes.fuel = {budget.steps_max, budget.nodes_max, false};
  FormulaId root = kTrue;
  if (spec.kind == GrammarKind::kJsonObject) {
    root = store.Kinds(KindBit(ValueKind::kObject));
  } else {
    Result<wire::Json> schema = wire::ParseJson(spec.text);
    if (!schema) {
      return Fail(Code::kInvalidArgument, "the schema is no JSON: " + schema.error().detail());
    }
    PX_TRY(root, ReadSchema(store, *schema));
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

}  // namespace

Grammar::Grammar(std::unique_ptr<const Machine> machine) : machine_(std::move(machine)) {}

Grammar::~Grammar() = default;

Result<std::shared_ptr<const Grammar>> Compile(const GrammarSpec& spec,
                                               const CompileBudget& budget) {
  if (spec.text.size() > budget.text_bytes_max) {
    return Fail(Code::kTooLarge, fmt::format("the grammar has {} bytes, at most {} are read",
                                             spec.text.size(), budget.text_bytes_max));
  }
  Compiled machine = Fail(Code::kUnsupported, "this kind of grammar is not built");
  switch (spec.kind) {
    case GrammarKind::kJsonSchema:
    case GrammarKind::kJsonObject:
      machine = CompileJson(spec, budget);
      break;
    case GrammarKind::kRegex:
    case GrammarKind::kChoice:
      machine = CompileText(spec, budget);
      break;
    case GrammarKind::kEbnf:
    case GrammarKind::kLark:
      machine = CompileRules(spec, budget);
      break;
    default:
      break;
  }
  if (!machine) {
    return Fail(machine.error());
  }
  return std::make_shared<const Grammar>(std::move(*machine));
}

}  // namespace pixii::text::grammar
