#include "frontend/media_service.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pixii::frontend {
namespace {

using namespace std::chrono_literals;

/// Its turns end when the test says so.
class FakeMaker final : public MediaMaker {
 public:
  const MediaModel& model() const override { return model_; }

  Result<void> Check(const MediaSpec& spec) const override {
    return spec.width % 16 == 0 ? Result<void>()
                                : Fail(Code::kInvalidArgument, "width is odd", "width");
  }

  void Turn(const std::string& job, const MediaSpec& /*spec*/, OnTurn done) override {
    EXPECT_FALSE(under_way) << "one turn at a time";
    turns.push_back(job);
    under_way = std::move(done);
  }

  void Interrupt() override { ++interrupts; }

  void Drop(const std::string& job) override { dropped.push_back(job); }

  void End(Result<MediaTurn> turn) {
    ASSERT_TRUE(under_way);
    std::exchange(under_way, nullptr)(std::move(turn));
  }

  OnTurn under_way;
  std::vector<std::string> turns;
  std::vector<std::string> dropped;
  int interrupts = 0;

 private:
  MediaModel model_{.name = "m", .defaults = {}};
};

class MediaServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = rt::MakeLoop();
    ASSERT_TRUE(made);
    loop = std::move(*made);
  }

  void Open(MediaServiceOptions options = {}) {
    auto owned = std::make_unique<FakeMaker>();
    maker = owned.get();
    auto opened = MediaService::Open(*loop, registry, std::move(options), std::move(owned));
    ASSERT_TRUE(opened) << opened.error().ToString();
    service = std::move(*opened);
  }

  /// Runs the loop until `condition`.
  template <class Condition>
  void Until(Condition condition) {
    const rt::Time deadline = loop->Now() + 30s;
    while (!condition()) {
      ASSERT_LT(loop->Now(), deadline) << "too late";
      loop->RunAt(loop->Now() + 1ms, [this] { loop->Stop(); });
      loop->Run();
    }
  }

  void Create(const std::string& id, MediaKind kind = MediaKind::kVideo) {
    bool added = false;
    MediaSpec spec{.kind = kind};
    spec.format = kind == MediaKind::kVideo ? MediaFormat::kMp4 : MediaFormat::kPng;
    spec.count = kind == MediaKind::kVideo ? 1 : 2;
    service->Create(
        id, "t", spec,
        [&](const Result<void>& result) {
          EXPECT_TRUE(result);
          added = true;
        },
        [this](const MediaJob& job) {
          ends.push_back(job.id + " " + std::string(MediaStatusName(job.status)));
        });
    Until([&] { return added; });
  }

  static MediaTurn Done(std::vector<std::string> files) {
    return {.steps_done = 2, .progress = 1, .done = true, .files = std::move(files)};
  }

  std::unique_ptr<rt::Loop> loop;
  obs::Registry registry;
  FakeMaker* maker = nullptr;
  std::unique_ptr<MediaService> service;
  std::vector<std::string> ends;
};

TEST_F(MediaServiceTest, CancelledWithinAStepItIsGoneAtOnceAndTheNextBeginsBehindTheStep) {
  Open();
  Create("1");
  Create("2");
  ASSERT_EQ(maker->turns, std::vector<std::string>{"1"});
  EXPECT_TRUE(service->Erase("t", "1"));
  EXPECT_EQ(maker->interrupts, 1);
  EXPECT_EQ(ends, std::vector<std::string>{"1 cancelled"});
  EXPECT_EQ(service->Find("t", "1"), nullptr);
  EXPECT_FALSE(service->Erase("t", "1"));
  EXPECT_EQ(service->List("t", MediaKind::kVideo).size(), 1U);
  maker->End(Fail(Code::kCancelled, "interrupted"));
  EXPECT_EQ(maker->turns, (std::vector<std::string>{"1", "2"}));
  maker->End(Done({"film"}));
  Until([&] { return ends.size() == 2; });
  EXPECT_EQ(ends[1], "2 completed");
  EXPECT_EQ(
      registry.GetCounter(obs::MetricId::kMediaJobsTotal, {"m", "video", "cancelled"}).value(), 1U);
}

TEST_F(MediaServiceTest, WhatTheModelCannotMakeFailsAloneAndSaysWhy) {
  Open();
  Create("1");
  maker->End(Fail(Code::kModelFault, "values are not finite"));
  ASSERT_EQ(ends, std::vector<std::string>{"1 failed"});
  const MediaJob* job = service->Find("t", "1");
  ASSERT_NE(job, nullptr);
  EXPECT_EQ(job->error_message, "values are not finite");
  EXPECT_EQ(service->Find("other", "1"), nullptr);
  const wire::Json body = *wire::ParseJson(R"({"prompt":"a","size":"10x16"})");
  const Result<MediaRequest> odd = service->Read(body, MediaKind::kVideo, 1);
  ASSERT_FALSE(odd);
  EXPECT_EQ(odd.error().param(), "size");
}

TEST_F(MediaServiceTest, AClosedOneEndsAllAndTakesNothing) {
  Open();
  Create("1");
  Create("2");
  service->Close();
  EXPECT_EQ(ends, (std::vector<std::string>{"1 failed", "2 failed"}));
  EXPECT_EQ(maker->interrupts, 1);
  maker->End(Fail(Code::kCancelled, "interrupted"));
  EXPECT_FALSE(maker->under_way);
  std::optional<Code> refused;
  service->Create("3", "t", {}, [&](const Result<void>& added) { refused = added.error().code(); });
  EXPECT_EQ(refused, Code::kShuttingDown);
}

/// A place that has room for records alone.
class FullPlace final : public BlobPlace {
 public:
  Result<void> Write(const std::string& name, std::string_view /*bytes*/) override {
    return name.ends_with(".json") ? Result<void>()
                                   : Fail(Code::kResourceExhausted, "no space is left");
  }

  Result<void> Append(const std::string& /*name*/, std::string_view /*bytes*/) override {
    return {};
  }

  Result<std::string> Read(const std::string& name) override {
    return Fail(Code::kNotFound, name + " is not there");
  }

  Result<void> Remove(const std::string& /*name*/) override { return {}; }
};

TEST_F(MediaServiceTest, WhatCannotBeWrittenFailsAndTakesNoRoom) {
  MediaServiceOptions options;
  options.open = [&](const std::string& /*name*/) -> Result<OpenedBlobs> {
    return OpenedBlobs{.store = MakeBlobStore(*loop, std::make_unique<FullPlace>()), .found = {}};
  };
  Open(options);
  for (const char* id : {"1", "2"}) {
    Create(id);
    maker->End(Done({"film"}));
    Until([&] { return service->Find("t", id)->ended(); });
    EXPECT_EQ(service->Find("t", id)->error_code, "storage_failed");
  }
  EXPECT_EQ(ends, (std::vector<std::string>{"1 failed", "2 failed"}));
  EXPECT_EQ(registry.GetGauge(obs::MetricId::kMediaBytes, {"m"}).value(), 0);
}

TEST_F(MediaServiceTest, WhatHasHadItsTimeGoesThoughNobodyAsks) {
  const std::string folder = ::testing::TempDir() + "media-service-time-test";
  std::filesystem::remove_all(folder);
  MediaServiceOptions options;
  options.lifetime_seconds = 1;
  options.open = [&](const std::string& name) {
    return OpenFolderBlobStore(*loop, folder + "/" + name, 1 << 20);
  };
  Open(options);
  Create("1");
  maker->End(Done({"film"}));
  Until([&] { return ends.size() == 1; });
  EXPECT_TRUE(std::filesystem::exists(folder + "/videos/1.mp4"));
  Until([&] {
    return !std::filesystem::exists(folder + "/videos/1.mp4") &&
           !std::filesystem::exists(folder + "/videos/1.json");
  });
  EXPECT_EQ(registry.GetGauge(obs::MetricId::kMediaBytes, {"m"}).value(), 0);
}

TEST_F(MediaServiceTest, OneThatWasClosedInATurnIsErasedWithIt) {
  Open();
  Create("1");
  service->Close();
  EXPECT_TRUE(service->Erase("t", "1"));
  EXPECT_EQ(service->Find("t", "1"), nullptr);
  maker->End(Fail(Code::kCancelled, "interrupted"));
  EXPECT_FALSE(service->Erase("t", "1"));
}

TEST_F(MediaServiceTest, AFolderKeepsWhatWasCompleted) {
  const std::string folder = ::testing::TempDir() + "media-service-test";
  std::filesystem::remove_all(folder);
  MediaServiceOptions options;
  options.fs_url = "file://" + folder;
  options.open = [&](const std::string& name) {
    return OpenFolderBlobStore(*loop, folder + "/" + name, 1 << 20);
  };
  Open(options);
  Create("1", MediaKind::kImage);
  maker->End(Done({"first", "second"}));
  Until([&] { return ends.size() == 1; });
  Create("2");
  service.reset();
  const std::string rest = folder + "/images/image_0123456789abcdef01234567-0.png";
  const std::string written = folder + "/images/image_0123456789abcdef01234568.json.X1y2Z3";
  const std::string foreign = folder + "/images/rest.png";
  const std::string unread = folder + "/images/image_0123456789abcdef01234569";
  for (const std::string& path : {rest, written, foreign, unread + "-0.png"}) {
    std::filesystem::copy_file(folder + "/images/1-0.png", path);
  }
  std::ofstream(unread + ".json") << "{\"version\": 2}";
  Open(options);
  const MediaJob* kept = service->Find("t", "1");
  ASSERT_NE(kept, nullptr);
  EXPECT_EQ(kept->status, MediaStatus::kCompleted);
  ASSERT_NE(service->Find("t", "2"), nullptr);
  EXPECT_EQ(service->Find("t", "2")->error_code, "server_restarted");
  EXPECT_EQ(service->UrlOf(*kept, 1), "file://" + folder + "/images/1-1.png");
  std::string read;
  service->ReadFile(*kept, 1, [&](const Result<BlobStore::Bytes>& bytes) { read = **bytes; });
  Until([&] { return !read.empty(); });
  EXPECT_EQ(read, "second");
  Until([&] { return !std::filesystem::exists(rest) && !std::filesystem::exists(written); });
  EXPECT_TRUE(std::filesystem::exists(foreign)) << "it is somebody else's";
  EXPECT_TRUE(std::filesystem::exists(unread + "-0.png")) << "whoever can read the record finds it";
  EXPECT_TRUE(std::filesystem::exists(unread + ".json"));
  EXPECT_TRUE(service->Erase("t", "1"));
  Until([&] { return !std::filesystem::exists(folder + "/images/1-1.png"); });
}

}  // namespace
}  // namespace pixii::frontend
