// Features that clients bring in place of pictures.
#include "frontend/media_features.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/small_floats.h"
#include "frontend/model_media.h"
#include "wire/safetensors_writer.h"

namespace pixii::frontend {
namespace {

constexpr wire::VisionCard kCard{.image_token = 7, .merge_size = 2, .row_size = 3};
constexpr wire::VisionCard kAxes{
    .image_token = 7, .merge_size = 2, .row_size = 3, .has_axes = true};

template <class Number>
std::string Raw(const std::vector<Number>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Number)};
}

struct Tensor {
  std::string name;
  wire::StoredType type;
  std::vector<std::int64_t> shape;
  std::string bytes;
};

std::string File(const std::vector<Tensor>& tensors) {
  std::vector<wire::StoredTensor> head;
  std::string bytes;
  for (const Tensor& tensor : tensors) {
    head.push_back({.name = tensor.name,
                    .type = tensor.type,
                    .shape = tensor.shape,
                    .size_bytes = tensor.bytes.size()});
    bytes += tensor.bytes;
  }
  return wire::SafetensorsHead(head) + bytes;
}

const std::vector<float> kValues = {1, 2, 3, -4, 0.5F, 6};

Tensor Features(const std::string& name = "mm_embeddings") {
  return {name, wire::StoredType::kF32, {2, 3}, Raw(kValues)};
}

Tensor Grid(std::vector<std::int64_t> values) {
  return {"image_grid_thw", wire::StoredType::kI64, {1, 3}, Raw(values)};
}

std::string ErrorOf(const std::string& file, const wire::VisionCard& card = kCard,
                    std::string_view name = "") {
  const Result<wire::MediaItem> read = ReadFeatures(file, name, card);
  return read ? "taken" : read.error().detail();
}

TEST(MediaFeatures, ATokenIsARow) {
  const Result<wire::MediaItem> item = ReadFeatures(File({Features()}), "", kCard);
  ASSERT_TRUE(item) << item.error().ToString();
  EXPECT_EQ(item->count, 2U);
  EXPECT_EQ(item->features, Raw(kValues));
  EXPECT_TRUE(item->pixels.empty());
  EXPECT_EQ(item->height * item->width, 2U);
  EXPECT_EQ(item->digest, wire::MediaDigest(*item));
}

TEST(MediaFeatures, EqualValuesAreEqualWhateverTheirTypeAndFile) {
  const std::string digest = ReadFeatures(File({Features()}), "", kCard)->digest;
  std::vector<double> doubles(kValues.begin(), kValues.end());
  std::vector<std::uint16_t> halves;
  std::vector<std::uint16_t> brains;
  for (const float value : kValues) {
    halves.push_back(F16FromFloat(value));
    brains.push_back(Bf16FromFloat(value));
  }
  using wire::StoredType;
  const std::vector<std::string> files = {
      File({{"image_embeds", StoredType::kF64, {1, 2, 3}, Raw(doubles)}}),
      File({{"any", StoredType::kF16, {2, 3}, Raw(halves)},
            {"special_tokens", StoredType::kI64, {1}, std::string(8, 'x')}}),
      File({{"mm_embeddings", StoredType::kBf16, {2, 3}, Raw(brains)},
            {"another", StoredType::kF32, {1}, std::string(4, 'x')}})};
  for (const std::string& file : files) {
    const Result<wire::MediaItem> item = ReadFeatures(file, "", kCard);
    ASSERT_TRUE(item) << item.error().ToString();
    EXPECT_EQ(item->digest, digest);
  }
  Tensor other = Features();
  other.bytes[0] = 1;
  EXPECT_NE(ReadFeatures(File({other}), "", kCard)->digest, digest);
}

TEST(MediaFeatures, ModelsThatTurnByAxesWantTheGrid) {
  const Result<wire::MediaItem> item = ReadFeatures(File({Features(), Grid({1, 4, 2})}), "", kAxes);
  ASSERT_TRUE(item) << item.error().ToString();
  EXPECT_EQ(item->height, 2U);
  EXPECT_EQ(item->width, 1U);
  EXPECT_NE(item->digest, ReadFeatures(File({Features(), Grid({1, 2, 4})}), "", kAxes)->digest);
  EXPECT_NE(ErrorOf(File({Features()}), kAxes).find("image_grid_thw is missing"),
            std::string::npos);
  constexpr std::int64_t kLarge = std::numeric_limits<std::int64_t>::max();
  for (const std::vector<std::int64_t>& bad : {std::vector<std::int64_t>{2, 2, 2},
                                               {1, 4, 4},
                                               {1, 3, 2},
                                               {1, 0, 0},
                                               {1, -4, -2},
                                               {1, kLarge - 1, 2},
                                               {1, kLarge, kLarge}}) {
    EXPECT_NE(ErrorOf(File({Features(), Grid(bad)}), kAxes).find("is not the grid of 2 rows"),
              std::string::npos)
        << bad[1];
  }
  Tensor two = Grid({1, 4, 2, 1, 4, 2});
  two.shape = {2, 3};
  EXPECT_NE(ErrorOf(File({Features(), two}), kAxes).find("one picture has 3"), std::string::npos);
}

TEST(MediaFeatures, WhatIsWrongIsNamedWithItsValueAndTheLimit) {
  const auto has = [](const std::string& text, const std::string& words) {
    EXPECT_NE(text.find(words), std::string::npos) << text;
  };
  Tensor wide = Features();
  wide.shape = {3, 2};
  has(ErrorOf(File({wide})), "rows of 2 values; those of this model have 3");
  Tensor flat = Features();
  flat.shape = {6};
  has(ErrorOf(File({flat})), "has the shape [6]; [rows, 3] is wanted");
  Tensor many = Features();
  many.shape = {2, 1, 3};
  has(ErrorOf(File({many})), "has the shape [2, 1, 3]");
  Tensor none{"mm_embeddings", wire::StoredType::kF32, {0, 3}, ""};
  has(ErrorOf(File({none})), "has 0 rows; 1 to 1048576 are allowed");
  Tensor codes{"mm_embeddings", wire::StoredType::kI32, {2, 3}, std::string(24, 'x')};
  has(ErrorOf(File({codes})), "is of I32; F32, F16, BF16 and F64 are read");
  Tensor nan = Features();
  const float bad = std::numeric_limits<float>::infinity();
  std::memcpy(nan.bytes.data() + 4, &bad, sizeof bad);
  has(ErrorOf(File({nan})), "value 1 of \"mm_embeddings\" is inf");
  has(ErrorOf(File({Features("a"), Features("b")})), "call them mm_embeddings");
  has(ErrorOf(File({Grid({1, 1, 1})})), "has no tensor mm_embeddings");
  const std::string good = File({Features()});
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_NE(ErrorOf(good.substr(0, size)), "taken") << size;
  }
  const std::uint64_t header = kFeatureHeaderBytesMax + 1;
  std::string long_header(8 + header, ' ');
  std::memcpy(long_header.data(), &header, sizeof header);
  has(ErrorOf(long_header), "header of 65537 bytes; 65536 are allowed");
  has(ErrorOf(good, wire::VisionCard{.image_token = 7}), "do not take any");
}

TEST(MediaFeatures, ProgramsAreRefusedByNameAndByContent) {
  const std::string good = File({Features()});
  for (const char* name : {"file:///a/x.pt", "https://h/x.PTH?y=1", "file:///x.bin", "x.pkl"}) {
    EXPECT_NE(ErrorOf(good, kCard, name).find("save_file"), std::string::npos) << name;
  }
  EXPECT_NE(ErrorOf("PK\x03\x04...").find("save_file"), std::string::npos);
  for (const char* pickle : {"\x80\x02}q", "\x80\x03}q", "\x80\x04\x95\x0f", "\x80\x05\x95"}) {
    EXPECT_NE(ErrorOf(pickle).find("save_file"), std::string::npos) << int{pickle[1]};
  }
  EXPECT_EQ(ErrorOf(good, kCard, "file:///a/x.safetensors"), "taken");
  EXPECT_TRUE(IsFeatureUrl("https://h/a.safetensors?version=2"));
  EXPECT_TRUE(IsFeatureUrl("file:///a.pt"));
  EXPECT_FALSE(IsFeatureUrl("https://h/a.png"));
  EXPECT_FALSE(IsFeatureUrl("https://h/a.bin")) << "pictures have such names, too";
  EXPECT_FALSE(IsFeatureUrl("data:image/png;base64,.pt"));
}

TEST(MediaFeatures, AHeaderWhoseLengthLooksLikeAPickleIsOne) {
  const std::string good = File({Features()});
  std::uint64_t length = 0;
  std::memcpy(&length, good.data(), sizeof length);
  for (const std::uint64_t wanted : {0x280, 0x380, 0x480, 0x580}) {
    std::string padded(sizeof wanted, '\0');
    std::memcpy(padded.data(), &wanted, sizeof wanted);
    padded += good.substr(sizeof length, length) + std::string(wanted - length, ' ');
    padded += good.substr(sizeof length + length);
    EXPECT_EQ(ErrorOf(padded), "taken") << wanted;
  }
}

TEST(MediaFeatures, APartThatIsFeaturesAsksNoDecoder) {
  const auto no_image = [](const std::string&) -> Result<media::Image> {
    ADD_FAILURE() << "nothing is decoded";
    return Fail(Code::kInternal, "");
  };
  const auto file = [](const std::string& url) -> Result<std::string> {
    EXPECT_EQ(url, "u");
    return File({Features()});
  };
  const MediaPart part{
      .kind = wire::MediaKind::kImage, .url = "u", .where = "here", .is_features = true};
  const Result<ReadMedia> read = ModelMedia(kCard, no_image, file).Read(part);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->item.count, 2U);
  EXPECT_EQ(read->pixels, 6U);
  EXPECT_EQ(ModelMedia(kCard, no_image).Read(part).error().param(), "here");
  wire::VisionCard other = kCard;
  other.row_size = 4;
  const Result<ReadMedia> refused = ModelMedia(other, no_image, file).Read(part);
  EXPECT_EQ(refused.error().param(), "here");
  EXPECT_EQ(refused.error().detail().rfind("here: ", 0), 0U) << refused.error().detail();
}

}  // namespace
}  // namespace pixii::frontend
