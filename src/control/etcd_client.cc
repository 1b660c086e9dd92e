#include "control/etcd_client.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "wire/base64.h"

namespace pixii::control {

namespace {

using wire::Json;

// The smallest text behind all that begin with `prefix`; "\0" stands for the end of all.
std::string EndOf(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff) {
    prefix.pop_back();
  }
  if (prefix.empty()) {
    return std::string(1, '\0');
  }
  prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

Json RangeOf(const std::string& prefix) {
  Json range{Json::Object{}};
  // An empty key would mean a key; "\0" is where all keys begin.
  range.Set("key", wire::EncodeBase64(prefix.empty() ? std::string(1, '\0') : prefix));
  range.Set("range_end", wire::EncodeBase64(EndOf(prefix)));
  return range;
}

Error Unreadable(std::string_view what) {
  return Error(Code::kDataCorrupt, fmt::format("etcd: the answer's {} cannot be read", what));
}

// A 64-bit integer, as text or number; 0 if it is left out.
Result<std::int64_t> IntOf(const Json& json, std::string_view name) {
  const Json* member = json.Find(name);
  if (member == nullptr) {
    return std::int64_t{0};
  }
  if (const std::optional<std::int64_t> value = member->AsInt()) {
    return *value;
  }
  std::int64_t value = 0;
  if (member->is_string()) {
    const std::string& digits = member->string();
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error == std::errc() && end == digits.data() + digits.size()) {
      return value;
    }
  }
  return Fail(Unreadable(name));
}

Result<std::string> BytesOf(const Json& json, std::string_view name) {
  const Json* member = json.Find(name);
  if (member == nullptr) {
    return std::string();
  }
  std::optional<std::string> bytes;
  if (member->is_string()) {
    bytes = wire::DecodeBase64(member->string());
  }
  if (!bytes) {
    return Fail(Unreadable(name));
  }
  return std::move(*bytes);
}

Result<std::int64_t> RevisionOf(const Json& json) {
  const Json* header = json.Find("header");
  if (header == nullptr) {
    return Fail(Unreadable("header"));
  }
  return IntOf(*header, "revision");
}

const Json::Array& ItemsOf(const Json& json, std::string_view name) {
  static const Json::Array kNone;
  const Json* member = json.Find(name);
  return member != nullptr && member->is_array() ? member->array() : kNone;
}

// {"error": text, "code": of gRPC}; of a stream {"error": {"message", "grpc_code"}}.
Error ErrorOf(const Json& json, std::string_view otherwise) {
  const Json* error = json.Find("error");
  const Json* place = error != nullptr && error->is_object() ? error : &json;
  const Json* message = place->Find("message");
  message = message == nullptr ? error : message;
  const Json* code = place->Find("grpc_code");
  code = code == nullptr ? place->Find("code") : code;
  const std::int64_t number = code == nullptr ? 0 : code->AsInt().value_or(0);
  const Code ours = number == 5    ? Code::kNotFound
                    : number == 16 ? Code::kUnauthenticated
                    : number == 3  ? Code::kInvalidArgument
                                   : Code::kUnavailable;
  return Error(ours, fmt::format("etcd: {}", message != nullptr && message->is_string()
                                                 ? std::string_view(message->string())
                                                 : otherwise));
}

// Answers of streams stand under "result".
const Json& ResultOf(const Json& json) {
  const Json* result = json.Find("result");
  return result == nullptr ? json : *result;
}

}  // namespace

EtcdClient::EtcdClient(rt::Net& net, std::vector<rt::Address> endpoints)
    : net_(net), endpoints_(std::move(endpoints)) {
  PX_ASSERT(!endpoints_.empty());
}

HttpCall EtcdClient::CallOf(std::string_view target, const Json& body) const {
  return HttpCall{.address = endpoints_[current_],
                  .method = "POST",
                  .target = std::string(target),
                  .fields = {{.name = "Content-Type", .value = "application/json"}},
                  .body = body.Dump()};
}

rt::Task<Result<Json>> EtcdClient::Call(std::string target, Json body, rt::Time deadline) {
  HttpCall call = CallOf(target, body);
  const std::string address = call.address.ToString();
  auto calling = CallHttp(net_, std::move(call), deadline);
  Result<HttpAnswer> answer = co_await std::move(calling);
  if (!answer) {
    current_ = (current_ + 1) % endpoints_.size();
    co_return Fail(answer.error().code(),
                   fmt::format("etcd at {}: {}", address, answer.error().detail()));
  }
  Result<Json> json = wire::ParseJson(answer->body);
  if (answer->status != 200) {
    const std::string otherwise = fmt::format("{} answered {}", address, answer->status);
    co_return Fail(ErrorOf(json ? *json : Json(), otherwise));
  }
  if (!json) {
    co_return Fail(Code::kDataCorrupt,
                   fmt::format("etcd at {}: {}", address, json.error().detail()));
  }
  if (json->Find("error") != nullptr) {
    co_return Fail(ErrorOf(*json, "an error"));
  }
  co_return std::move(*json);
}

rt::Task<Result<EtcdLease>> EtcdClient::Grant(rt::Duration ttl, rt::Time deadline) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(ttl).count();
  Json body{Json::Object{}};
  body.Set("TTL", std::to_string(seconds));
  auto calling = Call("/v3/lease/grant", std::move(body), deadline);
  PX_CO_TRY(const Json answer, co_await std::move(calling));
  PX_CO_TRY(const std::int64_t id, IntOf(answer, "ID"));
  if (id == 0) {
    co_return Fail(Unreadable("ID"));
  }
  co_return EtcdLease{id};
}

rt::Task<Result<void>> EtcdClient::KeepAlive(EtcdLease lease, rt::Time deadline) {
  Json body{Json::Object{}};
  body.Set("ID", std::to_string(static_cast<std::int64_t>(lease)));
  auto calling = Call("/v3/lease/keepalive", std::move(body), deadline);
  PX_CO_TRY(const Json answer, co_await std::move(calling));
  PX_CO_TRY(const std::int64_t left, IntOf(ResultOf(answer), "TTL"));
  if (left <= 0) {
    co_return Fail(Code::kNotFound, "etcd: the lease is over");
  }
  co_return Result<void>();
}

rt::Task<Result<void>> EtcdClient::Revoke(EtcdLease lease, rt::Time deadline) {
  Json body{Json::Object{}};
  body.Set("ID", std::to_string(static_cast<std::int64_t>(lease)));
  auto calling = Call("/v3/lease/revoke", std::move(body), deadline);
  PX_CO_TRY(const Json answer, co_await std::move(calling));
  co_return Result<void>();
}

rt::Task<Result<std::int64_t>> EtcdClient::Put(std::string key, std::string value, EtcdLease lease,
                                               rt::Time deadline) {
  Json body{Json::Object{}};
  body.Set("key", wire::EncodeBase64(key));
  body.Set("value", wire::EncodeBase64(value));
  body.Set("lease", std::to_string(static_cast<std::int64_t>(lease)));
  auto calling = Call("/v3/kv/put", std::move(body), deadline);
  PX_CO_TRY(const Json answer, co_await std::move(calling));
  co_return RevisionOf(answer);
}

rt::Task<Result<bool>> EtcdClient::AreAt(std::vector<EtcdKey> keys, rt::Time deadline) {
  PX_ASSERT(keys.size() <= kEtcdKeysMax);
  Json::Array conditions;
  for (const EtcdKey& key : keys) {
    Json& condition = conditions.emplace_back(Json::Object{});
    condition.Set("target", "MOD");
    condition.Set("result", "EQUAL");
    condition.Set("key", wire::EncodeBase64(key.key));
    condition.Set("mod_revision", std::to_string(key.revision));
  }
  Json body{Json::Object{}};
  body.Set("compare", std::move(conditions));
  auto calling = Call("/v3/kv/txn", std::move(body), deadline);
  PX_CO_TRY(const Json answer, co_await std::move(calling));
  const Json* succeeded = answer.Find("succeeded");
  co_return succeeded != nullptr && succeeded->is_bool() && succeeded->boolean();
}

rt::Task<Result<void>> EtcdClient::Delete(std::string key, EtcdLease lease, rt::Time deadline) {
  Json ours{Json::Object{}};
  ours.Set("target", "LEASE");
  ours.Set("result", "EQUAL");
  ours.Set("key", wire::EncodeBase64(key));
  ours.Set("lease", std::to_string(static_cast<std::int64_t>(lease)));
  Json range{Json::Object{}};
  range.Set("key", wire::EncodeBase64(key));
  Json then{Json::Object{}};
  then.Set("request_delete_range", std::move(range));
  Json body{Json::Object{}};
  body.Set("compare", Json::Array{std::move(ours)});
  body.Set("success", Json::Array{std::move(then)});
  auto calling = Call("/v3/kv/txn", std::move(body), deadline);
  PX_CO_TRY(const Json answer, co_await std::move(calling));
  co_return Result<void>();
}

rt::Task<Result<EtcdRange>> EtcdClient::Range(std::string prefix, rt::Time deadline) {
  auto calling = Call("/v3/kv/range", RangeOf(prefix), deadline);
  PX_CO_TRY(const Json answer, co_await std::move(calling));
  EtcdRange range;
  PX_CO_TRY(range.revision, RevisionOf(answer));
  for (const Json& pair : ItemsOf(answer, "kvs")) {
    PX_CO_TRY(std::string key, BytesOf(pair, "key"));
    PX_CO_TRY(range.values[std::move(key)], BytesOf(pair, "value"));
  }
  co_return range;
}

rt::Task<Result<EtcdClient::News>> EtcdClient::NewsAfter(std::string prefix, std::int64_t after,
                                                         rt::Time deadline) {
  Json body = RangeOf(prefix);
  body.Set("min_mod_revision", std::to_string(after + 1));
  body.Set("keys_only", true);
  auto calling = Call("/v3/kv/range", std::move(body), deadline);
  PX_CO_TRY(const Json answer, co_await std::move(calling));
  News news;
  PX_CO_TRY(news.revision, RevisionOf(answer));
  news.any = !ItemsOf(answer, "kvs").empty();
  co_return news;
}

rt::Task<Result<std::unique_ptr<HttpStream>>> EtcdClient::Watch(std::string prefix,
                                                                std::int64_t revision,
                                                                rt::Time deadline) {
  Json request = RangeOf(prefix);
  request.Set("start_revision", std::to_string(revision));
  Json body{Json::Object{}};
  body.Set("create_request", std::move(request));
  auto opening = OpenHttpStream(net_, CallOf("/v3/watch", body), deadline);
  PX_CO_TRY(std::unique_ptr<HttpStream> stream, co_await std::move(opening));
  if (stream->status() != 200) {
    co_return Fail(Code::kUnavailable, fmt::format("etcd: watch answered {}", stream->status()));
  }
  co_return stream;
}

Result<EtcdEvents> EtcdClient::ReadWatchLine(std::string_view line) {
  PX_TRY(const Json json, wire::ParseJson(line));
  if (json.Find("error") != nullptr) {
    return Fail(ErrorOf(json, "the watch ended"));
  }
  const Json& result = ResultOf(json);
  if (const Json* canceled = result.Find("canceled");
      canceled != nullptr && canceled->is_bool() && canceled->boolean()) {
    return Fail(Code::kUnavailable, "etcd: the watch was cancelled, or what it asks was compacted");
  }
  EtcdEvents events;
  PX_TRY(events.revision, RevisionOf(result));
  for (const Json& item : ItemsOf(result, "events")) {
    const Json* type = item.Find("type");
    const Json* pair = item.Find("kv");
    if (pair == nullptr) {
      return Fail(Unreadable("events"));
    }
    EtcdEvent& event = events.events.emplace_back();
    event.deleted = type != nullptr && type->is_string() && type->string() == "DELETE";
    PX_TRY(event.key, BytesOf(*pair, "key"));
    PX_TRY(event.value, BytesOf(*pair, "value"));
  }
  return events;
}

}  // namespace pixii::control
