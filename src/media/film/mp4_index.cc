// MP4 and QuickTime: boxes, the sample tables of the first video track, movie fragments, one edit.
#include <algorithm>
#include <limits>
#include <optional>

#include "media/film/film_index.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

constexpr std::uint32_t kNotKey = 0x0001'0000;  // sample_is_non_sync_sample

struct Box {
  std::uint32_t type = 0;
  Bytes body;
  std::size_t at = 0;  // of the box in what it lies in
};

/// The boxes of a file or of another box, one after the other. A box is at least 8 bytes, so this
/// ends; boxes are only looked into where the format has them, so depth is bounded too.
class BoxReader final {
 public:
  explicit BoxReader(Bytes bytes) : reader_(bytes) {}

  /// Nothing: there are no more.
  Result<std::optional<Box>> Next() {
    constexpr std::size_t kHeaderBytes = 8;
    if (reader_.left() < kHeaderBytes) {
      return std::optional<Box>();  // QuickTime ends lists with a zero
    }
    Box box{.type = 0, .body = {}, .at = reader_.at()};
    const std::size_t left = reader_.left();
    std::uint64_t size = reader_.Big32();
    box.type = reader_.Big32();
    if (size == 1) {
      size = reader_.Big64();
    } else if (size == 0) {
      size = left;  // to the end
    }
    const std::size_t header = reader_.at() - box.at;
    if (!reader_.ok() || size > left) {
      return Fail(kFilm.Truncated(
          fmt::format("its box \"{}\" of {} bytes has {}", ShownCode(box.type), size, left)));
    }
    if (size < header) {
      return Fail(kFilm.Corrupt(
          fmt::format("its box \"{}\" says that it has {} bytes", ShownCode(box.type), size)));
    }
    box.body = reader_.Take(size - header);
    return std::optional(box);
  }

 private:
  ByteReader reader_;
};

/// The first box of `type` in `body`; nothing where there is none.
Result<std::optional<Bytes>> FindBox(Bytes body, std::uint32_t type) {
  BoxReader boxes(body);
  while (true) {
    PX_TRY(const std::optional<Box> box, boxes.Next());
    if (!box) {
      return std::optional<Bytes>();
    }
    if (box->type == type) {
      return std::optional(box->body);
    }
  }
}

Result<Bytes> NeedBox(Bytes body, std::uint32_t type) {
  PX_TRY(const std::optional<Bytes> found, FindBox(body, type));
  if (!found) {
    return Fail(kFilm.Corrupt(fmt::format("it has no box \"{}\"", ShownCode(type))));
  }
  return *found;
}

/// A table: a count, and as many entries of `entry_bytes`.
struct Table {
  std::uint32_t count = 0;
  Bytes entries;
  std::uint32_t version = 0;

  ByteReader reader() const { return ByteReader(entries); }
};

Result<Table> ReadTable(Bytes body, std::uint32_t type, std::size_t entry_bytes) {
  ByteReader reader(body);
  Table out;
  out.version = reader.Byte();
  reader.Skip(3);
  out.count = reader.Big32();
  if (!reader.ok() || out.count > reader.left() / entry_bytes) {
    return Fail(kFilm.Truncated(fmt::format("its table \"{}\" of {} entries has {} bytes",
                                            ShownCode(type), out.count, body.size())));
  }
  out.entries = reader.Take(out.count * entry_bytes);
  return out;
}

/// As above; empty where there is no such table.
Result<Table> FindTable(Bytes body, std::uint32_t type, std::size_t entry_bytes) {
  PX_TRY(const std::optional<Bytes> found, FindBox(body, type));
  return found ? ReadTable(*found, type, entry_bytes) : Result<Table>(Table{});
}

Error TooManyFrames(std::uint64_t count, std::uint32_t frames_max) {
  return kFilm.TooLarge("it has", count, "frames", "frames_max", frames_max);
}

/// What a track's frames are shown in: ticks of `begin` .. `end`.
struct Edit {
  std::int64_t begin = std::numeric_limits<std::int64_t>::min();
  std::int64_t end = std::numeric_limits<std::int64_t>::max();
};

struct Track {
  std::uint32_t id = 0;
  std::uint32_t timescale = 0;  // ticks of a second
  Edit edit;
  FilmIndex index;
  std::uint64_t ticks = 0;  // of all samples
};

/// What a file says of its pictures' codec, where that is none that is read.
std::string_view CodecName(std::uint32_t type) {
  struct Name {
    std::uint32_t type;
    std::string_view name;
  };

  constexpr Name kNames[] = {
      {Four("hvc1"), "HEVC"},          {Four("hev1"), "HEVC"},   {Four("dvh1"), "HEVC"},
      {Four("dvhe"), "HEVC"},          {Four("av01"), "AV1"},    {Four("vvc1"), "VVC"},
      {Four("vvi1"), "VVC"},           {Four("apcn"), "ProRes"}, {Four("apch"), "ProRes"},
      {Four("mp4v"), "MPEG-4 Visual"}, {Four("s263"), "H.263"},  {Four("encv"), "encrypted"}};
  const auto* found = std::ranges::find(kNames, type, &Name::type);
  return found == std::end(kNames) ? "of another kind" : found->name;
}

/// Whether an elementary stream descriptor says JPEG (object type 0x6C).
bool SaysJpeg(Bytes esds) {
  constexpr std::uint8_t kStream = 3;
  constexpr std::uint8_t kDecoder = 4;
  ByteReader reader(esds);
  const auto descriptor = [&](std::uint8_t tag) {
    if (reader.Byte() != tag) {
      return false;
    }
    while ((reader.Byte() & 0x80) != 0 && reader.ok()) {
    }
    return reader.ok();
  };
  reader.Skip(4);
  if (!descriptor(kStream)) {
    return false;
  }
  reader.Skip(2);
  const std::uint8_t flags = reader.Byte();
  reader.Skip((flags & 0x80) != 0 ? 2 : 0);
  if ((flags & 0x40) != 0) {
    reader.Skip(reader.Byte());
  }
  reader.Skip((flags & 0x20) != 0 ? 2 : 0);
  return descriptor(kDecoder) && reader.Byte() == 0x6c;
}

Result<void> ReadDescription(Bytes stsd, FilmIndex& index) {
  constexpr std::size_t kEntryBytes = 78;  // of a visual sample entry, before its boxes
  ByteReader header(stsd);
  header.Skip(4);
  const std::uint32_t count = header.Big32();
  if (!header.ok() || count == 0) {
    return Fail(kFilm.Corrupt("its frames are not described"));
  }
  if (count != 1) {
    return Fail(kFilm.Unsupported(fmt::format("its frames are of {} kinds in turn", count)));
  }
  BoxReader entries(stsd.subspan(header.at()));
  PX_TRY(const std::optional<Box> entry, entries.Next());
  if (!entry || entry->body.size() < kEntryBytes) {
    return Fail(kFilm.Truncated("the description of its frames ends early"));
  }
  ByteReader fields(entry->body);
  fields.Skip(24);
  index.size.width = fields.Big16();
  index.size.height = fields.Big16();
  const Bytes boxes = entry->body.subspan(kEntryBytes);
  PX_TRY(const std::optional<Bytes> esds, FindBox(boxes, Four("esds")));
  switch (entry->type) {
    case Four("avc1"):
    case Four("avc3"): {
      index.codec = FilmCodec::kH264;
      PX_TRY(index.config, NeedBox(boxes, Four("avcC")));
      break;
    }
    case Four("vp08"):
      index.codec = FilmCodec::kVp8;
      break;
    case Four("vp09"):
      index.codec = FilmCodec::kVp9;
      break;
    case Four("jpeg"):
    case Four("mjpa"):
    case Four("mjpg"):
    case Four("MJPG"):
      index.codec = FilmCodec::kJpeg;
      break;
    default:
      if (entry->type != Four("mp4v") || !esds || !SaysJpeg(*esds)) {
        return Fail(CodecUnsupported(
            fmt::format("{} (\"{}\")", CodecName(entry->type), ShownCode(entry->type))));
      }
      index.codec = FilmCodec::kJpeg;
  }
  PX_TRY(const std::optional<Bytes> colr, FindBox(boxes, Four("colr")));
  if (colr) {
    ByteReader colors(*colr);
    const bool nclx = colors.TakeText("nclx");
    if (nclx || colors.TakeText("nclc")) {
      colors.Skip(4);
      index.colors.matrix = MatrixOf(colors.Big16());
      index.colors.full_range = nclx && (colors.Byte() & 0x80) != 0;
    }
  }
  return {};
}

/// Sizes of samples: one for all, or a table of 4, 8, 16 or 32 bits each.
struct Sizes {
  std::uint32_t count = 0;
  std::uint32_t all = 0;  // 0: by the table
  std::uint32_t bits = 32;
  Bytes table;

  std::uint32_t Of(std::uint32_t index) const {
    if (all != 0) {
      return all;
    }
    ByteReader reader(table.subspan(std::size_t{index} * bits / 8));
    switch (bits) {
      case 4: {
        const std::uint8_t two = reader.Byte();
        return index % 2 == 0 ? two >> 4U : two & 15U;
      }
      case 8:
        return reader.Byte();
      case 16:
        return reader.Big16();
      default:
        return reader.Big32();
    }
  }
};

Result<Sizes> ReadSizes(Bytes stbl, std::uint32_t frames_max) {
  Sizes out;
  PX_TRY(std::optional<Bytes> body, FindBox(stbl, Four("stsz")));
  ByteReader reader(body ? *body : Bytes());
  if (body) {
    reader.Skip(4);
    out.all = reader.Big32();
  } else {
    PX_TRY(body, FindBox(stbl, Four("stz2")));
    if (!body) {
      return out;  // of a file in fragments
    }
    reader = ByteReader(*body);
    reader.Skip(7);
    out.bits = reader.Byte();
    if (out.bits != 4 && out.bits != 8 && out.bits != 16) {
      return Fail(kFilm.Corrupt(fmt::format("its sizes have {} bits", out.bits)));
    }
  }
  out.count = reader.Big32();
  if (!reader.ok()) {
    return Fail(kFilm.Truncated("the table of its sizes ends early"));
  }
  if (out.count > frames_max) {
    return Fail(TooManyFrames(out.count, frames_max));
  }
  const std::size_t needed = out.all != 0 ? 0 : (std::size_t{out.count} * out.bits + 7) / 8;
  out.table = reader.Take(needed);
  if (!reader.ok()) {
    return Fail(kFilm.Truncated(fmt::format("the table of {} sizes ends early", out.count)));
  }
  return out;
}

/// Runs of equal values: (count, value) again and again.
class Runs final {
 public:
  explicit Runs(const Table& table) : reader_(table.reader()) {}

  /// Of the next sample; nothing where the table ends before.
  std::optional<std::uint32_t> Next() {
    while (left_ == 0) {
      if (reader_.left() == 0) {
        return std::nullopt;
      }
      left_ = reader_.Big32();
      value_ = reader_.Big32();
    }
    --left_;
    return value_;
  }

 private:
  ByteReader reader_;
  std::uint32_t left_ = 0;
  std::uint32_t value_ = 0;
};

Result<void> ReadPlaces(Bytes stbl, const Sizes& sizes, FilmIndex& index) {
  constexpr std::size_t kRunBytes = 12;
  PX_TRY(const Table runs, FindTable(stbl, Four("stsc"), kRunBytes));
  PX_TRY(Table chunks, FindTable(stbl, Four("stco"), 4));
  bool wide = false;
  if (chunks.count == 0) {
    PX_TRY(chunks, FindTable(stbl, Four("co64"), 8));
    wide = true;
  }
  ByteReader places = chunks.reader();
  ByteReader run = runs.reader();
  std::uint32_t next_first = run.Big32();
  std::uint32_t per_chunk = 0;
  std::uint32_t sample = 0;
  for (std::uint32_t chunk = 1; chunk <= chunks.count && sample < sizes.count; ++chunk) {
    while (run.ok() && chunk >= next_first) {
      per_chunk = run.Big32();
      run.Skip(4);
      next_first =
          run.left() >= kRunBytes ? run.Big32() : std::numeric_limits<std::uint32_t>::max();
    }
    std::uint64_t at = wide ? places.Big64() : places.Big32();
    for (std::uint32_t i = 0; i < per_chunk && sample < sizes.count; ++i, ++sample) {
      const std::uint32_t size = sizes.Of(sample);
      index.samples.push_back({.at = at, .size = size});
      if (at > std::numeric_limits<std::uint64_t>::max() / 2) {
        return Fail(kFilm.Truncated(fmt::format("frame {} lies at byte {}", sample, at)));
      }
      at += size;
    }
  }
  if (sample < sizes.count) {
    return Fail(kFilm.Corrupt(
        fmt::format("it has {} frames, and places of {} of them", sizes.count, sample)));
  }
  return {};
}

Result<void> ReadSamples(Bytes stbl, std::uint32_t frames_max, Track& track) {
  PX_TRY(const Sizes sizes, ReadSizes(stbl, frames_max));
  PX_CHECK_OK(ReadPlaces(stbl, sizes, track.index));
  PX_TRY(const Table durations, FindTable(stbl, Four("stts"), 8));
  PX_TRY(const Table offsets, FindTable(stbl, Four("ctts"), 8));
  PX_TRY(const std::optional<Bytes> key_box, FindBox(stbl, Four("stss")));
  Runs duration(durations);
  Runs offset(offsets);
  for (FilmSample& sample : track.index.samples) {
    sample.time = static_cast<std::int64_t>(track.ticks) +
                  static_cast<std::int32_t>(offset.Next().value_or(0));
    sample.key = !key_box;
    track.ticks += duration.Next().value_or(0);
  }
  if (key_box) {
    PX_TRY(const Table keys, ReadTable(*key_box, Four("stss"), 4));
    ByteReader reader = keys.reader();
    while (reader.left() > 0) {
      const std::uint32_t number = reader.Big32();  // from 1
      if (number >= 1 && number <= track.index.samples.size()) {
        track.index.samples[number - 1].key = true;
      }
    }
  }
  return {};
}

Result<Edit> ReadEdit(Bytes trak, std::uint32_t movie_timescale, std::uint32_t timescale) {
  PX_TRY(const std::optional<Bytes> edts, FindBox(trak, Four("edts")));
  PX_TRY(const std::optional<Bytes> elst,
         edts ? FindBox(*edts, Four("elst")) : Result<std::optional<Bytes>>(std::nullopt));
  Edit out;
  if (!elst) {
    return out;
  }
  const bool wide = !elst->empty() && elst->front() == 1;
  PX_TRY(const Table edits, ReadTable(*elst, Four("elst"), wide ? 20 : 12));
  ByteReader reader = edits.reader();
  bool found = false;
  while (reader.left() > 0) {
    const std::uint64_t duration = wide ? reader.Big64() : reader.Big32();
    const std::int64_t begin = wide ? static_cast<std::int64_t>(reader.Big64())
                                    : static_cast<std::int32_t>(reader.Big32());
    reader.Skip(4);  // how fast; others than 1 are as good as never written
    if (begin < 0) {
      continue;  // nothing is shown for a while
    }
    if (found) {
      return Fail(kFilm.Unsupported("it is cut together of several pieces by an edit list"));
    }
    found = true;
    out.begin = begin;
    if (duration > 0 && movie_timescale > 0) {
      out.end = static_cast<std::int64_t>(
          std::min(static_cast<double>(begin) + static_cast<double>(duration) *
                                                    static_cast<double>(timescale) /
                                                    static_cast<double>(movie_timescale),
                   9e18));
    }
  }
  return out;
}

/// The timescale of mvhd or mdhd.
Result<std::uint32_t> ReadTimescale(Bytes body) {
  ByteReader reader(body);
  const bool wide = reader.Byte() == 1;
  reader.Skip(3 + (wide ? 16 : 8));
  const std::uint32_t scale = reader.Big32();
  if (!reader.ok() || scale == 0) {
    return Fail(kFilm.Corrupt("its clock has no ticks"));
  }
  return scale;
}

/// Nothing: the track is no video.
Result<std::optional<Track>> ReadTrack(Bytes trak, std::uint32_t movie_timescale,
                                       std::uint32_t frames_max) {
  PX_TRY(const Bytes mdia, NeedBox(trak, Four("mdia")));
  PX_TRY(const Bytes hdlr, NeedBox(mdia, Four("hdlr")));
  ByteReader handler(hdlr);
  handler.Skip(8);
  if (!handler.TakeText("vide")) {
    return std::optional<Track>();
  }
  Track track;
  PX_TRY(const Bytes tkhd, NeedBox(trak, Four("tkhd")));
  ByteReader head(tkhd);
  const bool wide = head.Byte() == 1;
  head.Skip(3 + (wide ? 16 : 8));
  track.id = head.Big32();
  PX_TRY(const Bytes mdhd, NeedBox(mdia, Four("mdhd")));
  PX_TRY(track.timescale, ReadTimescale(mdhd));
  PX_TRY(const Bytes minf, NeedBox(mdia, Four("minf")));
  PX_TRY(const Bytes stbl, NeedBox(minf, Four("stbl")));
  PX_TRY(const Bytes stsd, NeedBox(stbl, Four("stsd")));
  PX_CHECK_OK(ReadDescription(stsd, track.index));
  PX_TRY(track.edit, ReadEdit(trak, movie_timescale, track.timescale));
  PX_CHECK_OK(ReadSamples(stbl, frames_max, track));
  return std::optional(std::move(track));
}

/// What fragments say once for all samples.
struct Defaults {
  std::uint32_t duration = 0;
  std::uint32_t size = 0;
  std::uint32_t flags = 0;
};

Result<Defaults> ReadDefaults(Bytes moov, std::uint32_t track) {
  Defaults out;
  PX_TRY(const std::optional<Bytes> mvex, FindBox(moov, Four("mvex")));
  BoxReader boxes(mvex ? *mvex : Bytes());
  while (true) {
    PX_TRY(const std::optional<Box> box, boxes.Next());
    if (!box) {
      return out;
    }
    ByteReader reader(box->body);
    reader.Skip(4);
    if (box->type == Four("trex") && reader.Big32() == track) {
      reader.Skip(4);
      out = {.duration = reader.Big32(), .size = reader.Big32(), .flags = reader.Big32()};
    }
  }
}

/// The samples of one run; `at` is where the next one lies.
Result<void> ReadRun(Bytes trun, std::uint64_t base, const Defaults& defaults,
                     std::uint32_t frames_max, std::uint64_t& at, Track& track) {
  ByteReader reader(trun);
  const std::uint32_t flags = reader.Big32() & 0xff'ffff;
  const std::uint32_t count = reader.Big32();
  if ((flags & 0x001) != 0) {
    at = base + static_cast<std::uint64_t>(
                    static_cast<std::int64_t>(static_cast<std::int32_t>(reader.Big32())));
  }
  const std::uint32_t first_flags = (flags & 0x004) != 0 ? reader.Big32() : defaults.flags;
  if (track.index.samples.size() + std::uint64_t{count} > frames_max) {
    return Fail(TooManyFrames(track.index.samples.size() + std::uint64_t{count}, frames_max));
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t duration = (flags & 0x100) != 0 ? reader.Big32() : defaults.duration;
    const std::uint32_t size = (flags & 0x200) != 0 ? reader.Big32() : defaults.size;
    const std::uint32_t own = (flags & 0x400) != 0 ? reader.Big32()
                              : i == 0             ? first_flags
                                                   : defaults.flags;
    const std::uint32_t offset = (flags & 0x800) != 0 ? reader.Big32() : 0;
    if (!reader.ok()) {
      return Fail(kFilm.Truncated(fmt::format("a fragment of {} frames ends early", count)));
    }
    track.index.samples.push_back(
        {.at = at,
         .size = size,
         .time = static_cast<std::int64_t>(track.ticks) + static_cast<std::int32_t>(offset),
         .key = (own & kNotKey) == 0});
    at += size;
    track.ticks += duration;
  }
  return {};
}

Result<void> ReadFragment(const Box& moof, const Defaults& of_file, std::uint32_t frames_max,
                          Track& track) {
  BoxReader boxes(moof.body);
  while (true) {
    PX_TRY(const std::optional<Box> traf, boxes.Next());
    if (!traf) {
      return {};
    }
    if (traf->type != Four("traf")) {
      continue;
    }
    PX_TRY(const Bytes tfhd, NeedBox(traf->body, Four("tfhd")));
    ByteReader head(tfhd);
    const std::uint32_t flags = head.Big32() & 0xff'ffff;
    if (head.Big32() != track.id) {
      continue;
    }
    const std::uint64_t base = (flags & 0x01) != 0 ? head.Big64() : moof.at;
    head.Skip((flags & 0x02) != 0 ? 4 : 0);
    Defaults defaults = of_file;
    defaults.duration = (flags & 0x08) != 0 ? head.Big32() : defaults.duration;
    defaults.size = (flags & 0x10) != 0 ? head.Big32() : defaults.size;
    defaults.flags = (flags & 0x20) != 0 ? head.Big32() : defaults.flags;
    std::uint64_t at = base;
    BoxReader runs(traf->body);
    while (true) {
      PX_TRY(const std::optional<Box> run, runs.Next());
      if (!run) {
        break;
      }
      if (run->type == Four("trun")) {
        PX_CHECK_OK(ReadRun(run->body, base, defaults, frames_max, at, track));
      }
    }
  }
}

Result<Track> ReadMovie(Bytes moov, std::uint32_t frames_max) {
  PX_TRY(const Bytes mvhd, NeedBox(moov, Four("mvhd")));
  PX_TRY(const std::uint32_t timescale, ReadTimescale(mvhd));
  BoxReader boxes(moov);
  while (true) {
    PX_TRY(const std::optional<Box> box, boxes.Next());
    if (!box) {
      return Fail(kFilm.Unsupported("it has no video track"));
    }
    if (box->type == Four("trak")) {
      PX_TRY(std::optional<Track> track, ReadTrack(box->body, timescale, frames_max));
      if (track) {
        return std::move(*track);
      }
    }
  }
}

}  // namespace

Result<FilmIndex> ReadMp4Index(Bytes file, std::uint32_t frames_max) {
  std::optional<Track> track;
  Defaults defaults;
  BoxReader boxes(file);
  while (true) {
    PX_TRY(const std::optional<Box> box, boxes.Next());
    if (!box) {
      break;
    }
    if (box->type == Four("moov") && !track) {
      PX_TRY(track, ReadMovie(box->body, frames_max));
      PX_TRY(defaults, ReadDefaults(box->body, track->id));
    } else if (box->type == Four("moof") && track) {
      PX_CHECK_OK(ReadFragment(*box, defaults, frames_max, *track));
    }
  }
  if (!track) {
    return Fail(kFilm.Truncated("it has no box \"moov\""));
  }
  std::uint64_t shown = 0;
  for (FilmSample& sample : track->index.samples) {
    sample.shown = sample.time >= track->edit.begin && sample.time < track->edit.end;
    shown += sample.shown ? 1 : 0;
  }
  track->index.format = FilmFormat::kMp4;
  if (!track->index.samples.empty()) {
    track->index.seconds = static_cast<double>(track->ticks) / track->timescale *
                           static_cast<double>(shown) /
                           static_cast<double>(track->index.samples.size());
  }
  return std::move(track->index);
}

}  // namespace pixii::media
