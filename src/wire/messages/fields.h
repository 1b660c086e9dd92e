// The one list of what each message is made of: a name on the wire and a member for every field.
//
// A field that is added gets a default with the old meaning; none is renamed or given another
// type, so that versions understand each other (docs/formats/messages.md).
#pragma once

#include <string_view>
#include <tuple>

#include "wire/messages/adapters.h"
#include "wire/messages/constraint.h"
#include "wire/messages/generate.h"
#include "wire/messages/handover.h"
#include "wire/messages/kv_event.h"
#include "wire/messages/media.h"
#include "wire/messages/pool.h"
#include "wire/messages/route.h"
#include "wire/messages/routing.h"
#include "wire/messages/worker.h"
#include "wire/mux_frame.h"

namespace pixii::wire {

template <class Message, class Member>
struct Field {
  std::string_view name;
  Member Message::* member;
};

template <class Message, class Member>
Field(std::string_view, Member Message::*) -> Field<Message, Member>;

/// A tuple of `Field`s; a type without one is no message.
template <class Message>
inline constexpr auto kFields = nullptr;

template <>
inline constexpr auto kFields<DryParams> =
    std::tuple(Field{"multiplier", &DryParams::multiplier}, Field{"base", &DryParams::base},
               Field{"allowed_length", &DryParams::allowed_length},
               Field{"range", &DryParams::range}, Field{"breakers", &DryParams::breakers});

template <>
inline constexpr auto kFields<XtcParams> = std::tuple(Field{"probability", &XtcParams::probability},
                                                      Field{"threshold", &XtcParams::threshold});

template <>
inline constexpr auto kFields<MirostatParams> =
    std::tuple(Field{"on", &MirostatParams::on}, Field{"tau", &MirostatParams::tau},
               Field{"eta", &MirostatParams::eta});

template <>
inline constexpr auto kFields<SamplingParams> = std::tuple(
    Field{"temperature", &SamplingParams::temperature}, Field{"top_p", &SamplingParams::top_p},
    Field{"top_k", &SamplingParams::top_k}, Field{"min_p", &SamplingParams::min_p},
    Field{"presence_penalty", &SamplingParams::presence_penalty},
    Field{"frequency_penalty", &SamplingParams::frequency_penalty},
    Field{"repetition_penalty", &SamplingParams::repetition_penalty},
    Field{"seed", &SamplingParams::seed}, Field{"logit_bias", &SamplingParams::logit_bias},
    Field{"top_a", &SamplingParams::top_a}, Field{"typical_p", &SamplingParams::typical_p},
    Field{"dry", &SamplingParams::dry}, Field{"xtc", &SamplingParams::xtc},
    Field{"mirostat", &SamplingParams::mirostat},
    Field{"allowed_token_ids", &SamplingParams::allowed_token_ids},
    Field{"bad_words", &SamplingParams::bad_words});

template <>
inline constexpr auto kFields<LogitsProcessorCall> = std::tuple(
    Field{"name", &LogitsProcessorCall::name}, Field{"arguments", &LogitsProcessorCall::arguments});

template <>
inline constexpr auto kFields<StopConditions> =
    std::tuple(Field{"max_tokens", &StopConditions::max_tokens},
               Field{"min_tokens", &StopConditions::min_tokens},
               Field{"ignore_eos", &StopConditions::ignore_eos},
               Field{"eos_token_ids", &StopConditions::eos_token_ids},
               Field{"stop_token_ids", &StopConditions::stop_token_ids});

template <>
inline constexpr auto kFields<ScriptElements> = std::tuple(
    Field{"parameter_opener", &ScriptElements::parameter_opener},
    Field{"name_closer", &ScriptElements::name_closer},
    Field{"attributes", &ScriptElements::attributes}, Field{"kinds", &ScriptElements::kinds},
    Field{"value_opener", &ScriptElements::value_opener},
    Field{"value_closer", &ScriptElements::value_closer}, Field{"framed", &ScriptElements::framed},
    Field{"end", &ScriptElements::end}, Field{"quote", &ScriptElements::quote});

template <>
inline constexpr auto kFields<ScriptMember> =
    std::tuple(Field{"name", &ScriptMember::name}, Field{"kinds", &ScriptMember::kinds});

template <>
inline constexpr auto kFields<ScriptValue> =
    std::tuple(Field{"name", &ScriptValue::name}, Field{"schema", &ScriptValue::schema},
               Field{"any_kind", &ScriptValue::any_kind}, Field{"members", &ScriptValue::members},
               Field{"other_kinds", &ScriptValue::other_kinds});

template <>
inline constexpr auto kFields<ScriptEdge> =
    std::tuple(Field{"text", &ScriptEdge::text}, Field{"next", &ScriptEdge::next},
               Field{"value", &ScriptEdge::value});

template <>
inline constexpr auto kFields<ScriptNode> =
    std::tuple(Field{"free", &ScriptNode::free}, Field{"may_end", &ScriptNode::may_end},
               Field{"gap_max", &ScriptNode::gap_max}, Field{"edges", &ScriptNode::edges});

template <>
inline constexpr auto kFields<Script> =
    std::tuple(Field{"nodes", &Script::nodes}, Field{"values", &Script::values},
               Field{"notation", &Script::notation}, Field{"elements", &Script::elements});

template <>
inline constexpr auto kFields<StructuralTag> =
    std::tuple(Field{"begin", &StructuralTag::begin}, Field{"schema", &StructuralTag::schema},
               Field{"end", &StructuralTag::end});

template <>
inline constexpr auto kFields<JsonSpelling> =
    std::tuple(Field{"whitespace_run_max", &JsonSpelling::whitespace_run_max},
               Field{"needless_escapes", &JsonSpelling::needless_escapes});

template <>
inline constexpr auto kFields<Constraint> =
    std::tuple(Field{"kind", &Constraint::kind}, Field{"text", &Constraint::text},
               Field{"choices", &Constraint::choices}, Field{"tags", &Constraint::tags},
               Field{"triggers", &Constraint::triggers}, Field{"spelling", &Constraint::spelling},
               Field{"script", &Constraint::script});

template <>
inline constexpr auto kFields<PoolParams> = std::tuple(
    Field{"token_types", &PoolParams::token_types}, Field{"skip_tokens", &PoolParams::skip_tokens},
    Field{"logit_tokens", &PoolParams::logit_tokens});

template <>
inline constexpr auto kFields<RouteOverride> =
    std::tuple(Field{"overlap_score_credit", &RouteOverride::overlap_credit},
               Field{"prefill_load_scale", &RouteOverride::prefill_load_scale},
               Field{"router_temperature", &RouteOverride::temperature},
               Field{"assume_kv_reuse", &RouteOverride::assume_kv_reuse},
               Field{"track_prefill_tokens", &RouteOverride::track_prefill_tokens},
               Field{"shared_cache_multiplier", &RouteOverride::shared_cache_multiplier});

template <>
inline constexpr auto kFields<PreferredTaint> =
    std::tuple(Field{"taint", &PreferredTaint::taint}, Field{"weight", &PreferredTaint::weight});

template <>
inline constexpr auto kFields<RoutingHints> =
    std::tuple(Field{"worker", &RoutingHints::worker}, Field{"anywhere", &RoutingHints::anywhere},
               Field{"required_taints", &RoutingHints::required_taints},
               Field{"preferred_taints", &RoutingHints::preferred_taints},
               Field{"policy_class", &RoutingHints::policy_class},
               Field{"strict_priority", &RoutingHints::strict_priority},
               Field{"expected_output_tokens", &RoutingHints::expected_output_tokens},
               Field{"instead", &RoutingHints::instead});

template <>
inline constexpr auto kFields<WorkerRank> =
    std::tuple(Field{"worker", &WorkerRank::worker}, Field{"rank", &WorkerRank::rank});

template <>
inline constexpr auto kFields<MediaItem> =
    std::tuple(Field{"kind", &MediaItem::kind}, Field{"begin", &MediaItem::begin},
               Field{"count", &MediaItem::count}, Field{"frames", &MediaItem::frames},
               Field{"height", &MediaItem::height}, Field{"width", &MediaItem::width},
               Field{"pixels", &MediaItem::pixels}, Field{"digest", &MediaItem::digest},
               Field{"seconds_per_frame", &MediaItem::seconds_per_frame},
               Field{"features", &MediaItem::features}, Field{"encoded", &MediaItem::encoded});

template <>
inline constexpr auto kFields<FeatureRecord> = std::tuple(
    Field{"agent", &FeatureRecord::agent}, Field{"region", &FeatureRecord::region},
    Field{"generation", &FeatureRecord::generation}, Field{"digest", &FeatureRecord::digest},
    Field{"rows", &FeatureRecord::rows}, Field{"row_size", &FeatureRecord::row_size},
    Field{"model_fingerprint", &FeatureRecord::model_fingerprint},
    Field{"numerics_id", &FeatureRecord::numerics_id}, Field{"sum_high", &FeatureRecord::sum_high},
    Field{"sum_low", &FeatureRecord::sum_low});

template <>
inline constexpr auto kFields<FilmCard> = std::tuple(
    Field{"pixels_min", &FilmCard::pixels_min}, Field{"pixels_max", &FilmCard::pixels_max},
    Field{"bounds_all_frames", &FilmCard::bounds_all_frames},
    Field{"shares_bounds", &FilmCard::shares_bounds},
    Field{"frames_per_second", &FilmCard::frames_per_second}, Field{"frames", &FilmCard::frames},
    Field{"frames_min", &FilmCard::frames_min}, Field{"frames_max", &FilmCard::frames_max},
    Field{"with_ends", &FilmCard::with_ends}, Field{"timed", &FilmCard::timed},
    Field{"start_token", &FilmCard::start_token}, Field{"end_token", &FilmCard::end_token});

template <>
inline constexpr auto kFields<VisionCard> = std::tuple(
    Field{"image_token", &VisionCard::image_token}, Field{"video_token", &VisionCard::video_token},
    Field{"fit", &VisionCard::fit}, Field{"width", &VisionCard::width},
    Field{"height", &VisionCard::height}, Field{"short_side", &VisionCard::short_side},
    Field{"pixels_min", &VisionCard::pixels_min}, Field{"pixels_max", &VisionCard::pixels_max},
    Field{"pinpoints", &VisionCard::pinpoints}, Field{"filter", &VisionCard::filter},
    Field{"patch_size", &VisionCard::patch_size}, Field{"merge_size", &VisionCard::merge_size},
    Field{"frames_per_row", &VisionCard::frames_per_row},
    Field{"tokens_more", &VisionCard::tokens_more}, Field{"tiles_max", &VisionCard::tiles_max},
    Field{"row_size", &VisionCard::row_size}, Field{"row_levels", &VisionCard::row_levels},
    Field{"has_axes", &VisionCard::has_axes}, Field{"frame_begin", &VisionCard::frame_begin},
    Field{"frame_end", &VisionCard::frame_end}, Field{"film", &VisionCard::film});

template <>
inline constexpr auto kFields<GenerateRequest> = std::tuple(
    Field{"id", &GenerateRequest::id}, Field{"attempt", &GenerateRequest::attempt},
    Field{"model", &GenerateRequest::model}, Field{"adapter", &GenerateRequest::adapter},
    Field{"adapter_version", &GenerateRequest::adapter_version},
    Field{"prompt", &GenerateRequest::prompt},
    Field{"choice_count", &GenerateRequest::choice_count},
    Field{"generated", &GenerateRequest::generated}, Field{"sampling", &GenerateRequest::sampling},
    Field{"stop", &GenerateRequest::stop}, Field{"top_logprobs", &GenerateRequest::top_logprobs},
    Field{"prompt_logprobs", &GenerateRequest::prompt_logprobs},
    Field{"priority", &GenerateRequest::priority}, Field{"tenant", &GenerateRequest::tenant},
    Field{"cache_salt", &GenerateRequest::cache_salt},
    Field{"deadline_left_ns", &GenerateRequest::deadline_left_ns},
    Field{"processors", &GenerateRequest::processors},
    Field{"processed_logprobs", &GenerateRequest::processed_logprobs},
    Field{"states", &GenerateRequest::states}, Field{"constraint", &GenerateRequest::constraint},
    Field{"pool", &GenerateRequest::pool}, Field{"dp_rank", &GenerateRequest::dp_rank},
    Field{"dp_rank_wait_ns", &GenerateRequest::dp_rank_wait_ns},
    Field{"session", &GenerateRequest::session},
    Field{"session_final", &GenerateRequest::session_final},
    Field{"routing", &GenerateRequest::routing},
    Field{"prefill_only", &GenerateRequest::prefill_only},
    Field{"handover", &GenerateRequest::handover},
    Field{"early_handover", &GenerateRequest::early_handover},
    Field{"fetch_only", &GenerateRequest::fetch_only}, Field{"media", &GenerateRequest::media},
    Field{"encode_only", &GenerateRequest::encode_only},
    Field{"traceparent", &GenerateRequest::traceparent},
    Field{"tracestate", &GenerateRequest::tracestate}, Field{"label", &GenerateRequest::label});

template <>
inline constexpr auto kFields<WorkerTimes> = std::tuple(
    Field{"queued_ns", &WorkerTimes::queued_ns}, Field{"scheduled_ns", &WorkerTimes::scheduled_ns},
    Field{"first_token_ns", &WorkerTimes::first_token_ns},
    Field{"last_token_ns", &WorkerTimes::last_token_ns}, Field{"ended_ns", &WorkerTimes::ended_ns},
    Field{"awaited_blocks", &WorkerTimes::awaited_blocks},
    Field{"preempted", &WorkerTimes::preempted},
    Field{"cached_tokens", &WorkerTimes::cached_tokens},
    Field{"computed_tokens", &WorkerTimes::computed_tokens},
    Field{"brought_bytes", &WorkerTimes::brought_bytes});

// What a worker says of an attempt; the rest never leaves who sent it.
template <>
inline constexpr auto kFields<RequestLeg> = std::tuple(Field{"times", &RequestLeg::times});

template <>
inline constexpr auto kFields<TokenLogprob> =
    std::tuple(Field{"logprob", &TokenLogprob::logprob}, Field{"top", &TokenLogprob::top});

template <>
inline constexpr auto kFields<TokenFrame> = std::tuple(
    Field{"id", &TokenFrame::id}, Field{"choice", &TokenFrame::choice},
    Field{"tokens", &TokenFrame::tokens}, Field{"logprobs", &TokenFrame::logprobs},
    Field{"prompt_logprobs", &TokenFrame::prompt_logprobs},
    Field{"cached_tokens", &TokenFrame::cached_tokens},
    Field{"adapter_version", &TokenFrame::adapter_version}, Field{"finish", &TokenFrame::finish},
    Field{"stop_token", &TokenFrame::stop_token}, Field{"stop_logprob", &TokenFrame::stop_logprob},
    Field{"error", &TokenFrame::error}, Field{"state", &TokenFrame::state},
    Field{"pooled", &TokenFrame::pooled}, Field{"dp_rank", &TokenFrame::dp_rank},
    Field{"served_by", &TokenFrame::served_by}, Field{"numerics_id", &TokenFrame::numerics_id},
    Field{"handover", &TokenFrame::handover}, Field{"early_handover", &TokenFrame::early_handover},
    Field{"legs", &TokenFrame::legs});

template <>
inline constexpr auto kFields<CancelRequest> =
    std::tuple(Field{"id", &CancelRequest::id}, Field{"choice", &CancelRequest::choice});

template <>
inline constexpr auto kFields<AdapterCard> = std::tuple(
    Field{"name", &AdapterCard::name}, Field{"source", &AdapterCard::source},
    Field{"version", &AdapterCard::version}, Field{"id", &AdapterCard::id},
    Field{"size_bytes", &AdapterCard::size_bytes}, Field{"pinned", &AdapterCard::pinned});

template <>
inline constexpr auto kFields<LoadAdapterRequest> = std::tuple(
    Field{"name", &LoadAdapterRequest::name}, Field{"source", &LoadAdapterRequest::source},
    Field{"pinned", &LoadAdapterRequest::pinned}, Field{"replace", &LoadAdapterRequest::replace});

template <>
inline constexpr auto kFields<ModelCard> = std::tuple(
    Field{"name", &ModelCard::name}, Field{"fingerprint", &ModelCard::fingerprint},
    Field{"numerics_id", &ModelCard::numerics_id}, Field{"vocab_size", &ModelCard::vocab_size},
    Field{"context_tokens_max", &ModelCard::context_tokens_max},
    Field{"block_tokens", &ModelCard::block_tokens}, Field{"block_count", &ModelCard::block_count},
    Field{"batch_sequences_max", &ModelCard::batch_sequences_max},
    Field{"batch_tokens_max", &ModelCard::batch_tokens_max},
    Field{"eos_token_ids", &ModelCard::eos_token_ids},
    Field{"bos_token_id", &ModelCard::bos_token_id},
    Field{"logits_processors", &ModelCard::logits_processors},
    Field{"adapters", &ModelCard::adapters}, Field{"task", &ModelCard::task},
    Field{"feature_count", &ModelCard::feature_count},
    Field{"token_type_count", &ModelCard::token_type_count}, Field{"vision", &ModelCard::vision});

template <>
inline constexpr auto kFields<MuxHello> =
    std::tuple(Field{"magic", &MuxHello::magic}, Field{"version_min", &MuxHello::version_min},
               Field{"version_max", &MuxHello::version_max},
               Field{"window_bytes", &MuxHello::window_bytes}, Field{"name", &MuxHello::name});

template <>
inline constexpr auto kFields<MuxCall> = std::tuple(
    Field{"method", &MuxCall::method}, Field{"deadline_left_ns", &MuxCall::deadline_left_ns});

template <>
inline constexpr auto kFields<WorkerLoad> = std::tuple(
    Field{"state", &WorkerLoad::state}, Field{"running", &WorkerLoad::running},
    Field{"queued", &WorkerLoad::queued}, Field{"blocks_used", &WorkerLoad::blocks_used},
    Field{"blocks_cached", &WorkerLoad::blocks_cached},
    Field{"blocks_total", &WorkerLoad::blocks_total}, Field{"steps", &WorkerLoad::steps});

template <>
inline constexpr auto kFields<MemoryTags> =
    std::tuple(Field{"kv_cache", &MemoryTags::kv_cache}, Field{"weights", &MemoryTags::weights});

template <>
inline constexpr auto kFields<WorkerReport> =
    std::tuple(Field{"card", &WorkerReport::card}, Field{"load", &WorkerReport::load},
               Field{"ranks", &WorkerReport::ranks});

template <>
inline constexpr auto kFields<MemoryRequest> =
    std::tuple(Field{"tags", &MemoryRequest::tags}, Field{"release", &MemoryRequest::release},
               Field{"patience_ns", &MemoryRequest::patience_ns});

template <>
inline constexpr auto kFields<AdapterName> = std::tuple(Field{"name", &AdapterName::name});

template <>
inline constexpr auto kFields<KvBlock> = std::tuple(Field{"block_hash", &KvBlock::block_hash},
                                                    Field{"tokens_hash", &KvBlock::tokens_hash});

template <>
inline constexpr auto kFields<KvEvent> = std::tuple(
    Field{"id", &KvEvent::id}, Field{"rank", &KvEvent::rank}, Field{"tier", &KvEvent::tier},
    Field{"kind", &KvEvent::kind}, Field{"parent", &KvEvent::parent},
    Field{"blocks", &KvEvent::blocks}, Field{"removed", &KvEvent::removed});

template <>
inline constexpr auto kFields<ModelFile> =
    std::tuple(Field{"name", &ModelFile::name}, Field{"content", &ModelFile::content});

template <>
inline constexpr auto kFields<ModelFiles> = std::tuple(Field{"files", &ModelFiles::files});

template <>
inline constexpr auto kFields<KvEventsRequest> = std::tuple(
    Field{"epoch", &KvEventsRequest::epoch}, Field{"from_id", &KvEventsRequest::from_id});

template <>
inline constexpr auto kFields<KvEventBatch> = std::tuple(
    Field{"epoch", &KvEventBatch::epoch}, Field{"dump", &KvEventBatch::dump},
    Field{"dump_begins", &KvEventBatch::dump_begins}, Field{"dump_ends", &KvEventBatch::dump_ends},
    Field{"next_id", &KvEventBatch::next_id}, Field{"events", &KvEventBatch::events});

template <>
inline constexpr auto kFields<PoolName> =
    std::tuple(Field{"model", &PoolName::model}, Field{"group", &PoolName::group},
               Field{"block_tokens", &PoolName::block_tokens});

template <>
inline constexpr auto kFields<RouteAsk> =
    std::tuple(Field{"id", &RouteAsk::id}, Field{"block_hashes", &RouteAsk::block_hashes},
               Field{"prompt_tokens", &RouteAsk::prompt_tokens}, Field{"pinned", &RouteAsk::pinned},
               Field{"rank", &RouteAsk::rank}, Field{"excluded", &RouteAsk::excluded},
               Field{"required_taints", &RouteAsk::required_taints},
               Field{"preferred_taints", &RouteAsk::preferred_taints},
               Field{"session", &RouteAsk::session}, Field{"policy_class", &RouteAsk::policy_class},
               Field{"priority_jump_s", &RouteAsk::priority_jump_s},
               Field{"strict_priority", &RouteAsk::strict_priority},
               Field{"expected_output_tokens", &RouteAsk::expected_output_tokens},
               Field{"instead", &RouteAsk::instead}, Field{"anywhere", &RouteAsk::anywhere});

template <>
inline constexpr auto kFields<RouteNews> =
    std::tuple(Field{"id", &RouteNews::id}, Field{"kind", &RouteNews::kind},
               Field{"count", &RouteNews::count});

template <>
inline constexpr auto kFields<RoutePlaced> = std::tuple(
    Field{"ask", &RoutePlaced::ask}, Field{"instance", &RoutePlaced::instance},
    Field{"rank", &RoutePlaced::rank}, Field{"prefill_tokens", &RoutePlaced::prefill_tokens});

template <>
inline constexpr auto kFields<RouteBatch> =
    std::tuple(Field{"pool", &RouteBatch::pool}, Field{"placed", &RouteBatch::placed},
               Field{"asks", &RouteBatch::asks}, Field{"news", &RouteBatch::news});

template <>
inline constexpr auto kFields<RouteAnswer> = std::tuple(
    Field{"id", &RouteAnswer::id}, Field{"waits", &RouteAnswer::waits},
    Field{"instance", &RouteAnswer::instance}, Field{"rank", &RouteAnswer::rank},
    Field{"overlap_tokens", &RouteAnswer::overlap_tokens}, Field{"error", &RouteAnswer::error});

template <>
inline constexpr auto kFields<RouteAnswers> = std::tuple(Field{"answers", &RouteAnswers::answers});

template <>
inline constexpr auto kFields<ReplicaLoad> =
    std::tuple(Field{"request", &ReplicaLoad::request}, Field{"instance", &ReplicaLoad::instance},
               Field{"rank", &ReplicaLoad::rank}, Field{"block_hashes", &ReplicaLoad::block_hashes},
               Field{"prompt_tokens", &ReplicaLoad::prompt_tokens},
               Field{"prefill_tokens", &ReplicaLoad::prefill_tokens},
               Field{"expected_output_tokens", &ReplicaLoad::expected_output_tokens},
               Field{"session", &ReplicaLoad::session});

template <>
inline constexpr auto kFields<ReplicaChange> =
    std::tuple(Field{"kind", &ReplicaChange::kind}, Field{"load", &ReplicaChange::load});

template <>
inline constexpr auto kFields<ReplicaMessage> = std::tuple(
    Field{"from", &ReplicaMessage::from}, Field{"to", &ReplicaMessage::to},
    Field{"pool", &ReplicaMessage::pool}, Field{"kind", &ReplicaMessage::kind},
    Field{"first", &ReplicaMessage::first}, Field{"changes", &ReplicaMessage::changes},
    Field{"count", &ReplicaMessage::count}, Field{"checksum", &ReplicaMessage::checksum},
    Field{"part", &ReplicaMessage::part}, Field{"part_count", &ReplicaMessage::part_count});

template <>
inline constexpr auto kFields<KvLayoutRecord> =
    std::tuple(Field{"version", &KvLayoutRecord::version},
               Field{"block_tokens", &KvLayoutRecord::block_tokens},
               Field{"block_bytes", &KvLayoutRecord::block_bytes},
               Field{"dtype", &KvLayoutRecord::dtype}, Field{"cut", &KvLayoutRecord::cut});

template <>
inline constexpr auto kFields<HandoverRecord> = std::tuple(
    Field{"abi", &HandoverRecord::abi}, Field{"instance_high", &HandoverRecord::instance_high},
    Field{"instance_low", &HandoverRecord::instance_low},
    Field{"transfer_high", &HandoverRecord::transfer_high},
    Field{"transfer_low", &HandoverRecord::transfer_low}, Field{"agent", &HandoverRecord::agent},
    Field{"layout", &HandoverRecord::layout},
    Field{"model_fingerprint", &HandoverRecord::model_fingerprint},
    Field{"numerics_id", &HandoverRecord::numerics_id},
    Field{"last_high", &HandoverRecord::last_high}, Field{"last_low", &HandoverRecord::last_low},
    Field{"region", &HandoverRecord::region}, Field{"blocks", &HandoverRecord::blocks},
    Field{"chain", &HandoverRecord::chain}, Field{"block_count", &HandoverRecord::block_count});

template <>
inline constexpr auto kFields<HandoverClaim> =
    std::tuple(Field{"transfer_high", &HandoverClaim::transfer_high},
               Field{"transfer_low", &HandoverClaim::transfer_low},
               Field{"agent", &HandoverClaim::agent}, Field{"known", &HandoverClaim::known});

template <>
inline constexpr auto kFields<HandoverMore> = std::tuple(
    Field{"transfer_high", &HandoverMore::transfer_high},
    Field{"transfer_low", &HandoverMore::transfer_low}, Field{"first", &HandoverMore::first},
    Field{"blocks", &HandoverMore::blocks}, Field{"withdrawn", &HandoverMore::withdrawn});

template <>
inline constexpr auto kFields<HandoverRelease> = std::tuple(
    Field{"transfer_high", &HandoverRelease::transfer_high},
    Field{"transfer_low", &HandoverRelease::transfer_low}, Field{"done", &HandoverRelease::done});

template <>
inline constexpr auto kFields<HandoverNote> =
    std::tuple(Field{"claim", &HandoverNote::claim}, Field{"release", &HandoverNote::release},
               Field{"more", &HandoverNote::more});

}  // namespace pixii::wire
