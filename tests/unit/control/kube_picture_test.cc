#include "control/kube_picture.h"

#include <gtest/gtest.h>

namespace pixii::control {
namespace {

using std::chrono::seconds;
using Values = std::map<std::string, std::string>;

class KubePictureTest : public testing::Test {
 protected:
  static rt::Time At(int second) { return rt::Time(seconds(second)); }

  static KubeLease Lease(std::string holder, std::string renewed, std::string uid = "u") {
    return {.name = KubeLeaseName(holder),
            .version = {.uid = std::move(uid), .resource_version = "1"},
            .renew_time = std::move(renewed),
            .holder = std::move(holder),
            .duration = seconds(10)};
  }

  static KubeEntry Entry(const std::string& key, std::string value, std::string holder) {
    return {.name = KubeEntryName(key),
            .version = {.uid = "e", .resource_version = "1"},
            .holder = std::move(holder),
            .key = key,
            .value = std::move(value)};
  }

  KubePicture picture_;
};

TEST_F(KubePictureTest, KeysCountWhileTheirHolderIsHeardOfByOurClock) {
  picture_.SetEntries({Entry("k", "1", "a")}, At(0));
  EXPECT_EQ(picture_.ValuesUnder(""), Values{}) << "no lease";
  picture_.SetLeases({Lease("a", "tomorrow")}, At(0));
  EXPECT_EQ(picture_.ValuesUnder(""), (Values{{"k", "1"}}));
  EXPECT_EQ(picture_.next_suspect_at(), At(10));
  picture_.PutLease(Lease("a", "the year 1"), At(9));  // a clock of the day that jumps
  EXPECT_EQ(picture_.next_suspect_at(), At(19));
  picture_.SetLeases({Lease("a", "the year 1")}, At(18));
  picture_.Judge(At(18));
  EXPECT_EQ(picture_.ValuesUnder(""), (Values{{"k", "1"}}));
  picture_.Judge(At(19));
  EXPECT_EQ(picture_.ValuesUnder(""), Values{});
  EXPECT_EQ(picture_.next_suspect_at(), rt::kNever);
  picture_.PutLease(Lease("a", "the year 1"), At(20));
  EXPECT_EQ(picture_.ValuesUnder(""), Values{}) << "the same text is no sign of life";
  picture_.PutLease(Lease("a", "the year 2"), At(21));
  EXPECT_EQ(picture_.ValuesUnder(""), (Values{{"k", "1"}})) << "it had only been frozen";
}

TEST_F(KubePictureTest, NobodyIsDeadForATimeInWhichNobodyCouldBeHeard) {
  picture_.SetLeases({Lease("a", "1"), Lease("b", "1")}, At(0));
  picture_.SetEntries({Entry("k", "1", "a"), Entry("l", "1", "b")}, At(0));
  picture_.PutLease(Lease("a", "2"), At(5));
  picture_.Judge(At(12));
  EXPECT_EQ(picture_.ValuesUnder(""), (Values{{"k", "1"}}));
  picture_.CountAnew(At(600));
  picture_.Judge(At(600));
  EXPECT_EQ(picture_.ValuesUnder(""), (Values{{"k", "1"}})) << "but who was dead stays so";
  picture_.Judge(At(610));
  EXPECT_EQ(picture_.ValuesUnder(""), Values{});
}

TEST_F(KubePictureTest, ALeaseThatIsGoneTakesItsKeysAndAListIsAllThereIs) {
  picture_.SetLeases({Lease("a", "1"), Lease("b", "1")}, At(0));
  picture_.SetEntries({Entry("k", "1", "a"), Entry("l", "1", "b"), Entry("l2", "1", "b")}, At(0));
  picture_.DropLease(KubeLeaseName("a"), At(1));
  EXPECT_EQ(picture_.ValuesUnder(""), (Values{{"l", "1"}, {"l2", "1"}}));
  picture_.SetEntries({Entry("l", "2", "b")}, At(2));
  EXPECT_EQ(picture_.ValuesUnder(""), (Values{{"l", "2"}}));
  picture_.SetLeases({}, At(3));
  EXPECT_EQ(picture_.ValuesUnder(""), Values{});
}

TEST_F(KubePictureTest, ChangesAreCountedOnlyIfSomebodyCouldSeeThem) {
  picture_.SetLeases({Lease("a", "1")}, At(0));
  picture_.PutEntry(Entry("k", "1", "a"), At(0));
  const std::uint64_t before = picture_.change_count();
  picture_.PutLease(Lease("a", "2"), At(1));
  picture_.SetLeases({Lease("a", "3")}, At(2));
  picture_.PutEntry(Entry("k", "1", "a"), At(2));
  picture_.PutEntry(Entry("l", "1", "nobody"), At(2));
  picture_.DropEntry(KubeEntryName("l"));
  EXPECT_EQ(picture_.change_count(), before);
  picture_.PutEntry(Entry("k", "2", "a"), At(3));
  EXPECT_GT(picture_.change_count(), before);
}

TEST_F(KubePictureTest, WhatTheDeadLeaveIsNamedOnceTheyAreDeadLongEnough) {
  picture_.SetLeases({Lease("a", "1"), Lease("b", "1", "u-b")}, At(0));
  picture_.SetEntries({Entry("k", "1", "b"), Entry("l", "1", "nobody")}, At(0));
  picture_.PutLease(Lease("a", "2"), At(9));
  picture_.Judge(At(10));
  EXPECT_TRUE(picture_.Leftovers(seconds(100), At(99)).empty());
  auto leftovers = picture_.Leftovers(seconds(100), At(105));
  ASSERT_EQ(leftovers.size(), 1U) << "what had no lease from the beginning";
  EXPECT_EQ(leftovers[0].name, KubeEntryName("l"));
  leftovers = picture_.Leftovers(seconds(100), At(110));
  ASSERT_EQ(leftovers.size(), 3U);
  EXPECT_EQ(leftovers[2].kind, KubeKind::kLease);
  EXPECT_EQ(leftovers[2].name, KubeLeaseName("b"));
  EXPECT_EQ(leftovers[2].version, (KubeVersion{.uid = "u-b", .resource_version = "1"}));
}

}  // namespace
}  // namespace pixii::control
