#include "apps/media_command.h"

#include <fmt/format.h>

#include <charconv>

#include "apps/supervisor.h"
#include "media/decoder_child.h"
#include "media/decoder_pool.h"
#include "rt/file.h"
#include "wire/json.h"

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

Result<int> Decode(const std::string& path, const MediaCommandFlags& flags) {
  PX_TRY(const media::DecodeOptions options, DecodeOptionsOf(flags));
  PX_TRY(const std::string file, rt::ReadFile(path, static_cast<std::uint64_t>(flags.bytes_max)));
  const media::Bytes bytes(reinterpret_cast<const std::uint8_t*>(file.data()), file.size());
  PX_TRY(const media::ImageInfo info, media::ReadImageInfo(bytes, options.limits));
  media::DecoderPool pool({.command = {kOwnProgram, std::string(media::kDecoderCommand)},
                           .children_max = 1,
                           .memory_bytes_max = static_cast<std::uint64_t>(flags.memory_max),
                           .cpu_time_max = rt::Duration(flags.cpu_time_max),
                           .time_max = rt::Duration(flags.time_max)});
  PX_TRY(const media::Image image, pool.Decode(bytes, options));
  if (!flags.raw.empty()) {
    const std::string_view rgb(reinterpret_cast<const char*>(image.rgb.data()), image.rgb.size());
    PX_CHECK_OK(rt::WriteFileAtomic(flags.raw, rgb, kFileMode));
  }
  wire::Json out(wire::Json::Object{});
  out.Set("width", std::uint64_t{image.size.width});
  out.Set("height", std::uint64_t{image.size.height});
  out.Set("format", media::FormatName(info.format));
  out.Set("frames", std::uint64_t{info.frames});
  out.Set("stored_width", std::uint64_t{info.size.width});
  out.Set("stored_height", std::uint64_t{info.size.height});
  out.Set("orientation", int{info.orientation});
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
  using config::SizeField;
  using config::TextField;
  using config::WordField;
  constexpr std::int64_t kAnyPixels = std::int64_t{1} << 28;
  return {
      Row("raw", TextField{&flags.raw, {}},
          "file that gets the RGB bytes, row by row; none: they are not kept"),
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
      "Decodes an image file in a sandbox, resizes it, writes its RGB bytes and prints its size as "
      "JSON.";
  command.positionals = {
      {.name = "FILE", .help = "JPEG, PNG, WebP, GIF or BMP", .required = true, .repeated = false}};
  command.options = RowsOf(flags);
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<int> done = Decode(parsed.positionals[0], flags);
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
