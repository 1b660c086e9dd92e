#include "rt/gzip.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <zlib.h>

#include "base/assert.h"

namespace pixii::rt {

namespace {

constexpr int kWindowBits = 15 + 16;  // the largest window, with gzip's head
constexpr int kMemoryLevel = 8;       // zlib's own choice
constexpr std::size_t kPieceBytes = 1 << 16;
constexpr std::size_t kInputBytesMax = 1 << 30;  // of one call of zlib, which counts in 32 bits

Bytef* BytesOf(std::string_view text) {
  return const_cast<Bytef*>(reinterpret_cast<const Bytef*>(text.data()));
}

/// Gives the next piece of `input` to the stream.
void Refill(z_stream& stream, std::string_view& input) {
  const std::string_view piece = input.substr(0, std::min(input.size(), kInputBytesMax));
  input.remove_prefix(piece.size());
  stream.next_in = BytesOf(piece);
  stream.avail_in = static_cast<uInt>(piece.size());
}

}  // namespace

std::string Gzip(std::string_view bytes) {
  z_stream stream{};
  PX_ASSERT(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWindowBits, kMemoryLevel,
                         Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out;
  std::array<char, kPieceBytes> piece;
  int state = Z_OK;
  while (state != Z_STREAM_END) {
    if (stream.avail_in == 0) {
      Refill(stream, bytes);
    }
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = piece.size();
    state = deflate(&stream, bytes.empty() ? Z_FINISH : Z_NO_FLUSH);
    out.append(piece.data(), piece.size() - stream.avail_out);
  }
  deflateEnd(&stream);
  return out;
}

Result<std::string> Gunzip(std::string_view bytes, std::uint64_t size_max) {
  z_stream stream{};
  PX_ASSERT(inflateInit2(&stream, kWindowBits) == Z_OK);
  std::string out;
  std::array<char, kPieceBytes> piece;
  int state = Z_STREAM_END;  // before the first member
  // What was read may not all have been written.
  while (stream.avail_in > 0 || !bytes.empty() || (state == Z_OK && stream.avail_out == 0)) {
    if (stream.avail_in == 0) {
      Refill(stream, bytes);
    }
    if (state == Z_STREAM_END) {
      (void)inflateReset(&stream);
    }
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = piece.size();
    state = inflate(&stream, Z_NO_FLUSH);
    out.append(piece.data(), piece.size() - stream.avail_out);
    if ((state != Z_OK && state != Z_STREAM_END) || out.size() > size_max) {
      break;
    }
  }
  inflateEnd(&stream);
  if (out.size() > size_max) {
    return Fail(Code::kTooLarge, fmt::format("gzip: it holds more than {} bytes", size_max));
  }
  if (state != Z_STREAM_END) {
    return Fail(Code::kDataCorrupt, "gzip: it is damaged or cut off");
  }
  return out;
}

}  // namespace pixii::rt
