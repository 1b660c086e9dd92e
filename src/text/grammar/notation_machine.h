// Arguments in a notation that is not JSON, judged as the JSON that their reader makes of them:
// elements of XML kind, Python's calls, objects with bare keys.
//
// Thread: one owner; a value. Every byte is handed on to a JsonMachine as the bytes of JSON it
// means, so all keywords of a schema hold in any notation. Law: what is written here, the parsers
// of text/parsers read as the JSON that was judged.
// Layout of a State: that of JsonMachine, with what is read of a marker, word or name in the upper
// bits of `phase` (Notes).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/json_machine.h"
#include "wire/messages/constraint.h"

namespace pixii::text::grammar {

class NotationMachine final : public Machine {
 public:
  /// Root i of `json` is value i of `script`, an object.
  NotationMachine(JsonMachine json, const wire::Script& script);

  std::unique_ptr<Machine> Clone() const override {
    return std::make_unique<NotationMachine>(*this);
  }

  State Start() override { return StartOf(0); }

  State StartOf(std::uint32_t root) override;
  bool Step(State& state, std::uint8_t byte) override;
  bool CanEnd(const State& state) override;
  Run RunOf(const State& state) override;

  std::size_t Mark() const override { return json_.Mark(); }

  void Release(std::size_t mark) override { json_.Release(mark); }

  Fuel& fuel() override { return json_.fuel(); }

  std::size_t size_bytes() const override { return json_.size_bytes(); }

 private:
  enum Mode : std::uint32_t {
    kMembers,  // between members, or before what ends the call
    kName,     // at: place in the names
    kLead,     // from a name to its value
    kValue,    // nothing of the value is written yet
    kText,     // at: bytes read of what ends it, held back
    kPlain,    // a value as JSON, or as the notation's variant of it
    kQuoted,   // Python: in a string
    kEnded,
    kForeign,  // the value is no object of the notation: JSON alone
  };

  // What is in the upper bits of State::phase.
  struct Notes {
    Mode mode = kMembers;
    std::uint32_t which = 0;  // alternative that `at` counts in; Python: the quote
    std::uint32_t at = 0;     // bytes read of it, or place in the names
    std::uint32_t word = 0;   // place in the words that are no text
    std::uint32_t kinds = 0;  // of values that the member is read as
    bool flag = false;        // kText: a line break is held back; Python: behind a backslash
    bool dead = false;        // kText: the text itself is not allowed any more
  };

  struct NameNode {
    std::uint32_t kinds = 0;  // 0: no name ends here
    bool root = false;
    std::vector<std::pair<std::uint8_t, std::uint32_t>> next = {};
  };

  static constexpr std::uint32_t kForeignRoot = 0xFFFFFFFF;
  static constexpr std::uint32_t kWordStart = 31;  // of Notes::word: nothing is written yet

  // Immutable.
  struct Tables {
    wire::ScriptNotation notation = wire::ScriptNotation::kJson;
    wire::ScriptElements elements;
    std::vector<std::string> ends;   // kElements: the next parameter, the end
    std::vector<std::string> leads;  // from a name to its value
    std::vector<bool> lead_texts;    // [leads] the value is a text; kinds of elements only
    std::string text_end;
    std::vector<NameNode> names;
    std::vector<std::uint32_t> roots;   // [values] place in names, or kForeignRoot
    std::vector<std::uint32_t> others;  // [values] kinds of names that are not declared
  };

  static Notes NotesOf(const State& state);
  static void Put(State& state, const Notes& notes);

  static State WithoutNotes(State state) {
    state.phase &= 0xF;
    return state;
  }

  /// Hands a byte of JSON to the machine within; `state` keeps its notes.
  bool Feed(State& state, std::uint8_t byte);
  bool FeedAll(State& state, std::string_view json);
  /// A byte of a text.
  bool FeedText(State& state, std::uint8_t byte);
  bool FeedText(State& state, std::string_view text);

  bool Allows(State state, std::string_view json) { return FeedAll(state, json); }

  // notation_machine.cc: members and their names.
  bool MemberByte(State& state, Notes notes, std::uint8_t byte);
  void BeginName(State& state);
  bool BeginKey(State& state, std::uint8_t byte);
  bool NameByte(State& state, Notes notes, std::uint8_t byte);
  bool LeadByte(State& state, Notes notes, std::uint8_t byte);
  bool BeginValue(State& state, const Notes& notes, std::uint32_t lead);
  bool EndMembers(State& state);
  template <class Allowed>
  bool Follow(const std::vector<std::string>& texts, Notes& notes, std::uint8_t byte,
              Allowed allowed) const;

  // notation_values.cc: values.
  bool ValueByte(State& state, Notes notes, std::uint8_t byte);
  bool TextByte(State& state, Notes notes, std::uint8_t byte);
  bool EndText(State& state, const Notes& notes);
  bool CanEndText(const State& state, const Notes& notes);
  bool PlainByte(State& state, Notes notes, std::uint8_t byte);
  bool PlainElement(State& state, Notes notes, std::uint8_t byte);
  bool PlainLiteral(State& state, Notes notes, std::uint8_t byte);
  bool QuotedByte(State& state, Notes notes, std::uint8_t byte);
  bool Take(State& state, Notes& notes, std::string_view text);
  Run TextRun(const State& state, const Notes& notes);

  JsonMachine json_;
  std::shared_ptr<const Tables> tables_;
};

}  // namespace pixii::text::grammar
