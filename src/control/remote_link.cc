#include "control/remote_link.h"

#include <fmt/format.h>

#include <utility>

#include "wire/messages/codec.h"

namespace pixii::control {

RemoteLink::RemoteLink(rt::Loop& loop, rt::Net& net, MuxClientOptions options, wire::ModelCard card,
                       std::function<void()> on_change)
    : on_change_(std::move(on_change)),
      card_(std::move(card)),
      client_(loop, net, std::move(options), [this](bool connected) { OnConnected(connected); }) {}

void RemoteLink::OnConnected(bool connected) {
  if (!connected) {
    state_ = State::kAway;
    on_change_();
    return;
  }
  // If this call fails the connection is gone again, which is heard of anyway.
  (void)client_.Call(kReportMethod, {}, {},
                     {.on_message = [this](const std::string& message) { OnReport(message); },
                      .on_end = [](const std::optional<Error>&) {}});
}

void RemoteLink::OnReport(const std::string& message) {
  Result<wire::WorkerReport> report = wire::Decode<wire::WorkerReport>(message);
  if (!report) {
    return;  // of a later version: what it is stays as discovery has it
  }
  if (report->card) {
    card_ = std::move(*report->card);
  }
  load_ = report->load;
  state_ = State::kHere;
  on_change_();
}

Result<void> RemoteLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  const RequestId id = request.id;
  auto outstanding = std::make_shared<Outstanding>();
  outstanding->on_frame = std::move(on_frame);
  outstanding->ended.resize(request.choice_count);
  outstanding->live_choices = request.choice_count;
  PX_TRY(outstanding->call,
         client_.Call(
             kGenerateMethod, rt::Duration(request.deadline_left_ns), wire::Encode(request),
             {.on_message = [this, id](const std::string& message) { OnFrame(id, message); },
              .on_end =
                  [this, id](const std::optional<Error>& error) {
                    EndAll(id, error
                                   ? *error
                                   : Error(Code::kDisconnected, "the worker ended the call early"));
                  }}));
  requests_.emplace(id, std::move(outstanding));
  return {};
}

void RemoteLink::OnFrame(RequestId id, const std::string& message) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) {
    return;
  }
  const std::shared_ptr<Outstanding> outstanding = found->second;  // its handler may end it
  Result<wire::TokenFrame> frame = wire::Decode<wire::TokenFrame>(message);
  if (!frame || frame->choice >= outstanding->ended.size()) {
    client_.Cancel(outstanding->call);
    EndAll(id,
           Error(Code::kDisconnected, fmt::format("the worker sent a frame that cannot be read: {}",
                                                  frame ? fmt::format("choice {}", frame->choice)
                                                        : frame.error().detail())));
    return;
  }
  if (outstanding->ended[frame->choice]) {
    return;
  }
  frame->id = id;
  if (frame->finish) {
    outstanding->ended[frame->choice] = true;
    if (--outstanding->live_choices == 0) {
      requests_.erase(found);  // first: the handler may send another of this id
    }
  }
  outstanding->on_frame(std::move(*frame));
}

void RemoteLink::EndAll(RequestId id, const Error& error) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) {
    return;
  }
  const std::shared_ptr<Outstanding> outstanding = found->second;
  requests_.erase(found);
  for (std::uint32_t choice = 0; choice < outstanding->ended.size(); ++choice) {
    if (!outstanding->ended[choice]) {
      wire::TokenFrame frame;
      frame.id = id;
      frame.choice = choice;
      frame.finish = wire::FinishReason::kError;
      frame.error = error;
      outstanding->on_frame(std::move(frame));
    }
  }
}

void RemoteLink::Cancel(const wire::CancelRequest& cancel) {
  const auto found = requests_.find(cancel.id);
  if (found != requests_.end()) {
    client_.Send(found->second->call, wire::Encode(cancel));
  }
}

void RemoteLink::CallForNothing(std::string_view method, std::string message,
                                MemoryHandler on_done) {
  const auto shared = std::make_shared<MemoryHandler>(std::move(on_done));
  auto called =
      client_.Call(method, {}, std::move(message),
                   {.on_message = [](const std::string&) {},
                    .on_end =
                        [shared](std::optional<Error> error) {
                          (*shared)(error ? Result<void>(Fail(std::move(*error))) : Result<void>());
                        }});
  if (!called) {
    (*shared)(Fail(called.error()));
  }
}

void RemoteLink::ReleaseMemory(const MemoryTags& tags, rt::Duration patience,
                               MemoryHandler on_done) {
  CallForNothing(kMemoryMethod, wire::Encode(wire::MemoryRequest{tags, true, patience.count()}),
                 std::move(on_done));
}

void RemoteLink::ResumeMemory(const MemoryTags& tags, MemoryHandler on_done) {
  CallForNothing(kMemoryMethod, wire::Encode(wire::MemoryRequest{tags, false, 0}),
                 std::move(on_done));
}

void RemoteLink::ClearCache(MemoryHandler on_done) {
  CallForNothing(kClearCacheMethod, {}, std::move(on_done));
}

template <class Message>
void RemoteLink::CallForOne(std::string_view method, std::string message,
                            std::function<void(Result<Message>)> on_done) {
  struct Waiting {
    std::function<void(Result<Message>)> on_done;
    Result<Message> answer = Fail(Code::kDisconnected, "the worker said nothing");
  };

  const auto waiting = std::make_shared<Waiting>();
  waiting->on_done = std::move(on_done);
  auto called =
      client_.Call(method, {}, std::move(message),
                   {.on_message =
                        [waiting](const std::string& answer) {
                          waiting->answer = wire::Decode<Message>(answer);
                        },
                    .on_end =
                        [waiting](std::optional<Error> error) {
                          waiting->on_done(error ? Result<Message>(Fail(std::move(*error)))
                                                 : std::move(waiting->answer));
                        }});
  if (!called) {
    waiting->on_done(Fail(called.error()));
  }
}

void RemoteLink::FetchFiles(FilesHandler on_done) {
  CallForOne<wire::ModelFiles>(kModelFilesMethod, {}, std::move(on_done));
}

void RemoteLink::LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) {
  CallForOne<wire::AdapterCard>(kLoadAdapterMethod, wire::Encode(request), std::move(on_done));
}

void RemoteLink::UnloadAdapter(std::string name, AdapterHandler on_done) {
  CallForOne<wire::AdapterCard>(
      kUnloadAdapterMethod, wire::Encode(wire::AdapterName{std::move(name)}), std::move(on_done));
}

}  // namespace pixii::control
