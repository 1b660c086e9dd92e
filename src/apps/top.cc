// pixii top: what a frontend knows of its cluster, again and again in the terminal.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

#include "apps/command.h"
#include "apps/top_frame.h"
#include "rt/http_client.h"
#include "rt/terminal.h"

namespace pixii::apps {

namespace {

constexpr std::uint32_t kTimeoutMs = 5'000;
constexpr char kControlC = 3;
constexpr char kEndOfInput = 4;

Result<std::string> Get(rt::HttpClient& client, const std::string& url, const std::string& key) {
  rt::HttpFetchRequest request;
  request.url = url;
  request.timeout_ms = kTimeoutMs;
  if (!key.empty()) {
    request.headers.emplace_back("authorization", "Bearer " + key);
  }
  PX_TRY(rt::HttpFetchResponse answer, client.Fetch(request));
  if (answer.status == 200) {
    return std::move(answer.body);
  }
  const Result<wire::Json> said = wire::ParseJson(answer.body);
  const wire::Json* error = said && said->is_object() ? said->Find("message") : nullptr;
  return Fail(Code::kUnavailable,
              fmt::format("{} answered {}: {}", url, answer.status,
                          error != nullptr && error->is_string() ? error->string()
                                                                 : answer.body.substr(0, 200)));
}

Result<void> Look(rt::HttpClient& client, const std::string& key, TopInput& input) {
  PX_TRY(const std::string body, Get(client, input.url + "/v1/cluster", key));
  PX_TRY(input.cluster, wire::ParseJson(body));
  PX_TRY(input.metrics, Get(client, input.url + "/metrics", key));
  return {};
}

void Watch(rt::HttpClient& client, const std::string& key, TopInput& input,
           std::chrono::milliseconds every) {
  rt::TerminalKeys keys;
  for (;;) {
    const Result<void> looked = Look(client, key, input);
    input.trouble = looked ? "" : looked.error().detail();
    // Over what stands there, and nothing behind it.
    const std::string frame = TopFrame(input, rt::ReadTerminalSize());
    std::string lines;
    for (const char letter : frame.substr(0, frame.size() - 1)) {
      lines += letter == '\n' ? "\x1b[K\r\n" : std::string(1, letter);
    }
    Say("\x1b[H{}\x1b[K\x1b[J", lines);
    std::fflush(stdout);
    const std::optional<char> pressed = keys.Wait(every);
    if (pressed == 'q' || pressed == kControlC || pressed == kEndOfInput) {
      return;
    }
  }
}

}  // namespace

int RunTop(const Arguments& arguments) {
  std::string url = "http://127.0.0.1:8000";
  std::string key;
  std::int64_t every_ns = 1'000'000'000;
  bool once = false;
  config::Command command;
  command.name = "top";
  command.summary = "Shows models, workers and what they do, live; q ends it.";
  command.options.resize(4);
  command.options[0].name = "url";
  command.options[0].field = config::TextField{&url, {}};
  command.options[0].help = "a frontend";
  command.options[1].name = "api-key";
  command.options[1].field = config::TextField{&key, {}};
  command.options[1].help = "of an administrator, where the frontend has keys";
  command.options[2].name = "interval";
  command.options[2].field = config::DurationField{&every_ns, {100'000'000, 3'600'000'000'000}};
  command.options[2].help = "between two looks";
  command.options[3].name = "once";
  command.options[3].field = config::BoolField{&once};
  command.options[3].help = "prints what there is now and ends";
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  while (url.ends_with('/')) {
    url.pop_back();
  }
  const std::unique_ptr<rt::HttpClient> client = rt::MakeCurlClient({});
  TopInput input{.url = url, .cluster = {}, .metrics = {}, .trouble = {}};
  input.colours = isatty(STDOUT_FILENO) == 1;
  if (once || !input.colours) {
    const Result<void> looked = Look(*client, key, input);
    if (!looked) {
      return Complain(looked.error());
    }
    Say("{}", TopFrame(input, {.columns = 200, .rows = 10'000}));
    return kExitDone;
  }
  Watch(*client, key, input,
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::nanoseconds(every_ns)));
  return kExitDone;
}

}  // namespace pixii::apps
