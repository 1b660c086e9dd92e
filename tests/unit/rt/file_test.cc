#include "rt/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>

namespace pixii::rt {
namespace {

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string pattern = testing::TempDir() + "pixii_file_test_XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
  }

  ~FileTest() override {
    const auto entries = ListFolder(folder_, 1000);
    for (const FolderEntry& entry : *entries) {
      (void)RemoveFile(Path(entry.name));
    }
    ::rmdir(folder_.c_str());
  }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  std::string folder_;
};

TEST_F(FileTest, WritesAtomicallyAndReadsBackByReadAndByMap) {
  std::string bytes(100'000, 'a');
  bytes[77'777] = '\0';
  ASSERT_TRUE(WriteFileAtomic(Path("data"), bytes, 0600));
  EXPECT_EQ(ReadFile(Path("data"), 1'000'000).value(), bytes);
  const FileMap map = FileMap::Open(Path("data")).value();
  EXPECT_EQ(map.text(), bytes);
  map.WillNeed(5000, 1'000'000);
  map.WillNeed(200'000, 1);
  struct stat status{};
  ASSERT_EQ(::stat(Path("data").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  EXPECT_EQ(ListFolder(folder_, 10)->size(), 1U) << "no temporary file is left";
}

TEST_F(FileTest, AMapOutlivesTheReplacementOfItsFile) {
  ASSERT_TRUE(WriteFileAtomic(Path("data"), "old", 0644));
  FileMap map = FileMap::Open(Path("data")).value();
  ASSERT_TRUE(WriteFileAtomic(Path("data"), "new", 0644));
  EXPECT_EQ(map.text(), "old");
  map = FileMap::Open(Path("data")).value();
  EXPECT_EQ(map.text(), "new");
}

TEST_F(FileTest, AFailedAtomicWriteLeavesNothing) {
  ASSERT_TRUE(CreateFolders(Path("taken")));
  EXPECT_FALSE(WriteFileAtomic(Path("taken"), "x", 0644));
  EXPECT_EQ(ListFolder(folder_, 10)->size(), 1U);
  ::rmdir(Path("taken").c_str());
  EXPECT_EQ(WriteFileAtomic(Path("none/x"), "x", 0644).error().code(), Code::kNotFound);
}

TEST_F(FileTest, ADeviceIsWrittenToAndNotReplaced) {
  ASSERT_EQ(::mkfifo(Path("pipe").c_str(), 0600), 0);
  const int reader = ::open(Path("pipe").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  EXPECT_TRUE(WriteFileAtomic(Path("pipe"), "through", 0644));
  char got[16] = {};
  EXPECT_EQ(::read(reader, got, sizeof got), 7);
  EXPECT_STREQ(got, "through");
  ::close(reader);
  EXPECT_EQ(StatFile(Path("pipe")).value()->kind, FileKind::kOther);
}

TEST_F(FileTest, AnEmptyFileIsAnEmptyMap) {
  ASSERT_TRUE(WriteFileAtomic(Path("empty"), "", 0644));
  EXPECT_TRUE(FileMap::Open(Path("empty"))->bytes().empty());
  EXPECT_EQ(ReadFile(Path("empty"), 0).value(), "");
}

TEST_F(FileTest, RefusesWhatIsNotARegularFileWithoutWaiting) {
  ASSERT_EQ(::mkfifo(Path("pipe").c_str(), 0600), 0);
  for (const std::string& path : {folder_, Path("pipe"), std::string("/dev/zero")}) {
    const Result<FileMap> map = FileMap::Open(path);
    ASSERT_FALSE(map);
    EXPECT_EQ(map.error().code(), Code::kInvalidArgument);
    EXPECT_NE(map.error().detail().find(path), std::string::npos);
    EXPECT_EQ(ReadFile(path, 100).error().code(), Code::kInvalidArgument);
  }
  EXPECT_EQ(FileMap::Open(Path("missing")).error().code(), Code::kNotFound);
}

TEST_F(FileTest, ReadsNoMoreThanAllowed) {
  ASSERT_TRUE(WriteFileAtomic(Path("data"), "12345", 0644));
  EXPECT_EQ(ReadFile(Path("data"), 5).value(), "12345");
  EXPECT_EQ(ReadFile(Path("data"), 4).error().code(), Code::kTooLarge);
}

TEST_F(FileTest, ReadsFilesThatStateNoSize) {
  EXPECT_NE(ReadFile("/proc/self/status", 1 << 20)->find("VmRSS:"), std::string::npos);
}

TEST_F(FileTest, AWriterGoesOnWhereADownloadStopped) {
  {
    FileWriter writer = FileWriter::Open(Path("part"), 0).value();
    ASSERT_TRUE(writer.Append("hello wor"));
    ASSERT_TRUE(writer.Sync());
    EXPECT_EQ(writer.size_bytes(), 9U);
  }
  FileWriter writer = FileWriter::Open(Path("part"), 6).value();
  ASSERT_TRUE(writer.Append("there"));
  EXPECT_EQ(ReadFile(Path("part"), 100).value(), "hello there");
}

TEST_F(FileTest, ListsAFolderByNameWithKindsAndFollowsLinks) {
  ASSERT_TRUE(WriteFileAtomic(Path("b"), "123", 0644));
  ASSERT_TRUE(CreateSymlink("b", Path("a")));
  ASSERT_TRUE(CreateSymlink("nowhere", Path("c")));
  const auto entries = ListFolder(folder_, 3).value();
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[0].name, "a");
  EXPECT_EQ(entries[0].info.kind, FileKind::kFile);
  EXPECT_EQ(entries[0].info.size_bytes, 3U);
  EXPECT_EQ(entries[2].info.kind, FileKind::kOther);
  EXPECT_EQ(ListFolder(folder_, 2).error().code(), Code::kTooLarge);
  ASSERT_TRUE(CreateSymlink("b", Path("c"))) << "an older link is replaced";
  EXPECT_EQ(ReadFile(Path("c"), 10).value(), "123");
}

TEST_F(FileTest, StatTellsMissingFromPresent) {
  EXPECT_FALSE(StatFile(Path("x"))->has_value());
  EXPECT_EQ((*StatFile(folder_))->kind, FileKind::kFolder);
  EXPECT_TRUE(RemoveFile(Path("x"))) << "removing what is not there is no error";
}

TEST_F(FileTest, CreatesMissingFoldersAndNamesWhatStandsInTheWay) {
  ASSERT_TRUE(CreateFolders(Path("one/two/three")));
  ASSERT_TRUE(CreateFolders(Path("one/two/three")));
  ASSERT_TRUE(WriteFileAtomic(Path("one/two/three/f"), "", 0644));
  EXPECT_FALSE(CreateFolders(Path("one/two/three/f/g")));
  EXPECT_FALSE(CreateFolders(Path("one/two/three/f")));
  EXPECT_FALSE(RemoveFolder(Path("one/two/three"))) << "it is not empty";
  (void)RemoveFile(Path("one/two/three/f"));
  for (const char* name : {"one/two/three", "one/two", "one"}) {
    EXPECT_TRUE(RemoveFolder(Path(name)));
  }
  EXPECT_GT(FreeDiskBytes(folder_).value(), 0U);
}

}  // namespace
}  // namespace pixii::rt
