// Nodes of a script, from texts in the notation of CallForm.
//
// Thread: a value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/parsers/call_form.h"
#include "wire/messages/constraint.h"

namespace pixii::text::parsers {

inline constexpr std::uint32_t kGapBytesMax = 16;  // of white space between parts

class ScriptBuilder final {
 public:
  std::uint32_t Add(wire::ScriptNode node = {}) {
    script.nodes.push_back(std::move(node));
    return static_cast<std::uint32_t>(script.nodes.size() - 1);
  }

  wire::ScriptNode& node(std::uint32_t id) { return script.nodes[id]; }

  /// A node at which `text` must be written to get to `target`; `target` itself if it is empty.
  std::uint32_t Chain(std::string_view text, std::uint32_t target);

  /// An edge over `text`, then `value`, to `target`. Pre: text does not end in a gap or digits.
  wire::ScriptEdge EdgeOver(std::string_view text, std::uint32_t value, std::uint32_t target);

  /// What may be written at `from` may be written at `to`, too. Pre: neither is free text.
  void Merge(std::uint32_t to, std::uint32_t from);

  wire::Script script;
};

}  // namespace pixii::text::parsers
