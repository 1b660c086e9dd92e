// One request whose pictures other workers look at before its prompt is computed.
//
// Thread: a value; decides and does nothing. docs/multimodal.md
// It needs none of them: a picture that nobody has encoded is looked at where the prompt is
// computed, so that a death of a worker that encodes at any time costs time alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

class EncodeFlight final {
 public:
  /// Whether anything of `request` can be encoded elsewhere.
  static bool Wants(const wire::GenerateRequest& request);

  explicit EncodeFlight(wire::GenerateRequest request);

  /// Pictures to be looked at; equal ones are one.
  std::size_t picture_count() const { return pictures_.size(); }

  const std::string& digest(std::size_t picture) const;

  /// What a worker that encodes is sent.
  wire::GenerateRequest Ask(std::size_t picture) const;

  enum class Next : std::uint8_t {
    kWait,
    kForward,  // all is there that will come: Take
    kFail,     // the request is not to be tried any further: EndAll with `failure`
  };

  /// A frame of the answer to Ask.
  Next OnFrame(std::size_t picture, const wire::TokenFrame& frame);

  /// Nobody looks at it.
  Next OnRefused(std::size_t picture, const Error& error);

  /// The request as whoever computes its prompt gets it; call once.
  wire::GenerateRequest Take();

  /// Its client wants no more of a choice, or of all, before Take. True: of none.
  bool OnCancel(std::optional<std::uint32_t> choice);

  /// Choices that are to be cancelled once the request of Take was sent.
  std::vector<std::uint32_t> cancelled_choices() const;

  /// The last frame of each choice.
  std::vector<wire::TokenFrame> EndAll(wire::FinishReason finish,
                                       const std::optional<Error>& error) const;

  const wire::GenerateRequest& request() const { return request_; }

  const std::optional<Error>& failure() const { return failure_; }

  /// Pictures that no worker encoded.
  std::size_t missed_count() const;

 private:
  struct Picture {
    std::size_t item = 0;  // of request_.media, the first of its equals
    bool settled = false;
    std::string record;
  };

  Next Settle() const;

  wire::GenerateRequest request_;
  std::vector<Picture> pictures_;
  std::vector<bool> cancelled_;  // [choice]
  std::optional<Error> failure_;
};

}  // namespace pixii::frontend
