// /v1/batches, and how a line of one runs.
#include <fmt/format.h>

#include <utility>

#include "frontend/error_body.h"
#include "frontend/frontend.h"
#include "frontend/list_query.h"

namespace pixii::frontend {

namespace {

Error NoBatch(std::string_view id) {
  return Error(Code::kNotFound,
               fmt::format("there is no batch {}", wire::Json(id.substr(0, 100)).Dump()),
               "batch_id");
}

}  // namespace

void Frontend::HandleCreateBatch(Call& call) {
  auto read = [&]() -> Result<BatchRequest> {
    if (draining_) {
      return Fail(Code::kShuttingDown, "the server shuts down; ask another");
    }
    PX_TRY(const wire::Json body, ParseBody(call.exchange.request()));
    PX_TRY(BatchRequest request, ReadBatchRequest(body));
    if (files_->Find(call.key->tenant, request.input_file_id, UnixNow()) == nullptr) {
      return Fail(Code::kNotFound,
                  fmt::format("there is no file {}", Shown(wire::Json(request.input_file_id))),
                  "input_file_id");
    }
    return request;
  };
  Result<BatchRequest> request = read();
  if (!request) {
    Refuse(call, request.error());
    return;
  }
  Batch batch;
  batch.id = NewId("batch_");
  batch.tenant = call.key->tenant;
  batch.owner = call.key->Owner();
  batch.endpoint = std::move(request->endpoint);
  batch.input_file_id = std::move(request->input_file_id);
  batch.completion_window = std::move(request->completion_window);
  batch.metadata = std::move(request->metadata);
  batch.output_lifetime_seconds = request->output_lifetime_seconds;
  batch.output_file_id = NewId("file-");
  batch.error_file_id = NewId("file-");
  std::shared_ptr<Waiting> waiting = Wait(call);
  batches_->Create(
      std::move(batch), request->window_seconds,
      [this, waiting](Result<std::string> body) { AnswerLater(*waiting, std::move(body)); });
}

void Frontend::HandleBatches(Call& call) {
  auto list = [&]() -> Result<std::string> {
    PX_TRY(const ListQuery query, ReadListQuery(call.exchange.request().query, {}));
    std::vector<ListItem> items;
    for (const Batch* batch : batches_->List(call.key->tenant)) {
      items.push_back({.id = batch->id, .body = batch->Body()});
    }
    return ListPage(items, query);
  };
  Answer(call, list());
}

void Frontend::HandleBatch(Call& call) {
  const std::string_view id = ParameterOf(*call.route, call.exchange.request());
  const Batch* batch = batches_->Find(call.key->tenant, id);
  Answer(call, batch != nullptr ? Result<std::string>(batch->Body())
                                : Result<std::string>(Fail(NoBatch(id))));
}

void Frontend::HandleCancelBatch(Call& call) {
  const std::string_view id = ParameterOf(*call.route, call.exchange.request());
  if (!batches_->Cancel(call.key->tenant, id)) {
    Refuse(call, NoBatch(id));
    return;
  }
  Answer(call, batches_->Find(call.key->tenant, id)->Body());
}

// As a request that came over the wire, but for who asks: that was settled when the batch was made.
void Frontend::RunLine(Exchange& exchange, const std::string& owner) {
  Call call{exchange};
  call.background = true;
  RunLocal(call, owner);
}

// A request of this process' own for whoever `owner` is.
void Frontend::RunLocal(Call& call, const std::string& owner) {
  const wire::HttpRequest& request = call.exchange.request();
  for (const Route* route : routes_) {
    if (Matches(*route, request) && route->method == request.method) {
      call.route = route;
    }
  }
  for (const ApiKey& key : keys_->all()) {
    call.key = key.Owner() == owner ? &key : call.key;
  }
  if (call.key == nullptr) {
    Refuse(call,
           Error(Code::kUnauthenticated, "the API key of this request is not known any more"));
    return;
  }
  if (call.route == nullptr) {
    Refuse(call, Error(Code::kNotFound, "there is no such route"));
    return;
  }
  (this->*call.route->handle)(call);
}

void Frontend::RunAhead(Exchange& exchange, const std::string& owner) {
  Call call{exchange};
  call.background = true;
  call.ahead = true;
  RunLocal(call, owner);
}

void Frontend::Offload(std::function<void()> work, std::function<void()> done) {
  if (!pool_ || !pool_->Submit(work, done)) {
    work();
    environment_.loop.Post(std::move(done));
  }
}

}  // namespace pixii::frontend
