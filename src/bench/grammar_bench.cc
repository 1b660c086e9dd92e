#include "bench/grammar_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "rt/file.h"
#include "rt/process.h"
#include "text/grammar/grammar_matcher.h"
#include "wire/json.h"

namespace pixii::bench {

namespace {

namespace gr = text::grammar;

constexpr std::uint64_t kFileBytesMax = 64U << 20;  // bytes of one file of the folder

// Of the processor, so that others on the machine do not count.
double NowUs() { return std::chrono::duration<double, std::micro>(rt::ThreadCpuTime()).count(); }

// As most people write JSON: indented, a space behind colons.
void AppendIndented(std::string& out, const wire::Json& value, std::size_t indent) {
  bool array = value.is_array() && !value.array().empty();
  bool object = value.is_object() && !value.object().empty();
  if (!array && !object) {
    out += value.Dump();
    return;
  }
  out += array ? "[" : "{";
  std::string_view comma;
  auto line = [&](std::string_view before) {
    out += before;
    out += '\n';
    out.append(indent + 2, ' ');
  };
  if (array) {
    for (const wire::Json& item : value.array()) {
      line(comma);
      AppendIndented(out, item, indent + 2);
      comma = ",";
    }
  } else {
    for (const auto& [name, member] : value.object()) {
      line(comma);
      wire::AppendJsonString(out, name);
      out += ": ";
      AppendIndented(out, member, indent + 2);
      comma = ",";
    }
  }
  out += '\n';
  out.append(indent, ' ');
  out += array ? ']' : '}';
}

// Tests of the suite about one keyword.
struct Judged {
  std::size_t right = 0;
  std::size_t refused = 0;
  std::size_t wrong = 0;
};

struct Tally {
  std::map<std::string, Judged> keywords;
  std::size_t schemas = 0;
  std::size_t accepted = 0;
  std::size_t instances = 0;
  std::size_t valid_refused = 0;
  std::size_t invalid_accepted = 0;
  std::vector<double> compile_us;
  std::vector<double> mask_us;
  std::vector<std::string> wrong;
};

class Bench final {
 public:
  Bench(const text::Tokenizer& tokenizer, std::shared_ptr<const gr::GrammarVocabulary> vocabulary)
      : tokenizer_(tokenizer), vocabulary_(std::move(vocabulary)) {}

  Result<void> Add(const std::string& name, const wire::Json& file) {
    const wire::Json* schema = file.Find("schema");
    const wire::Json* tests = file.Find("tests");
    if (schema == nullptr || tests == nullptr || !tests->is_array()) {
      return Fail(Code::kDataCorrupt, fmt::format("{}: no schema and tests", name));
    }
    gr::GrammarSpec spec;
    spec.kind = gr::GrammarKind::kJsonSchema;
    spec.text = schema->Dump();
    double begin = NowUs();
    Result<std::shared_ptr<const gr::Grammar>> grammar = gr::Compile(spec);
    tally_.compile_us.push_back(NowUs() - begin);
    ++tally_.schemas;
    // A schema that no value satisfies is refused for that: every instance is judged.
    const bool empty =
        !grammar && grammar.error().detail().find("no JSON value satisfies") != std::string::npos;
    if (!grammar && !empty) {
      return {};
    }
    ++tally_.accepted;
    if (empty) {
      for (const wire::Json& test : tests->array()) {
        const wire::Json* valid = test.Find("valid");
        ++tally_.instances;
        if (valid != nullptr && valid->is_bool() && valid->boolean()) {
          ++tally_.valid_refused;
          tally_.wrong.push_back(fmt::format("{}: valid refused with its schema", name));
        }
      }
      return {};
    }
    auto runtime = std::make_shared<gr::GrammarRuntime>(*grammar, vocabulary_);
    for (const wire::Json& test : tests->array()) {
      const wire::Json* valid = test.Find("valid");
      const wire::Json* data = test.Find("data");
      if (valid == nullptr || !valid->is_bool() || data == nullptr) {
        return Fail(Code::kDataCorrupt, fmt::format("{}: a test without valid and data", name));
      }
      std::string indented;
      AppendIndented(indented, *data, 0);
      PX_CHECK_OK(Judge(name, data->Dump(), valid->boolean(), runtime, &tally_.mask_us));
      PX_CHECK_OK(Judge(name, indented, valid->boolean(), runtime, nullptr));
      ++tally_.instances;
    }
    return {};
  }

  /// A file of the suite.
  Result<void> AddSuite(const std::string& keyword, const wire::Json& file,
                        const std::string& dialect) {
    Judged& judged = tally_.keywords[keyword];
    for (const wire::Json& group : file.array()) {
      const wire::Json* found = group.Find("schema");
      const wire::Json* tests = group.Find("tests");
      if (found == nullptr || tests == nullptr || !tests->is_array()) {
        return Fail(Code::kDataCorrupt, fmt::format("{}: no schema and tests", keyword));
      }
      wire::Json schema = *found;
      if (!dialect.empty() && schema.is_object() && schema.Find("$schema") == nullptr) {
        schema.Set("$schema", dialect);
      }
      const std::size_t accepted = tally_.accepted;
      const std::size_t wrong = tally_.wrong.size();
      wire::Json one(wire::Json::Object{});
      one.Set("schema", std::move(schema));
      one.Set("tests", *tests);
      PX_CHECK_OK(Add(keyword, one));
      if (tally_.accepted == accepted) {
        judged.refused += tests->array().size();
        continue;
      }
      judged.wrong += tally_.wrong.size() - wrong;
      judged.right +=
          tests->array().size() - std::min(tests->array().size(), tally_.wrong.size() - wrong);
    }
    return {};
  }

  Tally Take() { return std::move(tally_); }

 private:
  Result<void> Judge(const std::string& name, const std::string& text, bool valid,
                     const std::shared_ptr<gr::GrammarRuntime>& runtime,
                     std::vector<double>* mask_us) {
    PX_TRY(bool accepted, WalkMasks(tokenizer_, text, runtime, mask_us));
    if (accepted != valid) {
      (valid ? tally_.valid_refused : tally_.invalid_accepted) += 1;
      tally_.wrong.push_back(fmt::format(
          "{}: {} {}", name, valid ? "valid refused" : "invalid accepted", text.substr(0, 200)));
    }
    return {};
  }

  const text::Tokenizer& tokenizer_;
  std::shared_ptr<const gr::GrammarVocabulary> vocabulary_;
  Tally tally_;
};

void AddTimes(std::vector<Figure>& figures, std::string_view what, std::vector<double> times) {
  if (times.empty()) {
    return;
  }
  double sum = 0;
  for (double time : times) {
    sum += time;
  }
  auto add = [&](std::string_view which, double value) {
    figures.push_back(MakeFigure(fmt::format("{}_{}", what, which), "us", {value}));
  };
  add("p50", Quantile(times, 0.5));
  add("mean", sum / static_cast<double>(times.size()));
  add("p99", Quantile(times, 0.99));
  add("worst", Quantile(times, 1));
}

}  // namespace

Result<bool> WalkMasks(const text::Tokenizer& tokenizer, std::string_view text,
                       std::shared_ptr<gr::GrammarRuntime> runtime, std::vector<double>* mask_us) {
  PX_TRY(std::vector<TokenId> ids, tokenizer.Encode(text, {.parse_special = false}));
  std::vector<std::uint32_t> mask(runtime->vocabulary().mask_words());
  gr::GrammarMatcher matcher(std::move(runtime));
  for (TokenId id : ids) {
    double begin = NowUs();
    matcher.FillMask(mask);
    if (mask_us != nullptr) {
      mask_us->push_back(NowUs() - begin);
    }
    bool set = (mask[static_cast<std::size_t>(id) / 32] >> (id % 32) & 1) != 0;
    if (!set || !matcher.Accept(id)) {
      return false;
    }
  }
  return matcher.CanEnd();
}

Result<GrammarBenchResult> BenchGrammar(const text::Tokenizer& tokenizer,
                                        std::shared_ptr<const gr::GrammarVocabulary> vocabulary,
                                        const GrammarBenchOptions& options) {
  PX_TRY(std::vector<rt::FolderEntry> entries, rt::ListFolder(options.folder, options.files_max));
  Bench bench(tokenizer, std::move(vocabulary));
  for (const rt::FolderEntry& entry : entries) {
    if (!entry.name.ends_with(".json") ||
        std::ranges::find(options.skip, entry.name) != options.skip.end()) {
      continue;
    }
    PX_TRY(std::string content, rt::ReadFile(options.folder + "/" + entry.name, kFileBytesMax));
    PX_TRY(const wire::Json file, wire::ParseJson(content));
    if (file.is_array()) {
      PX_CHECK_OK(
          bench.AddSuite(entry.name.substr(0, entry.name.size() - 5), file, options.dialect));
    } else {
      PX_CHECK_OK(bench.Add(entry.name, file));
    }
  }
  Tally tally = bench.Take();
  if (tally.schemas == 0) {
    return Fail(Code::kNotFound, fmt::format("{} has no schemas", options.folder));
  }
  GrammarBenchResult out;
  auto count = [&](std::string_view name, std::string_view unit, double value) {
    out.figures.push_back(MakeFigure(std::string(name), std::string(unit), {value}));
  };
  count("schemas", "schemas", static_cast<double>(tally.schemas));
  count("accepted", "schemas", static_cast<double>(tally.accepted));
  count("accepted_share", "%",
        100.0 * static_cast<double>(tally.accepted) / static_cast<double>(tally.schemas));
  count("instances", "instances", static_cast<double>(tally.instances));
  count("valid_refused", "instances", static_cast<double>(tally.valid_refused));
  count("invalid_accepted", "instances", static_cast<double>(tally.invalid_accepted));
  count("masks", "masks", static_cast<double>(tally.mask_us.size()));
  AddTimes(out.figures, "mask", std::move(tally.mask_us));
  AddTimes(out.figures, "compile", std::move(tally.compile_us));
  for (const auto& [keyword, judged] : tally.keywords) {
    count(keyword + " right", "tests", static_cast<double>(judged.right));
    count(keyword + " refused", "tests", static_cast<double>(judged.refused));
    count(keyword + " wrong", "tests", static_cast<double>(judged.wrong));
  }
  out.wrong = std::move(tally.wrong);
  return out;
}

}  // namespace pixii::bench
