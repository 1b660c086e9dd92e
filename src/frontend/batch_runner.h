// Runs batches: reads their lines, has each answered once by the server's own routes, writes what
// came.
//
// Thread: the frontend's loop. One pump, Step(), does everything that is due; whatever happens only
// wakes it. What a batch writes is its journal: after a restart over a folder, lines that stand in
// it are not run again, and a line that was running then is.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "frontend/batch.h"
#include "frontend/file_store.h"
#include "frontend/local_exchange.h"
#include "rt/loop.h"
#include "rt/sync.h"

namespace pixii::frontend {

struct BatchOptions {
  std::uint32_t batches_running_max = 4;    // further ones wait as validating
  std::uint32_t lines_running_max = 8;      // of all batches together
  std::uint32_t batches_open_max = 256;     // running and waiting; further ones are refused
  std::uint32_t batches_kept_max = 10'000;  // ended ones; the oldest goes first
};

/// What a runner needs of its server.
class BatchHost {
 public:
  virtual ~BatchHost() = default;
  /// Answers `exchange` as a request of `owner`'s that has time.
  virtual void RunLine(Exchange& exchange, const std::string& owner) = 0;
  /// Runs `work` beside the loop if there is a thread for it, then `done` on the loop, later.
  virtual void Offload(std::function<void()> work, std::function<void()> done) = 0;
  virtual std::string NewLineId() = 0;
  virtual bool TakesLines() const = 0;
};

class BatchRunner final {
 public:
  BatchRunner(rt::Loop& loop, FileStore& files, BatchHost& host, const BatchOptions& options)
      : loop_(loop), files_(files), host_(host), options_(options), wake_(loop), idle_(loop) {}

  /// Takes over the batches of an earlier process; before FileStore::Restore.
  void Restore(std::span<const FoundBlob> found);
  /// Whether a batch that has not ended writes this file.
  bool Claims(std::string_view file_id) const;

  /// Runs until its task is destroyed.
  rt::Task<void> Run();
  /// Until no line runs and nothing waits for the disk. False: the deadline came first.
  rt::Task<bool> WaitUntilIdle(rt::Time deadline);

  /// Adds it; `done` gets the batch object once that is kept. `batch` has everything but its times
  /// and status. Errors: kResourceExhausted (too many wait), those of the blobs.
  void Create(Batch batch, std::int64_t window_seconds,
              std::function<void(Result<std::string>)> done);
  /// Null: unknown or another tenant's.
  const Batch* Find(std::string_view tenant, std::string_view id) const;
  /// A tenant's, oldest first.
  std::vector<const Batch*> List(std::string_view tenant) const;
  /// Its lines that have no answer yet will have none. One that has ended stays as it is.
  /// False: there is none.
  bool Cancel(std::string_view tenant, std::string_view id);

 private:
  struct Line {
    std::size_t index = 0;
    std::string id;  // "batch_req_…"
    std::unique_ptr<LocalExchange> exchange;
  };

  struct Journal {
    std::string pending;           // not yet given to the blob
    std::uint64_t size_bytes = 0;  // of the blob
    bool made = false;
    bool writing = false;
  };

  // A batch with what it needs while it has not ended.
  struct Entry {
    Batch batch;
    bool resumed = false;  // an earlier process may have run lines of it
    bool active = false;   // one of batches_running_max
    bool loaded = false;
    bool ending = false;                        // its last writes are under way
    BatchStatus end = BatchStatus::kCompleted;  // what it will have been
    std::uint32_t waits = 0;                    // for the disk or a thread
    BlobStore::Bytes file;
    std::vector<BatchLine> lines;  // in it
    std::deque<std::size_t> todo;
    std::list<Line> running;
    Journal output;
    Journal problems;
    rt::Time retry_at{};
  };

  struct Loading;

  std::int64_t Wall() const { return loop_.WallNow().unix_seconds; }

  void Wake();
  void Step();
  void StepEntry(Entry& entry);
  void Activate();
  void Load(Entry& entry);
  void Get(Entry& entry, const std::shared_ptr<Loading>& loading, const std::string& name,
           BlobStore::Bytes Loading::* into);
  void OnRead(Entry& entry, const std::shared_ptr<Loading>& loading);
  void OnLoaded(Entry& entry, Loading& loading);
  Result<void> TakeJournal(Entry& entry, Journal& journal, const std::string& file_id,
                           const BlobStore::Bytes& bytes, std::uint64_t& count);
  void Collect(Entry& entry);
  void TakeAnswer(Entry& entry, const Line& line);
  void DropLines(Entry& entry, BatchStatus end, std::string_view code, std::string_view message);
  void Fail(Entry& entry, std::vector<BatchError> errors);
  void StartLines();
  void StartLine(Entry& entry);
  void Flush(Entry& entry, Journal& journal, const std::string& file_id);
  void Finish(Entry& entry);
  void Publish(Entry& entry, Journal& journal, const std::string& file_id, std::string_view what,
               bool& has);
  void End(Entry& entry);
  void SetStatus(Batch& batch, BatchStatus status) const;
  void Keep(Entry& entry, std::function<void(const Result<void>&)> done);
  void DropOldest();
  std::size_t CountLines() const;
  std::size_t CountOpen() const;
  bool idle() const;
  rt::Time NextWake() const;

  rt::Loop& loop_;
  FileStore& files_;
  BatchHost& host_;
  const BatchOptions options_;
  std::vector<std::unique_ptr<Entry>> entries_;  // as they came
  std::size_t turn_ = 0;                         // whose line is next
  bool dirty_ = false;
  rt::WaitList wake_;
  rt::WaitList idle_;
};

}  // namespace pixii::frontend
