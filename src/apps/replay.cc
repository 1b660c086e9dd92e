#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <optional>

#include "apps/command.h"
#include "apps/image_source.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "engine/engine_loop.h"
#include "frontend/receipt.h"
#include "frontend/served_model.h"
#include "rt/file.h"
#include "rt/loop.h"
#include "worker/local_link.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kRecordSizeMax = std::uint64_t{256} << 20;  // bytes of one record

Result<frontend::RequestRecord> ReadRecord(const std::string& path) {
  PX_TRY(const std::string text, rt::ReadFile(path, kRecordSizeMax));
  Result<frontend::RequestRecord> record = frontend::ParseRecord(text);
  if (!record) {
    return Fail(record.error().code(), fmt::format("{}: {}", path, record.error().detail()));
  }
  return record;
}

/// A model loaded as the one that a record speaks of.
class Replayer final {
 public:
  Result<void> Load(const ReplayFlags& flags, EngineFlags engine_flags,
                    const frontend::RequestRecord& record) {
    if (engine_flags.max_context == 0) {
      engine_flags.max_context = record.context_tokens_max;  // lengths left open depend on it
    }
    PX_TRY(loop_, rt::MakeLoop());
    PX_TRY(const ModelSource source,
           ResolveModel(flags.model.empty() ? record.model : flags.model, flags.offline));
    PX_TRY(host_, ModelHost::Load(source.folder, engine_flags));
    PX_TRY(served_, LoadServedModel(source.folder, host_->spec(), record.model));
    const MediaGetters getters = MakeMediaGetters({});
    served_.images = getters.images;
    served_.files = getters.files;
    served_.films = getters.films;
    host_->UseGrammars(served_.grammars);
    PX_TRY(std::unique_ptr<engine::Engine> engine, host_->MakeEngine());
    engine_.emplace(*loop_, std::move(engine));
    link_.emplace(*loop_, *engine_,
                  worker::LocalLinkOptions{.name = record.model,
                                           .eos_token_ids = host_->spec().eos_token_ids,
                                           .bos_token_id = host_->spec().bos_token_id,
                                           .adapters = host_->MakeAdapterLink()});
    return {};
  }

  /// Nothing: the same bits; else the first difference.
  Result<std::optional<std::string>> Repeat(const frontend::RequestRecord& record) {
    PX_CHECK_OK(CheckIdentity(record.receipt));
    PX_TRY(const wire::Json body, wire::ParseJson(record.body));
    PX_TRY(const frontend::OpenAiRequest request,
           frontend::ParseOpenAiRequest(body, record.surface));
    PX_TRY(frontend::GenerationPlan plan,
           frontend::PlanGeneration(request, served_, link_->card(), record.receipt.seed));
    const std::size_t n = plan.prototype.choice_count;
    if (plan.skip_engine) {
      return std::optional<std::string>();
    }
    if (n * record.prompts.size() != record.choices.size()) {
      return Fail(Code::kDataCorrupt, "record: choices are not prompts times n of the body",
                  "choices");
    }
    for (std::size_t part = 0; part < record.prompts.size(); ++part) {
      wire::GenerateRequest generate = plan.prototype;
      generate.prompt = record.prompts[part];
      if (!generate.media.empty() && generate.prompt != plan.prompts[part]) {
        return Fail(Code::kInvalidArgument,
                    "the record's prompt has other places for its pictures: a URL of the body "
                    "gives another one today, or the model's processor is another",
                    "prompts");
      }
      wire::PutMediaTokens(generate.media, generate.prompt);
      generate.adapter_version = record.receipt.adapter_version;
      PX_TRY(const std::vector<frontend::ChoiceTranscript> got, Generate(std::move(generate)));
      for (std::size_t k = 0; k < n; ++k) {
        if (std::optional<std::string> difference = Compare(record.choices[part * n + k], got[k])) {
          return std::optional(fmt::format("choice {}: {}", part * n + k, *difference));
        }
      }
    }
    return std::optional<std::string>();
  }

 private:
  Result<void> CheckIdentity(const frontend::Receipt& receipt) const {
    const wire::ModelCard& card = link_->card();
    if (card.fingerprint != receipt.fingerprint) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("the record is of a model with fingerprint {}, this one has {}",
                              receipt.fingerprint, card.fingerprint),
                  "fingerprint");
    }
    if (card.numerics_id != receipt.numerics_id) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("the record was made with numerics {}, this run has {}; --isa, "
                              "--numerics, --dtype and "
                              "--kv-dtype choose it",
                              receipt.numerics_id, card.numerics_id),
                  "numerics_id");
    }
    for (const frontend::ComputedParts& parts : receipt.computed) {
      if (!parts.empty()) {
        return Fail(Code::kUnsupported,
                    fmt::format("the record's choices were computed by workers of different "
                                "numerics, {} among them: no one process repeats that",
                                parts.back().numerics_id),
                    "numerics_id");
      }
    }
    return CheckAdapter(receipt, card);
  }

  /// One of a catalogue is read when it is asked for, and the engine then compares its version.
  static Result<void> CheckAdapter(const frontend::Receipt& receipt, const wire::ModelCard& card) {
    auto found = std::ranges::find(card.adapters, receipt.adapter, &wire::AdapterCard::name);
    if (!receipt.adapter.empty() && found == card.adapters.end()) {
      return Fail(
          Code::kNotFound,
          fmt::format("the record was made with the adapter {}; give it with --lora {}=FOLDER",
                      receipt.adapter, receipt.adapter),
          "adapter");
    }
    if (!receipt.adapter.empty() && found->is_loaded() &&
        found->version != receipt.adapter_version) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("the record was made with the adapter {} of fingerprint {}, this one "
                              "has {}",
                              receipt.adapter, receipt.adapter_version, found->version),
                  "adapter");
    }
    return {};
  }

  Result<std::vector<frontend::ChoiceTranscript>> Generate(wire::GenerateRequest request) {
    std::vector<frontend::ChoiceTranscript> out(request.choice_count);
    std::size_t open = out.size();
    std::optional<Error> failed;
    request.id = RequestId{++last_id_};
    PX_CHECK_OK(link_->Generate(std::move(request), [&](const wire::TokenFrame& frame) {
      frontend::ChoiceTranscript& choice = out[frame.choice];
      choice.tokens.insert(choice.tokens.end(), frame.tokens.begin(), frame.tokens.end());
      for (const wire::TokenLogprob& entry : frame.logprobs) {
        choice.logprobs.push_back(entry.logprob);
      }
      if (frame.error) {
        failed = frame.error;
      }
      if (frame.finish && --open == 0) {
        loop_->Stop();
      }
    }));
    loop_->Run();
    if (failed) {
      return Fail(*failed);
    }
    return out;
  }

  /// The engine runs on where a stop string ended the recorded choice: then only its start counts.
  static std::optional<std::string> Compare(const frontend::ChoiceTranscript& wanted,
                                            const frontend::ChoiceTranscript& got) {
    for (std::size_t i = 0; i < wanted.tokens.size(); ++i) {
      if (i >= got.tokens.size()) {
        return fmt::format("ended after {} tokens, recorded are {}", i, wanted.tokens.size());
      }
      if (got.tokens[i] != wanted.tokens[i]) {
        return fmt::format("token {} is {}, recorded is {}", i, got.tokens[i], wanted.tokens[i]);
      }
      if (i < wanted.logprobs.size() &&
          (i >= got.logprobs.size() || std::bit_cast<std::uint32_t>(wanted.logprobs[i]) !=
                                           std::bit_cast<std::uint32_t>(got.logprobs[i]))) {
        return fmt::format("the logprob of token {} differs", i);
      }
    }
    if (wanted.ended_by_engine && got.tokens.size() != wanted.tokens.size()) {
      return fmt::format("has {} tokens, recorded are {}", got.tokens.size(), wanted.tokens.size());
    }
    return std::nullopt;
  }

  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<ModelHost> host_;
  frontend::ServedModel served_;
  std::optional<engine::EngineLoop> engine_;
  std::optional<worker::LocalLink> link_;
  std::uint64_t last_id_ = 0;
};

/// Replays records one by one; those of one model share its loading.
class Replays final {
 public:
  Replays(const ReplayFlags& flags, const EngineFlags& engine_flags)
      : flags_(flags), engine_flags_(engine_flags) {}

  /// Says how the record went. One that cannot be replayed says nothing about the others.
  void Replay(const std::string& path) {
    Result<std::optional<std::string>> difference = Difference(path);
    if (!difference) {
      ++failed_;
      SayError("pixii: {}: failed: {}\n", path, difference.error().detail());
    } else if (*difference) {
      ++differ_;
      Say("{}: differs: {}\n", path, **difference);
    } else {
      ++same_;
      Say("{}: same: {}\n", path, size_);
    }
  }

  /// Exit status.
  int Finish() const {
    Say("records: {} same, {} different, {} failed\n", same_, differ_, failed_);
    return failed_ > 0 ? kExitFailed : differ_ > 0 ? kExitNotSo : kExitDone;
  }

 private:
  /// As Replayer::Repeat.
  Result<std::optional<std::string>> Difference(const std::string& path) {
    PX_TRY(const frontend::RequestRecord record, ReadRecord(path));
    const std::string wanted = fmt::format("{} {}", record.context_tokens_max, record.model);
    if (loaded_ != wanted) {
      loaded_.clear();
      replayer_.emplace();
      PX_CHECK_OK(replayer_->Load(flags_, engine_flags_, record));
      loaded_ = wanted;
    }
    std::size_t tokens = 0;
    for (const frontend::ChoiceTranscript& choice : record.choices) {
      tokens += choice.tokens.size();
    }
    size_ = fmt::format("{} choices, {} tokens", record.choices.size(), tokens);
    return replayer_->Repeat(record);
  }

  const ReplayFlags& flags_;
  const EngineFlags& engine_flags_;
  std::optional<Replayer> replayer_;
  std::string loaded_;  // context and model; empty: none
  std::string size_;    // of the latest record, in words
  std::size_t same_ = 0;
  std::size_t differ_ = 0;
  std::size_t failed_ = 0;
};

}  // namespace

int RunReplay(const Arguments& arguments) {
  ReplayFlags flags;
  EngineFlags engine_flags;
  config::Command command;
  command.name = "replay";
  command.summary =
      "Repeats requests recorded by pixii serve --record; exit status 1 if a token or logprob "
      "differs, 2 if a record could not be replayed.";
  command.positionals = {
      {.name = "RECORD", .help = "file of a record", .required = true, .repeated = true}};
  command.options = RowsOf(flags);
  for (config::Option& option : RowsOf(engine_flags)) {
    command.options.push_back(std::move(option));
  }
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Replays replays(flags, engine_flags);
  for (const std::string& path : parsed.positionals) {
    replays.Replay(path);
  }
  return replays.Finish();
}

}  // namespace pixii::apps
