#include "bench/media_bench.h"

#include <chrono>
#include <cmath>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <optional>

// libjpeg's header wants FILE and size_t from above.
#include <jpeglib.h>

#include "engine/media_cache.h"
#include "media/decode.h"
#include "wire/messages/media.h"

namespace pixii::bench {

namespace {

constexpr std::uint32_t kClipSide = 336;  // pixels

double Now() {
  const std::chrono::duration<double> since =
      std::chrono::steady_clock::now().time_since_epoch();  // tidy: clock this is the measurement
  return since.count();
}

struct Failure {
  jpeg_error_mgr errors;
  std::jmp_buf jump;
};

// As its documentation has it. Nothing between setjmp and longjmp has a destructor.
bool DecodePlainly(const std::string& file, std::vector<std::uint8_t>& rgb) {
  jpeg_decompress_struct decoder{};
  Failure failure{};
  decoder.err = jpeg_std_error(&failure.errors);
  decoder.client_data = &failure;
  failure.errors.error_exit = [](j_common_ptr common) {
    std::longjmp(static_cast<Failure*>(common->client_data)->jump, 1);
  };
  if (setjmp(failure.jump) != 0) {
    jpeg_destroy_decompress(&decoder);
    return false;
  }
  jpeg_create_decompress(&decoder);
  jpeg_mem_src(&decoder, reinterpret_cast<const unsigned char*>(file.data()), file.size());
  jpeg_read_header(&decoder, TRUE);
  decoder.out_color_space = JCS_RGB;
  jpeg_start_decompress(&decoder);
  const std::size_t row_bytes = std::size_t{3} * decoder.output_width;
  rgb.resize(row_bytes * decoder.output_height);
  while (decoder.output_scanline < decoder.output_height) {
    unsigned char* row = rgb.data() + row_bytes * decoder.output_scanline;
    jpeg_read_scanlines(&decoder, &row, 1);
  }
  jpeg_finish_decompress(&decoder);
  jpeg_destroy_decompress(&decoder);
  return true;
}

Figure Beside(Figure figure, const Figure& floor) {
  figure.limit = floor.value;
  figure.limit_name = "libjpeg-turbo decodes";
  return figure;
}

wire::MediaItem ItemOf(const media::Image& image) {
  wire::MediaItem item{.height = image.size.height, .width = image.size.width};
  item.pixels.assign(image.rgb.begin(), image.rgb.end());
  return item;
}

}  // namespace

std::string DrawJpeg(std::uint32_t width, std::uint32_t height) {
  std::vector<std::uint8_t> row(std::size_t{3} * width);
  jpeg_compress_struct encoder{};
  jpeg_error_mgr errors{};
  encoder.err = jpeg_std_error(&errors);
  jpeg_create_compress(&encoder);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&encoder, &bytes, &size);
  encoder.image_width = width;
  encoder.image_height = height;
  encoder.input_components = 3;
  encoder.in_color_space = JCS_RGB;
  jpeg_set_defaults(&encoder);
  jpeg_set_quality(&encoder, 90, TRUE);
  jpeg_start_compress(&encoder, TRUE);
  std::uint32_t noise = 1;
  for (std::uint32_t y = 0; y < height; ++y) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      noise = noise * 1664525U + 1013904223U;
      const double wave = 90.0 * std::sin(static_cast<double>(i) / 97.0 + y / 61.0);
      row[i] = static_cast<std::uint8_t>(120.0 + wave + (noise >> 27U));
    }
    unsigned char* line = row.data();
    jpeg_write_scanlines(&encoder, &line, 1);
  }
  jpeg_finish_compress(&encoder);
  jpeg_destroy_compress(&encoder);
  std::string out(reinterpret_cast<const char*>(bytes), size);
  std::free(bytes);  // libjpeg's, by malloc
  return out;
}

Result<std::vector<Figure>> BenchMedia(model::VisionTower& tower,
                                       const MediaBenchOptions& options) {
  const std::string file = options.jpeg.empty() ? DrawJpeg(1920, 1080) : options.jpeg;
  const media::Bytes bytes(reinterpret_cast<const std::uint8_t*>(file.data()), file.size());
  media::PatchSpec clip = options.processor;
  clip.fit = media::Fit::kExact;
  clip.size = {.width = kClipSide, .height = kClipSide};
  clip.merge_size = 1;
  std::vector<std::uint8_t> rgb;
  std::vector<double> floor;
  std::vector<double> decode;
  std::vector<double> patches;
  std::vector<double> clipped;
  std::vector<double> looks;
  std::vector<double> kept;
  engine::MediaCache cache(std::uint64_t{1} << 30U);
  for (std::uint32_t repeat = 0; repeat < options.repeats; ++repeat) {
    double begin = Now();
    if (!DecodePlainly(file, rgb)) {
      return Fail(Code::kInvalidArgument, "the file is no JPEG that libjpeg decodes", "image");
    }
    const double floor_s = Now() - begin;
    begin = Now();
    PX_TRY(media::Image image, media::Decode(bytes, {}));
    const double decode_s = Now() - begin;
    const double megapixels = static_cast<double>(image.size.pixel_count()) / 1e6;
    begin = Now();
    PX_TRY(const media::Patches made, media::MakePatches(image, options.processor));
    patches.push_back(megapixels / (decode_s + Now() - begin));
    begin = Now();
    PX_TRY(const media::Patches small, media::MakePatches(image, clip));
    clipped.push_back(megapixels / (decode_s + Now() - begin));
    floor.push_back(megapixels / floor_s);
    decode.push_back(megapixels / decode_s);

    wire::MediaItem item = ItemOf(image);
    begin = Now();
    PX_TRY(model::VisionFeatures features,
           tower.Encode({.grid = {.frames = static_cast<std::int32_t>(made.frames),
                                  .rows = static_cast<std::int32_t>(made.rows),
                                  .cols = static_cast<std::int32_t>(made.cols)},
                         .patches = made.values,
                         .source = made.source}));
    const double tower_s = Now() - begin;
    looks.push_back(1.0 / tower_s);
    item.digest = wire::MediaDigest(item);
    cache.Put(item.digest, std::make_shared<const model::VisionFeatures>(std::move(features)));
    begin = Now();
    const auto found = cache.Find(item.digest);
    kept.push_back(found ? 1.0 - (Now() - begin) / tower_s : 0.0);
  }
  const Figure plain = MakeFigure("floor", "Mpixel/s", floor);
  return std::vector<Figure>{plain,
                             Beside(MakeFigure("decode", "Mpixel/s", decode), plain),
                             Beside(MakeFigure("patches", "Mpixel/s", patches), plain),
                             Beside(MakeFigure("clip", "Mpixel/s", clipped), plain),
                             MakeFigure("tower", "pictures/s", looks),
                             MakeFigure("kept", "of a tower's time", kept)};
}

}  // namespace pixii::bench
