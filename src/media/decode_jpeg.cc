#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <vector>

// libjpeg's header wants FILE and size_t from above.
#include <jerror.h>
#include <jpeglib.h>

#include "media/decoders.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

constexpr int kScansMax = 500;  // of a progressive image: each costs a pass over all of it

// libjpeg's errors are jumps: nothing between setjmp and longjmp may have a destructor.
struct Session {
  jpeg_decompress_struct decoder;
  jpeg_error_mgr errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  bool truncated;
};

Session& SessionOf(j_common_ptr common) { return *static_cast<Session*>(common->client_data); }

[[noreturn]] void OnError(j_common_ptr common) {
  Session& session = SessionOf(common);
  (*common->err->format_message)(common, session.message);
  std::longjmp(session.jump, 1);
}

void OnMessage(j_common_ptr /*common*/, int /*level*/) {}  // warnings: what they tell of is drawn

boolean OnEnd(j_decompress_ptr decoder) {
  Session& session = SessionOf(reinterpret_cast<j_common_ptr>(decoder));
  session.truncated = true;
  std::longjmp(session.jump, 1);
}

void OnSkip(j_decompress_ptr decoder, long count) {
  if (count > 0 && static_cast<std::size_t>(count) > decoder->src->bytes_in_buffer) {
    OnEnd(decoder);
  }
  if (count > 0) {
    decoder->src->next_input_byte += count;
    decoder->src->bytes_in_buffer -= static_cast<std::size_t>(count);
  }
}

void OnNothing(j_decompress_ptr /*decoder*/) {}

void OnProgress(j_common_ptr common) {
  if (reinterpret_cast<j_decompress_ptr>(common)->input_scan_number > kScansMax) {
    Session& session = SessionOf(common);
    std::snprintf(session.message, sizeof session.message, "it has more than %d scans", kScansMax);
    std::longjmp(session.jump, 1);
  }
}

// Rows of CMYK as Adobe writes them, each value inverted, to RGB without a colour profile:
// white - ink * white / 255, where white is what black leaves.
void StoreInk(const JSAMPLE* inverted, std::uint32_t width, std::uint8_t* rgb) {
  for (std::uint32_t x = 0; x < width; ++x, inverted += 4) {
    const std::uint32_t white = inverted[3];
    for (int c = 0; c < 3; ++c) {
      const std::uint32_t product = (255U - inverted[c]) * white + 128;
      *rgb++ = static_cast<std::uint8_t>(white - (((product >> 8) + product) >> 8));
    }
  }
}

// False: session.message or session.truncated says why.
bool Run(Session& session, Bytes file, Image& out, JSAMPLE* ink) {
  jpeg_decompress_struct& decoder = session.decoder;
  decoder.err = ::jpeg_std_error(&session.errors);
  session.errors.error_exit = OnError;
  session.errors.emit_message = OnMessage;
  decoder.client_data = &session;
  if (setjmp(session.jump) != 0) {  // NOLINT: libjpeg's only way to fail
    ::jpeg_destroy_decompress(&decoder);
    return false;
  }
  jpeg_create_decompress(&decoder);
  session.source = {.next_input_byte = file.data(),
                    .bytes_in_buffer = file.size(),
                    .init_source = OnNothing,
                    .fill_input_buffer = OnEnd,
                    .skip_input_data = OnSkip,
                    .resync_to_restart = ::jpeg_resync_to_restart,
                    .term_source = OnNothing};
  decoder.src = &session.source;
  session.progress.progress_monitor = OnProgress;
  decoder.progress = &session.progress;
  ::jpeg_read_header(&decoder, TRUE);
  const bool inked = decoder.num_components == 4;
  if (decoder.num_components != 1 && decoder.num_components != 3 && !inked) {
    std::snprintf(session.message, sizeof session.message, "it has %d components",
                  decoder.num_components);
    std::longjmp(session.jump, 1);
  }
  decoder.out_color_space = inked ? JCS_CMYK : JCS_RGB;
  ::jpeg_start_decompress(&decoder);
  if (decoder.output_width != out.size.width || decoder.output_height != out.size.height) {
    std::snprintf(session.message, sizeof session.message, "its frame headers differ");
    std::longjmp(session.jump, 1);
  }
  while (decoder.output_scanline < decoder.output_height) {
    const JDIMENSION y = decoder.output_scanline;
    JSAMPROW row = inked ? ink : out.row(y);
    if (::jpeg_read_scanlines(&decoder, &row, 1) == 1 && inked) {
      StoreInk(ink, out.size.width, out.row(y));
    }
  }
  ::jpeg_destroy_decompress(&decoder);  // what follows the last row is nobody's business
  return true;
}

}  // namespace

Result<void> DecodeJpeg(Bytes file, const ImageInfo& info, Image& out) {
  Session session = {};
  std::vector<JSAMPLE> ink(std::size_t{info.size.width} * 4);
  if (Run(session, file, out, ink.data())) {
    return {};
  }
  if (session.errors.msg_code == JERR_OUT_OF_MEMORY) {
    return Fail(kImage.TakesMemory("libjpeg"));
  }
  return Fail(session.truncated ? kImage.Truncated("its JPEG data end before the last row")
                                : kImage.Corrupt(session.message));
}

}  // namespace pixii::media
