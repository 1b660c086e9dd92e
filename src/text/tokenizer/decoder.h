// Decoders of tokenizer.json, as a pipeline that takes one token at a time.
//
// Thread: a Decoder is immutable after load; a DecodeState belongs to one text.
// Source: Hugging Face tokenizers, decoders/: there each step maps the list of all tokens; here
// each step keeps just what later tokens can still change, so that decoding a whole text and
// decoding a stream are the same code.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/component_json.h"
#include "wire/json.h"

namespace pixii::text {

/// What one step remembers between tokens.
struct DecodeStepState {
  std::uint64_t count = 0;  // tokens or characters seen, as the step needs
  std::string held;         // what later tokens may still change
};

struct DecodeState {
  std::vector<DecodeStepState> steps;
};

class DecodeStep;

class Decoder final {
 public:
  Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;
  ~Decoder();

  /// JSON null: tokens are joined by spaces. Errors: kDataCorrupt, kUnsupported, naming `place`.
  static Result<Decoder> FromJson(const wire::Json& json, const JsonPlace& place);

  DecodeState Start() const;
  /// Appends to `out` what is final after this piece.
  void Push(std::string_view piece, DecodeState& state, std::string& out) const;
  /// Appends the rest. The state is then as after Start.
  void Finish(DecodeState& state, std::string& out) const;
  /// Makes `state`, after a prompt was pushed, stand for the text that follows it: whole characters
  /// that are held and belong to the prompt are dropped.
  void DropHeldPrompt(DecodeState& state) const;

  /// After how many tokens with a piece the state is the same, whatever was pushed before them; 0:
  /// it may not be.
  std::size_t MemoryTokens() const;

  /// The bytes that `piece` adds inside a text, even where they are no whole characters.
  std::string PieceBytes(std::string_view piece) const;

 private:
  Result<void> Append(const wire::Json& json, const JsonPlace& place);
  void PushFrom(std::size_t step, std::string_view piece, DecodeState& state,
                std::string& out) const;

  std::vector<std::unique_ptr<const DecodeStep>> steps_;
  bool fused_ = false;      // while loading: an earlier step joins all tokens into one
  std::size_t growth_ = 1;  // while loading: how many times longer a token may become
};

}  // namespace pixii::text
