// One client request about texts on its way through the engine: a request for each text, a few at a
// time, then one answer.
//
// Thread: the frontend's loop. Owned by its host until the client is answered and the engine has
// ended every text.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "frontend/exchange.h"
#include "frontend/generation.h"
#include "frontend/pooling_plan.h"

namespace pixii::frontend {

/// Makes the answer's body of what the engine gave, [texts].
using PoolingWriter = std::function<std::string(const PoolingPlan& plan,
                                                std::span<const std::vector<float>> results)>;

class Pooling final : public ExchangeWatcher, public ClientWork {
 public:
  Pooling(GenerationHost& host, Exchange& exchange, PoolingPlan plan,
          wire::GenerateRequest prototype, PoolingWriter writer);

  /// Sends the first texts. Whatever happens, the exchange is answered and OnDone is called.
  void Start();
  void End(const Error& error) override;

  void OnClientGone() override;

  void OnRoom() override {}

 private:
  void SendMore();
  Result<void> Send(std::uint32_t index);
  void OnFrame(std::uint32_t index, wire::TokenFrame frame);
  void Take(std::uint32_t index, wire::TokenFrame& frame);
  void Complete();
  void Answered(std::optional<Error> error);
  void CancelOpen();
  void MaybeDone();

  GenerationHost& host_;
  Exchange* exchange_;  // null once answered or gone
  PoolingPlan plan_;
  wire::GenerateRequest prototype_;
  PoolingWriter writer_;
  GenerationRecord record_;
  std::vector<RequestId> ids_;               // [texts sent]
  std::vector<bool> open_;                   // [texts sent] the engine has not ended them
  std::vector<std::vector<float>> results_;  // [texts]
  std::uint32_t open_count_ = 0;
  std::uint32_t result_count_ = 0;
  bool sending_ = false;
  bool done_ = false;
};

}  // namespace pixii::frontend
