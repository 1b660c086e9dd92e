#include "frontend/list_query.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

const std::vector<ListItem> kItems = {{"a", "1"}, {"b", "2"}, {"c", "3"}};

std::string Page(std::string_view query) {
  auto read = ReadListQuery(query, {.limit_default = 2, .limit_max = 10});
  auto page = read ? ListPage(kItems, *read) : Result<std::string>(Fail(read.error()));
  return page ? *page : page.error().param();
}

TEST(ListQuery, PagesThroughAList) {
  EXPECT_EQ(Page(""),
            R"({"object":"list","data":[3,2],"first_id":"c","last_id":"b","has_more":true})");
  EXPECT_EQ(Page("after=b"),
            R"({"object":"list","data":[1],"first_id":"a","last_id":"a","has_more":false})");
  EXPECT_EQ(Page("order=asc&limit=10&after=a"),
            R"({"object":"list","data":[2,3],"first_id":"b","last_id":"c","has_more":false})");
  EXPECT_EQ(Page("order=asc&after=c"),
            R"({"object":"list","data":[],"first_id":"","last_id":"","has_more":false})");
}

TEST(ListQuery, NamesWhatItCannotRead) {
  EXPECT_EQ(Page("limit=0"), "limit");
  EXPECT_EQ(Page("limit=11"), "limit");
  EXPECT_EQ(Page("limit=x"), "limit");
  EXPECT_EQ(Page("order=up"), "order");
  EXPECT_EQ(Page("after=z"), "after");
  EXPECT_EQ(Page("foo=1"), "foo");
  EXPECT_EQ(Page("purpose=batch"), "purpose") << "only of files";
  EXPECT_FALSE(ReadListQuery("after=%zz", {}));
}

}  // namespace
}  // namespace pixii::frontend
