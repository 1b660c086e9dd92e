// Free text in which certain beginnings start constrained parts: structural tags.
//
// Thread: one owner; a value. A part is `begin`, a JSON instance, `end`; after it the text is free
// again. In free text a trigger may only go on as the `begin` of some tag; the triggers of what is
// written are found as by Aho and Corasick.
// Layout of a State outside of JSON: `a` place in the text, `b` bytes of a character begun,
// `c` tag whose end is being written; within JSON that of JsonMachine, whose root is the tag.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "text/grammar/json_machine.h"

namespace pixii::text::grammar {

struct TagWords {
  std::string begin;
  std::string end;
};

inline constexpr std::size_t kTagsMax = 1'024;
inline constexpr std::size_t kTagBytesMax = 65'536;  // bytes of all beginnings

class TagMachine final : public Machine {
 public:
  /// Tag i is root i of `json`. Triggers and beginnings are not empty, and each trigger is the
  /// prefix of a beginning.
  TagMachine(JsonMachine json, std::vector<TagWords> tags, std::vector<std::string> triggers);

  std::unique_ptr<Machine> Clone() const override;
  State Start() override;
  bool Step(State& state, std::uint8_t byte) override;
  bool CanEnd(const State& state) override;
  Run RunOf(const State& state) override;

  Safe SafeOf(const State& state, std::uint32_t slice) override {
    return state.phase < kText ? json_.SafeOf(state, slice) : Safe{};
  }

  bool Loosen(const State& state, Free& free) override {
    return state.phase < kText && json_.Loosen(state, free);
  }

  ByteSet Apart(const State& state, const State& from) override {
    return state.phase < kText ? json_.Apart(state, from) : ByteSet().set();
  }

  std::size_t Mark() const override { return json_.Mark(); }

  void Release(std::size_t mark) override { json_.Release(mark); }

  Fuel& fuel() override { return json_.fuel(); }

  std::size_t size_bytes() const override { return json_.size_bytes() + nodes_.size() * 1'100; }

 private:
  enum TagPhase : std::uint32_t { kText = JsonMachine::kPhaseEnd, kEnd };

  static constexpr std::uint32_t kNoTag = 0xFFFFFFFF;

  // Of the trie of beginnings; `next` over bytes with failures followed.
  struct Node {
    std::array<std::uint32_t, 256> next{};
    std::uint32_t failure = 0;
    std::uint32_t tag = kNoTag;  // that begins here
    bool triggered = false;      // a trigger was written: only beginnings may follow
  };

  std::uint32_t AddWord(std::string_view word);
  void LinkFailures();
  bool TextByte(State& state, std::uint8_t byte);

  JsonMachine json_;
  std::vector<TagWords> tags_;
  std::vector<Node> nodes_;
};

}  // namespace pixii::text::grammar
