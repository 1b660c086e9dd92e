#include "wire/multipart.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "wire/http.h"
#include "wire/json.h"

namespace pixii::wire {

namespace {

constexpr std::string_view kType = "multipart/form-data";
constexpr std::size_t kBoundaryBytesMax = 70;
constexpr std::string_view kLineEnd = "\r\n";

using Parameters = std::vector<std::pair<std::string, std::string>>;

std::string_view Trim(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) {
    text.remove_prefix(1);
  }
  while (!text.empty() && blank(text.back())) {
    text.remove_suffix(1);
  }
  return text;
}

tl::unexpected<Error> Bad(std::string detail) {
  return Fail(Code::kInvalidArgument, "multipart body: " + std::move(detail));
}

// A quoted value from behind its opening quote; only a quote and a backslash are escaped, since
// file names of Windows have backslashes of their own.
std::optional<std::string> TakeQuoted(std::string_view& text) {
  std::string out;
  while (!text.empty()) {
    const char c = text.front();
    text.remove_prefix(1);
    if (c == '"') {
      return out;
    }
    if (c == '\\' && !text.empty() && (text.front() == '"' || text.front() == '\\')) {
      out += text.front();
      text.remove_prefix(1);
    } else {
      out += c;
    }
  }
  return std::nullopt;
}

// `text` behind the value's first word: ;name=value;name="value".
std::optional<Parameters> ReadParameters(std::string_view text) {
  Parameters out;
  while (true) {
    text = Trim(text);
    if (text.empty()) {
      return out;
    }
    if (text.front() != ';') {
      return std::nullopt;
    }
    text = Trim(text.substr(1));
    if (text.empty()) {
      return out;
    }
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return std::nullopt;
    }
    std::string name(Trim(text.substr(0, equals)));
    text = Trim(text.substr(equals + 1));
    std::optional<std::string> value;
    if (!text.empty() && text.front() == '"') {
      text.remove_prefix(1);
      value = TakeQuoted(text);
    } else {
      const std::size_t end = std::min(text.find(';'), text.size());
      value = std::string(Trim(text.substr(0, end)));
      text.remove_prefix(end);
    }
    const bool twice = std::ranges::any_of(
        out, [&](const auto& known) { return EqualsIgnoreCase(known.first, name); });
    if (!value || twice) {
      return std::nullopt;
    }
    out.emplace_back(std::move(name), std::move(*value));
  }
}

const std::string* Find(const Parameters& parameters, std::string_view name) {
  for (const auto& [known, value] : parameters) {
    if (EqualsIgnoreCase(known, name)) {
      return &value;
    }
  }
  return nullptr;
}

std::string_view FirstWord(std::string_view value) {
  return Trim(value.substr(0, std::min(value.find(';'), value.size())));
}

std::string_view BehindFirstWord(std::string_view value) {
  return value.substr(std::min(value.find(';'), value.size()));
}

Result<std::string> ReadBoundary(std::string_view content_type) {
  if (!EqualsIgnoreCase(FirstWord(content_type), kType)) {
    return Fail(Code::kUnsupportedMediaType,
                fmt::format("the body's type is {}, only {} is read here",
                            Json(FirstWord(content_type).substr(0, 100)).Dump(), kType));
  }
  const std::optional<Parameters> parameters = ReadParameters(BehindFirstWord(content_type));
  const std::string* boundary = parameters ? Find(*parameters, "boundary") : nullptr;
  const bool visible = boundary != nullptr &&
                       std::ranges::all_of(*boundary, [](char c) { return c >= ' ' && c < 0x7F; });
  if (!visible || boundary->empty() || boundary->size() > kBoundaryBytesMax ||
      boundary->back() == ' ') {
    return Bad(fmt::format("the content type needs a boundary of 1 to {} printable characters",
                           kBoundaryBytesMax));
  }
  return *boundary;
}

// charset'language'percent-encoded
std::optional<std::string> ReadExtended(std::string_view value) {
  const std::size_t first = value.find('\'');
  const std::size_t second = first == std::string_view::npos ? first : value.find('\'', first + 1);
  if (second == std::string_view::npos || !EqualsIgnoreCase(value.substr(0, first), "utf-8")) {
    return std::nullopt;
  }
  return PercentDecode(value.substr(second + 1));
}

Result<void> ReadDisposition(std::string_view value, const std::string& where, FormPart& out) {
  const std::optional<Parameters> parameters = ReadParameters(BehindFirstWord(value));
  if (!EqualsIgnoreCase(FirstWord(value), "form-data") || !parameters) {
    return Bad(where + ": Content-Disposition is no form-data; name=\"…\"");
  }
  const std::string* name = Find(*parameters, "name");
  if (name == nullptr || name->empty()) {
    return Bad(where + ": Content-Disposition has no name");
  }
  out.name = *name;
  if (const std::string* filename = Find(*parameters, "filename"); filename != nullptr) {
    out.filename = *filename;
  }
  if (const std::string* extended = Find(*parameters, "filename*"); extended != nullptr) {
    out.filename = ReadExtended(*extended);
    if (!out.filename) {
      return Bad(where + ": filename* is not UTF-8''…");
    }
  }
  return {};
}

// Takes the fields of a part with the empty line behind them off the front of `text`.
Result<void> TakeHead(std::string_view& text, const MultipartLimits& limits,
                      const std::string& where, FormPart& out) {
  std::size_t left = limits.head_bytes_max;
  bool disposed = false;
  while (true) {
    const std::size_t end = text.substr(0, left).find(kLineEnd);
    if (end == std::string_view::npos) {
      return Bad(
          fmt::format("{}: its fields do not end within {} bytes", where, limits.head_bytes_max));
    }
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + kLineEnd.size());
    left -= end + kLineEnd.size();
    if (line.empty()) {
      return disposed ? Result<void>() : Bad(where + ": it has no Content-Disposition");
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) {
      return Bad(where + ": a field is not name: value");
    }
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = Trim(line.substr(colon + 1));
    if (EqualsIgnoreCase(name, "content-disposition")) {
      if (disposed) {
        return Bad(where + ": it has two Content-Dispositions");
      }
      disposed = true;
      PX_CHECK_OK(ReadDisposition(value, where, out));
    } else if (EqualsIgnoreCase(name, "content-transfer-encoding") &&
               !EqualsIgnoreCase(value, "binary") && !EqualsIgnoreCase(value, "8bit") &&
               !EqualsIgnoreCase(value, "7bit")) {
      return Bad(where + ": transfer encodings are not read here; send the bytes as they are");
    }
  }
}

// Takes what may stand between a boundary and the end of its line; whether it was the last one.
Result<bool> TakeBoundaryEnd(std::string_view& text, std::size_t part) {
  const bool last = text.starts_with("--");
  text.remove_prefix(last ? 2 : 0);
  const std::size_t blank = std::min(text.find_first_not_of(" \t"), text.size());
  text.remove_prefix(blank);
  if (text.starts_with(kLineEnd)) {
    text.remove_prefix(kLineEnd.size());
  } else if (!last || !text.empty()) {
    return Bad(fmt::format("the boundary before part {} does not end its line", part));
  }
  return last;
}

}  // namespace

Result<std::vector<FormPart>> ParseMultipart(std::string_view content_type, std::string_view body,
                                             const MultipartLimits& limits) {
  PX_TRY(const std::string boundary, ReadBoundary(content_type));
  const std::string first = "--" + boundary;
  const std::string next = "\r\n" + first;
  if (body.starts_with(kLineEnd)) {
    body.remove_prefix(kLineEnd.size());
  }
  if (!body.starts_with(first)) {
    return Bad("it does not begin with its boundary");
  }
  body.remove_prefix(first.size());
  std::vector<FormPart> out;
  while (true) {
    PX_TRY(const bool last, TakeBoundaryEnd(body, out.size()));
    if (last) {
      return out;
    }
    if (out.size() >= limits.part_count_max) {
      return Bad(fmt::format("it has more than {} parts", limits.part_count_max));
    }
    const std::string where = fmt::format("part {}", out.size());
    FormPart part;
    PX_CHECK_OK(TakeHead(body, limits, where, part));
    const std::size_t end = body.find(next);
    if (end == std::string_view::npos) {
      return Bad(where + ": the body ends inside it");
    }
    part.content = body.substr(0, end);
    body.remove_prefix(end + next.size());
    out.push_back(std::move(part));
  }
}

}  // namespace pixii::wire
