#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <optional>

#include "apps/command.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "apps/progress_bar.h"
#include "engine/engine_loop.h"
#include "frontend/model_text.h"
#include "rt/loop.h"
#include "rt/process.h"
#include "worker/local_link.h"

namespace pixii::apps {

namespace {

constexpr int kExitInterrupted = 130;

// One conversation in the terminal: the same engine and texts as the server, without HTTP, on one
// thread.
class Chat final {
 public:
  Chat(ChatFlags chat, EngineFlags engine)
      : flags_(std::move(chat)), engine_flags_(std::move(engine)) {}

  Result<void> Load() {
    PX_TRY(loop_, rt::MakeLoop());
    PX_TRY(signals_, rt::WatchSignals(*loop_, {SIGINT, SIGTERM}, [this](int) {
             interrupted_ = true;
             loop_->Stop();
           }));
    PX_TRY(ModelSource source, ResolveModel(flags_.model, flags_.offline));
    {
      ProgressBar bar("loading " + source.name);
      PX_TRY(host_,
             ModelHost::Load(source.folder, engine_flags_, [&](double done) { bar.Show(done); }));
    }
    PX_TRY(std::unique_ptr<engine::Engine> engine, host_->MakeEngine());
    PX_TRY(served_, LoadServedModel(source.folder, host_->spec(), source.name));
    if (!served_.text) {
      return Fail(Code::kUnsupported,
                  fmt::format("{} has no tokenizer.json: it cannot chat", source.folder), "model");
    }
    engine_.emplace(*loop_, std::move(engine));
    link_.emplace(*loop_, *engine_,
                  worker::LocalLinkOptions{.name = source.name,
                                           .eos_token_ids = {},
                                           .bos_token_id = -1,
                                           .adapters = host_->MakeAdapterLink()});
    if (!flags_.system.empty()) {
      Remember("system", flags_.system);
    }
    return {};
  }

  /// Prints the answer to `words` as it comes; nothing if it was interrupted.
  Result<void> Answer(const std::string& words) {
    Remember("user", words);
    PX_TRY(wire::GenerateRequest request, MakeRequest());
    std::unique_ptr<frontend::TextDecoder> decoder = served_.text->NewDecoder(request.prompt, true);
    std::string answer;
    std::optional<Error> failed;
    auto print = [&](std::string text) {
      answer += text;
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
    };
    PX_CHECK_OK(link_->Generate(std::move(request), [&](wire::TokenFrame frame) {
      std::string text;
      for (TokenId token : frame.tokens) {
        decoder->Push(token, text);
      }
      if (frame.finish) {
        decoder->Flush(text);
        failed = frame.error;
        loop_->Stop();
      }
      print(std::move(text));
    }));
    loop_->Run();
    Say("\n");
    if (failed) {
      return Fail(*failed);
    }
    Remember("assistant", answer);
    return {};
  }

  bool interrupted() const { return interrupted_; }

 private:
  void Remember(const char* role, const std::string& content) {
    wire::Json message(wire::Json::Object{});
    message.Set("role", role);
    message.Set("content", content);
    messages_.push_back(std::move(message));
  }

  Result<wire::GenerateRequest> MakeRequest() {
    frontend::ChatPrompt prompt;
    prompt.messages = messages_;
    if (flags_.thinking) {
      prompt.template_kwargs.Set("enable_thinking", true);
    }
    wire::GenerateRequest request;
    request.id = RequestId{++last_id_};
    request.adapter = flags_.adapter;
    PX_TRY(request.prompt, served_.text->EncodeChat(prompt));
    std::uint32_t context = link_->card().context_tokens_max;
    if (request.prompt.size() >= context) {
      return Fail(Code::kTooLarge, fmt::format("the conversation has {} tokens, the context {}",
                                               request.prompt.size(), context));
    }
    auto left = static_cast<std::uint32_t>(context - request.prompt.size());
    request.stop.max_tokens = flags_.max_tokens > 0
                                  ? std::min(left, static_cast<std::uint32_t>(flags_.max_tokens))
                                  : left;
    request.stop.ignore_eos = flags_.ignore_eos;
    request.stop.eos_token_ids = host_->spec().eos_token_ids;
    request.sampling.temperature = static_cast<float>(flags_.temperature);
    request.sampling.seed = static_cast<std::uint64_t>(flags_.seed);
    return request;
  }

  ChatFlags flags_;
  EngineFlags engine_flags_;
  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<rt::SignalWatch> signals_;
  std::unique_ptr<ModelHost> host_;
  frontend::ServedModel served_;
  std::optional<engine::EngineLoop> engine_;
  std::optional<worker::LocalLink> link_;
  wire::Json::Array messages_;
  std::uint64_t last_id_ = 0;
  bool interrupted_ = false;
};

// Lines from the terminal until its end; an error ends one answer, not the conversation.
int Converse(Chat& chat) {
  std::string line;
  for (;;) {
    SayError("> ");
    if (!std::getline(std::cin, line)) {
      return kExitDone;
    }
    if (line.empty()) {
      continue;
    }
    if (Result<void> done = chat.Answer(line); !done) {
      Complain(done.error());
    }
    if (chat.interrupted()) {
      return kExitInterrupted;
    }
  }
}

}  // namespace

int RunChat(const Arguments& arguments) {
  ChatFlags chat_flags;
  EngineFlags engine_flags;
  engine_flags.max_batch = 1;
  config::Command command;
  command.name = "chat";
  command.summary = "Answers words in the terminal; without words it reads lines.";
  command.positionals = {
      {.name = "WORDS", .help = "what to say", .required = false, .repeated = true}};
  command.options = RowsOf(chat_flags);
  for (config::Option& option : RowsOf(engine_flags)) {
    command.options.push_back(std::move(option));
  }
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Chat chat(chat_flags, engine_flags);
  if (Result<void> loaded = chat.Load(); !loaded) {
    return Complain(loaded.error());
  }
  if (parsed.positionals.empty()) {
    return Converse(chat);
  }
  Result<void> done = chat.Answer(fmt::format("{}", fmt::join(parsed.positionals, " ")));
  return !done ? Complain(done.error()) : chat.interrupted() ? kExitInterrupted : kExitDone;
}

}  // namespace pixii::apps
