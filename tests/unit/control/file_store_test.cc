#include "control/file_store.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "control/file_session.h"
#include "unit/control/store_worlds.h"

namespace pixii::control {
namespace {

using std::chrono::seconds;

constexpr LeaseOptions kLease{.ttl = seconds(10)};

// Another process that holds a key until it is killed.
class OtherProcess {
 public:
  OtherProcess(const std::string& folder, LeaseOptions lease) {
    pid_ = ::fork();
    if (pid_ == 0) {
      const auto loop = rt::MakeLoop().value();
      FileStore store(*loop, FileStoreOptions{.folder = folder, .lease = lease});
      (void)store.Put("v1/child", "here");
      loop->Run();
      ::_exit(0);
    }
  }

  ~OtherProcess() {
    Signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  void Signal(int signal) const { ::kill(pid_, signal); }

 private:
  pid_t pid_;
};

class FileStoreTest : public testing::Test {
 protected:
  std::unique_ptr<LeaseStore> Watching(LeaseOptions lease) {
    auto store = std::make_unique<FileStore>(
        world_.loop(), FileStoreOptions{.folder = world_.folder(), .lease = lease});
    store->Watch("", [this](const StoreView& view) { view_ = view; });
    return store;
  }

  bool Sees(std::size_t count) {
    return world_.RunUntil([&] { return !view_.trouble && view_.values.size() == count; });
  }

  FileStoreWorld world_;
  StoreView view_;
};

TEST_F(FileStoreTest, AProcessThatIsKilledIsGoneAtOnceAndClearedAway) {
  const auto child = std::make_unique<OtherProcess>(world_.folder(), kLease);
  const auto store = Watching(kLease);
  ASSERT_TRUE(Sees(1));
  const rt::Time killed_at = world_.loop().Now();
  child->Signal(SIGKILL);
  ASSERT_TRUE(Sees(0));
  EXPECT_LT(world_.loop().Now() - killed_at, seconds(2));  // its lease would last for 10
  EXPECT_TRUE(world_.RunUntil([&] { return world_.Dump().empty(); }));
}

TEST_F(FileStoreTest, AProcessThatIsStoppedGoesWithItsLeaseAndIsBackWhenItGoesOn) {
  const LeaseOptions lease{.ttl = seconds(1)};
  const auto child = std::make_unique<OtherProcess>(world_.folder(), lease);
  const auto store = Watching(lease);
  ASSERT_TRUE(Sees(1));
  child->Signal(SIGSTOP);
  ASSERT_TRUE(Sees(0));
  child->Signal(SIGCONT);
  ASSERT_TRUE(Sees(1));
  EXPECT_EQ(view_.values.at("v1/child"), "here");
}

TEST_F(FileStoreTest, AFolderThatCannotBeUsedIsTroubleUntilItCan) {
  const std::string blocked = world_.folder() + "/not-a-folder";
  std::ofstream(blocked) << "x";
  FileStore store(world_.loop(), FileStoreOptions{.folder = blocked, .lease = kLease});
  store.Watch("", [this](const StoreView& view) { view_ = view; });
  ASSERT_TRUE(store.Put("x", "1"));
  ASSERT_TRUE(world_.RunUntil([&] { return view_.trouble.has_value(); }));
  EXPECT_NE(view_.trouble->detail().find(blocked), std::string::npos);
  std::filesystem::remove(blocked);
  EXPECT_TRUE(Sees(1));
}

TEST_F(FileStoreTest, AKeyThatIsTooLongAsAFilesNameIsRefused) {
  const auto store = Watching(kLease);
  EXPECT_EQ(store->Put(std::string(200, '*'), "x").error().code(), Code::kInvalidArgument);
}

class FileSessionTest : public testing::Test {
 protected:
  static rt::Time At(int s) { return rt::Time{} + seconds(s); }

  FileSession::Values Run(FileSession& session, const FileSession::Values& wanted, int s) {
    const auto round = session.Run(wanted, At(s));
    EXPECT_TRUE(round) << round.error().detail();
    return round ? round->values : FileSession::Values{};
  }

  using Values = FileSession::Values;

  FileStoreWorld world_;
  FileSession one_{world_.folder(), "0000000000000001", kLease};
  FileSession two_{world_.folder(), "0000000000000002", kLease};
};

TEST_F(FileSessionTest, AHolderCountsWhileItIsSeenToRunByTheReadersClock) {
  const Values a = {{"a", "1"}};
  EXPECT_EQ(Run(one_, a, 1000), a);
  EXPECT_EQ(Run(two_, {}, 0), a);
  EXPECT_EQ(Run(two_, {}, 9), a);
  EXPECT_EQ(Run(one_, a, 1003), a);
  EXPECT_EQ(Run(two_, {}, 11), a);
  EXPECT_EQ(Run(two_, {}, 20), a);
  EXPECT_EQ(Run(two_, {}, 21), Values{});
  EXPECT_EQ(world_.Dump().size(), 1U) << "what a living holder has is nobody else's to remove";
  EXPECT_EQ(Run(one_, a, 1100), a);
  EXPECT_EQ(Run(two_, {}, 22), a);
}

TEST_F(FileSessionTest, OfTwoHoldersOfAKeyTheFirstHasItUntilItGivesItBack) {
  EXPECT_EQ(Run(one_, {{"a", "1"}}, 0), (Values{{"a", "1"}}));
  EXPECT_EQ(Run(two_, {{"a", "2"}}, 0), (Values{{"a", "1"}}));
  EXPECT_EQ(Run(one_, {}, 1), Values{});
  EXPECT_EQ(Run(two_, {{"a", "2"}}, 1), (Values{{"a", "2"}}));
}

TEST_F(FileSessionTest, WhatOldSnapshotsBringBackIsClearedAway) {
  const Values a = {{"a", "1"}};
  EXPECT_EQ(Run(one_, a, 0), a);
  const std::string kept = world_.folder() + "-kept";
  std::filesystem::copy(world_.folder(), kept, std::filesystem::copy_options::recursive);
  EXPECT_EQ(Run(one_, {}, 1), Values{});
  one_.Release();
  // With the lease's file, which nobody locks, and without it.
  for (const bool with_lease : {true, false}) {
    std::filesystem::copy(kept, world_.folder(),
                          std::filesystem::copy_options::recursive |
                              std::filesystem::copy_options::overwrite_existing);
    if (!with_lease) {
      std::filesystem::remove(world_.folder() + "/leases/0000000000000001");
    }
    EXPECT_EQ(Run(two_, {}, 2), Values{});
    EXPECT_TRUE(world_.Dump().empty());
  }
  std::filesystem::remove_all(kept);
}

TEST_F(FileSessionTest, ForeignAndHalfWrittenFilesAreLeftAlone) {
  EXPECT_EQ(Run(one_, {{"a", "1"}}, 0).size(), 1U);
  for (const char* name : {"a.entry.Xy12Zw", "README", "bad%zz.entry", "empty.entry"}) {
    std::ofstream(world_.folder() + "/keys/" + name) << "";
  }
  std::ofstream(world_.folder() + "/keys/outside.entry") << "../../x\nvalue";
  std::ofstream(world_.folder() + "/leases/README") << "";
  EXPECT_EQ(Run(two_, {}, 0), (Values{{"a", "1"}}));
  EXPECT_TRUE(std::filesystem::exists(world_.folder() + "/keys/README"));
  EXPECT_TRUE(std::filesystem::exists(world_.folder() + "/keys/outside.entry"));
}

}  // namespace
}  // namespace pixii::control
