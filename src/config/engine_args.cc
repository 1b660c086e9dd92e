#include "config/engine_args.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>

#include "config/parse.h"
#include "config/yaml_adapter.h"

namespace pixii::config {

namespace {

constexpr std::size_t kShownValueMax = 100;  // bytes of a value in a message

enum class Rule : std::uint8_t { kSame, kNot, kWords, kOnly };

struct Row {
  std::string_view key;
  Rule rule;
  std::string_view option;
  std::string_view values;
  std::string_view note;

  bool is_pattern() const { return key.ends_with('*'); }

  bool Matches(std::string_view path) const {
    return is_pattern() ? path.starts_with(key.substr(0, key.size() - 1)) : path == key;
  }
};

constexpr Row kRows[] = {
#define PX_ENGINE_ARG(key, rule, option, values, note) {key, Rule::rule, option, values, note},
#include "config/engine_args.def"
#undef PX_ENGINE_ARG
};

// Exact keys stand before the pattern that covers their group.
const Row* FindRow(std::string_view path) {
  const Row* found = std::ranges::find_if(kRows, [&](const Row& row) { return row.Matches(path); });
  return found == std::end(kRows) ? nullptr : found;
}

bool IsGroup(std::string_view path) {
  return std::ranges::any_of(kRows, [&](const Row& row) {
    return row.key.size() > path.size() && row.key.starts_with(path) && row.key[path.size()] == '.';
  });
}

// A value given for a path, and where.
struct Given {
  YamlLeaf leaf;
  std::string where;
};

std::string Shown(const YamlLeaf& leaf) {
  std::string text =
      leaf.kind == YamlKind::kList ? fmt::format("[{}]", fmt::join(leaf.items, ", ")) : leaf.value;
  if (text.size() > kShownValueMax) {
    text.resize(kShownValueMax);
    text += "...";
  }
  return text;
}

tl::unexpected<Error> Bad(const Given& given, std::string_view what) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}: {}", given.where, given.leaf.path, what),
              given.leaf.path);
}

std::vector<std::string_view> Split(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    std::size_t comma = std::min(text.find(','), text.size());
    out.push_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return out;
}

std::optional<double> NumberOf(std::string_view text) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool read = error == std::errc{} && end == text.data() + text.size() && !text.empty();
  return read ? std::optional(value) : std::nullopt;
}

// `allowed`: a word, a number, or a range low..high.
bool IsAllowed(std::string_view value, std::string_view allowed) {
  std::optional<double> number = NumberOf(value);
  std::size_t dots = allowed.find("..");
  if (dots == std::string_view::npos) {
    return value == allowed || (number && number == NumberOf(allowed));
  }
  return number && *number >= NumberOf(allowed.substr(0, dots)).value_or(0) &&
         *number <= NumberOf(allowed.substr(dots + 2)).value_or(0);
}

// As YAML 1.1 spells them.
std::string LowerIfBool(std::string text) {
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  });
  if (lower == "true" || lower == "yes" || lower == "on") {
    return "true";
  }
  return lower == "false" || lower == "no" || lower == "off" ? "false" : text;
}

tl::unexpected<Error> NotAvailable(const Given& given, const Row& row) {
  std::string allowed = "leave the key out";
  if (row.rule == Rule::kWords) {
    std::vector<std::string_view> words;
    for (std::string_view pair : Split(row.values)) {
      words.push_back(pair.substr(0, pair.find('=')));
    }
    const std::optional<std::string> nearest =
        Nearest(Shown(given.leaf), std::vector<std::string>(words.begin(), words.end()));
    allowed = fmt::format("allowed: {}{}", fmt::join(words, ", "),
                          nearest ? fmt::format("; did you mean {}?", *nearest) : "");
  } else if (!row.values.empty()) {
    allowed = fmt::format("allowed: {}", fmt::join(Split(row.values), ", "));
  }
  return Fail(Code::kUnsupported,
              fmt::format("{}: {}: {} is not available: {}; {}", given.where, given.leaf.path,
                          Shown(given.leaf), row.note, allowed),
              given.leaf.path);
}

// The option that takes a value of this ending as it is; nothing if none does.
std::optional<std::string> OptionOfEnding(const Row& row, const std::string& value) {
  for (std::string_view pair : Split(row.values)) {
    const std::size_t equals = pair.find('=');
    if (pair.starts_with('*') && value.ends_with(pair.substr(1, equals - 1))) {
      return std::string(pair.substr(equals + 1));
    }
  }
  return std::nullopt;
}

Result<std::string> OurWord(const Given& given, const Row& row, const std::string& value) {
  for (std::string_view pair : Split(row.values)) {
    std::size_t equals = pair.find('=');
    if (pair.substr(0, equals) == value) {
      return std::string(pair.substr(equals + 1));
    }
  }
  return NotAvailable(given, row);
}

Result<void> Apply(const Given& given, const Row& row, EngineSettings& out) {
  const YamlLeaf& leaf = given.leaf;
  if (row.rule == Rule::kOnly) {
    std::string value = leaf.quoted ? leaf.value : LowerIfBool(leaf.value);
    bool harmless =
        row.values == "*" || (leaf.kind == YamlKind::kScalar &&
                              std::ranges::any_of(Split(row.values), [&](std::string_view allowed) {
                                return IsAllowed(value, allowed);
                              }));
    return harmless ? Result<void>() : Result<void>(NotAvailable(given, row));
  }
  if (leaf.kind != YamlKind::kScalar) {
    return Bad(given, "must have one plain value");
  }
  EngineSetting setting{.key = leaf.path,
                        .option = std::string(row.option),
                        .value = leaf.quoted ? leaf.value : LowerIfBool(leaf.value),
                        .where = given.where};
  if (row.rule == Rule::kNot) {
    if (setting.value != "true" && setting.value != "false") {
      return Bad(given, fmt::format("\"{}\" is neither true nor false", Shown(leaf)));
    }
    setting.value = setting.value == "true" ? "false" : "true";
  } else if (row.rule == Rule::kWords) {
    if (std::optional<std::string> option = OptionOfEnding(row, leaf.value)) {
      setting.option = std::move(*option);
      setting.value = leaf.value;
    } else {
      PX_TRY(setting.value, OurWord(given, row, leaf.value));
    }
  }
  out.settings.push_back(std::move(setting));
  return {};
}

tl::unexpected<Error> Unknown(const Given& given) {
  std::vector<std::string> known;
  for (const Row& row : kRows) {
    known.emplace_back(row.is_pattern() ? row.key.substr(0, row.key.rfind('.')) : row.key);
  }
  std::string path = given.leaf.path.substr(0, kShownValueMax);
  std::optional<std::string> nearest = Nearest(path, known);
  return Fail(Code::kInvalidArgument,
              fmt::format("{}: unknown key {}{}", given.where, path,
                          nearest ? fmt::format("; did you mean {}?", *nearest)
                                  : "; docs/reference/engine_yaml.md lists them"),
              path);
}

// All sources laid over one another.
class Layers final {
 public:
  void Add(YamlLeaf leaf, std::string where) {
    std::string path = leaf.path;
    if (leaf.kind == YamlKind::kMap) {
      return;  // an empty group says nothing
    }
    if (leaf.kind == YamlKind::kNull) {
      std::erase_if(given_, [&](const auto& entry) {
        return entry.first == path || entry.first.starts_with(path + ".");
      });
    }
    auto found = given_.find(path);
    if (found != given_.end() && found->second.where != where) {
      notices_.push_back(fmt::format("{}: {} takes the place of {} ({})", where,
                                     path + " " + Shown(leaf), Shown(found->second.leaf),
                                     found->second.where));
    }
    given_[path] = {std::move(leaf), std::move(where)};
  }

  Result<EngineSettings> Settle() {
    EngineSettings out;
    out.notices = std::move(notices_);
    for (const auto& [path, given] : given_) {
      const Row* row = FindRow(path);
      bool group = row == nullptr && IsGroup(path);
      if (row == nullptr && !group) {
        return Unknown(given);
      }
      if (given.leaf.kind == YamlKind::kNull) {
        continue;
      }
      if (group) {
        return Bad(given, "must be a mapping");
      }
      PX_CHECK_OK(Apply(given, *row, out));
    }
    return CheckSpeculation(std::move(out));
  }

 private:
  Result<EngineSettings> CheckSpeculation(EngineSettings out) const {
    constexpr std::string_view kGroup = "speculative_config.";
    auto of_group = [&](const auto& entry) {
      return entry.first.starts_with(kGroup) && entry.second.leaf.kind != YamlKind::kNull;
    };
    auto first = std::ranges::find_if(given_, of_group);
    bool has_type = std::ranges::any_of(out.settings, [](const EngineSetting& setting) {
      return setting.key == "speculative_config.decoding_type";
    });
    if (first != given_.end() && !has_type) {
      return Bad(first->second, "needs speculative_config.decoding_type beside it");
    }
    return out;
  }

  std::map<std::string, Given, std::less<>> given_;  // by path
  std::vector<std::string> notices_;
};

}  // namespace

Result<EngineSettings> ReadEngineArgs(const EngineArgsInput& input) {
  constexpr const char* kOverride = "--override-engine-args";
  if (input.json && !input.dotted.empty()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("--trtllm.{} and {} exclude one another; write all keys in one of them",
                            input.dotted[0].first, kOverride),
                "override-engine-args");
  }
  Layers layers;
  if (input.file) {
    PX_TRY(std::vector<YamlLeaf> leaves, ReadYamlTree(input.file->text, input.file->path));
    for (YamlLeaf& leaf : leaves) {
      std::string where = fmt::format("{}:{}", input.file->path, leaf.line);
      layers.Add(std::move(leaf), std::move(where));
    }
  }
  if (input.json) {
    PX_TRY(std::vector<YamlLeaf> leaves, ReadYamlTree(*input.json, kOverride));
    for (YamlLeaf& leaf : leaves) {
      layers.Add(std::move(leaf), kOverride);
    }
  }
  for (const auto& [key, value] : input.dotted) {
    bool null = value == "null" || value == "None";
    layers.Add({.path = key, .kind = null ? YamlKind::kNull : YamlKind::kScalar, .value = value},
               "--trtllm." + key);
  }
  return layers.Settle();
}

std::string EngineArgsReference() {
  std::string out =
      "# Engine YAML\n\nGenerated from `src/config/engine_args.def`. `pixii serve "
      "--extra-engine-args FILE` reads TensorRT-LLM's engine YAML, `--override-engine-args JSON` "
      "or `--trtllm.GROUP.KEY VALUE` single keys of it. Precedence: `--trtllm.KEY` or "
      "`--override-engine-args`, then the file, then flags, environment, `--config` and default; "
      "whatever takes the place of a flag or of a key of the file is said on stderr, and "
      "`--print-config` shows where each value came from. `null` is the default. A key without an "
      "option is accepted with the values that change nothing here and refused with any other. "
      "Unknown keys are refused.\n\n"
      "| key | option of `pixii serve` | values | what Pixii does |\n|---|---|---|---|\n";
  for (const Row& row : kRows) {
    std::string option = row.option.empty()      ? ""
                         : row.option == "MODEL" ? "`MODEL`"
                                                 : fmt::format("`--{}`", row.option);
    std::string values = row.rule == Rule::kSame                         ? "as the option"
                         : row.rule == Rule::kNot                        ? "the opposite"
                         : row.rule == Rule::kOnly && row.values.empty() ? "null"
                                                                         : "";
    for (std::string_view value : Split(row.values)) {
      values += fmt::format("{}`{}`", values.empty() ? "" : ", ", value);
    }
    out += fmt::format("| `{}` | {} | {} | {} |\n", row.key, option, values, row.note);
  }
  return out;
}

}  // namespace pixii::config
