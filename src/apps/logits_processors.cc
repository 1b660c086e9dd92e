#include "apps/logits_processors.h"

#include <fmt/format.h>

#include <cstdlib>
#include <string_view>
#include <utility>

#include "engine/builtin_processors.h"
#include "engine/plugin_adapter.h"
#include "rt/process.h"

namespace pixii::apps {

namespace {

constexpr std::string_view kFlag = "logits-processor";
constexpr std::string_view kTestAnswer = "Hello world!";

Error AtFlag(const std::string& flag, const Error& error) {
  return Error(error.code(),
               fmt::format("{}: \"{}\": {}", kFlag, flag.substr(0, 200), error.detail()),
               std::string(kFlag));
}

// What every processor has beside its own configuration, taken out of it.
Result<engine::ProcessorOptions> TakeOptions(wire::Json& config) {
  engine::ProcessorOptions options;
  if (const wire::Json* policy = config.Find("policy")) {
    if (*policy != wire::Json("fail_request") && *policy != wire::Json("skip")) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("policy is {}; allowed are \"fail_request\" and \"skip\"",
                              policy->Dump().substr(0, 60)));
    }
    if (policy->string() == "skip") {
      options.policy = engine::FailurePolicy::kSkip;
    }
  }
  if (const wire::Json* always = config.Find("always")) {
    if (!always->is_bool()) {
      return Fail(Code::kInvalidArgument, "always is neither true nor false");
    }
    options.always = always->boolean();
  }
  std::erase_if(config.object(), [](const wire::JsonMember& member) {
    return member.first == "policy" || member.first == "always";
  });
  return options;
}

Result<void> AddOne(const std::string& flag, std::uint32_t vocab_size,
                    engine::ProcessorSet& processors) {
  std::size_t equals = std::min(flag.find('='), flag.size());
  std::string name = flag.substr(0, equals);
  wire::Json config{wire::Json::Object{}};
  if (equals < flag.size()) {
    PX_TRY(config, wire::ParseJson(std::string_view(flag).substr(equals + 1)));
    if (!config.is_object()) {
      return Fail(Code::kInvalidArgument, "the configuration must be a JSON object");
    }
  }
  PX_TRY(engine::ProcessorOptions options, TakeOptions(config));
  bool is_plugin = name.find('/') != std::string::npos || name.ends_with(".so");
  PX_TRY(std::unique_ptr<engine::LogitsProcessor> processor,
         is_plugin ? engine::LoadPluginProcessor(name, config, vocab_size)
                   : engine::MakeBuiltinProcessor(name, config));
  return processors.Add(std::move(processor), options);
}

bool IsTestSwitchOn() {
  for (const char* name :
       {"DYN_ENABLE_TEST_LOGITS_PROCESSOR", "DYNAMO_ENABLE_TEST_LOGITS_PROCESSOR"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && std::string_view(value) == "1") {
      return true;
    }
  }
  return false;
}

}  // namespace

Result<std::shared_ptr<engine::ProcessorSet>> MakeProcessors(std::span<const std::string> flags,
                                                             std::uint32_t vocab_size) {
  // Processors compute on the thread that calls them.
  auto processors = std::make_shared<engine::ProcessorSet>(
      [] { return std::int64_t{rt::ThreadCpuTime().count()}; });
  for (const std::string& flag : flags) {
    if (Result<void> added = AddOne(flag, vocab_size, *processors); !added) {
      return Fail(AtFlag(flag, added.error()));
    }
  }
  return processors;
}

Result<void> AddTestProcessor(std::span<const TokenId> end_ids, engine::ProcessorSet& processors,
                              const frontend::ServedModel& served) {
  if (!IsTestSwitchOn()) {
    return {};
  }
  if (!served.text || end_ids.empty()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("DYN_ENABLE_TEST_LOGITS_PROCESSOR is 1, but the model has no {}",
                            served.text ? "end token" : "tokenizer"),
                "DYN_ENABLE_TEST_LOGITS_PROCESSOR");
  }
  PX_TRY(auto tokens,
         served.text->Encode(kTestAnswer, {.add_special = false, .parse_special = false}));
  return processors.Add(
      engine::MakeFixedAnswerProcessor(frontend::kTestProcessor, std::move(tokens)), {});
}

}  // namespace pixii::apps
