// One request and its response as a handler sees them, whatever carries them.
//
// Thread: the frontend's loop. Nothing here calls back into the handler from inside its own call.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/http.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

struct Response {
  int status = 200;
  std::string_view content_type = "application/json";
  std::string body;
  std::vector<wire::HttpField> fields;
  bool close = false;  // end the connection behind it
};

/// What a handler learns while its exchange is open.
class ExchangeWatcher {
 public:
  virtual ~ExchangeWatcher() = default;
  /// The client hung up. The exchange must not be used any more.
  virtual void OnClientGone() = 0;
  /// After unsent_bytes() was past the limit: the client has read on.
  virtual void OnRoom() = 0;
};

/// A generation that was read and checked, for somebody who sends it to its worker himself.
struct PlannedRequest {
  std::string model;              // that serves it, by its own name
  std::uint64_t service = 0;      // ServiceId of that
  wire::GenerateRequest request;  // of its first prompt
  bool whole = false;             // the prompt's tokens are all that the prompt is
};

/// Takes generations that were read, in place of an answer.
class PlanTaker {
 public:
  virtual ~PlanTaker() = default;
  /// Either `refuse` is called later, and the exchange gets the error as its answer, or it gets
  /// none. Once the taker is gone nobody calls it.
  virtual void Take(PlannedRequest planned, std::function<void(const Error&)> refuse) = 0;
};

/// A handler ends it exactly once with Respond, EndStream or Abort and then forgets it, unless
/// OnClientGone came first.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual const wire::HttpRequest& request() const = 0;
  /// Who listens from now on; null: nobody.
  virtual void Watch(ExchangeWatcher* watcher) = 0;

  /// A whole response.
  virtual void Respond(Response response) = 0;

  /// Begins a response of unknown length with status 200.
  virtual void StartStream(std::string_view content_type, std::vector<wire::HttpField> fields) = 0;
  /// What is appended to it is sent at the end of the loop's turn. Pre: StartStream was called.
  virtual std::string& stream() = 0;
  virtual void EndStream() = 0;

  /// Gives the connection up without a word: the client can tell from a missing end.
  virtual void Abort() = 0;

  /// Bytes appended that the client's socket has not taken.
  virtual std::size_t unsent_bytes() const = 0;
  /// Whether unsent_bytes() is past the limit. Once it said true, OnRoom follows.
  virtual bool congested() = 0;

  /// Who wants a generation as it was read and no answer; null: nobody, as of every client.
  virtual PlanTaker* plan_taker() { return nullptr; }
};

class ExchangeHandler {
 public:
  virtual ~ExchangeHandler() = default;
  virtual void Handle(Exchange& exchange) = 0;
  /// A response for a request that is refused below the handlers.
  virtual Response Refusal(const wire::HttpFault& fault) = 0;
};

}  // namespace pixii::frontend
