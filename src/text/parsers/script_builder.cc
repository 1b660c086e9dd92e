#include "text/parsers/script_builder.h"

#include <algorithm>
#include <array>

namespace pixii::text::parsers {

namespace {

constexpr std::array kSpecial = {kFormGap, kFormDigits};
constexpr int kDigitsMax = 3;

std::size_t LiteralSize(std::string_view text) {
  return std::min(text.find_first_of(std::string_view(kSpecial.data(), kSpecial.size())),
                  text.size());
}

}  // namespace

void ScriptBuilder::Merge(std::uint32_t to, std::uint32_t from) {
  const wire::ScriptNode source = script.nodes[from];
  wire::ScriptNode& target = script.nodes[to];
  target.may_end = target.may_end || source.may_end;
  target.gap_max = std::max(target.gap_max, source.gap_max);
  for (const wire::ScriptEdge& edge : source.edges) {
    if (std::ranges::find(target.edges, edge) == target.edges.end()) {
      target.edges.push_back(edge);
    }
  }
}

std::uint32_t ScriptBuilder::Chain(std::string_view text, std::uint32_t target) {
  if (text.empty()) {
    return target;
  }
  if (text[0] == kFormGap) {
    const std::uint32_t rest = Chain(text.substr(1), target);
    const std::uint32_t out = Add({.gap_max = kGapBytesMax});
    Merge(out, rest);
    return out;
  }
  if (text[0] == kFormDigits) {
    const std::uint32_t rest = Chain(text.substr(1), target);
    std::uint32_t next = rest;
    for (int digits = 1;; ++digits) {
      const std::uint32_t here = Add();
      for (char digit = '0'; digit <= '9'; ++digit) {
        node(here).edges.push_back({.text = std::string(1, digit), .next = next});
      }
      if (digits == kDigitsMax) {
        return here;
      }
      next = Add();
      Merge(next, here);
      Merge(next, rest);
    }
  }
  const std::size_t size = LiteralSize(text);
  const std::uint32_t next = Chain(text.substr(size), target);
  const std::uint32_t out = Add();
  node(out).edges.push_back({.text = std::string(text.substr(0, size)), .next = next});
  return out;
}

wire::ScriptEdge ScriptBuilder::EdgeOver(std::string_view text, std::uint32_t value,
                                         std::uint32_t target) {
  const std::size_t size = LiteralSize(text);
  const std::string literal(text.substr(0, size));
  text.remove_prefix(size);
  if (text.empty()) {
    return {.text = literal, .next = target, .value = value};
  }
  // The last literal leads into the value.
  std::size_t last = text.size();
  while (last > 0 && LiteralSize(text.substr(last - 1)) > 0) {
    --last;
  }
  const std::uint32_t end = Add();
  node(end).edges.push_back(EdgeOver(text.substr(last), value, target));
  return {.text = literal, .next = Chain(text.substr(0, last), end)};
}

}  // namespace pixii::text::parsers
