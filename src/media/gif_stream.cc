#include "media/gif_stream.h"

#include <gif_lib.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "media/media_noun.h"

namespace pixii::media {

namespace {

struct GifFree {
  void operator()(GifFileType* gif) const { (void)::DGifCloseFile(gif, nullptr); }
};

int ReadSome(GifFileType* gif, GifByteType* into, int count) {
  Bytes taken = static_cast<ByteReader*>(gif->UserData)->Take(static_cast<std::size_t>(count));
  std::ranges::copy(taken, into);
  return static_cast<int>(taken.size());
}

// The rows of a frame in the order they are stored: four passes if it is interlaced.
std::vector<std::uint32_t> RowOrder(std::uint32_t height, bool interlaced) {
  struct Turn {
    std::uint32_t first;
    std::uint32_t step;
  };

  constexpr Turn kPlain[] = {{0, 1}};
  constexpr Turn kInterlaced[] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}};
  const std::span<const Turn> turns =
      interlaced ? std::span<const Turn>(kInterlaced) : std::span<const Turn>(kPlain);
  std::vector<std::uint32_t> order;
  order.reserve(height);
  for (const Turn& turn : turns) {
    for (std::uint32_t y = turn.first; y < height; y += turn.step) {
      order.push_back(y);
    }
  }
  return order;
}

Palette PaletteOf(const ColorMapObject* colours, int transparent) {
  Palette palette;
  for (int i = 0; i < static_cast<int>(palette.size()); ++i) {
    if (colours == nullptr) {  // without one, an index is a level of grey
      const auto grey = static_cast<std::uint8_t>(i);
      palette[i] = {.red = grey, .green = grey, .blue = grey, .alpha = 255};
    } else if (i < colours->ColorCount) {
      const GifColorType& colour = colours->Colors[i];
      palette[i] = {.red = colour.Red, .green = colour.Green, .blue = colour.Blue, .alpha = 255};
    }
  }
  if (transparent >= 0) {
    palette[transparent].alpha = 0;
  }
  return palette;
}

}  // namespace

struct GifStream::State {
  explicit State(Bytes file) : reader(file) {}

  Error Broken() const {
    if (!reader.ok()) {
      return kImage.Truncated("its GIF data end before the last row");
    }
    const char* text = ::GifErrorString(gif->Error);
    return kImage.Corrupt(text != nullptr ? text : "its GIF data cannot be read");
  }

  ByteReader reader;
  std::unique_ptr<GifFileType, GifFree> gif;
};

GifStream::GifStream(std::unique_ptr<State> state) : state_(std::move(state)) {}

GifStream::GifStream(GifStream&&) noexcept = default;
GifStream& GifStream::operator=(GifStream&&) noexcept = default;
GifStream::~GifStream() = default;

Result<GifStream> GifStream::Open(Bytes file) {
  auto state = std::make_unique<State>(file);
  int code = 0;
  state->gif.reset(::DGifOpen(&state->reader, ReadSome, &code));
  if (state->gif == nullptr) {
    const char* text = ::GifErrorString(code);
    return Fail(!state->reader.ok()
                    ? kImage.Truncated("it ends in its header")
                    : kImage.Corrupt(text != nullptr ? text : "its header cannot be read"));
  }
  return GifStream(std::move(state));
}

Result<std::optional<GifPicture>> GifStream::Next() {
  GifFileType& gif = *state_->gif;
  GifPicture out;
  while (true) {
    GifRecordType record = UNDEFINED_RECORD_TYPE;
    if (::DGifGetRecordType(&gif, &record) == GIF_ERROR) {
      return Fail(state_->Broken());
    }
    if (record == TERMINATE_RECORD_TYPE) {
      return std::optional<GifPicture>();
    }
    if (record == IMAGE_DESC_RECORD_TYPE) {
      break;
    }
    int code = 0;
    GifByteType* extension = nullptr;
    bool fails = ::DGifGetExtension(&gif, &code, &extension) == GIF_ERROR;
    while (!fails && extension != nullptr) {
      constexpr GifByteType kControlBytes = 4;
      if (code == GRAPHICS_EXT_FUNC_CODE && extension[0] >= kControlBytes) {
        const int disposal = extension[1] >> 2 & 7;
        out.transparent = (extension[1] & 1) != 0 ? extension[4] : -1;
        out.disposal = disposal == DISPOSE_BACKGROUND ? GifDisposal::kRestore
                       : disposal == DISPOSE_PREVIOUS ? GifDisposal::kPrevious
                                                      : GifDisposal::kKeep;
      }
      fails = ::DGifGetExtensionNext(&gif, &extension) == GIF_ERROR;
    }
    if (fails) {
      return Fail(state_->Broken());
    }
  }
  if (::DGifGetImageDesc(&gif) == GIF_ERROR) {
    return Fail(state_->Broken());
  }
  const GifImageDesc& described = gif.Image;
  out.left = static_cast<std::uint32_t>(described.Left);
  out.top = static_cast<std::uint32_t>(described.Top);
  out.size = {.width = static_cast<std::uint32_t>(described.Width),
              .height = static_cast<std::uint32_t>(described.Height)};
  out.palette = PaletteOf(described.ColorMap != nullptr ? described.ColorMap : gif.SColorMap,
                          out.transparent);
  return std::optional(out);
}

Result<void> GifStream::ReadRows(
    const std::function<void(std::uint32_t, std::span<const std::uint8_t>)>& row) {
  GifFileType& gif = *state_->gif;
  const auto width = static_cast<std::size_t>(gif.Image.Width);
  const auto height = static_cast<std::uint32_t>(gif.Image.Height);
  std::vector<GifPixelType> indexes(width);
  for (const std::uint32_t y : RowOrder(height, gif.Image.Interlace)) {
    if (::DGifGetLine(&gif, indexes.data(), gif.Image.Width) == GIF_ERROR) {
      return Fail(state_->Broken());
    }
    row(y, indexes);
  }
  return {};
}

std::uint8_t GifStream::background() const {
  return static_cast<std::uint8_t>(state_->gif->SBackGroundColor);
}

}  // namespace pixii::media
