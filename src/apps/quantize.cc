#include "model/quantize.h"

#include <fmt/format.h>
#include <unistd.h>

#include "apps/command.h"
#include "apps/model_source.h"

namespace pixii::apps {
namespace {

struct QuantizeFlags {
  std::string scheme = "int8";
  std::int64_t group = 128;
  std::int64_t shard_size = std::int64_t{5} << 30;
  bool head = false;
  bool offline = false;
};

config::Command MakeCommand(QuantizeFlags& flags) {
  config::Command command;
  command.name = "quantize";
  command.summary =
      "Writes a model's weights as int8 or int4, in the format of compressed-tensors.";
  command.positionals = {
      {.name = "SOURCE",
       .help = "folder, bundled name or org/name[@revision], in bf16, f16 or f32",
       .required = true,
       .repeated = false},
      {.name = "TARGET",
       .help = "folder to make; it must not exist",
       .required = true,
       .repeated = false}};
  command.options.resize(5);
  command.options[0].name = "scheme";
  command.options[0].field = config::WordField{&flags.scheme, {{"int8", "int4"}}};
  command.options[0].help = "int8: a scale for each output; int4: a scale for each group";
  command.options[1].name = "group";
  command.options[1].field = config::IntegerField{&flags.group, {32, 128}};
  command.options[1].help = "columns of a group of int4: 32, 64 or 128";
  command.options[2].name = "shard-size";
  command.options[2].field = config::SizeField{&flags.shard_size, {1 << 20, std::int64_t{1} << 40}};
  command.options[2].help = "largest file of weights";
  command.options[3].name = "head";
  command.options[3].field = config::BoolField{&flags.head};
  command.options[3].help = "quantises the output projection too";
  command.options[4].name = "offline";
  command.options[4].field = config::BoolField{&flags.offline};
  command.options[4].help = "never ask a hub; use what is cached";
  return command;
}

}  // namespace

int RunQuantize(const Arguments& arguments) {
  QuantizeFlags flags;
  auto [parsed, exit] = ParseOrExit(MakeCommand(flags), arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<ModelSource> source = ResolveModel(parsed.positionals[0], flags.offline);
  if (!source) {
    return Complain(source.error());
  }
  model::QuantizeOptions options;
  options.scheme =
      flags.scheme == "int4" ? model::QuantizeScheme::kInt4 : model::QuantizeScheme::kInt8;
  options.group_size = flags.group;
  options.head = flags.head;
  options.shard_size_max = static_cast<std::uint64_t>(flags.shard_size);
  if (isatty(STDERR_FILENO) == 1) {
    options.progress = [](std::uint64_t written, std::uint64_t total) {
      SayError("\r{:3} %{}", total == 0 ? 100 : written * 100 / total,
               written == total ? "\n" : "");
    };
  }
  Result<model::QuantizeReport> report =
      model::QuantizeFolder(source->folder, parsed.positionals[1], options);
  if (!report) {
    return Complain(report.error());
  }
  Say("{}: {} linears in {}, {} kept; {} -> {} bytes; signal to noise {:.1f} dB\n",
      parsed.positionals[1], report->quantized_count, flags.scheme, report->kept_count,
      report->source_bytes, report->target_bytes, report->signal_to_noise_db);
  return kExitDone;
}

}  // namespace pixii::apps
