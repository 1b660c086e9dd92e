// Against a scripted store in this process; a real one is in tests/e2e/kv_redis_test.py.
#include "kv/tiers/redis_service.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rt/thread.h"
#include "unit/kv/tiers/endless_list.h"

namespace pixii::kv {
namespace {

using wire::RespReader;
using wire::RespValue;

/// Answers as Redis does, but for what `answer` says otherwise.
class FakeStore final {
 public:
  FakeStore() {
    std::promise<rt::Address> bound;
    auto address = bound.get_future();
    thread_ = rt::Thread("store", [this, &bound] {
      loop_ = rt::MakeLoop().value();
      net_ = rt::MakeNet(*loop_);
      listener_ = net_->Listen({.host = "127.0.0.1", .port = 0}, {}).value();
      bound.set_value(listener_->address());
      loop_->Spawn(Accept());
      loop_->Run();
      listener_->Close();
      listener_.reset();
      net_.reset();
      loop_.reset();
    });
    address_ = address.get();
  }

  ~FakeStore() {
    loop_->Stop();
    thread_.Join();
  }

  std::string url() const { return "redis://" + address_.ToString() + "/3"; }

  std::map<std::string, std::string> values;
  std::vector<std::vector<std::string>> commands;
  std::string answer;                // to everything, in place of the right one
  std::atomic<bool> hang_up{false};  // before the next answer, once

 private:
  rt::Task<void> Accept() {
    while (true) {
      auto stream = co_await listener_->Accept();
      if (!stream) {
        co_return;
      }
      loop_->Spawn(Serve(std::move(*stream)));
    }
  }

  rt::Task<void> Serve(std::unique_ptr<rt::Stream> stream) {
    RespReader reader(1 << 20);
    std::array<char, 4096> piece{};
    while (true) {
      auto size = co_await stream->Read(piece, rt::kNever);
      if (!size || *size == 0) {
        co_return;
      }
      reader.Feed({piece.data(), *size});
      while (true) {
        auto command = reader.Next();
        if (!command || !*command) {
          break;
        }
        if (hang_up.exchange(false)) {
          co_return;
        }
        const std::string text = Answer(**command);
        (void)co_await stream->Write(text, rt::kNever);
      }
    }
  }

  std::string Answer(const RespValue& command) {
    std::vector<std::string> words;
    for (const RespValue& item : command.items) {
      words.push_back(item.text);
    }
    commands.push_back(words);
    auto bytes = [](const std::string& text) {
      return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
    };
    if (!answer.empty()) {
      return answer;
    }
    if (words[0] == "AUTH") {
      return words == std::vector<std::string>{"AUTH", "me", "secret"} ? "+OK\r\n"
                                                                       : "-WRONGPASS no\r\n";
    }
    if (words[0] == "SET") {
      values[words[1]] = words[2];
      return "+OK\r\n";
    }
    if (words[0] == "GET") {
      return values.contains(words[1]) ? bytes(values[words[1]]) : "$-1\r\n";
    }
    if (words[0] == "UNLINK") {
      return ":" + std::to_string(values.erase(words[1])) + "\r\n";
    }
    if (words[0] == "SCAN") {  // in two parts
      std::string first = "*2\r\n" + bytes(words[1] == "0" ? "17" : "0");
      std::string list;
      std::size_t count = 0;
      for (std::size_t i = 0; const auto& [name, value] : values) {
        if (name.starts_with(words[3].substr(0, words[3].size() - 1)) &&
            i++ % 2 == (words[1] == "0" ? 0U : 1U)) {
          list += bytes(name);
          ++count;
        }
      }
      return first + "*" + std::to_string(count) + "\r\n" + list;
    }
    return "+OK\r\n";
  }

  rt::Address address_;
  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<rt::Net> net_;
  std::unique_ptr<rt::Listener> listener_;
  rt::Thread thread_;
};

RedisOptions OptionsOf(const FakeStore& store) {
  RedisOptions options;
  options.url = store.url();
  options.user = "me";
  options.password = "secret";
  return options;
}

TEST(RedisService, ValuesGoAndComeBack) {
  FakeStore store;
  RedisOptions options = OptionsOf(store);
  options.expiry = std::chrono::seconds(5);
  auto service = RedisService::Create(options).value();
  const std::string large(300'000, '\r');
  ASSERT_TRUE(service->Put("a/1", "one\r\n"));
  ASSERT_TRUE(service->Put("a/2", large));
  ASSERT_TRUE(service->Put("a/3", ""));
  ASSERT_TRUE(service->Put("b/1", "another's"));
  EXPECT_EQ(service->Get("a/1", 100).value(), "one\r\n");
  EXPECT_EQ(service->Get("a/2", large.size()).value(), large);
  EXPECT_EQ(service->Get("a/2", large.size() - 1).error().code(), Code::kTooLarge);
  EXPECT_EQ(service->Get("a/3", 100).value(), "") << "on a new connection";
  EXPECT_EQ(service->Get("c", 100).error().code(), Code::kNotFound);
  std::vector<std::string> names;
  ListWatch watch({});
  ASSERT_TRUE(service->List("a/", watch, [&](std::string_view name) {
    names.emplace_back(name);
    return true;
  }));
  EXPECT_EQ(names, (std::vector<std::string>{"a/1", "a/3", "a/2"}));
  ASSERT_TRUE(service->Delete("a/1"));
  EXPECT_EQ(service->Get("a/1", 100).error().code(), Code::kNotFound);
  EXPECT_EQ(store.commands[0], (std::vector<std::string>{"AUTH", "me", "secret"}));
  EXPECT_EQ(store.commands[1], (std::vector<std::string>{"SELECT", "3"}));
  EXPECT_EQ(store.commands[2], (std::vector<std::string>{"SET", "a/1", "one\r\n", "PX", "5000"}));
}

TEST(RedisService, AConnectionThatEndedMeanwhileIsMadeAnew) {
  FakeStore store;
  auto service = RedisService::Create(OptionsOf(store)).value();
  ASSERT_TRUE(service->Put("a", "1"));
  store.hang_up = true;
  EXPECT_EQ(service->Get("a", 100).value(), "1");
}

TEST(RedisService, WhatTheStoreSaysIsAnErrorOfItsKind) {
  FakeStore store;
  RedisOptions options = OptionsOf(store);
  options.password = "wrong";
  EXPECT_EQ(RedisService::Create(options).value()->Put("a", "1").error().code(),
            Code::kUnauthenticated);
  auto service = RedisService::Create(OptionsOf(store)).value();
  ASSERT_TRUE(service->Put("a", "1"));
  store.answer = "-OOM command not allowed\r\n";
  EXPECT_EQ(service->Put("a", "1").error().code(), Code::kResourceExhausted);
  store.answer = "-LOADING\r\n";
  EXPECT_EQ(service->Get("a", 10).error().code(), Code::kUnavailable);
  store.answer = ":1\r\n";
  EXPECT_EQ(service->Get("a", 10).error().code(), Code::kUnavailable);
  store.answer = "HTTP/1.1 400 Bad Request\r\n";
  EXPECT_EQ(service->Get("a", 10).error().code(), Code::kDataCorrupt);
  store.answer = ":1\r\n:2\r\n";  // more than was asked for: which answer is whose is in doubt
  ListWatch watch({});
  EXPECT_EQ(service->List("a", watch, [](std::string_view) { return true; }).error().code(),
            Code::kUnavailable);
  store.answer = "";
  EXPECT_EQ(service->Get("a", 10).value(), "1");
}

TEST(RedisService, AListWithoutAnEndEndsWithAnError) {
  FakeStore store;
  auto service = RedisService::Create(OptionsOf(store)).value();
  ASSERT_TRUE(service->Put("a", "1"));
  store.answer = "*2\r\n$1\r\n1\r\n*1\r\n$1\r\na\r\n";
  ExpectEndlessListEnds(*service);
  ListWatch enough({});
  EXPECT_TRUE(service->List("a", enough, [](std::string_view) { return false; }));
}

TEST(RedisService, NobodyThereIsUnavailableWithinItsTime) {
  std::string url;
  {
    FakeStore store;
    url = store.url();
  }
  RedisOptions options;
  options.url = url;
  options.call_time_max = std::chrono::milliseconds(200);
  EXPECT_EQ(RedisService::Create(options).value()->Get("a", 10).error().code(), Code::kUnavailable);
}

TEST(RedisService, UrlsThatAreNoneAreRefused) {
  for (const char* url : {"", "localhost:1", "http://x:1", "redis://", "redis://h:1/x",
                          "redis://h:99999", "redis://me:secret@h:1", "rediss://h:1"}) {
    RedisOptions options;
    options.url = url;
    const auto service = RedisService::Create(options);
    ASSERT_FALSE(service) << url;
    EXPECT_EQ(service.error().code(), Code::kInvalidArgument) << url;
  }
  for (const char* url : {"redis://me:secret@h:1", "me:secret@h:1", "redis://me:se/c@secret@h:1",
                          "http://secret@h", "redis://h:1/0?password=secret"}) {
    const auto checked = RedisService::CheckUrl(url);
    ASSERT_FALSE(checked) << url;
    EXPECT_EQ(checked.error().detail().find("secret"), std::string::npos)
        << checked.error().detail();
  }
  const std::string longest = "unix:/" + std::string(106, 'x');
  EXPECT_TRUE(RedisService::CheckUrl(longest));
  const auto longer = RedisService::CheckUrl(longest + "x");
  ASSERT_FALSE(longer);
  EXPECT_NE(longer.error().detail().find("at most 107 bytes, this one 108"), std::string::npos);
  for (const char* url : {"redis://h", "redis://h:1/", "redis://[::1]:7/2", "unix:/tmp/x"}) {
    RedisOptions options;
    options.url = url;
    EXPECT_TRUE(RedisService::Create(options)) << url;
  }
}

}  // namespace
}  // namespace pixii::kv
