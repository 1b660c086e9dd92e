#include "media/encode.h"

#include <fmt/format.h>
#include <spng.h>
#include <webp/encode.h>

#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>

// libjpeg's header wants FILE and size_t from above.
#include <jpeglib.h>

namespace pixii::media {

namespace {

constexpr std::uint32_t kWebpSideMax = 16383;
constexpr std::uint32_t kSideMax = 65500;  // of JPEG

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

Error Refused(std::string_view format, std::string_view why) {
  return Error(Code::kUnavailable, fmt::format("a {} could not be made: {}", format, why));
}

Result<std::string> EncodePng(const Image& image) {
  struct ContextFree {
    void operator()(spng_ctx* context) const { ::spng_ctx_free(context); }
  };

  const std::unique_ptr<spng_ctx, ContextFree> context(::spng_ctx_new(SPNG_CTX_ENCODER));
  spng_ihdr header = {};
  header.width = image.size.width;
  header.height = image.size.height;
  header.bit_depth = 8;
  header.color_type = SPNG_COLOR_TYPE_TRUECOLOR;
  int code = ::spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1);
  code = code == 0 ? ::spng_set_ihdr(context.get(), &header) : code;
  code = code == 0 ? ::spng_encode_image(context.get(), image.rgb.data(), image.rgb.size(),
                                         SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE)
                   : code;
  std::size_t size = 0;
  const std::unique_ptr<void, Free> bytes(
      code == 0 ? ::spng_get_png_buffer(context.get(), &size, &code) : nullptr);
  if (code != 0 || !bytes) {
    return Fail(Refused("PNG", ::spng_strerror(code)));
  }
  return std::string(static_cast<const char*>(bytes.get()), size);
}

// libjpeg's errors are jumps: nothing between setjmp and longjmp may have a destructor.
struct JpegSession {
  jpeg_compress_struct encoder;
  jpeg_error_mgr errors;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  unsigned char* bytes;
  unsigned long size;
};

[[noreturn]] void OnJpegError(j_common_ptr common) {
  JpegSession& session = *static_cast<JpegSession*>(common->client_data);
  (*common->err->format_message)(common, session.message);
  std::longjmp(session.jump, 1);
}

bool RunJpeg(JpegSession& session, const Image& image, int quality) {
  session.encoder.err = ::jpeg_std_error(&session.errors);
  session.errors.error_exit = OnJpegError;
  session.encoder.client_data = &session;
  if (setjmp(session.jump) != 0) {
    ::jpeg_destroy_compress(&session.encoder);
    return false;
  }
  jpeg_compress_struct& encoder = session.encoder;
  ::jpeg_create_compress(&encoder);
  encoder.client_data = &session;
  ::jpeg_mem_dest(&encoder, &session.bytes, &session.size);
  encoder.image_width = image.size.width;
  encoder.image_height = image.size.height;
  encoder.input_components = 3;
  encoder.in_color_space = JCS_RGB;
  ::jpeg_set_defaults(&encoder);
  ::jpeg_set_quality(&encoder, quality, TRUE);
  ::jpeg_start_compress(&encoder, TRUE);
  while (encoder.next_scanline < encoder.image_height) {
    // The library's type is not const; it does not write.
    auto* row = const_cast<JSAMPLE*>(image.row(encoder.next_scanline));
    ::jpeg_write_scanlines(&encoder, &row, 1);
  }
  ::jpeg_finish_compress(&encoder);
  ::jpeg_destroy_compress(&encoder);
  return true;
}

Result<std::string> EncodeJpeg(const Image& image, int quality) {
  JpegSession session = {};
  const bool done = RunJpeg(session, image, quality);
  const std::unique_ptr<void, Free> bytes(session.bytes);
  if (!done) {
    return Fail(Refused("JPEG", session.message));
  }
  return std::string(static_cast<const char*>(bytes.get()), session.size);
}

Result<std::string> EncodeWebp(const Image& image, int quality) {
  struct WebpDelete {
    void operator()(std::uint8_t* bytes) const { ::WebPFree(bytes); }
  };

  if (image.size.width > kWebpSideMax || image.size.height > kWebpSideMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("a WebP has sides of at most {} pixels", kWebpSideMax));
  }
  std::uint8_t* raw = nullptr;
  const std::size_t size = ::WebPEncodeRGB(
      image.rgb.data(), static_cast<int>(image.size.width), static_cast<int>(image.size.height),
      static_cast<int>(image.row_bytes()), static_cast<float>(quality), &raw);
  const std::unique_ptr<std::uint8_t, WebpDelete> bytes(raw);
  if (size == 0) {
    return Fail(Refused("WebP", "libwebp gives no reason"));
  }
  return std::string(reinterpret_cast<const char*>(bytes.get()), size);
}

}  // namespace

Result<std::string> EncodeImage(const Image& image, ImageFileFormat format, std::int32_t quality) {
  if (image.rgb.empty() || image.rgb.size() != image.size.pixel_count() * kImageChannels ||
      image.size.width > kSideMax || image.size.height > kSideMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} x {} pixels are no picture that could be written", image.size.width,
                            image.size.height));
  }
  switch (format) {
    case ImageFileFormat::kPng:
      return EncodePng(image);
    case ImageFileFormat::kJpeg:
      return EncodeJpeg(image, quality);
    case ImageFileFormat::kWebp:
      break;
  }
  return EncodeWebp(image, quality);
}

}  // namespace pixii::media
