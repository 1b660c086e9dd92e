#include "text/grammar/grammar_library.h"

#include <fmt/format.h>

#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "text/grammar/machine.h"

namespace pixii::text::grammar {

namespace {

void AppendSized(std::string_view part, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{}:", part.size());
  out += part;
}

void AppendScript(const wire::Script& script, std::string& out) {
  const wire::ScriptElements& tags = script.elements;
  fmt::format_to(std::back_inserter(out), "{},{},{},{},{},{};", script.nodes.size(),
                 script.values.size(), static_cast<int>(script.notation), tags.attributes,
                 tags.kinds, tags.framed);
  for (const std::string* text : {&tags.parameter_opener, &tags.name_closer, &tags.value_opener,
                                  &tags.value_closer, &tags.end, &tags.quote}) {
    AppendSized(*text, out);
  }
  for (const wire::ScriptValue& value : script.values) {
    AppendSized(value.name, out);
    AppendSized(value.schema, out);
    fmt::format_to(std::back_inserter(out), "{},{},{};", value.any_kind, value.other_kinds,
                   value.members.size());
    for (const wire::ScriptMember& member : value.members) {
      fmt::format_to(std::back_inserter(out), "{},", member.kinds);
      AppendSized(member.name, out);
    }
  }
  for (const wire::ScriptNode& node : script.nodes) {
    fmt::format_to(std::back_inserter(out), "{},{},{},{};", node.free, node.may_end, node.gap_max,
                   node.edges.size());
    for (const wire::ScriptEdge& edge : node.edges) {
      fmt::format_to(std::back_inserter(out), "{},{};", edge.next, edge.value);
      AppendSized(edge.text, out);
    }
  }
}

}  // namespace

std::string KeyOf(const GrammarSpec& spec) {
  std::string out = fmt::format("{},{},{},{},{},{};", static_cast<int>(spec.kind),
                                spec.spelling.whitespace_run_max, spec.spelling.needless_escapes,
                                spec.choices.size(), spec.tags.size(), spec.triggers.size());
  AppendSized(spec.text, out);
  for (const std::string& choice : spec.choices) {
    AppendSized(choice, out);
  }
  for (const StructuralTag& tag : spec.tags) {
    AppendSized(tag.begin, out);
    AppendSized(tag.schema, out);
    AppendSized(tag.end, out);
  }
  for (const std::string& trigger : spec.triggers) {
    AppendSized(trigger, out);
  }
  AppendScript(spec.script, out);
  return out;
}

// std::mutex: text/ stands below rt/.
struct GrammarLibrary::Parts {
  struct Entry {
    std::string key;
    Result<std::shared_ptr<const Grammar>> grammar;
    std::uint64_t size_bytes = 0;  // of the automaton
  };

  VocabularyBuilder build;
  GrammarLibraryOptions options;
  std::once_flag built;
  Result<std::shared_ptr<const GrammarVocabulary>> vocabulary =
      Fail(Code::kInternal, "the vocabulary was not built");
  std::mutex mutex;
  std::list<Entry> entries;  // the one asked for last first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_key;  // into entries
  std::uint64_t text_bytes = 0;
  std::uint64_t size_bytes = 0;

  std::optional<Result<std::shared_ptr<const Grammar>>> Find(const std::string& key) {
    const std::lock_guard lock(mutex);
    const auto found = by_key.find(key);
    if (found == by_key.end()) {
      return std::nullopt;
    }
    entries.splice(entries.begin(), entries, found->second);
    return entries.front().grammar;
  }

  void Keep(std::string key, Result<std::shared_ptr<const Grammar>> grammar) {
    const std::lock_guard lock(mutex);
    if (by_key.contains(key)) {
      return;  // another thread was faster
    }
    text_bytes += key.size();
    const std::uint64_t bytes = grammar ? (*grammar)->machine().size_bytes() : 0;
    size_bytes += bytes;
    entries.push_front({std::move(key), std::move(grammar), bytes});
    by_key.emplace(entries.front().key, entries.begin());
    while (entries.size() > 1 &&
           (entries.size() > options.grammars_max || text_bytes > options.text_bytes_max ||
            size_bytes > options.size_bytes_max)) {
      text_bytes -= entries.back().key.size();
      size_bytes -= entries.back().size_bytes;
      by_key.erase(entries.back().key);
      entries.pop_back();
    }
  }
};

GrammarLibrary::GrammarLibrary(VocabularyBuilder build, const GrammarLibraryOptions& options)
    : parts_(std::make_unique<Parts>()) {
  parts_->build = std::move(build);
  parts_->options = options;
}

GrammarLibrary::~GrammarLibrary() = default;

const TextEncoder& GrammarLibrary::encode() const { return parts_->options.encode; }

Result<std::shared_ptr<const Grammar>> GrammarLibrary::Get(const GrammarSpec& spec) {
  std::string key = KeyOf(spec);
  if (auto found = parts_->Find(key)) {
    return *found;
  }
  Result<std::shared_ptr<const Grammar>> grammar = Compile(spec, parts_->options.budget);
  parts_->Keep(std::move(key), grammar);
  return grammar;
}

Result<std::shared_ptr<const GrammarVocabulary>> GrammarLibrary::Vocabulary() {
  std::call_once(parts_->built, [this] { parts_->vocabulary = parts_->build(); });
  return parts_->vocabulary;
}

}  // namespace pixii::text::grammar
