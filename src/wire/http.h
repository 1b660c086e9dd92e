// HTTP/1.1 without I/O: the server's request parser and the pieces of a response.
// docs/subsystems/wire.md
//
// Thread: values; a parser belongs to one connection.
// Framing is strict where two readers could disagree (RFC 9112 sections 2.2, 5, 6 and 11.2): a
// request whose length is in doubt is refused and its connection closed. Written out rather than on
// Boost.Beast's request_parser, which aborts on some chunked bodies
// (tests/fuzz/corpus/http_fuzz/beast_abort).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

namespace pixii::wire {

struct HttpLimits {
  std::uint32_t target_bytes_max = 8 * 1024;  // request target; past it 414
  std::uint32_t head_bytes_max = 64 * 1024;   // request line and fields together; past it 431
  std::uint32_t field_count_max = 100;        // header fields; past it 431
  std::uint32_t chunk_head_bytes_max =
      1024;  // size, extension and line end of one chunk, or one trailer; 400
  std::uint64_t body_bytes_max = 45ULL * 1024 * 1024;  // past it 413
};

struct HttpField {
  std::string name;
  std::string value;
};

struct HttpRequest {
  std::string method;  // as sent, case matters
  std::string path;   // target up to "?", not decoded; the authority of an absolute form is dropped
  std::string query;  // behind "?", not decoded
  int minor_version = 1;
  std::vector<HttpField> fields;  // of the head; trailer fields are dropped
  std::string body;
  bool keep_alive = true;
  bool expect_continue = false;

  /// Value of the first field of that name (ASCII case ignored), or nothing.
  std::optional<std::string_view> Field(std::string_view name) const;
};

/// Why a request is refused below the application. The connection closes after the answer.
struct HttpFault {
  int status = 400;
  std::string detail;
};

class HttpRequestParser final {
 public:
  explicit HttpRequestParser(const HttpLimits& limits);
  HttpRequestParser(HttpRequestParser&&) noexcept;
  HttpRequestParser& operator=(HttpRequestParser&&) noexcept;
  ~HttpRequestParser();

  /// Reads from the front of `bytes`, which are all unread bytes of the connection in order, and
  /// returns how many it took; the caller gives the rest again, followed by more. Takes nothing
  /// behind the end of the request.
  tl::expected<std::size_t, HttpFault> Feed(std::string_view bytes);

  bool started() const;  // a first byte of the request line was seen
  bool head_complete() const;
  bool complete() const;
  /// Pre: head_complete(). The body is there once complete().
  const HttpRequest& request() const;
  /// Bytes of the body so far.
  std::uint64_t body_bytes() const;
  /// Bytes of the body as announced; nothing if chunked. Pre: head_complete().
  std::optional<std::uint64_t> content_length() const;

  /// The request; the parser is then ready for the next one. Pre: complete().
  HttpRequest Take();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Reason phrase of `status`, "Unknown" if the table has none.
std::string_view HttpReason(int status);

/// ASCII letters folded.
bool EqualsIgnoreCase(std::string_view a, std::string_view b);

/// Decodes %XX; nothing if a sequence is broken or decodes to NUL.
std::optional<std::string> PercentDecode(std::string_view text);

struct HttpResponseHead {
  int status = 200;
  std::string_view content_type;                // empty: none
  std::optional<std::uint64_t> content_length;  // nothing: chunked, or until close for HTTP/1.0
  bool chunked = false;
  bool keep_alive = true;
  int minor_version = 1;          // of the request
  std::vector<HttpField> fields;  // further ones; values without CR, LF and NUL
};

/// Appends status line, fields and the empty line.
void AppendHttpHead(std::string& out, const HttpResponseHead& head);

inline constexpr std::string_view kHttpContinue = "HTTP/1.1 100 Continue\r\n\r\n";
/// An interim response that says nothing: it shows whether the peer still listens.
inline constexpr std::string_view kHttpProcessing = "HTTP/1.1 102 Processing\r\n\r\n";
inline constexpr std::string_view kHttpLastChunk = "0\r\n\r\n";

/// Chunks are built in place: Begin leaves room for the size, End fills it in. An empty chunk
/// leaves no trace.
std::size_t BeginHttpChunk(std::string& out);
void EndHttpChunk(std::string& out, std::size_t begin);

}  // namespace pixii::wire
