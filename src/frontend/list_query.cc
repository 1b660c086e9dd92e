#include "frontend/list_query.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/openai_request.h"
#include "wire/http.h"
#include "wire/json.h"

namespace pixii::frontend {

using wire::Json;

namespace {

Result<std::uint32_t> ReadLimit(const std::string& text, std::uint32_t max) {
  const Result<Json> number = wire::ParseJson(text);
  const std::optional<std::int64_t> count = number ? number->AsInt() : std::nullopt;
  if (!count || *count < 1 || *count > max) {
    return Bad("limit", fmt::format("{} is not an integer from 1 to {}", Shown(Json(text)), max));
  }
  return static_cast<std::uint32_t>(*count);
}

Result<void> ReadParameter(const std::string& name, std::string value, const ListLimits& limits,
                           ListQuery& out) {
  if (name == "limit") {
    PX_TRY(out.limit, ReadLimit(value, limits.limit_max));
  } else if (name == "after") {
    out.after = std::move(value);
  } else if (name == "order") {
    if (value != "asc" && value != "desc") {
      return Bad(name, fmt::format("{} is neither asc nor desc", Shown(Json(value))));
    }
    out.descending = value == "desc";
  } else if (name == "purpose" && limits.has_purpose) {
    out.purpose = std::move(value);
  } else {
    const std::string shown = name.substr(0, 100);
    return Fail(Code::kInvalidArgument, fmt::format("unknown parameter \"{}\"", shown), shown);
  }
  return {};
}

}  // namespace

Result<ListQuery> ReadListQuery(std::string_view query, const ListLimits& limits) {
  ListQuery out{.limit = limits.limit_default, .after = {}, .purpose = {}};
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (pair.empty()) {
      continue;
    }
    const std::size_t equals = std::min(pair.find('='), pair.size());
    const std::optional<std::string> name = wire::PercentDecode(pair.substr(0, equals));
    std::optional<std::string> value =
        wire::PercentDecode(pair.substr(std::min(equals + 1, pair.size())));
    if (!name || !value) {
      return Fail(Code::kInvalidArgument, "the query is badly encoded");
    }
    PX_CHECK_OK(ReadParameter(*name, std::move(*value), limits, out));
  }
  return out;
}

Result<std::string> ListPage(const std::vector<ListItem>& items, const ListQuery& query) {
  std::vector<const ListItem*> ordered;
  for (const ListItem& item : items) {
    ordered.push_back(&item);
  }
  if (query.descending) {
    std::ranges::reverse(ordered);
  }
  std::size_t begin = 0;
  if (!query.after.empty()) {
    const auto found = std::ranges::find(ordered, query.after, &ListItem::id);
    if (found == ordered.end()) {
      return Bad("after", fmt::format("there is no {} in this list", Shown(Json(query.after))));
    }
    begin = static_cast<std::size_t>(found - ordered.begin()) + 1;
  }
  const std::size_t end = std::min(ordered.size(), begin + query.limit);
  std::string out = R"({"object":"list","data":[)";
  for (std::size_t i = begin; i < end; ++i) {
    out += i == begin ? "" : ",";
    out += ordered[i]->body;
  }
  out += "]";
  const bool empty = begin == end;
  out += R"(,"first_id":)";
  wire::AppendJsonString(out, empty ? std::string_view() : ordered[begin]->id);
  out += R"(,"last_id":)";
  wire::AppendJsonString(out, empty ? std::string_view() : ordered[end - 1]->id);
  out += fmt::format(",\"has_more\":{}}}", end < ordered.size());
  return out;
}

}  // namespace pixii::frontend
