#include "text/grammar/tag_machine.h"

#include "text/grammar/grammar_vocabulary.h"
#include "text/grammar/json_string.h"

namespace pixii::text::grammar {

TagMachine::TagMachine(JsonMachine json, std::vector<TagWords> tags,
                       std::vector<std::string> triggers)
    : json_(std::move(json)), tags_(std::move(tags)) {
  nodes_.emplace_back();
  for (std::uint32_t tag = 0; tag < tags_.size(); ++tag) {
    nodes_[AddWord(tags_[tag].begin)].tag = tag;
  }
  for (const std::string& trigger : triggers) {
    // All of the subtree: whatever follows a trigger is on the way to a beginning.
    std::vector<std::uint32_t> work = {AddWord(trigger)};
    while (!work.empty()) {
      std::uint32_t at = work.back();
      work.pop_back();
      nodes_[at].triggered = true;
      for (std::uint32_t next : nodes_[at].next) {
        if (next != 0) {
          work.push_back(next);
        }
      }
    }
  }
  LinkFailures();
}

std::uint32_t TagMachine::AddWord(std::string_view word) {
  std::uint32_t at = 0;
  for (char c : word) {
    auto byte = static_cast<std::uint8_t>(c);
    if (nodes_[at].next[byte] == 0) {
      nodes_.emplace_back();
      nodes_[at].next[byte] = static_cast<std::uint32_t>(nodes_.size() - 1);
    }
    at = nodes_[at].next[byte];
  }
  return at;
}

void TagMachine::LinkFailures() {
  std::vector<std::uint32_t> queue;
  for (std::uint32_t next : nodes_[0].next) {
    if (next != 0) {
      queue.push_back(next);
    }
  }
  for (std::size_t at = 0; at < queue.size(); ++at) {
    std::uint32_t id = queue[at];
    for (std::size_t byte = 0; byte < 256; ++byte) {
      std::uint32_t fall = nodes_[nodes_[id].failure].next[byte];
      std::uint32_t child = nodes_[id].next[byte];
      if (child != 0) {
        nodes_[child].failure = fall;
        queue.push_back(child);
      } else if (!nodes_[id].triggered) {
        nodes_[id].next[byte] = fall;  // behind a trigger nothing else may come
      }
    }
  }
}

std::unique_ptr<Machine> TagMachine::Clone() const { return std::make_unique<TagMachine>(*this); }

State TagMachine::Start() {
  State out;
  out.phase = kText;
  return out;
}

bool TagMachine::TextByte(State& state, std::uint8_t byte) {
  char32_t c = 0;
  StringEvent event = StringBytes::Read(state.b, byte, false, c);
  if (event == StringEvent::kDead) {
    return false;
  }
  bool triggered = nodes_[state.a].triggered;
  std::uint32_t next = nodes_[state.a].next[byte];
  if (triggered && next == 0) {
    return false;
  }
  state.a = next;
  std::uint32_t tag = nodes_[next].tag;
  if (tag != kNoTag && nodes_[next].triggered) {
    state = json_.StartOf(tag);
  }
  return true;
}

bool TagMachine::Step(State& state, std::uint8_t byte) {
  if (state.phase == kText) {
    return TextByte(state, byte);
  }
  if (state.phase == kEnd) {
    const std::string& end = tags_[state.c].end;
    if (end[state.a] != static_cast<char>(byte)) {
      return false;
    }
    if (++state.a == end.size()) {
      state = Start();
    }
    return true;
  }
  // Where the instance may end its tag's end may begin; JSON itself has no use for that byte
  // unless it is white space or goes on a number.
  if (json_.CanEnd(state)) {
    std::uint32_t tag = state.frame;
    State inside = state;
    if (json_.Step(inside, byte)) {
      state = inside;
      return true;
    }
    const std::string& end = tags_[tag].end;
    state = Start();
    if (end.empty()) {
      return TextByte(state, byte);
    }
    state.phase = kEnd;
    state.c = tag;
    return Step(state, byte);
  }
  return json_.Step(state, byte);
}

bool TagMachine::CanEnd(const State& state) {
  if (state.phase == kText) {
    return state.b == 0 && !nodes_[state.a].triggered;
  }
  return state.phase != kEnd && tags_[state.frame].end.empty() && json_.CanEnd(state);
}

Run TagMachine::RunOf(const State& state) {
  return state.phase == kText || state.phase == kEnd ? Run{} : json_.RunOf(state);
}

}  // namespace pixii::text::grammar
