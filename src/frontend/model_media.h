// Pictures and videos of a served model: from a URL to the pixels that its workers are sent, and
// how many tokens they take.
//
// Thread: immutable, shared by threads; Read waits.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "frontend/media_reader.h"
#include "media/decode.h"
#include "media/film/film_info.h"
#include "media/image.h"
#include "media/patches.h"

namespace pixii::frontend {

/// Gets and decodes what a client names. Errors: of fetching and of decoding, without a param.
using ImageGetter = std::function<Result<media::Image>(const std::string& url)>;

/// Gets the bytes of what a client names. Errors: of fetching, without a param.
using FileGetter = std::function<Result<std::string>(const std::string& url)>;

/// What of a video is shown, and in which size.
struct FilmPlan {
  std::vector<std::uint32_t> frames;  // of those that it shows, ascending
  media::Resizing resizing;
};

struct ShownFilm {
  media::FilmInfo info;
  FilmPlan plan;
  std::vector<std::uint8_t> rgb;  // [frames, height, width, 3]
};

using FilmPlanner = std::function<Result<FilmPlan>(const media::FilmInfo& info)>;

/// Gets what a client names, asks `plan` what of it is wanted, and decodes that. Errors: as above,
/// and the plan's.
using FilmGetter =
    std::function<Result<ShownFilm>(const std::string& url, const FilmPlanner& plan)>;

/// Errors: kInvalidArgument for a video that cannot be brought to size or has too few frames.
Result<FilmPlan> PlanFilm(const media::FilmInfo& info, const wire::VisionCard& card,
                          const wire::FilmCard& film);

/// How the tower behind `card` resizes; numbers that only a tower needs are left out.
media::PatchSpec PatchSpecOf(const wire::VisionCard& card);

class ModelMedia final : public MediaReader {
 public:
  /// `get_file`: of features that clients bring; empty: they bring none. `get_film`: likewise.
  ModelMedia(wire::VisionCard card, ImageGetter get, FileGetter get_file = {},
             FilmGetter get_film = {})
      : card_(std::move(card)),
        spec_(PatchSpecOf(card_)),
        get_(std::move(get)),
        get_file_(std::move(get_file)),
        get_film_(std::move(get_film)) {}

  std::optional<TokenId> Placeholder(wire::MediaKind kind) const override;
  Result<ReadMedia> Read(const MediaPart& part) const override;

 private:
  Result<media::Image> Shrink(media::Image image) const;
  Result<ReadMedia> ReadImage(const std::string& url) const;
  Result<ReadMedia> ReadFile(const std::string& url) const;
  Result<ReadMedia> ReadFilm(const std::string& url) const;

  wire::VisionCard card_;
  media::PatchSpec spec_;
  ImageGetter get_;
  FileGetter get_file_;
  FilmGetter get_film_;
};

}  // namespace pixii::frontend
