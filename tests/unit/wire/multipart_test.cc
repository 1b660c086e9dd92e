#include "wire/multipart.h"

#include <gtest/gtest.h>

namespace pixii::wire {
namespace {

constexpr std::string_view kType = "multipart/form-data; boundary=XX";

std::string Part(std::string_view fields, std::string_view content) {
  return "--XX\r\n" + std::string(fields) + "\r\n\r\n" + std::string(content) + "\r\n";
}

std::string Named(std::string_view name) {
  return "Content-Disposition: form-data; name=\"" + std::string(name) + "\"";
}

TEST(Multipart, GivesPartsWithNamesAndTheirExactBytes) {
  const std::string body =
      Part(Named("purpose"), "batch") +
      Part(Named("file") + "; filename=\"a.jsonl\"\r\nContent-Type: application/jsonl",
           "{\"a\":1}\r\n--X\r\n{}\n") +
      "--XX--\r\n";
  auto parts = ParseMultipart(kType, body);
  ASSERT_TRUE(parts) << parts.error().ToString();
  ASSERT_EQ(parts->size(), 2U);
  EXPECT_EQ((*parts)[0].name, "purpose");
  EXPECT_EQ((*parts)[0].content, "batch");
  EXPECT_FALSE((*parts)[0].filename);
  EXPECT_EQ((*parts)[1].filename, "a.jsonl");
  EXPECT_EQ((*parts)[1].content, "{\"a\":1}\r\n--X\r\n{}\n");
}

TEST(Multipart, ReadsQuotedAndExtendedFileNames) {
  const auto name = [](std::string_view value) {
    const std::string body = Part(Named("file") + "; " + std::string(value), "x") + "--XX--";
    auto parts = ParseMultipart("Multipart/Form-Data; charset=utf-8; boundary=\"XX\"", body);
    return parts ? parts->at(0).filename.value_or("none") : parts.error().detail();
  };
  EXPECT_EQ(name(R"(filename="a \"b\" \\c")"), R"(a "b" \c)");
  EXPECT_EQ(name(R"(filename="C:\dir\f.jsonl")"), R"(C:\dir\f.jsonl)");
  EXPECT_EQ(name("filename=plain"), "plain");
  EXPECT_EQ(name("filename=\"x\"; filename*=UTF-8''%C3%A4.jsonl"), "ä.jsonl");
  EXPECT_NE(name("filename*=latin1''x").find("filename*"), std::string::npos);
  EXPECT_NE(name("filename=\"x\"; filename=\"y\"").find("Content-Disposition"), std::string::npos);
}

TEST(Multipart, RefusesWhatCouldBeReadInTwoWays) {
  const auto refused = [](std::string_view body, std::string_view type = kType) {
    auto parts = ParseMultipart(type, body, {.part_count_max = 2, .head_bytes_max = 100});
    return parts ? std::string("taken") : parts.error().detail();
  };
  const std::string good = Part(Named("a"), "1");
  EXPECT_EQ(refused(good + "--XX--"), "taken");
  EXPECT_EQ(refused("\r\n" + good + "--XX--\r\nbehind"), "taken");
  EXPECT_NE(refused("text\r\n" + good + "--XX--"), "taken");
  EXPECT_NE(refused(good), "taken") << "no end";
  EXPECT_NE(refused(good + "--XXY\r\n"), "taken");
  EXPECT_NE(refused(good + good + good + "--XX--").find("more than 2"), std::string::npos);
  EXPECT_NE(refused(Part("X: y", "1") + "--XX--").find("no Content-Disposition"),
            std::string::npos);
  EXPECT_NE(refused(Part(Named("a") + "\r\n" + Named("b"), "1") + "--XX--").find("two"),
            std::string::npos);
  EXPECT_NE(refused(Part(Named("a") + "\r\nContent-Transfer-Encoding: base64", "1") + "--XX--")
                .find("encodings"),
            std::string::npos);
  EXPECT_NE(refused(Part(Named(std::string(200, 'n')), "1") + "--XX--").find("100 bytes"),
            std::string::npos);
  EXPECT_NE(refused(good + "--XX--", "multipart/form-data"), "taken");
  EXPECT_NE(refused(good + "--XX--", "multipart/form-data; boundary=" + std::string(71, 'x')),
            "taken");
  auto other = ParseMultipart("application/json", good);
  EXPECT_EQ(other.error().code(), Code::kUnsupportedMediaType);
}

}  // namespace
}  // namespace pixii::wire
