// Calls whose parameters are elements: Qwen3-Coder, MiniMax, DeepSeek's DSML, GLM. What a parameter
// means is told by the tool's schema, or by an attribute.
//
// Thread: a value of one choice.
// A parameter's closing tag counts only where another tag of the format follows, so a value may
// hold it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "text/parsers/call_reader.h"
#include "text/parsers/marker_scanner.h"
#include "text/parsers/tool_set.h"

namespace pixii::text::parsers {

struct XmlCallFormat {
  std::vector<std::string> openers = {};  // of the block around calls
  std::vector<std::string> closers = {};
  std::string call_opener = {};       // empty: the name follows the block's opener
  std::string call_name_closer = {};  // empty: the name ends at a parameter or at the block's end
  std::string call_closer = {};       // empty: the block's
  std::string parameter_opener = {};
  std::string name_closer = {};
  bool attributes = false;        // behind name_closer, up to ">": string="true|false"
  std::string value_opener = {};  // behind the name and white space
  std::string value_closer = {};
  bool framed = false;  // one line break at either end of a value is no part of it

  // How calls are written, of the ways that are read.
  bool shares_block = false;  // all calls in one
  bool tells_kind = false;    // the attribute is there
};

class XmlCalls final : public CallReader {
 public:
  /// `tools` outlives it.
  XmlCalls(const XmlCallFormat& format, const ToolSet& tools);

  std::vector<std::string> openers() const override;
  std::vector<std::string> closers() const override;

  bool MayBeginBare(char) const override { return false; }

  void Open(std::size_t opener) override;
  Status Push(char byte, CallOutput& out) override;
  bool End(CallOutput& out) override;

 private:
  enum class State : std::uint8_t {
    kBlock,
    kText,  // a block that holds no call
    kCallName,
    kParameters,
    kName,
    kAttributes,
    kBeforeValue,
    kValue,
    kAfterValue,
    kLost,  // up to the next tag that begins or ends a call
  };
  enum class Marker : std::uint8_t { kOpener, kCallOpener, kCloser, kCallCloser, kParameterOpener };

  Status PushMarker(char byte, CallOutput& out);
  Status OnMarker(Marker marker, CallOutput& out);
  void OnText(CallOutput& out);
  void PushPart(char byte);
  Status PushAfterValue(char byte, CallOutput& out);
  void TakeParameter();
  void BeginCall();
  void FinishCall(CallOutput& out);
  void Lose();

  const XmlCallFormat& format_;
  const ToolSet& tools_;
  std::vector<Marker> kinds_;  // [markers_]
  std::vector<std::string> markers_;
  MarkerScanner scanner_;
  State state_ = State::kBlock;
  bool block_ = false;
  bool begun_ = false;
  bool lost_ = false;
  std::string text_;
  std::string name_;  // of the call
  std::string parameter_;
  std::string attributes_;
  std::string value_;
  std::string after_;            // what came behind a closing tag that may be a part of the value
  std::size_t after_space_ = 0;  // white space at its start, in bytes
  ArgumentsBuilder arguments_;
};

}  // namespace pixii::text::parsers
