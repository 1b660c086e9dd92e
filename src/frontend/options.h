// What an operator can set of the HTTP surface; every bound of the frontend has its name and unit
// here.
//
// Thread: values, immutable once the frontend has started.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "frontend/batch_runner.h"
#include "frontend/file_store.h"
#include "frontend/openai_request.h"
#include "frontend/page_asset.h"
#include "frontend/response_store.h"
#include "rt/time.h"
#include "wire/http.h"

namespace pixii::frontend {

struct AnthropicOptions {
  /// Drops a line "x-anthropic-billing-header: …" at the start of the system prompt: it differs
  /// from request to request and would keep prompts from sharing a prefix.
  bool strip_preamble = false;
};

/// An answer that is over, as far as its connection goes.
struct Answered {
  const wire::HttpRequest& request;  // without a method: what came was none
  int status = 0;                    // 499: the client hung up before it had one
  std::uint64_t body_bytes = 0;      // appended for it
  rt::Duration took{};               // from the whole request
  bool whole = false;                // false: it was cut off
};

struct HttpServerOptions {
  wire::HttpLimits limits;
  std::uint32_t connections_max = 8192;         // further ones get 503 and are closed
  std::uint32_t unread_bytes_max = 256 * 1024;  // pipelined input held while a request runs
  std::uint32_t unsent_bytes_max =
      64 * 1024;  // output held before a stream has to wait for its reader
  rt::Duration first_byte_timeout = rt::Duration(std::chrono::seconds(30));
  rt::Duration head_timeout =
      rt::Duration(std::chrono::seconds(10));  // first to last byte of the head
  rt::Duration body_grace = rt::Duration(std::chrono::seconds(20));  // a body may take this and ...
  std::uint32_t body_bytes_per_second_min = 16 * 1024;  // ... a second for each so many bytes
  rt::Duration idle_timeout = rt::Duration(std::chrono::seconds(75));  // between requests
  rt::Duration write_timeout =
      rt::Duration(std::chrono::seconds(30));  // without a piece taken by the client
  rt::Duration linger_timeout =
      rt::Duration(std::chrono::seconds(2));  // reading on after the last response
  rt::Duration probe_interval =
      rt::Duration(std::chrono::milliseconds(100));  // half-closed clients, doubling ..
  rt::Duration probe_interval_max = rt::Duration(std::chrono::seconds(1));  // .. up to this
  /// Hears of each answer, for an access log; empty: nobody does.
  std::function<void(const Answered& answered)> on_answered = {};
};

struct FrontendOptions {
  HttpServerOptions http;
  std::uint32_t generations_max = 1024;  // admitted and not ended; further ones get 529
  std::uint32_t held_tokens_max =
      16 * 1024;  // tokens kept for a client that does not read; past it: cancelled
  std::uint32_t media_threads = 0;       // for pictures of requests, likewise
  std::uint32_t media_wait_threads = 0;  // for those that come by URL, and videos; 0: the same ones
  std::uint32_t text_threads = 0;  // for long prompts; 0: all on the loop (simulation needs that)
  std::uint32_t text_queue_length_max = 256;         // prompts that wait for a thread; past it 529
  std::uint64_t text_offload_bytes_min = 16 * 1024;  // bodies shorter than this stay on the loop
  bool admin_api = true;                             // /busy_threshold and /clear_kv_blocks
  bool engine_control = true;  // /engine/control: whoever may ask the model may put it to sleep
  int overload_status = 529;   // 200 .. 999, of a full queue
  rt::Duration keep_alive_interval{};  // of comments in streams that bring nothing; 0: none
  rt::Duration stream_timeout{};       // a request that brings nothing for so long ends; 0: never
  std::uint32_t retry_after_seconds = 1;  // with 503 and 529
  std::string health_path = "/health";
  std::string live_path = "/live";
  bool adapter_api = false;    // whether clients may load and unload adapters
  RequestRules rules;          // of bodies of completions
  bool anthropic_api = false;  // whether /v1/messages exists
  AnthropicOptions anthropic;
  ResponseStoreOptions responses;
  /// Groups of routes that do not exist, of Frontend::EndpointNames().
  std::vector<std::string> disabled_endpoints;
  bool media_api = false;           // whether /v1/videos and /v1/images exist
  std::span<const PageAsset> page;  // the web page; empty: "/" says that there is none
  FileStoreOptions files;
  BatchOptions batches;
  rt::Duration canary_interval = rt::Duration(
      std::chrono::seconds(15));  // a test generation after so long without one; 0: none
  rt::Duration canary_timeout = rt::Duration(std::chrono::seconds(30));
  rt::Duration stall_limit =
      rt::Duration(std::chrono::seconds(60));  // work is there, but no engine step: not ready
};

}  // namespace pixii::frontend
