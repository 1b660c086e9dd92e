#include "frontend/model_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "wire/json.h"

namespace pixii::frontend {

ModelService& ModelTable::Add(std::unique_ptr<ModelService> service) {
  ever_ = true;
  std::vector<ServiceId> replaced;
  for (const std::string& name : service->model().names) {
    for (const auto& other : serving_) {
      if (other->model().Serves(name)) {
        replaced.push_back(other->id());
      }
    }
  }
  for (const ServiceId id : replaced) {
    Retire(id);
  }
  serving_.push_back(std::move(service));
  return *serving_.back();
}

void ModelTable::Retire(ServiceId id) {
  const auto found =
      std::ranges::find_if(serving_, [&](const auto& one) { return one->id() == id; });
  if (found != serving_.end()) {
    retired_.push_back(std::move(*found));
    serving_.erase(found);
  }
}

Result<ModelService*> ModelTable::Find(std::string_view wanted) const {
  if (wanted.empty()) {
    if (serving_.size() == 1) {
      return serving_.front().get();
    }
    return serving_.empty()
               ? Fail(Code::kUnavailable, Trouble(), "model")
               : Fail(Code::kInvalidArgument,
                      fmt::format("model: is missing, and {} models are served", serving_.size()),
                      "model");
  }
  const auto find = [&](auto matches) {
    const auto found = std::ranges::find_if(serving_, matches);
    return found != serving_.end() ? found->get() : nullptr;
  };
  ModelService* service = find([&](const auto& one) { return one->model().Serves(wanted); });
  service =
      service != nullptr ? service : find([&](const auto& one) { return one->Serves(wanted); });
  if (service != nullptr) {
    return service;
  }
  if (const auto found = pending_.find(std::string(wanted)); found != pending_.end()) {
    return Fail(Code::kUnavailable, fmt::format("{}: {}", found->first, found->second), "model");
  }
  return ever_ ? Fail(ModelNotFound(wanted)) : Fail(Code::kUnavailable, Trouble(), "model");
}

ModelService* ModelTable::ById(ServiceId id) const {
  const auto found =
      std::ranges::find_if(serving_, [&](const auto& one) { return one->id() == id; });
  return found != serving_.end() ? found->get() : nullptr;
}

void ModelTable::Sweep() {
  std::erase_if(retired_, [](const auto& one) { return one->use_count() == 0; });
}

std::string ModelTable::Trouble() const {
  if (!pending_.empty()) {
    return fmt::format("{}: {}", pending_.begin()->first, pending_.begin()->second);
  }
  return ever_ ? "no worker is there" : "Initial model discovery in progress";
}

namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::size_t SkipSpaces(std::string_view text, std::size_t at) {
  while (at < text.size() && IsSpace(text[at])) {
    ++at;
  }
  return at;
}

// Behind the string that begins at `at`; the text's size if it has no end.
std::size_t StringEnd(std::string_view text, std::size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      return at + 1;
    }
  }
  return text.size();
}

// Of a JSON string with its quotes.
std::optional<std::string> StringValue(std::string_view quoted) {
  if (quoted.size() >= 2 && quoted.find('\\') == std::string_view::npos && quoted.back() == '"') {
    return std::string(quoted.substr(1, quoted.size() - 2));
  }
  const Result<wire::Json> read = wire::ParseJson(quoted, {.depth_max = 1, .values_max = 2});
  return read && read->is_string() ? std::optional(read->string()) : std::nullopt;
}

}  // namespace

std::optional<std::string> PeekModel(std::string_view body) {
  std::size_t at = SkipSpaces(body, 0);
  std::size_t depth = 0;
  bool key_follows = false;
  while (at < body.size()) {
    const char c = body[at];
    if (c == '"') {
      const std::size_t end = StringEnd(body, at);
      const std::string_view quoted = body.substr(at, end - at);
      at = end;
      if (depth != 1 || !std::exchange(key_follows, false)) {
        continue;
      }
      at = SkipSpaces(body, at);
      if (at >= body.size() || body[at] != ':') {
        return std::nullopt;
      }
      at = SkipSpaces(body, at + 1);
      if (StringValue(quoted) == "model") {
        return at < body.size() && body[at] == '"'
                   ? StringValue(body.substr(at, StringEnd(body, at) - at))
                   : std::nullopt;
      }
      continue;
    }
    if (depth == 0 && c != '{') {
      return std::nullopt;
    }
    if (c == '{' || c == '[') {
      key_follows = ++depth == 1;
    } else if ((c == '}' || c == ']') && --depth == 0) {
      return std::nullopt;
    } else if (c == ',' && depth == 1) {
      key_follows = true;
    }
    ++at;
  }
  return std::nullopt;
}

}  // namespace pixii::frontend
