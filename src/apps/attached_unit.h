// An outside engine behind this worker: what it is, found out at the start, and the link to it.
//
// Thread: made and used on one loop's.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "base/result.h"
#include "model/language_model.h"
#include "rt/http_client.h"
#include "worker/attached_link.h"

namespace pixii::apps {

/// Where an engine is: http://HOST:PORT/PREFIX.
struct EngineUrl {
  bool tls = false;
  std::string host;
  std::uint16_t port = 0;
  std::string prefix;  // "/base"; empty: none

  std::string ToString() const;
};

/// Errors: kInvalidArgument naming the flag.
Result<EngineUrl> ParseEngineUrl(const std::string& text);

class AttachedUnit final {
 public:
  /// Asks the engine what it serves and how it wants to be asked, and reads the texts of `model`.
  /// May take as long as --attach-wait. `process` outlives it.
  /// `cluster_key`: the secret itself; needed if the worker has a role.
  static Result<std::unique_ptr<AttachedUnit>> Open(ProcessUnit& process, const WorkerFlags& flags,
                                                    const std::string& model,
                                                    const std::string& cluster_key);

  worker::AttachedLink& link() { return *link_; }

  const std::string& name() const { return link_->card().name; }

  /// Where the model's configuration and texts are.
  const std::string& folder() const { return folder_; }

  /// To the log.
  void DumpState(std::size_t requests) const;

 private:
  /// What the engine said of itself.
  struct Facts {
    std::string model;
    std::int64_t context_tokens = 0;  // 0: it did not say
    std::int64_t block_tokens = 0;
    std::int64_t block_count = 0;
    std::int64_t batch_sequences = 0;
    bool token_prompts = false;
    bool token_answers = false;
    std::vector<wire::AdapterCard> adapters;
  };

  AttachedUnit(ProcessUnit& process, const WorkerFlags& flags) : process_(process), flags_(flags) {}

  Result<void> Attach(const std::string& model, const std::string& cluster_key);
  Result<worker::AttachedRole> RoleOf(const std::string& cluster_key) const;
  Result<rt::HttpFetchResponse> Fetch(rt::HttpClient& client, const std::string& path,
                                      std::string post_body = {}) const;
  Result<void> Pause();
  Result<void> AskModels(rt::HttpClient& client);
  void AskSizes(rt::HttpClient& client);
  Result<void> Probe(rt::HttpClient& client);
  Result<void> SetKvEvents(worker::AttachedOptions& options) const;
  Result<wire::ModelCard> MakeCard(const model::ModelSpec& spec) const;

  ProcessUnit& process_;
  const WorkerFlags& flags_;
  worker::EngineKind kind_{};
  EngineUrl url_;
  std::string api_key_;
  std::string folder_;
  Facts facts_;
  std::unique_ptr<rt::Net> tls_net_;  // null: in the clear
  std::optional<worker::AttachedLink> link_;
};

}  // namespace pixii::apps
