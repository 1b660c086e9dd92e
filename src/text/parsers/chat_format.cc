#include "text/parsers/chat_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <numeric>
#include <set>
#include <type_traits>
#include <utility>

namespace pixii::text::parsers {

namespace {

std::string Lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

// Letters to change, add or leave out to make one of the other.
std::size_t Distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, changed}));
    }
  }
  return row[b.size()];
}

template <class Entry>
Result<const Entry*> Lookup(std::span<const Entry> table, std::string_view wanted,
                            std::string_view field) {
  std::string name = Lower(wanted);
  std::string nearest = "none";
  std::size_t least = Distance(name, nearest);
  for (const Entry& entry : table) {
    for (const std::string& known : entry.names) {
      if (known == name) {
        return &entry;
      }
      std::size_t distance = Distance(name, known);
      if (distance < least) {
        least = distance;
        nearest = known;
      }
    }
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("{}: \"{}\" is no known parser; did you mean \"{}\"?", field,
                          wanted.substr(0, 100), nearest),
              std::string(field));
}

constexpr std::size_t kTokenBytesMin = 4;  // shorter marks are text wherever they stand

struct Word {
  std::size_t at;
  std::size_t size;
};

// <|...|> within a longer marker: such words are tokens of their own, if anything is.
std::vector<Word> BracketedWords(std::string_view marker) {
  std::vector<Word> out;
  for (std::size_t at = marker.find("<|"); at != std::string_view::npos;
       at = marker.find("<|", at + 2)) {
    const std::size_t end = marker.find('>', at);
    if (end != std::string_view::npos && (at > 0 || end + 1 < marker.size())) {
      out.push_back({at, end + 1 - at});
    }
  }
  return out;
}

using MarkerVisitor = std::function<void(std::string&)>;

void Visit(std::vector<std::string>& markers, const MarkerVisitor& visit) {
  std::ranges::for_each(markers, visit);
}

void VisitMarkers(JsonCallFormat& format, const MarkerVisitor& visit) {
  Visit(format.openers, visit);
  Visit(format.closers, visit);
  visit(format.arguments_marker);
  visit(format.id_marker);
}

void VisitMarkers(NamedJsonFormat& format, const MarkerVisitor& visit) {
  Visit(format.section_openers, visit);
  Visit(format.section_closers, visit);
  visit(format.call_opener);
  visit(format.name_opener);
  Visit(format.name_closers, visit);
  visit(format.call_closer);
}

void VisitMarkers(XmlCallFormat& format, const MarkerVisitor& visit) {
  Visit(format.openers, visit);
  Visit(format.closers, visit);
  for (std::string* marker : {&format.call_opener, &format.call_name_closer, &format.call_closer,
                              &format.parameter_opener, &format.name_closer, &format.value_opener,
                              &format.value_closer}) {
    visit(*marker);
  }
}

void VisitMarkers(LiteralCallFormat& format, const MarkerVisitor& visit) {
  Visit(format.openers, visit);
  Visit(format.closers, visit);
  visit(format.quote);
}

void VisitMarkers(HarmonyFormat& format, const MarkerVisitor& visit) {
  for (std::string* marker : {&format.start, &format.channel, &format.message, &format.constrain,
                              &format.end, &format.call, &format.done}) {
    visit(*marker);
  }
}

void VisitMarkers(ChatFormat& format, const MarkerVisitor& visit) {
  if (format.calls) {
    std::visit([&](auto& calls) { VisitMarkers(calls, visit); }, *format.calls);
  }
  if (format.reasoning) {
    Visit(format.reasoning->openers, visit);
    Visit(format.reasoning->closers, visit);
    Visit(format.reasoning->dropped, visit);
  }
}

}  // namespace

std::vector<std::string> MarkerTexts() {
  std::set<std::string> out;
  const auto add = [&](const std::string& marker) {
    if (marker.size() >= kTokenBytesMin) {
      out.insert(marker);
    }
    for (const Word& word : BracketedWords(marker)) {
      out.insert(marker.substr(word.at, word.size));
    }
  };
  for (const NamedCallFormat& named : CallFormats()) {
    ChatFormat format;
    format.calls = named.format;
    VisitMarkers(format, add);
  }
  for (const NamedReasoningFormat& named : ReasoningFormats()) {
    ChatFormat format;
    format.reasoning = named.format;
    VisitMarkers(format, add);
  }
  return {out.begin(), out.end()};
}

void ChatFormat::MarkTokens(const std::function<bool(std::string_view)>& is_token) {
  VisitMarkers(*this, [&](std::string& marker) {
    if (marker.size() >= kTokenBytesMin && is_token(marker)) {
      token_markers.push_back(marker);
      marker.insert(0, 1, kTokenMark);
      return;
    }
    const std::vector<Word> words = BracketedWords(marker);
    for (auto word = words.rbegin(); word != words.rend(); ++word) {
      std::string text = marker.substr(word->at, word->size);
      if (is_token(text)) {
        token_markers.push_back(std::move(text));
        marker.insert(word->at, 1, kTokenMark);
      }
    }
  });
}

Result<ChatFormat> MakeChatFormat(std::string_view calls, std::string_view reasoning,
                                  std::string_view template_source) {
  ChatFormat out;
  out.calls_name = calls == "auto" ? std::string(DetectCalls(template_source)) : Lower(calls);
  out.reasoning_name =
      reasoning == "auto" ? std::string(DetectReasoning(template_source)) : Lower(reasoning);
  if (out.calls_name != "none") {
    PX_TRY(const NamedCallFormat* found, Lookup(CallFormats(), out.calls_name, "tool_call_parser"));
    out.calls_name = found->names[0];
    out.calls = found->format;
  }
  if (out.reasoning_name != "none") {
    PX_TRY(const NamedReasoningFormat* found,
           Lookup(ReasoningFormats(), out.reasoning_name, "reasoning_parser"));
    if (found->harmony) {
      out.reasoning_name = found->names[0];
      if (!out.calls) {
        out.calls = HarmonyFormat{};
        out.calls_name = "harmony";
      }
    } else {
      out.reasoning = found->format;
    }
  }
  return out;
}

}  // namespace pixii::text::parsers
