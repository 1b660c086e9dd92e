#include "frontend/local_exchange.h"

namespace pixii::frontend {

void LocalExchange::HangUp() {
  if (!ended_) {
    ended_ = true;
    if (ExchangeWatcher* watcher = std::exchange(watcher_, nullptr); watcher != nullptr) {
      watcher->OnClientGone();
    }
  }
}

std::string LocalExchange::TakeStream() {
  std::string out = std::exchange(stream_, {});
  if (std::exchange(room_wanted_, false) && watcher_ != nullptr && !ended_) {
    watcher_->OnRoom();
  }
  return out;
}

void LocalExchange::Respond(Response response) {
  response_ = std::move(response);
  End();
}

void LocalExchange::StartStream(std::string_view /*content_type*/,
                                std::vector<wire::HttpField> /*fields*/) {
  streaming_ = true;
}

std::string& LocalExchange::stream() {
  on_change_();
  return stream_;
}

bool LocalExchange::congested() {
  const bool full = stream_.size() > stream_bytes_max_;
  room_wanted_ = room_wanted_ || full;
  return full;
}

void LocalExchange::End() {
  ended_ = true;
  watcher_ = nullptr;
  on_change_();
}

}  // namespace pixii::frontend
