// Calls as JSON between markers: {"name": …, "arguments": …}, alone, one after another or in a
// list.
//
// Thread: a value of one choice.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/call_reader.h"
#include "text/parsers/json_scanner.h"
#include "text/parsers/marker_scanner.h"
#include "text/parsers/tool_set.h"

namespace pixii::text::parsers {

struct JsonCallFormat {
  std::vector<std::string> openers = {};
  std::vector<std::string> closers = {};  // empty: the calls end with their JSON
  bool strict = false;       // a block without its closer, or with anything else, is dropped
  bool bare = false;         // JSON without a marker counts at the start of the content
  bool name_as_key = false;  // {"tool": {arguments}}
  bool keeps_id = false;     // the model's own id goes to the client
  std::string arguments_marker = {};  // also: name, this marker, arguments
  std::string id_marker = {};         // between the name and arguments_marker, then the id

  // How calls are written, of the ways that are read.
  std::string name_key = "name";
  std::string arguments_key = "arguments";
  std::string number_key = {};  // before them: the number of the call as a text
  bool list = false;            // all calls within [ ]
  std::string separator = {};   // between calls; empty: each has the opener in front
  bool closed = true;           // the first closer stands behind
};

/// The call within a JSON value that is being written.
class JsonCallWatch final {
 public:
  explicit JsonCallWatch(const JsonCallFormat& format) : format_(format) {}

  /// A new value begins.
  void Begin();
  /// The byte at `at` of the value's text.
  void Push(std::string_view text, std::size_t at);

  /// Pre: `text` is the value's.
  std::optional<CallInProgress> Call(std::string_view text) const;

 private:
  void EndString(std::string_view text, std::size_t at);
  void OpenObject(std::size_t at);

  const JsonCallFormat& format_;
  std::uint32_t serial_ = 0;
  std::size_t level_ = 1;  // depth of the call's object
  std::size_t depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
  bool key_next_ = false;
  std::size_t string_begin_ = 0;
  std::string key_;
  std::string name_;
  std::string id_;
  std::size_t arguments_begin_ = std::string::npos;
  std::size_t arguments_end_ = std::string::npos;
};

class JsonCalls final : public CallReader {
 public:
  /// `tools` outlives it.
  JsonCalls(const JsonCallFormat& format, const ToolSet& tools);

  std::vector<std::string> openers() const override { return format_.openers; }

  std::vector<std::string> closers() const override { return format_.closers; }

  bool MayBeginBare(char byte) const override {
    return format_.bare && (byte == '{' || byte == '[');
  }

  void Open(std::size_t opener) override;
  Status Push(char byte, CallOutput& out) override;
  bool End(CallOutput& out) override;

  void Watch() override { watches_ = true; }

  std::optional<CallInProgress> Writing() const override;

 private:
  enum class State : std::uint8_t { kStart, kValue, kBetween, kText, kSkip, kName };

  Status PushValue(char byte, CallOutput& out);
  Status PushMarker(char byte, CallOutput& out);
  Status OnText(CallOutput& out);
  Status OnMarker(std::size_t marker, CallOutput& out);
  void TakeValue(CallOutput& out);
  void Broken();
  void Commit(CallOutput& out);
  void BeginValue();

  bool named() const { return !format_.arguments_marker.empty(); }

  const JsonCallFormat& format_;
  const ToolSet& tools_;
  std::vector<std::string> markers_;  // openers, closers, arguments_marker, id_marker
  MarkerScanner scanner_;
  JsonText value_;
  JsonCallWatch watch_;
  bool watches_ = false;
  std::uint32_t serial_ = 0;  // of a call whose name stands before the value
  State state_ = State::kStart;
  bool bare_ = false;
  bool recognised_ = false;  // bare: the beginning looks like a call
  bool in_id_ = false;
  bool has_name_ = false;  // the value is the arguments of name_
  bool lost_ = false;
  std::string name_;
  std::string id_;
  std::string text_;
  std::vector<ParsedCall> pending_;  // strict: of the open block
};

/// Reads the calls of one JSON value: an object or a list of them. False if any is malformed, which
/// is left out.
bool CallsOfJson(std::string_view json, const JsonCallFormat& format, const ToolSet& tools,
                 std::vector<ParsedCall>& calls);

/// The arguments of a call as an object: the value itself, or the object that a string holds, or {}
/// where none are given and the tool needs none. False if it is nothing of that.
bool TakeArguments(std::string_view json, const ToolSet& tools, ParsedCall& call);

}  // namespace pixii::text::parsers
