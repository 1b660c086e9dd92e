// HTTP requests from a loop: a connection each, answers whole or piece by piece as they come.
//
// Thread: one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/time.h"
#include "wire/http.h"
#include "wire/http_response_parser.h"

namespace pixii::control {

struct HttpCall {
  rt::Address address;
  std::string method = "POST";
  std::string target;                   // "/v3/kv/range"
  std::string host = {};                // as the server knows itself; empty: the address
  std::vector<wire::HttpField> fields;  // besides Host, Content-Length and Connection
  std::string body;
};

struct HttpAnswer {
  int status = 0;
  std::string body;
  std::string retry_after = {};  // the field of that name, if there is one
};

/// An answer that comes in pieces.
class HttpStream final {
 public:
  HttpStream(std::unique_ptr<rt::Stream> stream, std::uint64_t body_bytes_max);

  /// Waits for the head of the answer. Errors: as Read.
  rt::Task<Result<void>> ReadHead(rt::Time deadline);

  /// Pre: ReadHead, or OpenHttpStream, was good.
  int status() const { return parser_.status(); }

  /// Of the head; empty if there is none of that name.
  std::string_view Field(std::string_view name) const { return parser_.Field(name); }

  /// The next bytes of the body; empty at its end. Errors: kDeadlineExceeded, after which it may be
  /// called again; kUnavailable if the connection broke, kCancelled after Close(), kDataCorrupt.
  rt::Task<Result<std::string>> Read(rt::Time deadline);

  /// A Read that waits ends soon.
  void Close() { stream_->Close(); }

 private:
  rt::Task<Result<void>> ReadMore(rt::Time deadline);

  std::unique_ptr<rt::Stream> stream_;
  wire::HttpResponseParser parser_;
  std::string buffer_;
  std::string unread_;  // what the parser wants more for
};

/// Sends `call`; the answer has not begun. `net` outlives the call. Errors: those of Connect.
rt::Task<Result<std::unique_ptr<HttpStream>>> SendHttp(rt::Net& net, HttpCall call,
                                                       rt::Time deadline);

/// Sends `call` and waits for the head of the answer. `net` outlives the call. Errors: those of
/// Connect, and of HttpStream::Read.
rt::Task<Result<std::unique_ptr<HttpStream>>> OpenHttpStream(rt::Net& net, HttpCall call,
                                                             rt::Time deadline);

/// The whole answer. Errors: likewise; kTooLarge.
rt::Task<Result<HttpAnswer>> CallHttp(rt::Net& net, HttpCall call, rt::Time deadline);

}  // namespace pixii::control
