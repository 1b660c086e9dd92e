#include "frontend/batch_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

#include "frontend/batch_journal.h"
#include "wire/http.h"
#include "wire/json.h"

namespace pixii::frontend {

namespace {

constexpr std::string_view kRecordSuffix = ".json";
constexpr std::string_view kBatchPrefix = "batch_";
constexpr std::string_view kOutputPurpose = "batch_output";
constexpr rt::Duration kRetryMin = std::chrono::seconds(1);
constexpr std::int64_t kRetrySecondsMax = 60;
constexpr std::size_t kStreamBytesMax = 1 << 20;

// What an answer asks to be tried again after; nothing: it is final.
std::optional<rt::Duration> RetryAfter(const Response& response) {
  for (const wire::HttpField& field : response.fields) {
    if (wire::EqualsIgnoreCase(field.name, "retry-after")) {
      const Result<wire::Json> seconds = wire::ParseJson(field.value);
      const std::int64_t count = seconds ? seconds->AsInt().value_or(1) : 1;
      return std::max<rt::Duration>(
          kRetryMin, std::chrono::seconds(std::clamp<std::int64_t>(count, 0, kRetrySecondsMax)));
    }
  }
  return std::nullopt;
}

}  // namespace

/// What a batch is read from: by the disk, then by a thread.
struct BatchRunner::Loading {
  BlobStore::Bytes file;
  BlobStore::Bytes output;    // null: there is none
  BlobStore::Bytes problems;  // likewise
  std::uint32_t reads = 0;
  BatchInput input;
  std::unordered_set<std::string> done;  // custom ids
};

void BatchRunner::Wake() {
  dirty_ = true;
  wake_.WakeAll();
}

rt::Task<void> BatchRunner::Run() {
  while (true) {
    dirty_ = false;
    Step();
    if (idle()) {
      idle_.WakeAll();
    }
    if (dirty_) {
      co_await loop_.Yield();  // lines that end at once must not hold up the loop
    } else {
      co_await wake_.Wait(NextWake());
    }
  }
}

rt::Task<bool> BatchRunner::WaitUntilIdle(rt::Time deadline) {
  while (!idle() && loop_.Now() < deadline) {
    co_await idle_.Wait(deadline);
  }
  co_return idle();
}

bool BatchRunner::idle() const {
  return CountLines() == 0 && std::ranges::all_of(entries_, [](const auto& entry) {
           return entry->waits == 0 && entry->output.pending.empty() &&
                  entry->problems.pending.empty();
         });
}

std::size_t BatchRunner::CountLines() const {
  std::size_t out = 0;
  for (const auto& entry : entries_) {
    out += entry->running.size();
  }
  return out;
}

std::size_t BatchRunner::CountOpen() const {
  return static_cast<std::size_t>(std::ranges::count_if(
      entries_, [](const auto& entry) { return !HasEnded(entry->batch.status); }));
}

rt::Time BatchRunner::NextWake() const {
  rt::Time out = rt::kNever;
  for (const auto& entry : entries_) {
    if (HasEnded(entry->batch.status) || entry->ending) {
      continue;
    }
    const std::int64_t left = std::max<std::int64_t>(0, entry->batch.expires_at - Wall());
    out = std::min(out, loop_.Now() + rt::Duration(std::chrono::seconds(left)));
    if (!entry->todo.empty() && entry->retry_at > loop_.Now()) {
      out = std::min(out, entry->retry_at);
    }
  }
  return out;
}

void BatchRunner::Step() {
  DropOldest();
  Activate();
  for (const auto& entry : entries_) {
    StepEntry(*entry);
  }
  StartLines();
}

// Batches that are only to be ended need not wait for those that run.
void BatchRunner::Activate() {
  std::size_t active = 0;
  for (const auto& entry : entries_) {
    active += entry->active ? 1 : 0;
  }
  for (const auto& entry : entries_) {
    const Batch& batch = entry->batch;
    const bool closes = batch.status == BatchStatus::kCancelling || batch.expires_at <= Wall();
    const std::size_t active_max = std::size_t{options_.batches_running_max} * (closes ? 2 : 1);
    if (active < active_max && !entry->active && !HasEnded(batch.status) && !entry->ending &&
        entry->waits == 0) {
      ++active;
      entry->active = true;
      Load(*entry);
    }
  }
}

void BatchRunner::StepEntry(Entry& entry) {
  if (entry.ending || !entry.loaded) {
    return;
  }
  Collect(entry);
  if (entry.end != BatchStatus::kCompleted) {
    // It is being ended already.
  } else if (entry.batch.status == BatchStatus::kCancelling) {
    DropLines(entry, BatchStatus::kCancelled, "batch_cancelled",
              "the batch was cancelled before this request was answered");
  } else if (entry.batch.status == BatchStatus::kInProgress && entry.batch.expires_at <= Wall()) {
    DropLines(entry, BatchStatus::kExpired, "batch_expired",
              "the batch's time was over before this request was answered");
  }
  Flush(entry, entry.output, entry.batch.output_file_id);
  Flush(entry, entry.problems, entry.batch.error_file_id);
  if (entry.todo.empty() && entry.running.empty() && entry.waits == 0) {
    Finish(entry);
  }
}

void BatchRunner::Get(Entry& entry, const std::shared_ptr<Loading>& loading,
                      const std::string& name, BlobStore::Bytes Loading::* into) {
  ++loading->reads;
  ++entry.waits;
  files_.blobs().Get(name, [this, &entry, loading, into](Result<BlobStore::Bytes> bytes) {
    if (bytes) {
      (*loading).*into = std::move(*bytes);
    }
    --entry.waits;
    if (--loading->reads == 0) {
      OnRead(entry, loading);
    }
  });
}

void BatchRunner::Load(Entry& entry) {
  auto loading = std::make_shared<Loading>();
  Get(entry, loading, entry.batch.input_file_id, &Loading::file);
  if (entry.resumed) {
    Get(entry, loading, entry.batch.output_file_id, &Loading::output);
    Get(entry, loading, entry.batch.error_file_id, &Loading::problems);
  }
}

void BatchRunner::OnRead(Entry& entry, const std::shared_ptr<Loading>& loading) {
  ++entry.waits;
  host_.Offload(
      [loading, endpoint = entry.batch.endpoint] {
        if (!loading->file) {
          loading->input.errors.push_back({.code = "file_not_found",
                                           .message = "the input file is not there any more",
                                           .param = "input_file_id"});
          return;
        }
        loading->input = ReadBatchInput(*loading->file, endpoint);
        for (const BlobStore::Bytes& journal : {loading->output, loading->problems}) {
          if (journal) {
            loading->done.merge(ReadBatchJournal(*journal).ids);
          }
        }
      },
      [this, &entry, loading] {
        --entry.waits;
        OnLoaded(entry, *loading);
        Wake();
      });
}

// A journal of an earlier process: what a crash left of its last line is cut off.
Result<void> BatchRunner::TakeJournal(Entry& entry, Journal& journal, const std::string& file_id,
                                      const BlobStore::Bytes& bytes, std::uint64_t& count) {
  if (!bytes) {
    return {};
  }
  files_.Reclaim(file_id);
  const BatchJournal found = ReadBatchJournal(*bytes);
  PX_CHECK_OK(files_.TakeRoom(entry.batch.tenant, found.whole_bytes));
  count = found.ids.size();
  journal.made = true;
  journal.size_bytes = found.whole_bytes;
  if (found.whole_bytes != bytes->size()) {
    ++entry.waits;
    files_.blobs().Put(file_id,
                       std::make_shared<const std::string>(bytes->substr(0, found.whole_bytes)),
                       [this, &entry](const Result<void>&) {
                         --entry.waits;
                         Wake();
                       });
  }
  return {};
}

void BatchRunner::OnLoaded(Entry& entry, Loading& loading) {
  entry.loaded = true;
  Batch& batch = entry.batch;
  Result<void> taken =
      TakeJournal(entry, entry.output, batch.output_file_id, loading.output, batch.completed);
  if (taken) {
    taken = TakeJournal(entry, entry.problems, batch.error_file_id, loading.problems, batch.failed);
  }
  if (!taken) {
    loading.input.errors = {
        {.code = "file_store_full", .message = taken.error().detail(), .param = {}}};
  }
  if (!loading.input.errors.empty()) {
    Fail(entry, std::move(loading.input.errors));
    return;
  }
  entry.file = loading.file;
  entry.lines = std::move(loading.input.lines);
  batch.total = entry.lines.size();
  for (std::size_t i = 0; i < entry.lines.size(); ++i) {
    if (!loading.done.contains(entry.lines[i].custom_id)) {
      entry.todo.push_back(i);
    }
  }
  if (batch.status == BatchStatus::kValidating) {
    SetStatus(batch, BatchStatus::kInProgress);
  }
}

void BatchRunner::StartLines() {
  std::size_t running = CountLines();
  std::size_t without = 0;  // batches in a row that had no line to start
  while (running < options_.lines_running_max && without < entries_.size() && host_.TakesLines()) {
    Entry& entry = *entries_[turn_++ % entries_.size()];
    const bool starts = entry.loaded && !entry.ending && !entry.todo.empty() &&
                        entry.batch.status == BatchStatus::kInProgress &&
                        entry.retry_at <= loop_.Now();
    without = starts ? 0 : without + 1;
    if (starts) {
      StartLine(entry);
      ++running;
    }
  }
}

void BatchRunner::StartLine(Entry& entry) {
  Line& line = entry.running.emplace_back();
  line.index = entry.todo.front();
  entry.todo.pop_front();
  line.id = host_.NewLineId();
  wire::HttpRequest request;
  request.method = "POST";
  request.path = entry.batch.endpoint;
  request.fields = {{"content-type", "application/json"}, {"x-request-id", line.id}};
  request.body = BatchLineBody(entry.lines[line.index]);
  line.exchange =
      std::make_unique<LocalExchange>(std::move(request), [this] { Wake(); }, kStreamBytesMax);
  host_.RunLine(*line.exchange, entry.batch.owner);
}

void BatchRunner::Collect(Entry& entry) {
  for (auto line = entry.running.begin(); line != entry.running.end();) {
    if (!line->exchange->ended()) {
      ++line;
      continue;
    }
    const std::optional<Response>& response = line->exchange->response();
    const std::optional<rt::Duration> retry =
        response ? RetryAfter(*response) : std::optional<rt::Duration>();
    if (retry) {
      entry.todo.push_front(line->index);
      entry.retry_at = loop_.Now() + *retry;
    } else {
      TakeAnswer(entry, *line);
    }
    line = entry.running.erase(line);
  }
}

void BatchRunner::TakeAnswer(Entry& entry, const Line& line) {
  const std::optional<Response>& response = line.exchange->response();
  const std::string& custom_id = entry.lines[line.index].custom_id;
  const bool good = response && response->status == 200;
  (good ? entry.batch.completed : entry.batch.failed) += 1;
  (good ? entry.output : entry.problems).pending +=
      response
          ? BatchAnswerLine(line.id, custom_id, *response)
          : BatchProblemLine(line.id, custom_id, "server_error", "the request ended unanswered");
}

void BatchRunner::DropLines(Entry& entry, BatchStatus end, std::string_view code,
                            std::string_view message) {
  entry.end = end;
  for (Line& line : entry.running) {
    line.exchange->HangUp();
    entry.todo.push_back(line.index);
  }
  entry.running.clear();
  for (std::size_t index : std::exchange(entry.todo, {})) {
    ++entry.batch.failed;
    entry.problems.pending +=
        BatchProblemLine(host_.NewLineId(), entry.lines[index].custom_id, code, message);
  }
}

// What was answered so far can still be read.
void BatchRunner::Fail(Entry& entry, std::vector<BatchError> errors) {
  entry.end = BatchStatus::kFailed;
  entry.batch.errors = std::move(errors);
  for (Line& line : entry.running) {
    line.exchange->HangUp();
  }
  entry.running.clear();
  entry.todo.clear();
  entry.output.pending.clear();
  entry.problems.pending.clear();
}

void BatchRunner::Flush(Entry& entry, Journal& journal, const std::string& file_id) {
  if (journal.writing || journal.pending.empty()) {
    return;
  }
  const std::string& tenant = entry.batch.tenant;
  const std::uint64_t size = journal.pending.size();
  if (Result<void> room = files_.TakeRoom(tenant, size); !room) {
    Fail(entry, {{.code = "file_store_full", .message = room.error().detail(), .param = {}}});
    return;
  }
  if (!journal.made) {
    journal.made = true;
    files_.blobs().Put(file_id, std::make_shared<const std::string>(), [](const Result<void>&) {});
  }
  journal.writing = true;
  ++entry.waits;
  files_.blobs().Append(
      file_id, std::exchange(journal.pending, {}),
      [this, &entry, &journal, size](const Result<void>& written) {
        journal.writing = false;
        --entry.waits;
        if (written) {
          journal.size_bytes += size;
        } else {
          files_.Release(entry.batch.tenant, size);
          Fail(entry,
               {{.code = "file_store_error", .message = written.error().detail(), .param = {}}});
        }
        Wake();
      });
}

void BatchRunner::Finish(Entry& entry) {
  entry.ending = true;
  entry.lines.clear();
  entry.file = nullptr;
  if (entry.end != BatchStatus::kFailed && entry.end != BatchStatus::kCancelled) {
    SetStatus(entry.batch, BatchStatus::kFinalizing);
  }
  Publish(entry, entry.output, entry.batch.output_file_id, "output", entry.batch.has_output);
  Publish(entry, entry.problems, entry.batch.error_file_id, "error", entry.batch.has_errors);
  if (entry.waits == 0) {
    End(entry);
  }
}

void BatchRunner::Publish(Entry& entry, Journal& journal, const std::string& file_id,
                          std::string_view what, bool& has) {
  if (journal.size_bytes == 0) {
    return;
  }
  ++entry.waits;
  StoredFile file{.id = file_id,
                  .tenant = entry.batch.tenant,
                  .name = fmt::format("{}_{}.jsonl", entry.batch.id, what),
                  .purpose = std::string(kOutputPurpose),
                  .size_bytes = journal.size_bytes,
                  .created_at = Wall()};
  if (entry.batch.output_lifetime_seconds != 0) {
    file.expires_at = file.created_at + entry.batch.output_lifetime_seconds;
  }
  files_.Publish(std::move(file), [this, &entry, &has](const Result<void>& stored) {
    has = stored.has_value();
    if (--entry.waits == 0) {
      End(entry);
    }
    Wake();
  });
}

void BatchRunner::End(Entry& entry) {
  entry.active = false;
  SetStatus(entry.batch, entry.end);
  Keep(entry, [](const Result<void>&) {});
  Wake();
}

void BatchRunner::SetStatus(Batch& batch, BatchStatus status) const {
  batch.status = status;
  batch.reached[status] = Wall();
}

void BatchRunner::Keep(Entry& entry, std::function<void(const Result<void>&)> done) {
  ++entry.waits;
  files_.blobs().Put(entry.batch.id + std::string(kRecordSuffix),
                     std::make_shared<const std::string>(entry.batch.Record()),
                     [this, &entry, done = std::move(done)](const Result<void>& stored) {
                       --entry.waits;
                       Wake();
                       done(stored);
                     });
}

void BatchRunner::DropOldest() {
  std::size_t ended = entries_.size() - CountOpen();
  std::erase_if(entries_, [&](const auto& entry) {
    if (ended <= options_.batches_kept_max || !HasEnded(entry->batch.status) || entry->waits > 0) {
      return false;
    }
    --ended;
    files_.blobs().Remove(entry->batch.id + std::string(kRecordSuffix));
    return true;
  });
}

void BatchRunner::Create(Batch batch, std::int64_t window_seconds,
                         std::function<void(Result<std::string>)> done) {
  if (CountOpen() >= options_.batches_open_max) {
    done(pixii::Fail(Code::kResourceExhausted,
                     fmt::format("{} batches run or wait, which is the limit; try again later",
                                 options_.batches_open_max)));
    return;
  }
  auto entry = std::make_unique<Entry>();
  entry->batch = std::move(batch);
  entry->batch.created_at = Wall();
  entry->batch.expires_at = Wall() + window_seconds;
  Entry& raw = *entry;
  entries_.push_back(std::move(entry));
  Keep(raw, [this, &raw, done = std::move(done)](const Result<void>& stored) {
    if (stored) {
      done(raw.batch.Body());
      return;
    }
    const Error error = stored.error();
    std::erase_if(entries_, [&](const auto& entry) { return entry.get() == &raw; });
    done(pixii::Fail(error));
  });
}

const Batch* BatchRunner::Find(std::string_view tenant, std::string_view id) const {
  for (const auto& entry : entries_) {
    if (entry->batch.id == id && entry->batch.tenant == tenant) {
      return &entry->batch;
    }
  }
  return nullptr;
}

std::vector<const Batch*> BatchRunner::List(std::string_view tenant) const {
  std::vector<const Batch*> out;
  for (const auto& entry : entries_) {
    if (entry->batch.tenant == tenant) {
      out.push_back(&entry->batch);
    }
  }
  return out;
}

bool BatchRunner::Cancel(std::string_view tenant, std::string_view id) {
  for (const auto& entry : entries_) {
    if (entry->batch.id != id || entry->batch.tenant != tenant) {
      continue;
    }
    const BatchStatus status = entry->batch.status;
    if (status == BatchStatus::kValidating || status == BatchStatus::kInProgress) {
      SetStatus(entry->batch, BatchStatus::kCancelling);
      Keep(*entry, [](const Result<void>&) {});
    }
    return true;
  }
  return false;
}

void BatchRunner::Restore(std::span<const FoundBlob> found) {
  for (const FoundBlob& blob : found) {
    if (!blob.name.starts_with(kBatchPrefix) || !blob.name.ends_with(kRecordSuffix)) {
      continue;
    }
    Result<Batch> batch = Batch::FromRecord(blob.bytes);
    if (!batch) {
      files_.blobs().Remove(blob.name);
      continue;
    }
    auto entry = std::make_unique<Entry>();
    entry->batch = std::move(*batch);
    entry->resumed = !HasEnded(entry->batch.status);
    entries_.push_back(std::move(entry));
  }
  std::ranges::sort(entries_, {}, [](const auto& entry) {
    return std::pair<std::int64_t, std::string_view>(entry->batch.created_at, entry->batch.id);
  });
}

bool BatchRunner::Claims(std::string_view file_id) const {
  return std::ranges::any_of(entries_, [&](const auto& entry) {
    return !HasEnded(entry->batch.status) &&
           (entry->batch.output_file_id == file_id || entry->batch.error_file_id == file_id);
  });
}

}  // namespace pixii::frontend
