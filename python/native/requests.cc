#include "requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <string_view>
#include <utility>

#include "convert.h"
#include "values.h"

namespace py = pybind11;

namespace pixii::python {

namespace {

constexpr std::int64_t kLogprobsMax = 20;

// What is asked for and cannot be said in a request.
struct NotSaid {
  std::string field;
};

// A member that is there and means nothing: an empty list, None, False, 0.
bool IsEmpty(PyObject* value) { return value == Py_None || PyObject_IsTrue(value) == 0; }

// Errors: NotSaid for a member beside `known` that means something.
void CheckMembers(PyObject* dict, const char* path, std::initializer_list<std::string_view> known) {
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  Py_ssize_t at = 0;
  while (PyDict_Next(dict, &at, &key, &value) != 0) {
    const std::string name = TextOf(key, path);
    if (std::ranges::find(known, name) == known.end() && !IsEmpty(value)) {
      throw NotSaid{fmt::format("{}{}{}", path, *path != '\0' ? "." : "", name)};
    }
  }
}

PyObject* Member(PyObject* dict, const char* name) {
  PyObject* value = Get(dict, name);
  if (value != nullptr && !PyDict_Check(value)) {
    throw Wrong{fmt::format("{} is a {}, not a dict", name, TypeOf(value))};
  }
  return value;
}

std::int64_t Between(PyObject* value, const char* field, std::int64_t low, std::int64_t high) {
  const std::int64_t number = IntOf(value, field);
  if (number < low || number > high) {
    throw Wrong{fmt::format("{} is {}; allowed are {} .. {}", field, number, low, high)};
  }
  return number;
}

std::string JsonText(PyObject* value) {
  if (PyUnicode_Check(value)) {
    return TextOf(value, "guided_decoding.json");
  }
  return py::str(py::module_::import("json").attr("dumps")(py::handle(value)));
}

void ReadStop(PyObject* dict, wire::StopConditions& stop) {
  CheckMembers(dict, "stop_conditions",
               {"max_tokens", "min_tokens", "ignore_eos", "stop_token_ids_hidden"});
  constexpr std::int64_t kMax = std::numeric_limits<std::uint32_t>::max();
  if (PyObject* value = Get(dict, "max_tokens")) {
    stop.max_tokens = static_cast<std::uint32_t>(Between(value, "max_tokens", 1, kMax));
  }
  if (PyObject* value = Get(dict, "min_tokens")) {
    stop.min_tokens = static_cast<std::uint32_t>(Between(value, "min_tokens", 0, kMax));
  }
  if (PyObject* value = Get(dict, "ignore_eos")) {
    stop.ignore_eos = BoolOf(value, "ignore_eos");
  }
  if (PyObject* value = Get(dict, "stop_token_ids_hidden")) {
    stop.stop_token_ids = TokensOf(value, "stop_token_ids_hidden");
  }
}

void ReadGuided(PyObject* dict, wire::GenerateRequest& out) {
  CheckMembers(dict, "guided_decoding", {"json", "json_object", "regex", "choice", "grammar"});
  wire::Constraint constraint;
  if (PyObject* value = Get(dict, "json")) {
    constraint.kind = wire::ConstraintKind::kJsonSchema;
    constraint.text = JsonText(value);
  } else if (PyObject* object = Get(dict, "json_object"); object != nullptr && !IsEmpty(object)) {
    constraint.kind = wire::ConstraintKind::kJsonObject;
  } else if (PyObject* regex = Get(dict, "regex")) {
    constraint.kind = wire::ConstraintKind::kRegex;
    constraint.text = TextOf(regex, "guided_decoding.regex");
  } else if (PyObject* grammar = Get(dict, "grammar")) {
    constraint.kind = wire::ConstraintKind::kEbnf;
    constraint.text = TextOf(grammar, "guided_decoding.grammar");
  } else if (PyObject* choice = Get(dict, "choice")) {
    constraint.kind = wire::ConstraintKind::kChoice;
    const py::object items = Items(choice, "guided_decoding.choice");
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.ptr()); ++i) {
      constraint.choices.push_back(
          TextOf(PySequence_Fast_GET_ITEM(items.ptr(), i), "guided_decoding.choice"));
    }
  } else {
    return;
  }
  out.constraint = std::move(constraint);
}

void ReadBias(PyObject* dict, wire::SamplingParams& sampling) {
  if (!PyDict_Check(dict)) {
    throw Wrong{fmt::format("logit_bias is a {}, not a dict", TypeOf(dict))};
  }
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  Py_ssize_t at = 0;
  while (PyDict_Next(dict, &at, &key, &value) != 0) {
    sampling.logit_bias.emplace_back(TokenOf(key, "logit_bias"), FloatOf(value, "logit_bias"));
  }
}

void ReadSampling(PyObject* dict, wire::GenerateRequest& out) {
  CheckMembers(dict, "sampling_options",
               {"n", "temperature", "top_p", "top_k", "min_p", "presence_penalty",
                "frequency_penalty", "repetition_penalty", "seed", "logit_bias",
                "allowed_token_ids", "bad_words", "guided_decoding"});
  wire::SamplingParams& sampling = out.sampling;
  const std::pair<const char*, float*> numbers[] = {
      {"temperature", &sampling.temperature},
      {"top_p", &sampling.top_p},
      {"min_p", &sampling.min_p},
      {"presence_penalty", &sampling.presence_penalty},
      {"frequency_penalty", &sampling.frequency_penalty},
      {"repetition_penalty", &sampling.repetition_penalty}};
  for (const auto& [name, target] : numbers) {
    if (PyObject* value = Get(dict, name)) {
      *target = FloatOf(value, name);
    }
  }
  if (PyObject* value = Get(dict, "n"); value != nullptr && IntOf(value, "n") != 1) {
    throw NotSaid{"sampling_options.n"};
  }
  if (PyObject* value = Get(dict, "top_k")) {
    sampling.top_k = static_cast<std::int32_t>(
        Between(value, "top_k", -1, std::numeric_limits<std::int32_t>::max()));
    sampling.top_k = std::max(sampling.top_k, 0);
  }
  if (PyObject* value = Get(dict, "seed")) {
    sampling.seed = static_cast<std::uint64_t>(
        Between(value, "seed", 0, std::numeric_limits<std::int64_t>::max()));
  }
  if (PyObject* value = Get(dict, "logit_bias")) {
    ReadBias(value, sampling);
  }
  if (PyObject* value = Get(dict, "allowed_token_ids")) {
    sampling.allowed_token_ids = TokensOf(value, "allowed_token_ids");
  }
  if (PyObject* value = Get(dict, "bad_words")) {
    const py::object items = Items(value, "bad_words");
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.ptr()); ++i) {
      sampling.bad_words.push_back(TokensOf(PySequence_Fast_GET_ITEM(items.ptr(), i), "bad_words"));
    }
  }
  if (PyObject* guided = Member(dict, "guided_decoding")) {
    ReadGuided(guided, out);
  }
}

void ReadRouting(PyObject* dict, wire::GenerateRequest& out) {
  CheckMembers(dict, "routing",
               {"dp_rank", "lora_name", "cache_salt", "priority", "backend_instance_id"});
  if (PyObject* value = Get(dict, "dp_rank")) {
    out.dp_rank = static_cast<std::uint32_t>(Between(value, "dp_rank", 0, 65535));
  }
  if (PyObject* value = Get(dict, "lora_name")) {
    out.adapter = TextOf(value, "lora_name");
  }
  if (PyObject* value = Get(dict, "cache_salt")) {
    out.cache_salt = TextOf(value, "cache_salt");
  }
  if (PyObject* value = Get(dict, "priority")) {
    constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
    out.priority = static_cast<std::int32_t>(Between(value, "priority", -kMax, kMax));
  }
}

void ReadOutputOptions(PyObject* dict, wire::GenerateRequest& out) {
  CheckMembers(dict, "output_options", {"logprobs", "skip_special_tokens"});
  if (PyObject* value = Get(dict, "logprobs")) {
    out.top_logprobs = static_cast<std::int32_t>(Between(value, "logprobs", 0, kLogprobsMax));
  }
}

void CheckTokens(const std::vector<TokenId>& ids, const char* field, std::uint32_t vocab) {
  for (const TokenId token : ids) {
    if (token < 0 || static_cast<std::uint32_t>(token) >= vocab) {
      throw Wrong{fmt::format("{} holds {}; the vocabulary has 0 .. {}", field, token, vocab - 1)};
    }
  }
}

wire::GenerateRequest Read(PyObject* dict, const RequestDefaults& defaults) {
  CheckMembers(
      dict, "",
      {"model", "token_ids", "stop_conditions", "sampling_options", "output_options",
       "eos_token_ids", "annotations", "routing", "choice", "generated_count", "_HEALTH_CHECK"});
  wire::GenerateRequest out;
  out.sampling = defaults.sampling;
  out.sampling.seed = defaults.seed;
  out.stop.eos_token_ids = defaults.eos_token_ids;
  PyObject* tokens = Get(dict, "token_ids");
  if (tokens == nullptr) {
    throw Wrong{"token_ids is missing"};
  }
  out.prompt = TokensOf(tokens, "token_ids");
  CheckTokens(out.prompt, "token_ids", defaults.vocab_size);
  if (out.prompt.empty()) {
    throw Wrong{"token_ids is empty"};
  }
  if (PyObject* model = Get(dict, "model")) {
    out.model = TextOf(model, "model");
  }
  if (PyObject* stop = Member(dict, "stop_conditions")) {
    ReadStop(stop, out.stop);
  }
  if (PyObject* sampling = Member(dict, "sampling_options")) {
    ReadSampling(sampling, out);
  }
  if (PyObject* output = Member(dict, "output_options")) {
    ReadOutputOptions(output, out);
  }
  if (PyObject* routing = Member(dict, "routing")) {
    ReadRouting(routing, out);
  }
  if (PyObject* eos = Get(dict, "eos_token_ids")) {
    out.stop.eos_token_ids = TokensOf(eos, "eos_token_ids");
  }
  if (out.prompt.size() >= defaults.context_tokens) {
    throw Wrong{fmt::format("token_ids: {} tokens leave nothing of the context of {}",
                            out.prompt.size(), defaults.context_tokens)};
  }
  const auto left = static_cast<std::uint32_t>(defaults.context_tokens - out.prompt.size());
  if (out.stop.max_tokens == 0) {
    out.stop.max_tokens = left;
  }
  // Tokens that a worker before gave stand behind the prompt, as handlers get them.
  if (PyObject* given = Get(dict, "generated_count"); given != nullptr) {
    const std::int64_t count =
        Between(given, "generated_count", 0, static_cast<std::int64_t>(out.prompt.size()) - 1);
    if (count > 0) {
      out.generated.emplace_back(out.prompt.end() - count, out.prompt.end());
      out.prompt.resize(out.prompt.size() - static_cast<std::size_t>(count));
      out.stop.max_tokens += static_cast<std::uint32_t>(count);
    }
  }
  return out;
}

const char* FinishName(wire::FinishReason reason) {
  switch (reason) {
    case wire::FinishReason::kStop:
      return "stop";
    case wire::FinishReason::kLength:
      return "length";
    case wire::FinishReason::kCancelled:
      return "cancelled";
    case wire::FinishReason::kError:
      return "error";
  }
  return "error";
}

}  // namespace

wire::GenerateRequest RequestOf(py::dict request, const RequestDefaults& defaults) {
  std::optional<Error> error;
  try {
    return Read(request.ptr(), defaults);
  } catch (const Wrong& wrong) {
    const std::string field = wrong.what.substr(0, wrong.what.find_first_of(" :."));
    error = Error(Code::kInvalidArgument, wrong.what, field);
  } catch (const NotSaid& said) {
    error = Error(Code::kUnsupported,
                  fmt::format("{}: a worker cannot be asked for it so", said.field), said.field);
  }
  Raise(*error);
}

py::dict AnswerDict(const Piece& piece, std::size_t prompt_tokens) {
  const wire::TokenFrame& frame = piece.frame;
  py::dict out;
  out["token_ids"] = Ints(frame.tokens);
  out["index"] = frame.choice;
  if (!piece.text.empty()) {
    out["text"] = piece.text;
  }
  if (!frame.logprobs.empty()) {
    py::list chosen;
    py::list tops;
    for (const wire::TokenLogprob& one : frame.logprobs) {
      chosen.append(one.logprob);
      py::list top;
      for (std::size_t rank = 0; rank < one.top.size(); ++rank) {
        py::dict entry;
        entry["rank"] = rank + 1;
        entry["token_id"] = one.top[rank].first;
        entry["logprob"] = one.top[rank].second;
        top.append(entry);
      }
      tops.append(top);
    }
    out["log_probs"] = chosen;
    out["top_logprobs"] = tops;
  }
  if (frame.cached_tokens > 0) {
    out["cached_tokens"] = frame.cached_tokens;
  }
  if (frame.stop_token) {
    out["stop_reason"] = *frame.stop_token;
  }
  if (frame.error) {
    out["error"] = py::make_tuple(std::string(CodeName(frame.error->code())), frame.error->detail(),
                                  frame.error->param());
  }
  if (frame.finish) {
    out["finish_reason"] = FinishName(*frame.finish);
    out["prompt_tokens"] = prompt_tokens;
  }
  return out;
}

}  // namespace pixii::python
