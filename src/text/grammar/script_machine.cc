#include "text/grammar/script_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "text/grammar/grammar_vocabulary.h"

namespace pixii::text::grammar {

using wire::kScriptBody;
using wire::kScriptNever;
using wire::kScriptNoValue;

namespace {

constexpr std::uint32_t kPlacePhase = 1;

bool IsWhite(std::uint8_t byte) {
  return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

tl::unexpected<Error> Broken(std::string_view what) {
  return Fail(Code::kInvalidArgument, fmt::format("script: {}", what));
}

Result<void> Check(const wire::Script& script) {
  std::size_t bytes = 0;
  for (const wire::ScriptNode& node : script.nodes) {
    for (const wire::ScriptEdge& edge : node.edges) {
      bytes += edge.text.size();
      const bool known =
          edge.next < script.nodes.size() || edge.next == kScriptBody || edge.next == kScriptNever;
      const bool valued = edge.value == kScriptNoValue || edge.value < script.values.size();
      if (!known || !valued || (edge.value != kScriptNoValue && edge.next == kScriptBody)) {
        return Broken("an edge leads nowhere");
      }
      const bool leaves = edge.value != kScriptNoValue || edge.next >= script.nodes.size() ||
                          script.nodes[edge.next].free;
      if (edge.text.empty() && (node.free || !leaves)) {
        return Broken("an edge without a text leads to no text");
      }
    }
  }
  if (script.nodes.size() > kScriptNodesMax || bytes > kScriptBytesMax) {
    return Fail(Code::kTooLarge, fmt::format("the tools of the request are too many: {} nodes and "
                                             "{} bytes around their arguments",
                                             script.nodes.size(), bytes));
  }
  return {};
}

}  // namespace

std::uint32_t ScriptMachine::Tables::Child(std::uint32_t place, std::uint8_t byte) const {
  for (const auto& [key, child] : places[place].next) {
    if (key == byte) {
      return child;
    }
  }
  return kNone;
}

std::uint32_t ScriptMachine::Tables::Follow(std::uint32_t place, std::uint8_t byte) const {
  const std::uint32_t root = nodes[places[place].node].root;
  while (true) {
    const std::uint32_t child = Child(place, byte);
    if (child != kNone || place == root) {
      return child == kNone ? root : child;
    }
    place = places[place].failure;
  }
}

// False: a text of the node begins another.
bool ScriptMachine::Tables::AddEdge(std::uint32_t node, const wire::ScriptEdge& edge) {
  const auto id = static_cast<std::uint32_t>(edges.size());
  edges.push_back({edge.next, edge.value});
  if (edge.text.empty()) {
    const bool first = nodes[node].otherwise == kNone;
    nodes[node].otherwise = id;
    return first;
  }
  std::uint32_t at = nodes[node].root;
  for (const char c : edge.text) {
    if (places[at].edge != kNone) {
      return nodes[node].free;  // the shorter one is found first: the longer never
    }
    const auto byte = static_cast<std::uint8_t>(c);
    std::uint32_t child = Child(at, byte);
    if (child == kNone) {
      child = static_cast<std::uint32_t>(places.size());
      places.push_back({.node = node});
      places[at].next.emplace_back(byte, child);
    }
    at = child;
  }
  const bool apart = places[at].edge == kNone && places[at].next.empty();
  places[at].edge = id;
  return apart || nodes[node].free;
}

void ScriptMachine::Tables::LinkFailures(std::uint32_t node) {
  const std::uint32_t root = nodes[node].root;
  places[root].failure = root;
  std::vector<std::uint32_t> queue = {root};
  std::uint32_t classes = kPlainClasses | kQuote | kControl;
  for (std::size_t i = 0; i < queue.size(); ++i) {
    const std::uint32_t at = queue[i];
    for (const auto& [byte, child] : places[at].next) {
      std::uint32_t fall = root;
      if (at != root) {
        fall = Follow(places[at].failure, byte);
      } else if (byte < 0x80) {
        classes &= ~ClassOfAscii(byte);
      } else if (byte != static_cast<std::uint8_t>(wire::kTokenMark)) {
        classes &= ~(kNonAscii | kWideSpace | kPartial);
      }
      places[child].failure = fall;
      if (places[child].edge == kNone) {
        places[child].edge = places[fall].edge;
      }
      queue.push_back(child);
    }
  }
  places[root].run = {.classes = classes, .chars_max = kUnbounded, .same = true};
}

Result<std::unique_ptr<Machine>> ScriptMachine::Create(const wire::Script& script,
                                                       std::unique_ptr<Machine> inner) {
  PX_CHECK_OK(Check(script));
  auto tables = std::make_shared<Tables>();
  for (std::uint32_t i = 0; i < script.nodes.size(); ++i) {
    const wire::ScriptNode& node = script.nodes[i];
    tables->nodes.push_back({.free = node.free,
                             .may_end = node.may_end,
                             .gap_max = node.gap_max,
                             .root = static_cast<std::uint32_t>(tables->places.size())});
    tables->places.push_back({.node = i});
    for (const wire::ScriptEdge& edge : node.edges) {
      if (!tables->AddEdge(i, edge)) {
        return Broken(fmt::format("\"{}\" begins another text that may stand there", edge.text));
      }
    }
    if (node.free) {
      tables->LinkFailures(i);
    }
  }
  return std::unique_ptr<Machine>(
      new ScriptMachine(std::move(tables), std::move(inner)));  // tidy: new
}

std::unique_ptr<Machine> ScriptMachine::Clone() const {
  return std::unique_ptr<Machine>(new ScriptMachine(tables_, inner_->Clone()));  // tidy: new
}

State ScriptMachine::EnterNode(std::uint32_t node) {
  if (node == kScriptBody) {
    return inner_->Start();
  }
  State out;
  out.outer = (tables_->nodes[node].root << 1) | 1U;
  out.phase = kPlacePhase;
  return out;
}

bool ScriptMachine::Enter(State& state, std::uint32_t edge) {
  const Edge& to = tables_->edges[edge];
  if (to.next == kScriptNever) {
    return false;
  }
  if (to.value == kScriptNoValue) {
    state = EnterNode(to.next);
  } else {
    state = inner_->StartOf(to.value);
    state.outer = (edge + 1) << 1;
  }
  return true;
}

bool ScriptMachine::PlaceByte(State& state, std::uint8_t byte) {
  const std::uint32_t at = state.outer >> 1;
  const Node& node = tables_->nodes[tables_->places[at].node];
  const std::uint32_t next = node.free ? tables_->Follow(at, byte) : tables_->Child(at, byte);
  if (next != kNone) {
    state.outer = (next << 1) | 1U;
    const std::uint32_t edge = tables_->places[next].edge;
    return edge == kNone || Enter(state, edge);
  }
  if (at != node.root) {
    return false;
  }
  if (IsWhite(byte) && node.gap_max > 0) {
    return ++state.a <= node.gap_max;
  }
  return node.otherwise != kNone && Enter(state, node.otherwise) && Step(state, byte);
}

bool ScriptMachine::Step(State& state, std::uint8_t byte) {
  if (InScript(state)) {
    return PlaceByte(state, byte);
  }
  if (state.outer == 0) {
    return inner_->Step(state, byte);
  }
  // What follows a value begins with no byte that could go on in it.
  State inside = state;
  if (inner_->Step(inside, byte)) {
    state = inside;
    return true;
  }
  if (!inner_->CanEnd(state)) {
    return false;
  }
  state = EnterNode(EdgeOf(state).next);
  return Step(state, byte);
}

bool ScriptMachine::NodeCanEnd(std::uint32_t id) {
  if (id == kScriptBody) {
    return inner_->CanEnd(inner_->Start());
  }
  const Node& node = tables_->nodes[id];
  if (node.may_end || node.otherwise == kNone) {
    return node.may_end;
  }
  const Edge& edge = tables_->edges[node.otherwise];
  return edge.value == kScriptNoValue && NodeCanEnd(edge.next);
}

bool ScriptMachine::CanEnd(const State& state) {
  if (state.outer == 0) {
    return inner_->CanEnd(state);
  }
  if (!InScript(state)) {
    return inner_->CanEnd(state) && NodeCanEnd(EdgeOf(state).next);
  }
  const std::uint32_t at = state.outer >> 1;
  const std::uint32_t id = tables_->places[at].node;
  return (tables_->nodes[id].free || tables_->nodes[id].root == at) && NodeCanEnd(id);
}

Run ScriptMachine::RunOf(const State& state) {
  return InScript(state) ? tables_->places[state.outer >> 1].run : inner_->RunOf(state);
}

}  // namespace pixii::text::grammar
