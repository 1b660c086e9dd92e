// Which keys may come in an object.
#include <algorithm>

#include "base/utf8.h"
#include "text/grammar/json_machine.h"

namespace pixii::text::grammar {

namespace {

using Kind = FormulaStore::Kind;

constexpr std::size_t kPatternClassesMax = 5;  // patterns whose combinations are all looked at
constexpr std::size_t kExcludedNamesMax = 200;

// What names come from, as words: a kind and a number.
enum Source : std::uint64_t { kTable, kSet, kPattern };

std::u32string CodePoints(std::string_view text) {
  std::u32string out;
  while (!text.empty()) {
    out += DecodeUtf8(text);
    text.remove_prefix(Utf8SequenceLength(text));
  }
  return out;
}

}  // namespace

void JsonMachine::CollectNames(FormulaId formula, std::vector<std::uint64_t>& sources,
                               std::unordered_map<FormulaId, bool>& met) const {
  const FormulaStore::Node& node = store_.node(formula);
  auto add = [&](Source kind, std::uint32_t number) {
    sources.push_back((static_cast<std::uint64_t>(kind) << 32) | number);
  };
  switch (node.kind) {
    case Kind::kProperties:
      add(kTable, node.a);
      return;
    case Kind::kHas:
      add(kSet, node.a);
      return;
    case Kind::kUnevaluated:
      for (const Evaluation::Part& part : store_.evaluation(node.a).parts) {
        if (part.properties != kNone) {
          add(kTable, part.properties);
        }
      }
      break;
    case Kind::kNot:
      CollectNames(node.a, sources, met);
      return;
    default:
      break;
  }
  if (!node.parts.empty() && met.emplace(formula, true).second) {
    for (FormulaId part : node.parts) {
      CollectNames(part, sources, met);
    }
  }
}

std::uint32_t JsonMachine::NamesOf(const std::vector<FormulaId>& formulas) {
  std::vector<std::uint64_t> sources;
  std::unordered_map<FormulaId, bool> met;
  for (FormulaId formula : formulas) {
    CollectNames(formula, sources, met);
  }
  // Patterns of propertyNames are formulas of their own.
  std::vector<FormulaId> work = formulas;
  met.clear();
  while (!work.empty()) {
    FormulaId formula = work.back();
    work.pop_back();
    const FormulaStore::Node& node = store_.node(formula);
    if (node.kind == Kind::kNames) {
      RegexId language = store_.Language(store_.OfKind(node.a, ValueKind::kString));
      sources.push_back((static_cast<std::uint64_t>(kPattern) << 32) | language);
    } else if (node.kind == Kind::kNot) {
      work.push_back(node.a);
    } else if (!node.parts.empty() && met.emplace(formula, true).second) {
      work.insert(work.end(), node.parts.begin(), node.parts.end());
    }
  }
  // Names of sets that a table of the same formulas has already: the sets shrink with every
  // member, the tables stay.
  std::erase_if(sources, [&](std::uint64_t source) {
    if ((source >> 32) != kSet) {
      return false;
    }
    for (KeyId key : store_.key_set(static_cast<std::uint32_t>(source))) {
      bool named = std::any_of(sources.begin(), sources.end(), [&](std::uint64_t other) {
        return (other >> 32) == kTable &&
               store_.properties(static_cast<std::uint32_t>(other)).named.contains(key);
      });
      if (!named) {
        return false;
      }
    }
    return true;
  });
  std::sort(sources.begin(), sources.end());
  sources.erase(std::unique(sources.begin(), sources.end()), sources.end());
  std::uint32_t id = name_sources_.Intern({sources});
  auto [place, fresh] = names_by_source_.try_emplace(id, 0);
  if (fresh) {
    place->second = BuildNames(sources);
  }
  return place->second;
}

std::uint32_t JsonMachine::BuildNames(const std::vector<std::uint64_t>& sources) {
  Names out;
  std::vector<std::pair<std::u32string, KeyId>> texts;
  std::vector<KeyId> keys;
  for (std::uint64_t source : sources) {
    auto number = static_cast<std::uint32_t>(source);
    switch (source >> 32) {
      case kTable: {
        const PropertyTable& table = store_.properties(number);
        keys.insert(keys.end(), table.names.begin(), table.names.end());
        for (const auto& [pattern, formula] : table.patterns) {
          out.patterns.push_back(pattern);
        }
        break;
      }
      case kSet:
        keys.insert(keys.end(), store_.key_set(number).begin(), store_.key_set(number).end());
        break;
      default:
        out.patterns.push_back(number);
    }
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  std::sort(out.patterns.begin(), out.patterns.end());
  out.patterns.erase(std::unique(out.patterns.begin(), out.patterns.end()), out.patterns.end());
  for (KeyId key : keys) {
    texts.emplace_back(CodePoints(store_.KeyName(key)), key);
  }
  std::sort(texts.begin(), texts.end());
  for (const auto& [text, key] : texts) {
    out.keys.push_back(key);
    out.classes.push_back(store_.Class(ClassifyKey(store_, matches_, key, out.patterns)));
  }

  struct Range {
    std::uint32_t node;
    std::size_t depth;
  };

  out.nodes.push_back({0, 0, 0, static_cast<std::uint32_t>(texts.size()), false});
  std::vector<Range> queue = {{0, 0}};
  for (std::size_t at = 0; at < queue.size(); ++at) {
    auto [number, depth] = queue[at];
    store_.regexes.fuel.Burn();
    std::size_t i = out.nodes[number].key_begin;
    std::size_t end = out.nodes[number].key_end;
    if (i < end && texts[i].first.size() == depth) {
      out.nodes[number].word = true;
      ++i;
    }
    out.nodes[number].child_begin = static_cast<std::uint32_t>(out.edges.size());
    while (i < end) {
      char32_t c = texts[i].first[depth];
      std::size_t j = i;
      while (j < end && texts[j].first[depth] == c) {
        ++j;
      }
      auto child = static_cast<std::uint32_t>(out.nodes.size());
      out.nodes.push_back(
          {0, 0, static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(j), false});
      out.edges.push_back({c, child});
      ++out.nodes[number].child_count;
      queue.push_back({child, depth + 1});
      i = j;
    }
  }
  names_.push_back(std::move(out));
  return static_cast<std::uint32_t>(names_.size() - 1);
}

const JsonMachine::Keys& JsonMachine::KeysOf(std::uint32_t container) {
  std::uint32_t known = containers_[container].keys;
  if (known == kUnknown) {
    known = KeysNow(container);
    containers_.Mutable(container).keys = known;
  }
  return keys_[known];
}

std::uint32_t JsonMachine::KeysNow(std::uint32_t container) {
  const Container& place = containers_[container];
  std::vector<FormulaId> formulas = place.watched;
  formulas.push_back(place.goal);
  Keys out;
  out.names = NamesOf(formulas);
  std::uint64_t by_goal = (static_cast<std::uint64_t>(place.goal) << 32) | out.names;
  auto [alive, fresh] = alive_names_.try_emplace(by_goal);
  const std::size_t count = names_[out.names].keys.size();
  if (fresh || store_.regexes.fuel.exhausted) {
    // Whether a key may come depends on the goal alone, but for those met already.
    alive->second.assign((count + 63) / 64, 0);
    Container clean = place;
    std::uint32_t bare = ContainerId(false, clean.goal, {}, 0);
    for (std::size_t i = 0; i < count; ++i) {
      std::uint32_t key_class = names_[out.names].classes[i];
      if (MemberOf(bare, key_class) != 0) {
        alive->second[i / 64] |= 1ULL << (i % 64);
      }
    }
  }
  out.alive = alive->second;
  for (std::size_t i = 0; i < count; ++i) {
    if (Seen(place.seen, names_[out.names].keys[i])) {
      out.alive[i / 64] &= ~(1ULL << (i % 64));
    }
  }
  out.any_name =
      std::any_of(out.alive.begin(), out.alive.end(), [](auto word) { return word != 0; });
  std::vector<RegexId> languages = {OtherKeys(container, names_[out.names])};
  for (RegexId pattern : names_[out.names].patterns) {
    // What every such key matches need not be watched.
    languages.push_back(pattern == languages[0] ? store_.regexes.full() : pattern);
  }
  out.other = texts_.Start(store_.regexes, std::move(languages));
  store_.regexes.fuel.Burn(4 + count / 16);
  const std::size_t known = keys_.size();
  const std::size_t bytes = out.alive.size() * sizeof(std::uint64_t);
  const std::uint32_t id = keys_.Intern(std::move(out));
  list_bytes_ += keys_.size() == known ? 0 : bytes;
  return id;
}

RegexId JsonMachine::OtherKeys(std::uint32_t container, const Names& names) {
  RegexStore& regexes = store_.regexes;
  std::vector<RegexId> patterns = names.patterns;
  if (patterns.size() > kPatternClassesMax) {
    return regexes.full();
  }
  std::uint32_t bare = ContainerId(false, containers_[container].goal, {}, 0);
  std::vector<RegexId> ways;
  bool all = true;
  for (std::uint32_t choice = 0; choice < 1U << patterns.size(); ++choice) {
    KeyClass known;
    std::vector<RegexId> parts = {regexes.full()};
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      bool matches = (choice >> i & 1) != 0;
      parts.push_back(matches ? patterns[i] : regexes.Not(patterns[i]));
      if (matches) {
        known.matched.push_back(patterns[i]);
      }
    }
    RegexId language = regexes.And(std::move(parts));
    if (!regexes.Alive(language)) {
      continue;
    }
    if (MemberOf(bare, store_.Class(std::move(known))) == 0) {
      all = false;
      continue;
    }
    ways.push_back(language);
  }
  if (all) {
    return regexes.full();
  }
  RegexId out = regexes.Alt(std::move(ways));
  if (out != RegexStore::kNothing && out != regexes.full() &&
      names.keys.size() <= kExcludedNamesMax) {
    // Names are keys of their own: what is left without them must not be empty.
    std::vector<std::u32string> words;
    for (KeyId key : names.keys) {
      words.push_back(CodePoints(store_.KeyName(key)) + kTextEnd);
    }
    RegexId rest = regexes.And({out, regexes.Not(regexes.Words(std::move(words)))});
    if (!regexes.Alive(rest)) {
      return RegexStore::kNothing;
    }
  }
  return out;
}

bool JsonMachine::AnyAlive(const Keys& keys, std::uint32_t begin, std::uint32_t end) const {
  for (std::uint32_t i = begin; i < end;) {
    std::uint64_t word = keys.alive[i / 64] >> (i % 64);
    std::uint32_t here = std::min(end - i, 64 - i % 64);
    if (here < 64) {
      word &= (1ULL << here) - 1;
    }
    if (word != 0) {
      return true;
    }
    i += here;
  }
  return false;
}

bool JsonMachine::Seen(std::uint32_t seen, KeyId key) const {
  const std::vector<std::uint64_t>& words = seen_[seen].words;
  return key / 64 < words.size() && (words[key / 64] >> (key % 64) & 1) != 0;
}

std::uint32_t JsonMachine::WithKey(std::uint32_t seen, KeyId key) {
  Words words = seen_[seen];
  if (key / 64 >= words.words.size()) {
    words.words.resize(key / 64 + 1, 0);
  }
  words.words[key / 64] |= 1ULL << (key % 64);
  store_.regexes.fuel.Burn(1 + words.words.size() / 8);
  const std::size_t known = seen_.size();
  const std::size_t bytes = words.words.size() * sizeof(std::uint64_t);
  const std::uint32_t id = seen_.Intern(std::move(words));
  list_bytes_ += seen_.size() == known ? 0 : bytes;
  return id;
}

}  // namespace pixii::text::grammar
