#include "wire/http_response_parser.h"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>
#include <utility>

#include "base/assert.h"

namespace pixii::wire {

namespace beast_http = boost::beast::http;

struct HttpResponseParser::State {
  explicit State(std::uint64_t limit) : body_bytes_max(limit) { Restart(); }

  void Restart() {
    parser.emplace();
    parser->eager(true);
    parser->header_limit(64 * 1024);
    parser->body_limit(body_bytes_max);
    parser->skip(skip_body);
    fields.clear();
  }

  void ReadFields() {
    if (!fields.empty() || !parser->is_header_done()) {
      return;
    }
    for (const auto& field : parser->get().base()) {
      fields.push_back({std::string(field.name_string()), std::string(field.value())});
    }
  }

  std::uint64_t body_bytes_max;
  std::optional<beast_http::response_parser<beast_http::string_body>> parser;
  std::vector<HttpField> fields;
  std::uint32_t interim_count = 0;
  bool skip_body = false;
  bool starved = false;  // the parser took nothing of what it was given last
};

// Of the shortest end of a chunked body, "0\r\n\r\n": behind any chunk as much comes at least.
// Beast asserts that it has that much when it is asked again inside the last chunk's header.
constexpr std::size_t kChunkEndBytes = 5;

HttpResponseParser::HttpResponseParser(std::uint64_t body_bytes_max)
    : state_(std::make_unique<State>(body_bytes_max)) {}

HttpResponseParser::HttpResponseParser(HttpResponseParser&&) noexcept = default;
HttpResponseParser& HttpResponseParser::operator=(HttpResponseParser&&) noexcept = default;
HttpResponseParser::~HttpResponseParser() = default;

void HttpResponseParser::ExpectNoBody() {
  state_->skip_body = true;
  state_->parser->skip(true);
}

Result<std::size_t> HttpResponseParser::Feed(std::string_view bytes) {
  std::size_t used = 0;
  if (state_->starved && bytes.size() < kChunkEndBytes) {
    return used;
  }
  while (used < bytes.size() && !state_->parser->is_done()) {
    boost::beast::error_code ec;
    std::size_t taken =
        state_->parser->put(boost::asio::buffer(bytes.data() + used, bytes.size() - used), ec);
    used += taken;
    state_->ReadFields();
    if (ec == beast_http::error::need_more) {
      break;
    }
    if (ec) {
      return Fail(Code::kDataCorrupt, fmt::format("HTTP response: {}", ec.message()));
    }
    if (state_->parser->is_done() && state_->parser->get().result_int() < 200) {
      ++state_->interim_count;
      state_->Restart();
      continue;
    }
    if (taken == 0) {
      break;
    }
  }
  state_->starved = used == 0;
  return used;
}

Result<void> HttpResponseParser::FeedEnd() {
  boost::beast::error_code ec;
  if (!state_->parser->got_some()) {
    return Fail(Code::kUnavailable, "the connection ended before a response");
  }
  state_->parser->put_eof(ec);
  if (ec || !state_->parser->is_done()) {
    return Fail(Code::kUnavailable, "the connection ended inside a response");
  }
  return {};
}

bool HttpResponseParser::head_complete() const { return state_->parser->is_header_done(); }

bool HttpResponseParser::complete() const { return state_->parser->is_done(); }

int HttpResponseParser::status() const {
  PX_ASSERT(head_complete());
  return static_cast<int>(state_->parser->get().result_int());
}

const std::vector<HttpField>& HttpResponseParser::fields() const { return state_->fields; }

std::string_view HttpResponseParser::Field(std::string_view name) const {
  for (const HttpField& field : state_->fields) {
    if (EqualsIgnoreCase(field.name, name)) {
      return field.value;
    }
  }
  return {};
}

bool HttpResponseParser::keep_alive() const { return state_->parser->keep_alive(); }

std::uint32_t HttpResponseParser::interim_count() const { return state_->interim_count; }

std::string HttpResponseParser::TakeBody() {
  return std::exchange(state_->parser->get().body(), {});
}

void HttpResponseParser::Next() {
  PX_ASSERT(complete());
  state_->skip_body = false;
  state_->Restart();
}

}  // namespace pixii::wire
