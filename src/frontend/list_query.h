// The query of a list, ?limit=…&after=…&order=…, and the list that OpenAI's clients page through.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::frontend {

struct ListQuery {
  std::uint32_t limit = 0;
  std::string after;  // id behind which the page begins; empty: at the front
  bool descending = true;
  std::string purpose;  // of files; empty: all
};

struct ListLimits {
  std::uint32_t limit_default = 20;
  std::uint32_t limit_max = 100;
  bool has_purpose = false;
};

/// `query`: behind "?", as sent. Errors: kInvalidArgument with the parameter's name.
Result<ListQuery> ReadListQuery(std::string_view query, const ListLimits& limits);

struct ListItem {
  std::string id;
  std::string body;  // JSON
};

/// The page of `items`, oldest first, that `query` asks for. Errors: kInvalidArgument if `after`
/// is none of them.
Result<std::string> ListPage(const std::vector<ListItem>& items, const ListQuery& query);

}  // namespace pixii::frontend
