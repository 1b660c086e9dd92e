// One client request on its way through the engine: sends a GenerateRequest per prompt, turns
// frames into the response.
//
// Thread: the frontend's loop. Owned by its host until the client is answered and the engine has
// ended every choice. The status is not committed before the first frame: what fails until then is
// a real status.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/worker_link.h"
#include "frontend/answer_writer.h"
#include "frontend/beam_runner.h"
#include "frontend/choice_stream.h"
#include "frontend/error_body.h"
#include "frontend/exchange.h"
#include "frontend/openai_response.h"
#include "frontend/quota.h"
#include "frontend/request_trace.h"
#include "rt/time.h"

namespace pixii::frontend {

/// Work of the engine for a client, which its host owns until both are done with it.
class ClientWork {
 public:
  virtual ~ClientWork() = default;
  /// Ends it with `error` for the client, if that is still waiting.
  virtual void End(const Error& error) = 0;

  /// Called now and then: a stream that brought nothing for `keep_alive` gets a comment, work that
  /// brought nothing for `timeout` ends with kDeadlineExceeded. Zero: not watched.
  virtual void Watch(rt::Time /*now*/, rt::Duration /*keep_alive*/, rt::Duration /*timeout*/) {}
};

/// Everything decided about a request before it starts.
struct GenerationPlan {
  ResponseShape shape;
  bool stream = false;
  bool echo = false;
  bool prompt_logprobs = false;      // as a field of its own
  std::uint32_t given_count = 1;     // choices of each prompt that the client gets: the best of n
  std::optional<BeamOptions> beams;  // a beam search instead of draws
  bool skip_engine = false;          // echo without generation and without logprobs
  std::vector<std::vector<TokenId>> prompts;  // words: placeholders where pictures stand
  std::vector<std::string> echo_texts;        // [prompts] if echo
  wire::GenerateRequest prototype;            // all but id and prompt
  ChoiceOptions choices;
  std::vector<wire::HttpField> fields;             // of the response
  QuotaTicket ticket;                              // of its API key
  std::string recorded_body;                       // the client's JSON; empty: nobody records
  std::unique_ptr<AnswerWriter> writer = nullptr;  // of another surface than OpenAI's completions
  Dialect dialect = Dialect::kOpenAi;              // of errors
  bool tokens_only = false;                        // no text is made of the tokens
  bool context_only = false;     // the answer says where the prompt's KV blocks are kept
  bool warms_next_turn = false;  // what the client is expected to ask next is computed ahead
  std::string kept_body;         // the client's JSON, if the trace or the next turn wants it
  PromptTimes prompt_times;
  std::unique_ptr<RequestTrace> trace = nullptr;  // null: nobody remembers it
};

/// How a request went, for metrics; times are kNever if it did not come so far.
struct GenerationRecord {
  Surface surface = Surface::kChat;
  bool stream = false;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;
  std::uint64_t output_tokens = 0;
  rt::Time started = rt::kNever;
  rt::Time first_token = rt::kNever;
  rt::Time last_token = rt::kNever;
  rt::Time first_frame = rt::kNever;  // of any worker: it has the request
  rt::Duration postprocess{};         // spent making text of frames
  bool recomputed = false;            // it went on at a worker that computes with other bits
  std::optional<Error> error;
  std::string trace_id;  // 32 hexadecimal digits; empty: nobody traces it
  bool ahead = false;    // RequestTrace::ahead: no client's request
};

class GenerationHost {
 public:
  virtual ~GenerationHost() = default;
  virtual control::WorkerLink& link() = 0;
  /// Takes what a plan with a recorded_body has become.
  virtual void OnRecorded(RequestRecord record) = 0;
  /// Takes what a plan with a trace has become, once nothing more happens to it.
  virtual void OnTraced(std::unique_ptr<RequestTrace> trace) = 0;
  virtual const TextProcessor* text() const = 0;
  virtual rt::Time Now() const = 0;
  virtual RequestId NextRequestId() = 0;
  virtual std::uint32_t held_tokens_max() const = 0;
  virtual std::uint32_t retry_after_seconds() const = 0;
  virtual int overload_status() const = 0;
  /// Tokens came for a client, `gap` after the last ones (kNever: the first).
  virtual void OnTokens(const GenerationRecord& record, std::uint64_t count) = 0;
  /// The client was answered or is gone.
  virtual void OnAnswered(const GenerationRecord& record) = 0;
  /// The engine gave the result of a text for a client.
  virtual void OnPooled() = 0;
  /// Nothing will call `work` any more; the host destroys it, but not inside this call.
  virtual void OnDone(ClientWork& work) = 0;
};

class Generation final : public ExchangeWatcher, public ClientWork {
 public:
  Generation(GenerationHost& host, Exchange& exchange, GenerationPlan plan);

  /// Sends the requests. Whatever happens, the exchange is answered and OnDone is called.
  void Start();
  void End(const Error& error) override;
  void Watch(rt::Time now, rt::Duration keep_alive, rt::Duration timeout) override;

  void OnClientGone() override;
  void OnRoom() override;

 private:
  struct Part {
    RequestId id{};
    std::vector<TokenId> prompt;
    std::unique_ptr<BeamRunner> beams;  // if the plan has any
    std::vector<wire::TokenLogprob> prompt_logprobs;
    std::vector<bool> open;  // [n] choices that the engine has not ended
    bool sent = false;
    bool first_frame_seen = false;
  };

  struct Choice {
    Choice(const GenerationPlan& plan, const TextProcessor* text, std::span<const TokenId> prompt);

    ChoiceStream stream;
    LogprobWriter logprobs;
    FinishedChoice result;        // of a unary response
    Answer answer;                // the same for a writer of another surface
    std::string held_logprobs;    // of tokens whose text is not known yet, likewise
    ChoiceTranscript transcript;  // if a receipt or a record wants it
    double logprob_sum = 0;       // of its tokens and of the one that ended it, to find the best
    std::uint32_t logprob_count = 0;
    ComputedParts computed;
    bool started = false;
  };

  struct HeldFrame {
    std::size_t part;
    wire::TokenFrame frame;
  };

  Result<void> Send(std::size_t part);
  void OnFrame(std::size_t part, wire::TokenFrame frame);
  void Deliver(std::size_t part, wire::TokenFrame& frame);
  void DeliverHeld();
  bool AwaitsPromptLogprobs(std::size_t part, const wire::TokenFrame& frame) const;
  bool MustHold(std::size_t part, const wire::TokenFrame& frame) const;
  void Write(std::size_t part, std::uint32_t choice_index);
  void WriteParts(std::string& out, std::uint32_t choice_index, const std::string& logprobs);
  void Commit();
  AnswerTiming Timing() const;
  std::vector<Recomputation> Recomputed() const;
  std::string MoreMembers(const ChoiceFinish* only) const;
  wire::TokenFrame TokensBefore() const;
  void SayRecomputed();
  void WriteAnswer(Choice& choice);
  void GatherAnswer(Choice& choice);
  std::string TakeLogprobs(Choice& choice);
  void Echo(std::size_t part, Choice& choice, std::string& text);
  void Gather(Choice& choice);
  void Transcribe(const wire::TokenFrame& frame, Choice& choice) const;
  static void CloseTranscript(Choice& choice, bool engine_ended);
  std::vector<ChoiceTranscript> Transcripts() const;
  void Record();
  void KeepBest();
  void Complete();
  void Answered(std::optional<Error> error);
  void CancelOpen();
  void MaybeDone();
  void TakeLegs(std::size_t part, wire::TokenFrame& frame);
  void NoteAnswer(std::uint32_t choice_index);
  void EndTrace();

  std::uint32_t n() const { return plan_.prototype.choice_count; }

  bool keeps_tokens() const { return plan_.shape.receipt || !plan_.recorded_body.empty(); }

  GenerationHost& host_;
  Exchange* exchange_;  // null once answered or gone
  GenerationPlan plan_;
  std::optional<StreamWriter> writer_;  // of a stream without a writer of its own
  std::vector<Part> parts_;
  std::deque<Choice> choices_;  // [parts x n]
  std::deque<HeldFrame> held_;
  ChoiceDelta delta_;
  Usage usage_;
  wire::WorkerRank served_by_;  // the last one
  DisaggregatedParams kept_;    // of a plan that is context_only
  GenerationRecord record_;
  rt::Time last_frame_;    // or the start
  rt::Time last_comment_;  // likewise
  std::uint64_t held_tokens_ = 0;
  std::uint32_t unfinished_ = 0;   // choices without their end for the client
  std::uint32_t engine_open_ = 0;  // choices that the engine has not ended
  bool committed_ = false;         // the stream's head is out
  bool starting_ = false;
  bool done_ = false;
};

}  // namespace pixii::frontend
