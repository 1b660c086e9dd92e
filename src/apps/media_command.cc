#include "apps/media_command.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <memory>
#include <span>
#include <vector>

#include "apps/model_host.h"
#include "apps/model_source.h"
#include "apps/supervisor.h"
#include "media/decoder_child.h"
#include "media/decoder_pool.h"
#include "media/film/film_decode.h"
#include "media/film/film_sampling.h"
#include "model/inspect.h"
#include "rt/file.h"
#include "wire/json.h"
#include "wire/safetensors_writer.h"

namespace pixii::apps {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;  // nanoseconds
constexpr std::uint32_t kFileMode = 0644;

// "640x480". Errors: kInvalidArgument.
Result<media::ImageSize> ParseSize(const std::string& text) {
  media::ImageSize size;
  const char* end = text.data() + text.size();
  const auto width = std::from_chars(text.data(), end, size.width);
  const bool parted = width.ec == std::errc() && width.ptr != end && *width.ptr == 'x';
  const auto height =
      parted ? std::from_chars(width.ptr + 1, end, size.height) : std::from_chars_result{};
  if (!parted || height.ec != std::errc() || height.ptr != end) {
    return Fail(Code::kInvalidArgument,
                fmt::format("--resize \"{}\" is no WIDTHxHEIGHT in pixels, as 640x480", text),
                "resize");
  }
  return size;
}

Result<media::DecodeOptions> DecodeOptionsOf(const MediaCommandFlags& flags) {
  media::DecodeOptions options;
  options.exif = flags.exif;
  options.pixels.alpha = flags.alpha == "white" ? media::Alpha::kWhite : media::Alpha::kDrop;
  options.pixels.deep_grey =
      flags.deep_grey == "high" ? media::DeepGrey::kHigh : media::DeepGrey::kClip;
  options.limits = {.bytes_max = static_cast<std::uint64_t>(flags.bytes_max),
                    .side_max = static_cast<std::uint32_t>(flags.side_max),
                    .pixels_max = static_cast<std::uint64_t>(flags.pixels_max),
                    .frames_max = static_cast<std::uint32_t>(flags.frames_max)};
  if (!flags.resize.empty()) {
    PX_TRY(const media::ImageSize size, ParseSize(flags.resize));
    options.resize = media::Resizing{.size = size, .filter = *media::FilterOf(flags.filter)};
  }
  return options;
}

std::string_view BytesOf(const auto& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What the tower of a model makes of the image, as a request may bring it: a server with the same
// --dtype would have made the same of it.
Result<void> WriteEmbeddings(const media::Image& image, const MediaCommandFlags& flags) {
  const EngineFlags engine;
  PX_TRY(const ModelSource source, ResolveModel(flags.model, false));
  PX_TRY(const model::InspectReport report, model::InspectFolder(source.folder));
  if (!report.spec.vision) {
    return Fail(
        Code::kUnsupported,
        fmt::format("model: {} ({}) reads text alone", source.name, report.spec.architecture),
        "model");
  }
  PX_TRY(const std::unique_ptr<kernels::Operators> operators, MakeOperators(engine));
  PX_TRY(const auto make_encoder,
         EncodersOf(source.folder, *report.spec.vision, operators.get(), engine));
  const std::unique_ptr<engine::ModelEncoder> encoder = make_encoder();
  wire::MediaItem item;
  item.height = image.size.height;
  item.width = image.size.width;
  item.pixels.assign(image.rgb.begin(), image.rgb.end());
  PX_TRY(const engine::MediaEncoder::Shape shape, encoder->Measure(item));
  PX_TRY(const model::VisionFeatures features, encoder->Encode(item));
  const std::vector<float> rows = model::PackFeatures(features);
  const wire::VisionCard& card = encoder->card();
  const std::int64_t merge = card.merge_size;
  const std::array<std::int64_t, 3> grid = {1, shape.grid.rows * merge, shape.grid.cols * merge};
  std::vector<wire::StoredTensor> tensors = {{.name = "image_grid_thw",
                                              .type = wire::StoredType::kI64,
                                              .shape = {1, 3},
                                              .size_bytes = sizeof grid},
                                             {.name = "mm_embeddings",
                                              .type = wire::StoredType::kF32,
                                              .shape = {features.rows, card.row_size},
                                              .size_bytes = rows.size() * sizeof(float)}};
  std::string_view place = BytesOf(grid);
  if (!card.has_axes) {  // how they lie is nothing to such a model
    tensors.erase(tensors.begin());
    place = {};
  }
  std::string file = wire::SafetensorsHead(tensors);
  file += place;
  file += BytesOf(rows);
  return rt::WriteFileAtomic(flags.embeddings, file, kFileMode);
}

Result<void> WriteRaw(const std::string& path, std::span<const std::uint8_t> rgb) {
  return path.empty() ? Result<void>() : rt::WriteFileAtomic(path, BytesOf(rgb), kFileMode);
}

Result<wire::Json> DecodeImage(media::Bytes bytes, media::DecoderPool& pool,
                               const MediaCommandFlags& flags) {
  PX_TRY(const media::DecodeOptions options, DecodeOptionsOf(flags));
  PX_TRY(const media::ImageInfo info, media::ReadImageInfo(bytes, options.limits));
  PX_TRY(const media::Image image, pool.Decode(bytes, options));
  PX_CHECK_OK(WriteRaw(flags.raw, image.rgb));
  if (!flags.embeddings.empty()) {
    PX_CHECK_OK(WriteEmbeddings(image, flags));
  }
  wire::Json out(wire::Json::Object{});
  out.Set("width", std::uint64_t{image.size.width});
  out.Set("height", std::uint64_t{image.size.height});
  out.Set("format", media::FormatName(info.format));
  out.Set("frames", std::uint64_t{info.frames});
  out.Set("stored_width", std::uint64_t{info.size.width});
  out.Set("stored_height", std::uint64_t{info.size.height});
  out.Set("orientation", int{info.orientation});
  return out;
}

Result<wire::Json> DecodeFilm(media::Bytes bytes, media::DecoderPool& pool,
                              const MediaCommandFlags& flags) {
  if (!flags.embeddings.empty()) {
    return Fail(Code::kUnsupported, "embeddings: are made of images alone", "embeddings");
  }
  PX_TRY(const media::DecodeOptions as_image, DecodeOptionsOf(flags));
  media::FilmDecodeOptions options{
      .resize = as_image.resize,
      .limits = {.bytes_max = static_cast<std::uint64_t>(flags.bytes_max),
                 .side_max = static_cast<std::uint32_t>(flags.side_max),
                 .pixels_max = static_cast<std::uint64_t>(flags.pixels_max),
                 .frames_max = static_cast<std::uint32_t>(flags.video_frames_max)}};
  PX_TRY(const media::FilmInfo info, media::ReadFilmInfo(bytes, options.limits));
  PX_TRY(const std::vector<std::uint32_t> frames,
         media::SampleFrames(info, {.frames_per_second = flags.fps,
                                    .frames = static_cast<std::uint32_t>(flags.frames),
                                    .multiple = flags.frames > 0 ? 1U : 2U}));
  options.frames = frames;
  PX_TRY(const std::vector<std::uint8_t> rgb, pool.DecodeFrames(bytes, options));
  PX_CHECK_OK(WriteRaw(flags.raw, rgb));
  const media::ImageSize size = media::DecodedSize(info, options);
  wire::Json::Array taken;
  for (const std::uint32_t frame : frames) {
    taken.emplace_back(std::uint64_t{frame});
  }
  wire::Json out(wire::Json::Object{});
  out.Set("width", std::uint64_t{size.width});
  out.Set("height", std::uint64_t{size.height});
  out.Set("format", media::FilmFormatName(info.format));
  out.Set("codec", media::FilmCodecName(info.codec));
  out.Set("frames", std::uint64_t{info.frames});
  out.Set("seconds", info.seconds);
  out.Set("stored_width", std::uint64_t{info.size.width});
  out.Set("stored_height", std::uint64_t{info.size.height});
  out.Set("taken", std::move(taken));
  return out;
}

Result<int> Decode(const std::string& path, const MediaCommandFlags& flags) {
  PX_TRY(const std::string file, rt::ReadFile(path, static_cast<std::uint64_t>(flags.bytes_max)));
  const media::Bytes bytes(reinterpret_cast<const std::uint8_t*>(file.data()), file.size());
  media::DecoderPool pool({.command = {kOwnProgram, std::string(media::kDecoderCommand)},
                           .children_max = 1,
                           .memory_bytes_max = static_cast<std::uint64_t>(flags.memory_max),
                           .cpu_time_max = rt::Duration(flags.cpu_time_max),
                           .time_max = rt::Duration(flags.time_max),
                           .film_cpu_time_max = rt::Duration(flags.cpu_time_max),
                           .film_time_max = rt::Duration(flags.time_max)});
  const bool film = media::LooksLikeFilm(bytes) || flags.frames > 0;
  PX_TRY(const wire::Json out,
         film ? DecodeFilm(bytes, pool, flags) : DecodeImage(bytes, pool, flags));
  Say("{}\n", out.Dump());
  return kExitDone;
}

config::Option Row(std::string name, config::Field field, std::string help, std::string unit = {}) {
  config::Option option;
  option.name = std::move(name);
  option.field = std::move(field);
  option.help = std::move(help);
  option.unit = std::move(unit);
  return option;
}

}  // namespace

std::vector<config::Option> RowsOf(MediaCommandFlags& flags) {
  using config::BoolField;
  using config::DurationField;
  using config::IntegerField;
  using config::RealField;
  using config::SizeField;
  using config::TextField;
  using config::WordField;
  constexpr std::int64_t kAnyPixels = std::int64_t{1} << 28;
  return {
      Row("raw", TextField{&flags.raw, {}},
          "file that gets the RGB bytes, row by row; none: they are not kept"),
      Row("embeddings", TextField{&flags.embeddings, {}},
          "safetensors file that gets what --model makes of the image, for requests to bring in "
          "its "
          "place; none: it is not asked"),
      Row("model", TextField{&flags.model, {}},
          "folder, bundled name or org/name[@revision] of a model that sees"),
      Row("exif", BoolField{&flags.exif}, "turns the image as its Exif orientation says"),
      Row("resize", TextField{&flags.resize, {}}, "WIDTHxHEIGHT to make of it; none: as it is"),
      Row("filter", WordField{&flags.filter, {{"bilinear", "bicubic", "lanczos"}}}, "of --resize"),
      Row("alpha", WordField{&flags.alpha, {{"drop", "white"}}},
          "drop: colours as stored, as Pillow; white: pasted on white"),
      Row("deep-grey", WordField{&flags.deep_grey, {{"clip", "high"}}},
          "PNG of 16-bit grey; clip: values above 255 are white, as Pillow; high: the high byte"),
      Row("bytes-max", SizeField{&flags.bytes_max, {1, std::int64_t{1} << 32}}, "largest file"),
      Row("side-max", IntegerField{&flags.side_max, {1, 65'536}}, "longest side", "pixels"),
      Row("pixels-max", IntegerField{&flags.pixels_max, {1, kAnyPixels}}, "largest image",
          "pixels"),
      Row("frames-max", IntegerField{&flags.frames_max, {1, 1'000'000}},
          "longest animation; its first frame is decoded", "frames"),
      Row("frames", IntegerField{&flags.frames, {0, 65'536}},
          "of a video or an animated GIF so many frames are taken, evenly; 0: by --fps", "frames"),
      Row("fps", RealField{&flags.fps, {0.01, 1'000.0}},
          "frames that are taken of a second of a video; 4 to 768 in all, an even number"),
      Row("video-frames-max", IntegerField{&flags.video_frames_max, {1, 10'000'000}},
          "longest video", "frames"),
      Row("memory-max", SizeField{&flags.memory_max, {1 << 20, std::int64_t{1} << 40}},
          "memory of the process that decodes, the image included"),
      Row("cpu-time-max", DurationField{&flags.cpu_time_max, {kSecond, 3'600 * kSecond}},
          "CPU time of decoding, in whole seconds"),
      Row("time-max", DurationField{&flags.time_max, {1'000'000, 3'600 * kSecond}},
          "how long decoding may take")};
}

int RunMedia(const Arguments& arguments) {
  MediaCommandFlags flags;
  config::Command command;
  command.name = "media";
  command.summary =
      "Decodes an image, or frames of a video, in a sandbox, resizes them, writes their RGB bytes "
      "or a model's embeddings of an image, and prints their size as JSON.";
  command.positionals = {{.name = "FILE",
                          .help = "JPEG, PNG, WebP, GIF or BMP; MP4, WebM or AVI",
                          .required = true,
                          .repeated = false}};
  command.options = RowsOf(flags);
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<int> done = Decode(parsed.positionals[0], flags);
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
