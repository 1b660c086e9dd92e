// Where a request's trace begins, and GET /v1/traces/{request id}.
#include <fmt/format.h>

#include <charconv>
#include <system_error>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/frontend.h"
#include "wire/http.h"

namespace pixii::frontend {

namespace {

std::string_view OperationOf(Surface surface) {
  return surface == Surface::kCompletions ? "text_completion" : "chat";
}

}  // namespace

// A traceparent that cannot be read is as none: a trace of its own begins.
void Frontend::BeginTrace(Call& call, Surface surface) {
  const wire::HttpRequest& request = call.exchange.request();
  auto trace = std::make_unique<RequestTrace>();
  const std::uint64_t count = ++trace_count_;
  const std::uint64_t origin = trace_origin_;
  std::optional<obs::TraceContext> given =
      obs::ParseTraceparent(request.Field("traceparent").value_or(std::string_view()));
  if (given) {
    trace->context = std::move(*given);
    const std::string_view state = request.Field("tracestate").value_or(std::string_view());
    if (state.size() <= obs::kTraceStateBytesMax) {
      trace->context.state = state;
    }
  } else {
    trace->context.trace = obs::MakeTraceId(origin, count);
    trace->context.sampled = obs::IsSampled(trace->context.trace, traces_.options().sample_ratio);
  }
  // Two requests may have one traceparent: their spans differ.
  trace->root = obs::MakeSpanId(obs::MakeTraceId(origin, count), 0);
  if (given) {
    call.fields.push_back({"traceparent", obs::Traceparent(trace->context, trace->root)});
  }
  if (Result<SessionIdentity> session = ReadSession(request)) {
    trace->session = std::move(*session);  // a wrong one is refused by who reads it for the worker
  }
  trace->ahead = call.ahead;
  trace->label = request.Field("x-request-id").value_or(std::string_view());
  trace->path = request.path;
  trace->operation = OperationOf(surface);
  trace->begun = Now();
  traces_.Begin();
  trace->wall = environment_.loop.WallNow();
  call.trace = std::move(trace);
}

void Frontend::HandleTrace(Call& call) {
  constexpr std::string_view kPrefix = "/v1/traces/";
  const std::optional<std::string> id =
      wire::PercentDecode(std::string_view(call.exchange.request().path).substr(kPrefix.size()));
  if (!id) {
    Refuse(call,
           Error(Code::kInvalidArgument, "request_id: the id is badly encoded", "request_id"));
    return;
  }
  const EndedTrace trace = traces_.Find(*id);
  if (!trace) {
    Refuse(call, Error(Code::kNotFound,
                       fmt::format("request_id: none of the last {} requests that ended at this "
                                   "frontend has this id; one that runs has no trace yet, and "
                                   "other frontends know their own",
                                   traces_.options().count_max),
                       "request_id"));
    return;
  }
  Answer(call, TraceJson(*trace));
}

// Whoever plans a fleet reads here, look after look, what came and how it was served.
void Frontend::HandleEndedRequests(Call& call) {
  constexpr std::string_view kAfter = "after=";
  const std::string_view query = call.exchange.request().query;
  std::uint64_t after = 0;
  if (!query.empty()) {
    const char* const end = query.data() + query.size();
    const bool named = query.starts_with(kAfter) && query.size() > kAfter.size();
    if (!named || std::from_chars(query.data() + kAfter.size(), end, after) !=
                      std::from_chars_result{end, std::errc()}) {
      Refuse(call, Error(Code::kInvalidArgument,
                         "after: must be how many requests had ended at the last look", "after"));
      return;
    }
  }
  const TraceStore::Recent recent = traces_.Since(after);
  std::string out =
      fmt::format(R"({{"object":"list","process":"{:016x}","begun":{},"ended":{},"data":[)",
                  trace_origin_, recent.begun, recent.ended);
  std::uint64_t sequence = recent.ended - recent.traces.size();
  for (const EndedTrace& trace : recent.traces) {
    out += out.back() == '[' ? "" : ",";
    out += EndedRequestJson(*trace, ++sequence);
  }
  out += "]}";
  Answer(call, std::move(out));
}

}  // namespace pixii::frontend
