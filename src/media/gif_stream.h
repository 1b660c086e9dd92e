// The pictures of a GIF one after the other, by giflib.
//
// Thread: one owner.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "media/decoders.h"

namespace pixii::media {

enum class GifDisposal : std::uint8_t {
  kKeep,      // the next picture is painted on this one
  kRestore,   // what it covered becomes background
  kPrevious,  // what it covered becomes what it was
};

struct GifPicture {
  std::uint32_t left = 0;
  std::uint32_t top = 0;
  ImageSize size = {};
  int transparent = -1;  // index of the colour that is not painted, its alpha is 0; -1: none
  GifDisposal disposal = GifDisposal::kKeep;
  Palette palette = {};
};

class GifStream final {
 public:
  /// `file` outlives it. Errors: kInvalidArgument, param "image", as all of them.
  static Result<GifStream> Open(Bytes file);

  GifStream(GifStream&&) noexcept;
  GifStream& operator=(GifStream&&) noexcept;
  ~GifStream();

  /// Goes on to the next picture; nothing: there is none. Pre: the rows of the last one were read.
  Result<std::optional<GifPicture>> Next();

  /// Rows of the picture that Next gave, in the order they are stored; `row` gets indexes.
  Result<void> ReadRows(
      const std::function<void(std::uint32_t y, std::span<const std::uint8_t> row)>& row);

  /// Index of the colour that is behind all pictures.
  std::uint8_t background() const;

 private:
  struct State;
  explicit GifStream(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace pixii::media
