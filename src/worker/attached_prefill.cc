// Requests that two outside engines answer: what an AttachedLink tells its own.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "worker/attached_link.h"

namespace pixii::worker {

namespace {

constexpr std::size_t kPrefillBytesMax = 4U << 20;  // of what an engine says of a prompt it keeps

}  // namespace

bool AttachedLink::Prefills(const wire::GenerateRequest& request) const {
  return request.prefill_only && options_.role.prefills;
}

Result<std::vector<EngineCall>> AttachedLink::CallsOf(const wire::GenerateRequest& request) const {
  const EngineKind kind = options_.dialect.kind;
  std::vector<std::string> words;
  if (!Prefills(request) && !options_.role.key.empty() && !options_.role.prefills) {
    PX_TRY(words, WordsFor(request));
  }
  std::vector<EngineCall> calls;
  for (std::uint32_t i = 0; i < request.choice_count; ++i) {
    PX_TRY(EngineCall call, WriteEngineCall(options_.dialect, request, i));
    if (!words.empty()) {
      PX_TRY(call, AsDecode(kind, call, words[i]));
    }
    calls.push_back(std::move(call));
  }
  return calls;
}

// What the prefill engine said to the engine here; empty: it computes the prompt itself. What is of
// another dialect, or was told to an engine before, is of no use.
Result<std::vector<std::string>> AttachedLink::WordsFor(
    const wire::GenerateRequest& request) const {
  const EngineKind kind = options_.dialect.kind;
  const bool begun =
      std::ranges::any_of(request.generated, [](const auto& tokens) { return !tokens.empty(); });
  if (!request.handover.empty() && !begun && request.attempt <= 1) {
    Result<EngineHandover> said = DecodeEngineHandover(request.handover, key_);
    if (said && said->kind == kind && said->choices.size() == request.choice_count) {
      return std::move(said->choices);
    }
  }
  if (!ComputesPrompts(kind)) {
    return Fail(Code::kUnavailable,
                fmt::format("the {} engine behind this worker decodes what a prefill engine of its "
                            "kind has computed, and computes no prompt",
                            NameOf(kind)));
  }
  return std::vector<std::string>();
}

// The engines of SGLang meet in a room, so both must be asked at once; others answer when the
// prompt is computed.
void AttachedLink::StartPrefill(const std::shared_ptr<Outstanding>& outstanding,
                                const wire::GenerateRequest& request,
                                std::vector<EngineCall> calls) {
  const EngineKind kind = options_.dialect.kind;
  outstanding->words.resize(request.choice_count);
  outstanding->words_missing = request.choice_count;
  for (std::uint32_t i = 0; i < request.choice_count; ++i) {
    if (kind == EngineKind::kSglang) {
      outstanding->words[i] = BootstrapWords(options_.role.bootstrap, loop_.random().Next());
      --outstanding->words_missing;
    }
    Result<EngineCall> call = AsPrefill(kind, calls[i], outstanding->words[i]);
    if (!call) {
      EndLater(outstanding->choices[i], wire::FinishReason::kError, call.error());
      continue;
    }
    tasks_.Start(RunPrefill(outstanding->choices[i], std::move(*call)));
  }
  if (kind == EngineKind::kSglang) {
    loop_.Post([this, outstanding, alive = std::weak_ptr<bool>(alive_)] {
      if (const auto here = alive.lock(); here && *here && !outstanding->choices.empty()) {
        GiveHandover(outstanding);
      }
    });
  }
}

rt::Task<void> AttachedLink::RunPrefill(ChoicePtr choice, EngineCall call) {
  co_await loop_.Yield();  // no frame comes inside Generate
  const EngineKind kind = options_.dialect.kind;
  const rt::Time deadline = std::min(choice->request->deadline, loop_.Now() + options_.silence_max);
  auto sending = control::SendHttp(net_, CallOf(*choice->request, std::move(call)),
                                   std::min(deadline, loop_.Now() + options_.connect_timeout));
  Result<std::unique_ptr<control::HttpStream>> sent = co_await std::move(sending);
  Result<void> answered = sent ? Result<void>() : Fail(sent.error());
  std::string body;
  if (sent && !choice->ended) {
    choice->stream = sent->get();
    auto head = (*sent)->ReadHead(deadline);
    answered = co_await std::move(head);
    while (answered && !choice->ended) {
      auto reading = (*sent)->Read(deadline);
      const Result<std::string> piece = co_await std::move(reading);
      if (!piece || body.size() + piece->size() > kPrefillBytesMax) {
        answered = piece ? Fail(Code::kTooLarge, "the prefill engine's answer is too large")
                         : Fail(piece.error());
      } else if (piece->empty()) {
        break;
      } else {
        body += *piece;
      }
    }
    if (answered && !choice->ended && (*sent)->status() != 200) {
      answered = Fail(EngineRefusal((*sent)->status(), body));
    }
    choice->stream = nullptr;
  }
  ++events_;
  if (choice->ended) {
    co_return;
  }
  if (answered && kind != EngineKind::kSglang) {
    Result<std::string> words = ReadPrefillAnswer(kind, body);
    if (words) {
      choice->request->words[choice->number] = std::move(*words);
      if (--choice->request->words_missing == 0) {
        GiveHandover(choice->request);
      }
      co_return;
    }
    answered = Fail(Code::kUnavailable, words.error().detail());  // another may do it
  }
  if (answered) {
    End(choice, wire::FinishReason::kLength, std::nullopt);
  } else {
    End(choice, wire::FinishReason::kError, WhyEnded(*choice, answered.error()));
  }
}

// The engine keeps what it has computed as long as it wants; SGLang's request goes on.
void AttachedLink::GiveHandover(const std::shared_ptr<Outstanding>& request) {
  const auto live = std::ranges::find(request->choices, false, &Choice::ended);
  if (live == request->choices.end()) {
    return;
  }
  const std::vector<ChoicePtr> choices = request->choices;
  wire::TokenFrame frame;
  frame.handover =
      EncodeEngineHandover({.kind = options_.dialect.kind, .choices = request->words}, key_);
  const std::weak_ptr<bool> alive(alive_);
  Give(*live, std::move(frame));
  if (alive.expired() || options_.dialect.kind == EngineKind::kSglang) {
    return;
  }
  for (const ChoicePtr& choice : choices) {
    End(choice, wire::FinishReason::kLength, std::nullopt);
    if (alive.expired()) {
      return;
    }
  }
}

}  // namespace pixii::worker
