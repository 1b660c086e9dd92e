#include "frontend/media_jobs.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace pixii::frontend {
namespace {

MediaJob Job(std::string id, std::string tenant = "a") {
  MediaJob out;
  out.id = std::move(id);
  out.tenant = std::move(tenant);
  out.model = "m";
  out.lifetime_seconds = 10;
  return out;
}

Result<MediaTurn> Step(std::uint32_t done, double progress) {
  return MediaTurn{.steps_done = done, .progress = progress, .done = false, .files = {}};
}

Result<MediaTurn> Last(std::vector<std::string> files) {
  return MediaTurn{.steps_done = 9, .progress = 0.9, .done = true, .files = std::move(files)};
}

/// Who has each of the next `count` turns.
std::string Turns(MediaJobs& jobs, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    const MediaJob* job = jobs.BeginTurn();
    if (job == nullptr) {
      return out + "-";
    }
    out += job->id;
    EXPECT_EQ(jobs.BeginTurn(), nullptr) << "one turn at a time";
    jobs.EndTurn(job->id, Step(static_cast<std::uint32_t>(i), 0.1), 0);
  }
  return out;
}

TEST(MediaJobs, StepsGoRoundTenantsAndThenJobs) {
  MediaJobs jobs({});
  for (const char* id : {"1", "2", "3"}) {
    ASSERT_TRUE(jobs.Add(Job(id, "many")));
  }
  ASSERT_TRUE(jobs.Add(Job("x", "one")));
  EXPECT_EQ(Turns(jobs, 8), "1x2x3x1x");
}

TEST(MediaJobs, AsManyRunAsMayAndTheOthersWait) {
  MediaJobs jobs({.running_max = 2});
  for (const char* id : {"1", "2", "3"}) {
    ASSERT_TRUE(jobs.Add(Job(id)));
  }
  EXPECT_EQ(Turns(jobs, 4), "1212");
  EXPECT_EQ(jobs.running_count(), 2U);
  EXPECT_EQ(jobs.queued_count(), 1U);
  EXPECT_EQ(jobs.Cancel("1", 0), MediaJobs::Cancelled::kDrop);
  EXPECT_EQ(Turns(jobs, 4), "3232");
}

TEST(MediaJobs, ATenantHasItsOwnLimits) {
  MediaJobs jobs({.tenant_bytes_max = 6, .tenant_live_max = 2});
  ASSERT_TRUE(jobs.Add(Job("1")));
  ASSERT_TRUE(jobs.Add(Job("2")));
  EXPECT_EQ(jobs.Add(Job("3")).error().code(), Code::kQuotaExceeded);
  ASSERT_TRUE(jobs.Add(Job("x", "b"))) << "others have theirs";
  const auto end = [&](const std::string& bytes) {
    const std::string id = jobs.BeginTurn()->id;
    const MediaJobs::AfterTurn after = jobs.EndTurn(id, Last({bytes}), 0);
    if (after == MediaJobs::AfterTurn::kStore) {
      jobs.OnStored(id, {}, 0);
    }
    return id + " " + std::string(MediaStatusName(jobs.Get(id)->status));
  };
  EXPECT_EQ(end("12345"), "1 completed");
  EXPECT_EQ(end("1234567"), "x failed");
  EXPECT_EQ(jobs.Get("x")->error_code, "quota_exceeded");
  EXPECT_EQ(end("12"), "2 failed") << "one byte was left";
  ASSERT_TRUE(jobs.Add(Job("4")));
  EXPECT_EQ(end("1"), "4 completed");
  EXPECT_EQ(jobs.Add(Job("5")).error().code(), Code::kQuotaExceeded);
  jobs.Remove("1");
  EXPECT_TRUE(jobs.Add(Job("5")));
}

TEST(MediaJobs, AFullQueueAndAFullStoreRefuse) {
  MediaJobs jobs({.queued_max = 1, .bytes_max = 5});
  ASSERT_TRUE(jobs.Add(Job("1")));
  Result<void> full = jobs.Add(Job("2"));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), Code::kResourceExhausted);
  ASSERT_NE(jobs.BeginTurn(), nullptr);
  ASSERT_TRUE(jobs.Add(Job("2")));
  EXPECT_EQ(jobs.EndTurn("1", Last({"12345"}), 0), MediaJobs::AfterTurn::kStore);
  jobs.OnStored("1", {}, 0);
  EXPECT_EQ(jobs.Get("1")->status, MediaStatus::kCompleted);
  ASSERT_NE(jobs.BeginTurn(), nullptr);
  EXPECT_EQ(jobs.EndTurn("2", Last({"6"}), 0), MediaJobs::AfterTurn::kDrop);
  EXPECT_EQ(jobs.Get("2")->error_code, "storage_full");
  full = jobs.Add(Job("3"));
  ASSERT_FALSE(full);
  EXPECT_NE(full.error().detail().find("allowed are 10000 and 5"), std::string::npos);
  jobs.Remove("1");
  EXPECT_TRUE(jobs.Add(Job("3")));
}

TEST(MediaJobs, APictureThatCannotBeReadIsToldFromWhatTheModelDoes) {
  MediaJobs jobs({});
  for (const char* id : {"1", "2"}) {
    ASSERT_TRUE(jobs.Add(Job(id)));
    ASSERT_NE(jobs.BeginTurn(), nullptr);
    const bool first = std::string_view(id) == "1";
    jobs.EndTurn(id, Fail(Code::kInvalidArgument, "no picture", first ? "input_reference" : ""), 0);
    EXPECT_EQ(jobs.Get(id)->status, MediaStatus::kFailed);
  }
  EXPECT_EQ(jobs.Get("1")->error_code, kBadReference);
  EXPECT_EQ(jobs.Get("2")->error_code, "generation_failed");
}

TEST(MediaJobs, CancelledWithinAStepEndsOnceAndAtOnce) {
  MediaJobs jobs({});
  ASSERT_TRUE(jobs.Add(Job("1")));
  ASSERT_NE(jobs.BeginTurn(), nullptr);
  EXPECT_EQ(jobs.Cancel("1", 7), MediaJobs::Cancelled::kInterrupt);
  EXPECT_EQ(jobs.Get("1")->status, MediaStatus::kCancelled);
  EXPECT_EQ(jobs.TakeEnded(), std::vector<std::string>{"1"});
  EXPECT_EQ(jobs.Cancel("1", 7), MediaJobs::Cancelled::kAlreadyEnded);
  EXPECT_TRUE(jobs.Expired(100).empty()) << "its turn is not over";
  // The maker had not heard of it yet.
  EXPECT_EQ(jobs.EndTurn("1", Last({"file"}), 8), MediaJobs::AfterTurn::kDrop);
  EXPECT_EQ(jobs.Get("1")->status, MediaStatus::kCancelled);
  EXPECT_TRUE(jobs.TakeEnded().empty());
  EXPECT_EQ(jobs.size_bytes(), 0U);
  EXPECT_EQ(jobs.Expired(100), std::vector<std::string>{"1"});
}

TEST(MediaJobs, WhatARestartFindsIsCompletedOrFailed) {
  MediaJob whole = Job("1");
  whole.status = MediaStatus::kCompleted;
  whole.progress = 1;
  whole.file_bytes = {5};
  whole.expires_at = 50;
  whole.spec = {.prompt = "a \"circle\"", .width = 64, .height = 32, .frames = 17, .seed = 3};
  const Result<MediaJob> read = MediaJob::FromRecord(whole.Record());
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->Record(), whole.Record());
  MediaJobs jobs({});
  EXPECT_FALSE(jobs.Restore(*read, 20));
  EXPECT_EQ(jobs.Get("1")->Body(), whole.Body());
  EXPECT_EQ(jobs.size_bytes(), 5U);
  EXPECT_TRUE(jobs.Restore(*MediaJob::FromRecord(Job("2").Record()), 20));
  EXPECT_EQ(jobs.Get("2")->status, MediaStatus::kFailed);
  EXPECT_EQ(jobs.Get("2")->error_code, "server_restarted");
  EXPECT_EQ(jobs.BeginTurn(), nullptr);
  EXPECT_EQ(jobs.Expired(30), std::vector<std::string>{"2"});
  EXPECT_EQ(jobs.Expired(50).size(), 2U);
  for (const char* bad : {"", "{}", "[]", R"({"id":1})"}) {
    EXPECT_FALSE(MediaJob::FromRecord(bad)) << bad;
  }
}

// What the machine shall do, said as slowly as can be: a list of jobs and of all turns.
struct Naive {
  struct Known {
    std::string id;
    std::string tenant;
    MediaStatus status = MediaStatus::kQueued;
    bool storing = false;
    std::uint64_t bytes = 0;
  };

  std::vector<Known> jobs;
  std::vector<std::string> turns;  // ids
  std::string turning;

  Known& Of(const std::string& id) {
    return *std::ranges::find_if(jobs, [&](const Known& job) { return job.id == id; });
  }

  static bool Ended(const Known& job) { return job.status >= MediaStatus::kCompleted; }

  std::size_t Count(MediaStatus status) const {
    return static_cast<std::size_t>(std::ranges::count(jobs, status, &Known::status));
  }
};

// Random events: what is true of every job at every moment, and that each ends once.
TEST(MediaJobs, RandomEventsAgreeWithANaiveModel) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](std::size_t count) {
      return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
    };
    constexpr std::uint32_t kQueued = 3;
    constexpr std::uint32_t kRunning = 2;
    constexpr std::uint64_t kBytes = 40;
    MediaJobs jobs({.queued_max = kQueued, .running_max = kRunning, .bytes_max = kBytes});
    Naive naive;
    std::map<std::string, int> ends;
    std::uint64_t bytes = 0;
    for (int event = 0; event < 300; ++event) {
      SCOPED_TRACE(fmt::format("seed {} event {}", seed, event));
      const std::size_t what = pick(7);
      if (what == 0) {
        const std::string id = fmt::format("j{}", event);
        const std::string tenant(1, static_cast<char>('a' + pick(3)));
        const bool room = naive.Count(MediaStatus::kQueued) < kQueued && bytes < kBytes;
        ASSERT_EQ(jobs.Add(Job(id, tenant)).has_value(), room);
        if (room) {
          naive.jobs.push_back({.id = id, .tenant = tenant});
        }
      } else if (what <= 2) {
        const bool slot = naive.Count(MediaStatus::kInProgress) < kRunning;
        std::set<std::string> may;
        for (const Naive::Known& job : naive.jobs) {
          if ((job.status == MediaStatus::kInProgress && !job.storing) ||
              (job.status == MediaStatus::kQueued && slot)) {
            may.insert(job.id);
          }
        }
        const MediaJob* next = jobs.BeginTurn();
        ASSERT_EQ(next != nullptr, naive.turning.empty() && !may.empty());
        if (next != nullptr) {
          ASSERT_TRUE(may.contains(next->id));
          // No other job of the tenant has waited longer.
          const auto last = [&](const std::string& id) {
            return naive.turns.rend() -
                   std::ranges::find(naive.turns.rbegin(), naive.turns.rend(), id);
          };
          for (const std::string& other : may) {
            if (naive.Of(other).tenant == next->tenant) {
              ASSERT_GE(last(other), last(next->id));
            }
          }
          naive.turning = next->id;
          naive.turns.push_back(next->id);
          naive.Of(next->id).status = MediaStatus::kInProgress;
        }
      } else if (what == 3 && !naive.turning.empty()) {
        Naive::Known& job = naive.Of(naive.turning);
        const std::size_t how = pick(3);
        const std::string file(1 + pick(12), 'x');
        const Result<MediaTurn> turn = how == 0   ? Step(1, 0.5)
                                       : how == 1 ? Last({file})
                                                  : Fail(Code::kModelFault, "nan");
        const MediaJobs::AfterTurn after = jobs.EndTurn(naive.turning, turn, event);
        naive.turning.clear();
        if (Naive::Ended(job)) {
          ASSERT_EQ(after, turn ? MediaJobs::AfterTurn::kDrop : MediaJobs::AfterTurn::kNothing);
        } else if (how == 0) {
          ASSERT_EQ(after, MediaJobs::AfterTurn::kNothing);
        } else if (how == 2 || bytes + file.size() > kBytes) {
          ASSERT_NE(after, MediaJobs::AfterTurn::kStore);
          job.status = MediaStatus::kFailed;
        } else {
          ASSERT_EQ(after, MediaJobs::AfterTurn::kStore);
          job.storing = true;
          job.bytes = file.size();
          bytes += file.size();
        }
      } else if (what == 4 && !naive.jobs.empty()) {
        Naive::Known& job = naive.jobs[pick(naive.jobs.size())];
        const MediaJobs::Cancelled how = jobs.Cancel(job.id, event);
        ASSERT_EQ(how == MediaJobs::Cancelled::kAlreadyEnded, Naive::Ended(job));
        if (!Naive::Ended(job)) {
          ASSERT_EQ(how == MediaJobs::Cancelled::kInterrupt, naive.turning == job.id);
          job.status = MediaStatus::kCancelled;
          bytes -= std::exchange(job.bytes, 0);
        }
      } else if (what == 5) {
        for (Naive::Known& job : naive.jobs) {
          if (std::exchange(job.storing, false)) {
            const bool good = pick(4) > 0;
            jobs.OnStored(job.id, good ? Result<void>() : Fail(Code::kUnavailable, "disk"), event);
            if (!Naive::Ended(job)) {
              job.status = good ? MediaStatus::kCompleted : MediaStatus::kFailed;
              bytes -= good ? 0 : std::exchange(job.bytes, 0);
            }
          }
        }
      } else if (what == 6 && !naive.jobs.empty()) {
        const std::size_t at = pick(naive.jobs.size());
        const Naive::Known job = naive.jobs[at];
        if (Naive::Ended(job) && naive.turning != job.id) {
          jobs.Remove(job.id);
          bytes -= job.bytes;
          naive.jobs.erase(naive.jobs.begin() + static_cast<std::ptrdiff_t>(at));
          ASSERT_EQ(jobs.Get(job.id), nullptr);
        }
      }
      for (const std::string& id : jobs.TakeEnded()) {
        ASSERT_EQ(++ends[id], 1);
      }
      ASSERT_EQ(jobs.queued_count(), naive.Count(MediaStatus::kQueued));
      ASSERT_EQ(jobs.running_count(), naive.Count(MediaStatus::kInProgress));
      ASSERT_EQ(jobs.size_bytes(), bytes);
      ASSERT_EQ(jobs.count(), naive.jobs.size());
      for (const Naive::Known& job : naive.jobs) {
        ASSERT_EQ(jobs.Get(job.id)->status, job.status);
        ASSERT_EQ(ends.contains(job.id), Naive::Ended(job));
      }
    }
  }
}

}  // namespace
}  // namespace pixii::frontend
