#include "wire/resp.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>

namespace pixii::wire {

namespace {

constexpr std::string_view kEnd = "\r\n";

tl::unexpected<Error> Broken(std::string what) {
  return Fail(Code::kDataCorrupt, "this is no reply of Redis: " + std::move(what));
}

Result<std::int64_t> ReadNumber(std::string_view line) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error != std::errc() || end != line.data() + line.size()) {
    return Broken("a number is expected");
  }
  return value;
}

}  // namespace

void AppendRespCommand(std::string& out, std::span<const std::string_view> words) {
  fmt::format_to(std::back_inserter(out), "*{}\r\n", words.size());
  for (const std::string_view word : words) {
    fmt::format_to(std::back_inserter(out), "${}\r\n", word.size());
    out.append(word).append(kEnd);
  }
}

Result<std::optional<RespValue>> RespReader::Next() {
  std::size_t at = begin_;
  Budget budget{.bytes = bytes_max_, .items = kItemsMax};
  PX_TRY(std::optional<RespValue> value, Parse(at, 0, budget));
  if (value) {
    begin_ = at;
    if (begin_ == input_.size()) {
      input_.clear();
      begin_ = 0;
    }
  }
  return value;
}

Result<std::optional<std::string_view>> RespReader::Line(std::size_t& at) const {
  const std::size_t end = input_.find(kEnd, at);
  if (end == std::string::npos ? input_.size() - at > kLineMax : end - at > kLineMax) {
    return Broken(fmt::format("a line has more than {} bytes", kLineMax));
  }
  if (end == std::string::npos) {
    return std::optional<std::string_view>();
  }
  const std::string_view line = std::string_view(input_).substr(at, end - at);
  at = end + kEnd.size();
  return std::optional(line);
}

Result<std::optional<RespValue>> RespReader::Parse(std::size_t& at, std::uint32_t depth,
                                                   Budget& budget) {
  PX_TRY(const std::optional<std::string_view> line, Line(at));
  if (!line) {
    return std::optional<RespValue>();
  }
  if (line->empty()) {
    return Broken("an empty line");
  }
  RespValue value;
  const std::string_view rest = line->substr(1);
  switch (line->front()) {
    case '+':
    case '-':
      value.kind = line->front() == '+' ? RespValue::Kind::kText : RespValue::Kind::kError;
      value.text = rest;
      return std::optional(std::move(value));
    case ':': {
      value.kind = RespValue::Kind::kInteger;
      PX_TRY(value.integer, ReadNumber(rest));
      return std::optional(std::move(value));
    }
    case '$':
    case '*':
      break;
    default:
      return Broken(fmt::format("a line begins with byte {}",
                                static_cast<unsigned>(static_cast<unsigned char>(line->front()))));
  }
  PX_TRY(const std::int64_t count, ReadNumber(rest));
  if (count < -1) {
    return Broken("a size below 0");
  }
  if (count == -1) {
    return std::optional(std::move(value));
  }
  const auto size = static_cast<std::uint64_t>(count);
  if (line->front() == '$') {
    if (size > budget.bytes) {
      return Fail(Code::kTooLarge,
                  fmt::format("a reply of Redis has {} bytes and may have {}", size, budget.bytes));
    }
    if (input_.size() - at < size + kEnd.size()) {
      return std::optional<RespValue>();
    }
    if (std::string_view(input_).substr(at + size, kEnd.size()) != kEnd) {
      return Broken("bytes without their end");
    }
    budget.bytes -= size;
    value.kind = RespValue::Kind::kBytes;
    value.text = input_.substr(at, size);
    at += size + kEnd.size();
    return std::optional(std::move(value));
  }
  if (depth >= kDepthMax || size > budget.items) {
    return Fail(Code::kTooLarge, "a reply of Redis has more or deeper lists than are wanted");
  }
  budget.items -= size;
  value.kind = RespValue::Kind::kList;
  for (std::uint64_t i = 0; i < size; ++i) {
    PX_TRY(std::optional<RespValue> item, Parse(at, depth + 1, budget));
    if (!item) {
      return std::optional<RespValue>();
    }
    value.items.push_back(std::move(*item));
  }
  return std::optional(std::move(value));
}

}  // namespace pixii::wire
