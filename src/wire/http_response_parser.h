// HTTP/1.1 without I/O, the client's side: reads responses in any pieces, hands on the body as it
// comes.
//
// Thread: values; a parser belongs to one connection. Body parsing is Boost.Beast's, seen by the
// .cc alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/http.h"

namespace pixii::wire {

class HttpResponseParser final {
 public:
  explicit HttpResponseParser(std::uint64_t body_bytes_max = 256ULL * 1024 * 1024);
  HttpResponseParser(HttpResponseParser&&) noexcept;
  HttpResponseParser& operator=(HttpResponseParser&&) noexcept;
  ~HttpResponseParser();

  /// The next response answers a HEAD: it has no body whatever its fields say.
  void ExpectNoBody();

  /// As HttpRequestParser::Feed. Interim responses (1xx) are skipped and counted.
  Result<std::size_t> Feed(std::string_view bytes);
  /// The server closed: completes a body that ends with the connection. Errors: kUnavailable if
  /// bytes are missing.
  Result<void> FeedEnd();

  bool head_complete() const;
  bool complete() const;
  int status() const;                            // Pre: head_complete()
  const std::vector<HttpField>& fields() const;  // Pre: head_complete()
  std::string_view Field(std::string_view name) const;
  bool keep_alive() const;
  std::uint32_t interim_count() const;

  /// Body bytes not taken yet.
  std::string TakeBody();
  /// Ready for the next response. Pre: complete().
  void Next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pixii::wire
