#include "wire/resp.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pixii::wire {
namespace {

RespValue Bytes(std::string text) { return {.kind = RespValue::Kind::kBytes, .text = text}; }

/// The replies in `bytes`, fed in pieces of `size`.
std::vector<RespValue> ReadAll(std::string_view bytes, std::size_t size) {
  RespReader reader(100);
  std::vector<RespValue> out;
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    reader.Feed(bytes.substr(at, size));
    while (true) {
      const auto value = reader.Next();
      EXPECT_TRUE(value);
      if (!value || !*value) {
        break;
      }
      out.push_back(**value);
    }
  }
  EXPECT_TRUE(reader.empty());
  return out;
}

std::optional<Code> ErrorOf(std::string_view bytes) {
  RespReader reader(10);
  reader.Feed(bytes);
  const auto value = reader.Next();
  return value ? std::nullopt : std::optional(value.error().code());
}

TEST(Resp, ACommandIsAListOfBytes) {
  std::string out;
  AppendRespCommand(out, std::vector<std::string_view>{"SET", std::string_view("a\r\nb", 4), ""});
  EXPECT_EQ(out, "*3\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
}

TEST(Resp, RepliesAreReadInAnyPieces) {
  const std::string bytes =
      "+OK\r\n-ERR "
      "no\r\n:-42\r\n$4\r\na\r\nb\r\n$-1\r\n*2\r\n$1\r\n0\r\n*2\r\n$1\r\nx\r\n$0\r\n\r\n"
      "*0\r\n";
  const std::vector<RespValue> expected{
      {.kind = RespValue::Kind::kText, .text = "OK"},
      {.kind = RespValue::Kind::kError, .text = "ERR no"},
      {.kind = RespValue::Kind::kInteger, .integer = -42},
      Bytes("a\r\nb"),
      {},
      {.kind = RespValue::Kind::kList,
       .items = {Bytes("0"), {.kind = RespValue::Kind::kList, .items = {Bytes("x"), Bytes("")}}}},
      {.kind = RespValue::Kind::kList}};
  for (const std::size_t size : {std::size_t{1}, std::size_t{3}, bytes.size()}) {
    EXPECT_EQ(ReadAll(bytes, size), expected) << size;
  }
}

TEST(Resp, WhatIsNoReplyIsRefused) {
  for (const char* bytes : {"hello\r\n", "\r\n", "$x\r\n", "$-2\r\n", ":12a\r\n", "$2\r\nabc\r\n",
                            ":99999999999999999999\r\n"}) {
    EXPECT_EQ(ErrorOf(bytes), Code::kDataCorrupt) << bytes;
  }
  EXPECT_EQ(ErrorOf("+" + std::string(RespReader::kLineMax + 1, 'x')), Code::kDataCorrupt);
  EXPECT_EQ(ErrorOf("$11\r\n"), Code::kTooLarge) << "before its bytes have come";
  EXPECT_EQ(ErrorOf("*2\r\n$6\r\nabcdef\r\n$6\r\n"), Code::kTooLarge) << "together";
  EXPECT_EQ(ErrorOf("*70000\r\n"), Code::kTooLarge);
  EXPECT_EQ(ErrorOf("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"), Code::kTooLarge);
}

}  // namespace
}  // namespace pixii::wire
