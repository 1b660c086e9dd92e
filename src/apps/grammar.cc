// pixii grammar: says of texts whether they follow a grammar. pixii bench grammar: what it costs.
#include "text/grammar/grammar.h"

#include <fmt/format.h>

#include <iostream>
#include <optional>

#include "apps/command.h"
#include "apps/model_source.h"
#include "apps/version.h"
#include "bench/grammar_bench.h"
#include "bench/machine.h"
#include "model/checkpoint_folder.h"
#include "rt/file.h"
#include "text/grammar/grammar_matcher.h"
#include "text/tokenizer/tokenizer.h"
#include "wire/json.h"

namespace pixii::apps {

namespace {

namespace gr = text::grammar;

struct GrammarFlags {
  std::string model = kBundledModel;
  std::string schema;
  std::string regex;
  std::string ebnf;
  std::string lark;
  bool json_object = false;
};

struct BenchGrammarFlags {
  std::string model = kBundledModel;
  std::string data;
  std::string dialect;
  std::string skip;
  bool json = false;
};

config::Option Text(const char* name, std::string* target, const char* help) {
  config::Option option;
  option.name = name;
  option.field = config::TextField{target, {}};
  option.help = help;
  return option;
}

// Too long a grammar is the compiler's to refuse, as it refuses one in a file.
config::Option LongText(const char* name, std::string* target, const char* help) {
  config::Option option = Text(name, target, help);
  option.field = config::TextField{target, {.size_max = gr::CompileBudget().text_bytes_max}};
  return option;
}

config::Option Switch(const char* name, bool* target, const char* help) {
  config::Option option;
  option.name = name;
  option.field = config::BoolField{target};
  option.help = help;
  return option;
}

constexpr const char* kModelHelp =
    "folder, bundled name or org/name[@revision]; its tokenizer.json is used";

struct Loaded {
  std::unique_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const gr::GrammarVocabulary> vocabulary;
};

// A folder that has nothing but a tokenizer will do.
Result<Loaded> LoadVocabulary(const std::string& name) {
  std::string json;
  std::string place = name + "/tokenizer.json";
  if (Result<std::string> file = rt::ReadFile(place, text::kTokenizerJsonBytesMax)) {
    json = std::move(*file);
  } else {
    PX_TRY(ModelSource source, ResolveModel(name, false));
    PX_TRY(const model::CheckpointFolder folder, model::CheckpointFolder::Open(source.folder));
    PX_TRY(json, folder.ReadText("tokenizer.json", text::kTokenizerJsonBytesMax));
    place = source.folder + "/tokenizer.json";
  }
  Loaded out;
  PX_TRY(out.tokenizer, text::Tokenizer::FromJson(json, place));
  PX_TRY(out.vocabulary, gr::GrammarVocabulary::Build(*out.tokenizer, {}));
  return out;
}

Result<gr::GrammarSpec> SpecOf(const GrammarFlags& flags) {
  gr::GrammarSpec spec;
  int given = 0;
  auto file = [&](const std::string& path, gr::GrammarKind kind) -> Result<void> {
    if (!path.empty()) {
      ++given;
      spec.kind = kind;
      PX_TRY(spec.text, rt::ReadFile(path, gr::CompileBudget().text_bytes_max));
    }
    return {};
  };
  PX_CHECK_OK(file(flags.schema, gr::GrammarKind::kJsonSchema));
  PX_CHECK_OK(file(flags.ebnf, gr::GrammarKind::kEbnf));
  PX_CHECK_OK(file(flags.lark, gr::GrammarKind::kLark));
  if (!flags.regex.empty()) {
    ++given;
    spec.kind = gr::GrammarKind::kRegex;
    spec.text = flags.regex;
  }
  given += flags.json_object ? 1 : 0;
  if (given != 1) {
    return Fail(Code::kInvalidArgument,
                "give one of --schema, --regex, --ebnf, --lark and --json-object");
  }
  return spec;
}

// What a text says when it is neither well formed nor taken apart by the tokenizer: not valid.
// Errors: kTooLarge if that was not found out within the grammar's budget.
Result<bool> IsValid(const Loaded& loaded, const std::string& line,
                     const std::shared_ptr<gr::GrammarRuntime>& runtime) {
  Result<bool> valid = bench::WalkMasks(*loaded.tokenizer, line, runtime, nullptr);
  const bool accepted = valid && *valid && gr::GrammarMatcher(runtime).AcceptBytes(line);
  if (runtime->exhausted()) {
    return Fail(Code::kTooLarge, "the grammar is past the budget of one text");
  }
  return accepted;
}

wire::Json ErrorLine(const Error& error) {
  wire::Json out(wire::Json::Object{});
  out.Set("error", error.ToString());
  return out;
}

}  // namespace

int RunGrammar(const Arguments& arguments) {
  GrammarFlags flags;
  config::Command command;
  command.name = "grammar";
  command.summary =
      "Reads texts, a line each, and says of each whether a grammar allows it, by the masks over "
      "its tokens.";
  command.options = {
      Text("model", &flags.model, kModelHelp),
      Text("schema", &flags.schema, "file of a JSON schema"),
      LongText("regex", &flags.regex, "regular expression of the whole text"),
      Text("ebnf", &flags.ebnf, "file of a GBNF or EBNF grammar"),
      Text("lark", &flags.lark, "file of a Lark grammar"),
      Switch("json-object", &flags.json_object, "any JSON object"),
  };
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<gr::GrammarSpec> spec = SpecOf(flags);
  if (!spec) {
    return Complain(spec.error());
  }
  Result<std::shared_ptr<const gr::Grammar>> grammar = gr::Compile(*spec);
  if (!grammar) {
    Say("{}\n", ErrorLine(grammar.error()).Dump());
    return kExitFailed;
  }
  Result<Loaded> loaded = LoadVocabulary(flags.model);
  if (!loaded) {
    return Complain(loaded.error());
  }
  auto runtime = std::make_shared<gr::GrammarRuntime>(*grammar, loaded->vocabulary);
  for (std::string line; std::getline(std::cin, line);) {
    const Result<bool> valid = IsValid(*loaded, line, runtime);
    if (valid) {
      Say("{{\"valid\":{}}}\n", *valid);
    } else {
      Say("{}\n", ErrorLine(valid.error()).Dump());
      runtime = runtime->Fresh({});  // the next text has a budget of its own
    }
    std::fflush(stdout);
  }
  return kExitDone;
}

int RunBenchGrammar(const Arguments& arguments) {
  BenchGrammarFlags flags;
  config::Command command;
  command.name = "bench grammar";
  command.summary =
      "Compiles schemas and walks their instances over token masks; prints what was judged wrongly "
      "and what it cost.";
  command.options = {
      Text("model", &flags.model, kModelHelp),
      Text("data", &flags.data,
           "folder of files {schema, tests: [{valid, data}]}, or of lists of such"),
      Text("dialect", &flags.dialect, "$schema of schemas that name none"),
      Text("skip", &flags.skip, "names of files that are left out, separated by commas"),
      Switch("json", &flags.json, "prints JSON"),
  };
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<Loaded> loaded = LoadVocabulary(flags.model);
  if (!loaded) {
    return Complain(loaded.error());
  }
  bench::GrammarBenchOptions options;
  options.folder = flags.data;
  options.dialect = flags.dialect;
  for (std::string_view rest = flags.skip; !rest.empty();) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    options.skip.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  Result<bench::GrammarBenchResult> result =
      bench::BenchGrammar(*loaded->tokenizer, loaded->vocabulary, options);
  if (!result) {
    return Complain(result.error());
  }
  bench::Report report;
  report.commit = kCommit;
  report.machine = bench::MachineJson();
  report.flags = wire::Json(wire::Json::Object{});
  report.flags.Set("vocabulary", std::uint64_t{loaded->vocabulary->vocab_size()});
  report.figures = std::move(result->figures);
  Say("{}\n", flags.json ? report.ToJson().Dump() : report.ToText());
  for (const std::string& wrong : result->wrong) {
    SayError("{}\n", wrong);
  }
  return kExitDone;
}

}  // namespace pixii::apps
