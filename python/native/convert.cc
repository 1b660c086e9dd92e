#include "convert.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "values.h"

namespace py = pybind11;

namespace pixii::python {

namespace {

const char* KindName(wire::ConstraintKind kind) {
  switch (kind) {
    case wire::ConstraintKind::kJsonSchema:
      return "json";
    case wire::ConstraintKind::kJsonObject:
      return "json_object";
    case wire::ConstraintKind::kRegex:
      return "regex";
    case wire::ConstraintKind::kChoice:
      return "choice";
    case wire::ConstraintKind::kEbnf:
    case wire::ConstraintKind::kLark:
      return "grammar";
    default:
      return "structural_tag";
  }
}

py::object GuidedDict(const wire::Constraint& constraint) {
  py::dict out;
  if (constraint.kind == wire::ConstraintKind::kChoice) {
    out["choice"] = py::cast(constraint.choices);
  } else if (constraint.kind == wire::ConstraintKind::kJsonObject) {
    out["json_object"] = true;
  } else if (constraint.kind == wire::ConstraintKind::kStructuralTags) {
    py::list tags;
    for (const wire::StructuralTag& tag : constraint.tags) {
      py::dict one;
      one["begin"] = tag.begin;
      one["schema"] = tag.schema;
      one["end"] = tag.end;
      tags.append(one);
    }
    out["structural_tag"] = tags;
  } else {
    out[KindName(constraint.kind)] = constraint.text;
  }
  return out;
}

void ReadLogprobs(PyObject* value, PyObject* top, Output& out) {
  const py::object items = Items(value, "log_probs");
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(items.ptr());
  const py::object tops = top != nullptr ? Items(top, "top_logprobs") : py::object();
  if (tops && PySequence_Fast_GET_SIZE(tops.ptr()) != count) {
    throw Wrong{"top_logprobs and log_probs are not of one length"};
  }
  for (Py_ssize_t i = 0; i < count; ++i) {
    wire::TokenLogprob one;
    one.logprob = FloatOf(PySequence_Fast_GET_ITEM(items.ptr(), i), "log_probs");
    if (tops) {
      const py::object best = Items(PySequence_Fast_GET_ITEM(tops.ptr(), i), "top_logprobs");
      for (Py_ssize_t j = 0; j < PySequence_Fast_GET_SIZE(best.ptr()); ++j) {
        PyObject* entry = PySequence_Fast_GET_ITEM(best.ptr(), j);
        if (!PyDict_Check(entry)) {
          throw Wrong{fmt::format("top_logprobs holds a {}, not a dict", TypeOf(entry))};
        }
        PyObject* token = Get(entry, "token_id");
        PyObject* logprob = Get(entry, "logprob");
        if (token == nullptr || logprob == nullptr) {
          throw Wrong{"an entry of top_logprobs lacks token_id or logprob"};
        }
        one.top.emplace_back(TokenOf(token, "token_id"), FloatOf(logprob, "logprob"));
      }
    }
    out.logprobs.push_back(std::move(one));
  }
}

// "stop", "eos", "length", "cancelled", "error", "error: why", {"error": "why"}.
void ReadFinish(PyObject* value, Output& out) {
  constexpr std::string_view kError = "error";
  if (PyDict_Check(value)) {
    PyObject* why = Get(value, "error");
    out.error = Error(Code::kModelFault, why != nullptr ? TextOf(why, "finish_reason")
                                                        : "the handler ended with an error");
    return;
  }
  const std::string word = TextOf(value, "finish_reason");
  if (word == "stop" || word == "eos") {
    out.finish = wire::FinishReason::kStop;
  } else if (word == "length") {
    out.finish = wire::FinishReason::kLength;
  } else if (word == "cancelled") {
    out.finish = wire::FinishReason::kCancelled;
  } else if (word.starts_with(kError)) {
    std::size_t at = kError.size();
    while (at < word.size() && (word[at] == ':' || word[at] == ' ')) {
      ++at;
    }
    out.error = Error(Code::kModelFault,
                      at < word.size() ? word.substr(at) : "the handler ended with an error");
  } else {
    throw Wrong{
        fmt::format("finish_reason is \"{}\"; there are stop, eos, length, cancelled and "
                    "error",
                    word)};
  }
}

void ReadUsage(PyObject* usage, Output& out) {
  PyObject* details = PyDict_Check(usage) ? Get(usage, "prompt_tokens_details") : nullptr;
  PyObject* cached =
      details != nullptr && PyDict_Check(details) ? Get(details, "cached_tokens") : nullptr;
  if (cached != nullptr) {
    out.cached_tokens = static_cast<std::uint32_t>(
        std::clamp<std::int64_t>(IntOf(cached, "cached_tokens"), 0, 1 << 30));
  }
}

void ReadOutput(PyObject* yielded, const EndpointHost& host, Output& out) {
  if (!PyDict_Check(yielded)) {
    throw Wrong{fmt::format("it is a {}, not a dict", TypeOf(yielded))};
  }
  if (PyObject* data = Get(yielded, "data"); data != nullptr && PyDict_Check(data)) {
    yielded = data;  // in an envelope
  }
  PyObject* tokens = Get(yielded, "token_ids");
  if (tokens != nullptr) {
    out.tokens = TokensOf(tokens, "token_ids");
  }
  if (PyObject* text = Get(yielded, "text"); text != nullptr && tokens == nullptr) {
    if (host.text() == nullptr) {
      throw Wrong{"text needs a model with a tokenizer"};
    }
    Result<std::vector<TokenId>> ids =
        host.text()->Encode(TextOf(text, "text"), {.add_special = false, .parse_special = false});
    if (!ids) {
      throw Wrong{"text: " + ids.error().detail()};
    }
    out.tokens = std::move(*ids);
  }
  if (PyObject* logprobs = Get(yielded, "log_probs"); logprobs != nullptr) {
    ReadLogprobs(logprobs, Get(yielded, "top_logprobs"), out);
  }
  if (PyObject* usage = Get(yielded, "completion_usage"); usage != nullptr) {
    ReadUsage(usage, out);
  }
  if (PyObject* error = Get(yielded, "error"); error != nullptr) {
    out.error = Error(Code::kModelFault, TextOf(error, "error"));
  }
  if (PyObject* finish = Get(yielded, "finish_reason"); finish != nullptr) {
    ReadFinish(finish, out);
  }
}

}  // namespace

py::dict RequestDict(const wire::GenerateRequest& request, std::uint32_t choice) {
  py::list ids = Ints(request.prompt);
  std::uint32_t generated = 0;
  if (choice < request.generated.size()) {
    for (const TokenId token : request.generated[choice]) {
      ids.append(token);
      ++generated;
    }
  }
  const wire::StopConditions& stop = request.stop;
  py::dict conditions;
  conditions["max_tokens"] = stop.max_tokens > generated ? stop.max_tokens - generated : 0;
  conditions["min_tokens"] = stop.min_tokens > generated ? stop.min_tokens - generated : 0;
  conditions["ignore_eos"] = stop.ignore_eos;
  conditions["stop"] = py::list();
  conditions["stop_token_ids_hidden"] = Ints(stop.stop_token_ids);
  const wire::SamplingParams& sampling = request.sampling;
  py::dict sample;
  sample["n"] = 1;
  sample["temperature"] = sampling.temperature;
  sample["top_p"] = sampling.top_p;
  sample["top_k"] = sampling.top_k;
  sample["min_p"] = sampling.min_p;
  sample["presence_penalty"] = sampling.presence_penalty;
  sample["frequency_penalty"] = sampling.frequency_penalty;
  sample["repetition_penalty"] = sampling.repetition_penalty;
  sample["seed"] = sampling.seed + choice;
  if (!sampling.logit_bias.empty()) {
    py::dict bias;
    for (const auto& [token, value] : sampling.logit_bias) {
      bias[py::int_(token)] = value;
    }
    sample["logit_bias"] = bias;
  }
  if (!sampling.allowed_token_ids.empty()) {
    sample["allowed_token_ids"] = Ints(sampling.allowed_token_ids);
  }
  if (!sampling.bad_words.empty()) {
    sample["bad_words"] = py::cast(sampling.bad_words);
  }
  if (request.constraint) {
    sample["guided_decoding"] = GuidedDict(*request.constraint);
  }
  py::dict output;
  output["logprobs"] =
      request.top_logprobs >= 0 ? py::object(py::int_(request.top_logprobs)) : py::none();
  output["prompt_logprobs"] = py::none();
  output["skip_special_tokens"] = true;
  py::dict routing;
  routing["dp_rank"] = request.dp_rank ? py::object(py::int_(*request.dp_rank)) : py::none();
  routing["lora_name"] =
      request.adapter.empty() ? py::object(py::none()) : py::str(request.adapter);
  routing["cache_salt"] =
      request.cache_salt.empty() ? py::object(py::none()) : py::str(request.cache_salt);
  routing["priority"] = request.priority;
  py::dict out;
  out["model"] = request.model;
  out["token_ids"] = std::move(ids);
  out["stop_conditions"] = std::move(conditions);
  out["sampling_options"] = std::move(sample);
  out["output_options"] = std::move(output);
  out["eos_token_ids"] = Ints(stop.eos_token_ids);
  out["annotations"] = py::list();
  out["routing"] = std::move(routing);
  out["choice"] = choice;
  out["generated_count"] = generated;
  return out;
}

Output OutputOf(CallKey key, py::handle yielded, const EndpointHost& host) {
  Output out{.key = key};
  try {
    ReadOutput(yielded.ptr(), host, out);
  } catch (const Wrong& wrong) {
    out = Output{
        .key = key,
        .error = Error(Code::kModelFault, "the handler yielded what is no output: " + wrong.what)};
  }
  return out;
}

Code CodeNamed(std::string_view name) {
#define PX_ERROR(code, http, retryable, sentence) \
  if (name == CodeName(Code::code)) {             \
    return Code::code;                            \
  }
#include "base/error_codes.def"
#undef PX_ERROR
  return Code::kModelFault;
}

void Raise(const Error& error) {
  const py::object raised =
      py::module_::import("pixii._errors")
          .attr("from_native")(std::string(CodeName(error.code())), error.detail(), error.param());
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(raised.ptr())), raised.ptr());
  throw py::error_already_set();
}

}  // namespace pixii::python
