#include "engine_host.h"

#include <utility>

#include "flags.h"

namespace pixii::python {

EngineHost::~EngineHost() {
  const Error over(Code::kShuttingDown, "the engine is closed");
  thread_.Post([this, over] {
    unit_->link().Close(over);
    process_->loop().Stop();
  });
  thread_.Join();
  streams_->EndAll(over);
}

Result<void> EngineHost::Start() {
  std::vector<config::Option> options = apps::RowsOf(flags_);
  for (config::Option& option : apps::RowsOf(engine_flags_)) {
    options.push_back(std::move(option));
  }
  PX_CHECK_OK(ParseFlags("serve", std::move(options), arguments_, true));
  return thread_.Start("embedded", {.open = [this]() -> Result<rt::Loop*> {
                                      PX_CHECK_OK(Open());
                                      return &process_->loop();
                                    },
                                    .close = [this] { Close(); }});
}

Result<void> EngineHost::Open() {
  process_.emplace();
  PX_CHECK_OK(process_->Open(flags_, {}));  // signals are the interpreter's
  PX_TRY(unit_, apps::EngineUnit::Load(process_->loop(), process_->log(),
                                       {.model = flags_,
                                        .engine = engine_flags_,
                                        .mock = flags_,
                                        .offline = flags_.offline,
                                        .processor = processor_},
                                       model_));
  card_ = unit_->link().card();
  served_ = unit_->TakeServed();
  unit_->Start();
  return {};
}

void EngineHost::Close() {
  flights_.clear();
  unit_.reset();
  process_.reset();
}

std::uint64_t EngineHost::random() {
  const rt::MutexLock lock(mutex_);
  return random_.Next();
}

StreamKey EngineHost::Generate(wire::GenerateRequest request, std::function<void()> wake) {
  const StreamKey key = streams_->Open(std::move(wake));
  thread_.Post(
      [this, key, request = std::move(request)]() mutable { Send(key, std::move(request)); });
  return key;
}

void EngineHost::Send(StreamKey key, wire::GenerateRequest request) {
  request.id = RequestId{++last_id_};
  Flight flight{.id = request.id, .decoder = nullptr};
  if (served_.text) {
    flight.decoder = served_.text->NewDecoder(request.prompt, true);
  }
  flights_[key] = std::move(flight);
  const Result<void> sent = unit_->link().Generate(
      std::move(request), [this, key](wire::TokenFrame frame) { OnFrame(key, std::move(frame)); });
  if (!sent) {
    Piece piece;
    piece.frame.finish = wire::FinishReason::kError;
    piece.frame.error = sent.error();
    streams_->Put(key, std::move(piece));
    flights_.erase(key);
  }
}

void EngineHost::OnFrame(StreamKey key, wire::TokenFrame frame) {
  Piece piece;
  const auto found = flights_.find(key);
  if (found != flights_.end() && found->second.decoder) {
    for (const TokenId token : frame.tokens) {
      found->second.decoder->Push(token, piece.text);
    }
    if (frame.finish) {
      found->second.decoder->Flush(piece.text);
    }
  }
  if (frame.finish && found != flights_.end()) {
    flights_.erase(found);
  }
  piece.frame = std::move(frame);
  streams_->Put(key, std::move(piece));
}

void EngineHost::Cancel(StreamKey key) {
  streams_->Close(key);
  thread_.Post([this, key] {
    const auto found = flights_.find(key);
    if (found != flights_.end()) {
      unit_->link().Cancel({.id = found->second.id, .choice = std::nullopt});
    }
  });
}

}  // namespace pixii::python
