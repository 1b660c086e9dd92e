// Calls as a name, a separator and JSON arguments, each between markers: DeepSeek, Kimi,
// Functionary.
//
// Thread: a value of one choice.
#pragma once

#include <string>
#include <vector>

#include "text/parsers/call_reader.h"
#include "text/parsers/json_scanner.h"
#include "text/parsers/marker_scanner.h"
#include "text/parsers/tool_set.h"

namespace pixii::text::parsers {

struct NamedJsonFormat {
  std::vector<std::string> section_openers = {};  // may be empty: calls stand alone
  std::vector<std::string> section_closers = {};
  std::string call_opener = {};
  std::string name_opener = {};  // what stands before it in the header is no name
  std::vector<std::string> name_closers = {};
  std::string call_closer = {};   // empty: a call ends with its JSON
  bool numbered = false;          // functions.{name}:{index}, which is the call's id
  std::string content_name = {};  // a call of this name is text for the client

  // How calls are written, of the ways that are read.
  std::string kind = {};   // a word before name_opener or the name
  std::string fence = {};  // behind the arguments
};

class NamedJsonCalls final : public CallReader {
 public:
  /// `tools` outlives it.
  NamedJsonCalls(const NamedJsonFormat& format, const ToolSet& tools);

  std::vector<std::string> openers() const override;
  std::vector<std::string> closers() const override;

  bool MayBeginBare(char) const override { return false; }

  void Open(std::size_t opener) override;
  Status Push(char byte, CallOutput& out) override;
  bool End(CallOutput& out) override;
  std::optional<CallInProgress> Writing() const override;

 private:
  enum class State : std::uint8_t { kSection, kHeader, kArguments, kValue, kAfter, kContent };
  enum class Marker : std::uint8_t {
    kSectionOpener,
    kCallOpener,
    kSectionCloser,
    kCallCloser,
    kNameOpener,
    kNameCloser,
  };

  Status PushMarker(char byte, CallOutput& out);
  Status OnMarker(Marker marker, CallOutput& out);
  Status OnText(CallOutput& out);
  void StartCall();
  ParsedCall NamedCall() const;
  void Commit(CallOutput& out);

  const NamedJsonFormat& format_;
  const ToolSet& tools_;
  std::vector<Marker> kinds_;  // [markers of scanner_]
  MarkerScanner scanner_;
  MarkerScanner content_;  // kContent: only another call ends it
  JsonText value_;
  State state_ = State::kSection;
  bool in_section_ = false;
  bool begun_ = false;  // a call is neither given out nor lost
  bool lost_ = false;
  std::string header_;
  std::string text_;
  std::uint32_t serial_ = 0;  // of the call that was begun
  ParsedCall named_;          // its name and id, once they are known
};

}  // namespace pixii::text::parsers
