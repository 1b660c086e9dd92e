// An automaton of fixed texts and free text around constrained parts: reasoning that comes before
// an answer, markers and names of tool calls around their arguments.
//
// Thread: one owner; a value. In free text the edges' texts are found as by Aho and Corasick;
// elsewhere they are a trie, since none begins another.
// Layout of a State: `outer` 0: in the body, which is the inner machine's to the end; odd: a place
// of a node, `a` white space before it in bytes; even: in the value of an edge, the rest is the
// inner machine's.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/grammar/machine.h"
#include "wire/messages/constraint.h"

namespace pixii::text::grammar {

inline constexpr std::size_t kScriptNodesMax = 262'144;
inline constexpr std::size_t kScriptBytesMax = 8'388'608;  // of all texts

class ScriptMachine final : public Machine {
 public:
  /// `inner`: root i is value i of the script; its start is the body.
  /// Errors: kInvalidArgument for a script whose nodes do not fit together.
  static Result<std::unique_ptr<Machine>> Create(const wire::Script& script,
                                                 std::unique_ptr<Machine> inner);

  std::unique_ptr<Machine> Clone() const override;

  State Start() override { return EnterNode(0); }

  bool Step(State& state, std::uint8_t byte) override;
  bool CanEnd(const State& state) override;
  Run RunOf(const State& state) override;

  Safe SafeOf(const State& state, std::uint32_t slice) override {
    return InScript(state) ? Machine::SafeOf(state, slice) : inner_->SafeOf(state, slice);
  }

  bool Loosen(const State& state, Free& free) override {
    return !InScript(state) && inner_->Loosen(state, free);
  }

  ByteSet Apart(const State& state, const State& from) override {
    return InScript(state) ? ByteSet().set() : inner_->Apart(state, from);
  }

  std::size_t Mark() const override { return inner_->Mark(); }

  void Release(std::size_t mark) override { inner_->Release(mark); }

  Fuel& fuel() override { return inner_->fuel(); }

  std::size_t size_bytes() const override { return inner_->size_bytes(); }

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  // Of the trie of a node's edges.
  struct Place {
    std::uint32_t node = 0;
    std::uint32_t edge = kNone;  // whose text ends here
    std::uint32_t failure = 0;   // free: where the longest suffix stands
    Run run = {};
    std::vector<std::pair<std::uint8_t, std::uint32_t>> next = {};
  };

  struct Node {
    bool free = false;
    bool may_end = false;
    std::uint32_t gap_max = 0;
    std::uint32_t root = 0;           // place
    std::uint32_t otherwise = kNone;  // edge without a text
  };

  struct Edge {
    std::uint32_t next = 0;
    std::uint32_t value = 0;
  };

  // Immutable: shared by clones.
  struct Tables {
    std::vector<Node> nodes;
    std::vector<Edge> edges;
    std::vector<Place> places;

    bool AddEdge(std::uint32_t node, const wire::ScriptEdge& edge);
    void LinkFailures(std::uint32_t node);
    std::uint32_t Child(std::uint32_t place, std::uint8_t byte) const;
    /// Free text: the longest beginning of an edge that the text behind `place` and `byte` ends in.
    std::uint32_t Follow(std::uint32_t place, std::uint8_t byte) const;
  };

  ScriptMachine(std::shared_ptr<const Tables> tables, std::unique_ptr<Machine> inner)
      : tables_(std::move(tables)), inner_(std::move(inner)) {}

  static bool InScript(const State& state) { return (state.outer & 1U) != 0; }

  const Edge& EdgeOf(const State& state) const { return tables_->edges[(state.outer >> 1) - 1]; }

  State EnterNode(std::uint32_t node);
  bool Enter(State& state, std::uint32_t edge);
  bool PlaceByte(State& state, std::uint8_t byte);
  bool NodeCanEnd(std::uint32_t node);

  std::shared_ptr<const Tables> tables_;
  std::unique_ptr<Machine> inner_;
};

}  // namespace pixii::text::grammar
