#include "rt/tls.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <climits>
#include <utility>

#include "rt/sync.h"

namespace pixii::rt {
namespace {

constexpr std::size_t kPieceBytes = 16 * 1024;  // of a TLS record

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};

using ContextPtr = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, Deleter<SSL_free>>;

/// What OpenSSL said last, and forgets it.
std::string OpenSslText() {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  const char* reason = error != 0 ? ERR_reason_error_string(error) : nullptr;
  return reason != nullptr ? reason : "no reason given";
}

Error Closed() { return Error(Code::kCancelled, "the connection was closed on our side"); }

Error Broken(std::string_view what) {
  return Error(Code::kUnavailable, fmt::format("TLS: {}", what));
}

Result<void> UseFiles(SSL_CTX* context, const TlsFiles& files) {
  if (!files.certificate.empty() &&
      SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1) {
    return Fail(Code::kInvalidArgument, fmt::format("cannot use {} as a PEM certificate: {}",
                                                    files.certificate, OpenSslText()));
  }
  if (!files.key.empty() &&
      SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return Fail(Code::kInvalidArgument, fmt::format("cannot use {} as the PEM key of {}: {}",
                                                    files.key, files.certificate, OpenSslText()));
  }
  if (!files.authorities.empty() &&
      SSL_CTX_load_verify_locations(context, files.authorities.c_str(), nullptr) != 1) {
    return Fail(Code::kInvalidArgument,
                fmt::format("cannot use {} as PEM certificates of authorities: {}",
                            files.authorities, OpenSslText()));
  }
  return {};
}

/// Clients may offer protocols; of these only HTTP/1.1 is spoken.
int SelectProtocol(SSL* /*ssl*/, const unsigned char** out, unsigned char* out_size,
                   const unsigned char* offered, unsigned int offered_size, void* /*arg*/) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* selected = nullptr;
  if (SSL_select_next_proto(&selected, out_size, kOurs, sizeof(kOurs) - 1, offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *out = selected;
  return SSL_TLSEXT_ERR_OK;
}

Result<ContextPtr> MakeContext(const SSL_METHOD* method, const TlsFiles& files) {
  ContextPtr context(SSL_CTX_new(method));
  if (!context) {
    return Fail(Code::kResourceExhausted, fmt::format("no TLS context: {}", OpenSslText()));
  }
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  PX_CHECK_OK(UseFiles(context.get(), files));
  return context;
}

}  // namespace

struct TlsContext::Parts {
  ContextPtr context;
  std::string server_name;  // empty: this is a server, or there are keys instead of names
  bool client = false;
  TlsKey key{};  // of both, where there are no certificates
};

TlsContext::TlsContext(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

TlsContext::~TlsContext() = default;

Result<std::shared_ptr<const TlsContext>> TlsContext::ForServer(const TlsFiles& files) {
  PX_TRY(ContextPtr context, MakeContext(TLS_server_method(), files));
  if (!files.authorities.empty()) {
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    SSL_CTX_set_client_CA_list(context.get(), SSL_load_client_CA_file(files.authorities.c_str()));
    // Sessions of clients with certificates are bound to who we are, or cannot be resumed.
    static constexpr unsigned char kSessionName[] = "pixii";
    SSL_CTX_set_session_id_context(context.get(), kSessionName, sizeof(kSessionName) - 1);
  }
  SSL_CTX_set_alpn_select_cb(context.get(), SelectProtocol, nullptr);
  auto parts = std::make_unique<Parts>(std::move(context), std::string(), false, TlsKey{});
  return std::shared_ptr<const TlsContext>(
      new TlsContext(std::move(parts)));  // tidy: new the constructor is private
}

Result<std::shared_ptr<const TlsContext>> TlsContext::ForClient(const TlsFiles& files,
                                                                std::string server_name) {
  PX_TRY(ContextPtr context, MakeContext(TLS_client_method(), files));
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  auto parts = std::make_unique<Parts>(std::move(context), std::move(server_name), true, TlsKey{});
  return std::shared_ptr<const TlsContext>(
      new TlsContext(std::move(parts)));  // tidy: new the constructor is private
}

namespace {

constexpr std::string_view kKeyName = "pixii";

/// A session as if both sides had met before, from the key. Null: OpenSSL cannot.
SSL_SESSION* SessionOf(SSL* ssl, const TlsKey& key) {
  static constexpr unsigned char kAes128Gcm[] = {0x13, 0x01};  // RFC 8446, B.4
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kAes128Gcm);
  SSL_SESSION* session = SSL_SESSION_new();
  if (session == nullptr || cipher == nullptr ||
      SSL_SESSION_set1_master_key(session, reinterpret_cast<const unsigned char*>(key.data()),
                                  key.size()) != 1 ||
      SSL_SESSION_set_cipher(session, cipher) != 1 ||
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
    SSL_SESSION_free(session);
    return nullptr;
  }
  return session;
}

const TlsKey& KeyOf(SSL* ssl) {
  return *static_cast<const TlsKey*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
}

int FindKey(SSL* ssl, const unsigned char* name, std::size_t size, SSL_SESSION** session) {
  const std::string_view asked(reinterpret_cast<const char*>(name), size);
  *session = asked == kKeyName ? SessionOf(ssl, KeyOf(ssl)) : nullptr;
  return 1;
}

int UseKey(SSL* ssl, const EVP_MD* /*digest*/, const unsigned char** name, std::size_t* size,
           SSL_SESSION** session) {
  *name = reinterpret_cast<const unsigned char*>(kKeyName.data());
  *size = kKeyName.size();
  *session = SessionOf(ssl, KeyOf(ssl));
  return *session != nullptr ? 1 : 0;
}

}  // namespace

Result<std::shared_ptr<const TlsContext>> TlsContext::WithKey(const TlsKey& key, bool server) {
  PX_TRY(ContextPtr context, MakeContext(server ? TLS_server_method() : TLS_client_method(), {}));
  SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION);
  if (SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_128_GCM_SHA256") != 1) {
    return Fail(Code::kUnsupported, fmt::format("TLS with a key: {}", OpenSslText()));
  }
  // Nobody is known by a certificate: one that is shown instead of the key proves nothing.
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context.get(), 0);
  if (server) {
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);  // it has no certificate to use
    SSL_CTX_set_psk_find_session_callback(context.get(), FindKey);
  } else {
    SSL_CTX_set_psk_use_session_callback(context.get(), UseKey);
  }
  auto parts = std::make_unique<Parts>(std::move(context), std::string(), !server, key);
  SSL_CTX_set_app_data(parts->context.get(), &parts->key);
  return std::shared_ptr<const TlsContext>(
      new TlsContext(std::move(parts)));  // tidy: new the constructor is private
}

Result<std::shared_ptr<const TlsContext>> TlsContext::ForServerWithKey(const TlsKey& key) {
  return WithKey(key, true);
}

Result<std::shared_ptr<const TlsContext>> TlsContext::ForClientWithKey(const TlsKey& key) {
  return WithKey(key, false);
}

class TlsStream final : public Stream {
 public:
  TlsStream(Loop& loop, std::unique_ptr<Stream> inner, std::shared_ptr<const TlsContext> context)
      : inner_(std::move(inner)),
        context_(std::move(context)),
        ssl_(SSL_new(context_->parts_->context.get())),
        turn_(loop) {
    PX_ASSERT(ssl_ != nullptr);
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    PX_ASSERT(in_ != nullptr && out_ != nullptr);
    SSL_set_bio(ssl_.get(), in_, out_);
    const std::string& server = context_->parts_->server_name;
    if (!context_->parts_->client) {
      SSL_set_accept_state(ssl_.get());
      return;
    }
    SSL_set_connect_state(ssl_.get());
    if (server.empty()) {
      return;  // who has the key is the right one
    }
    X509_VERIFY_PARAM* rules = SSL_get0_param(ssl_.get());
    if (X509_VERIFY_PARAM_set1_ip_asc(rules, server.c_str()) != 1) {  // a name, then
      SSL_set1_host(ssl_.get(), server.c_str());
      SSL_set_tlsext_host_name(ssl_.get(), server.c_str());
    }
    ERR_clear_error();
  }

  ~TlsStream() override { TlsStream::Close(); }

  Task<Result<std::size_t>> Read(std::span<char> out, Time deadline) override;
  Task<Result<void>> Write(std::string_view bytes, Time deadline) override;
  Result<std::size_t> TryWrite(std::string_view bytes) override;

  /// Ends once both sides may write.
  Task<Result<void>> Handshake(Time deadline);

  void ShutdownWrite() override {
    SayEnd();
    if (!closed_ && !shutdown_) {
      shutdown_ = true;
      tasks_.Start(FinishShutdown());
    }
  }

  void Close() override {
    if (closed_) {
      return;
    }
    SayEnd();
    closed_ = true;
    inner_->Close();
    turn_.WakeAll();
  }

  std::string peer() const override { return inner_->peer(); }

 private:
  /// One caller's right to give ciphertext to `inner_`.
  class Turn final {
   public:
    explicit Turn(TlsStream& stream) : stream_(stream) { stream_.writing_ = true; }

    ~Turn() {
      stream_.writing_ = false;
      stream_.turn_.WakeAll();
    }

    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    TlsStream& stream_;
  };

  /// Moves what OpenSSL wants sent behind what is still to be sent.
  void Collect() {
    char* data = nullptr;
    const long size = BIO_get_mem_data(out_, &data);
    if (size > 0) {
      unsent_.append(data, static_cast<std::size_t>(size));
      BIO_reset(out_);
    }
  }

  /// Gives ciphertext to `inner_` as far as it takes it at once; true if nothing is left.
  Result<bool> TryFlush() {
    Collect();
    if (!unsent_.empty()) {
      PX_TRY(const std::size_t taken, inner_->TryWrite(unsent_));
      unsent_.erase(0, taken);
    }
    return unsent_.empty();
  }

  /// Pre: the caller has the turn.
  Task<Result<void>> Flush(Time deadline) {
    Collect();
    while (!unsent_.empty()) {
      const std::string sending = std::exchange(unsent_, {});
      PX_CO_CHECK_OK(co_await inner_->Write(sending, deadline));
      Collect();
    }
    co_return Result<void>();
  }

  /// Encrypts a piece of `bytes`; it is owed to the caller until its ciphertext has gone.
  Result<void> Encrypt(std::string_view bytes) {
    const std::size_t size = std::min(bytes.size(), kPieceBytes);
    std::size_t done = 0;
    ERR_clear_error();
    if (SSL_write_ex(ssl_.get(), bytes.data(), size, &done) != 1) {
      return Fail(Broken(OpenSslText()));
    }
    owed_ = done;
    return {};
  }

  /// Reads ciphertext from `inner_`.
  Task<Result<void>> Feed(Time deadline) {
    const Result<std::size_t> count = co_await inner_->Read(cipher_, deadline);
    if (!count) {
      co_return Fail(count.error());
    }
    if (*count == 0) {
      co_return Fail(Broken("the peer ended the connection without saying so"));
    }
    BIO_write(in_, cipher_.data(), static_cast<int>(*count));
    co_return Result<void>();
  }

  /// What OpenSSL made without being asked (handshake, answers to key updates); a writer that is
  /// under way takes it along.
  Task<Result<void>> FlushOwn(Time deadline) {
    if (writing_ || (unsent_.empty() && BIO_ctrl_pending(out_) == 0)) {
      co_return Result<void>();
    }
    const Turn turn(*this);
    co_return co_await Flush(deadline);
  }

  Task<void> FinishShutdown() {
    while (writing_ && !closed_) {
      co_await turn_.Wait(kNever);
    }
    if (!closed_) {
      const Turn turn(*this);
      (void)co_await Flush(kNever);  // Close() ends it
    }
    inner_->ShutdownWrite();
  }

  std::string HandshakeFault() {
    const long verdict = SSL_get_verify_result(ssl_.get());
    std::string text = OpenSslText();
    return verdict == X509_V_OK ? fmt::format("the handshake failed: {}", text)
                                : fmt::format("the handshake failed: {}: {}", text,
                                              X509_verify_cert_error_string(verdict));
  }

  void SayEnd() {
    if (closed_ || ended_ || !SSL_is_init_finished(ssl_.get())) {
      return;
    }
    ended_ = true;
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    if (!writing_) {
      (void)TryFlush();  // a courtesy: whoever does not take it sees the connection end
    }
  }

  std::unique_ptr<Stream> inner_;
  std::shared_ptr<const TlsContext> context_;
  SslPtr ssl_;
  BIO* in_ = nullptr;   // of ssl_: ciphertext from the peer
  BIO* out_ = nullptr;  // of ssl_: ciphertext for the peer
  std::array<char, kPieceBytes + 1024> cipher_{};
  std::string unsent_;    // ciphertext
  std::size_t owed_ = 0;  // plain bytes encrypted and not reported as taken: next call's first ones
  bool writing_ = false;  // somebody has the turn
  bool faulty_ = false;   // the handshake failed
  bool ended_ = false;    // our end was said
  bool shutdown_ = false;  // ours was asked for
  bool closed_ = false;
  WaitList turn_;       // for the turn, and for the handshake's end
  SpawnedTasks tasks_;  // last: its frame uses what stands above
};

Task<Result<void>> TlsStream::Handshake(Time deadline) {
  while (true) {
    if (closed_) {
      co_return Fail(Closed());
    }
    ERR_clear_error();
    const int status = SSL_do_handshake(ssl_.get());
    const int wants = SSL_get_error(ssl_.get(), status);
    const bool failed = status != 1 && wants != SSL_ERROR_WANT_READ;
    std::string fault = failed ? HandshakeFault() : std::string();
    faulty_ = failed;
    const Result<void> sent = co_await FlushOwn(deadline);
    if (failed) {
      turn_.WakeAll();
      co_return Fail(Broken(fault));
    }
    PX_CO_CHECK_OK(sent);
    if (status == 1) {
      turn_.WakeAll();
      co_return Result<void>();
    }
    PX_CO_CHECK_OK(co_await Feed(deadline));
  }
}

Task<Result<std::size_t>> TlsStream::Read(std::span<char> out, Time deadline) {
  PX_ASSERT(!out.empty());
  if (!SSL_is_init_finished(ssl_.get())) {
    PX_CO_CHECK_OK(co_await Handshake(deadline));
  }
  while (true) {
    if (closed_) {
      co_return Fail(Closed());
    }
    std::size_t count = 0;
    ERR_clear_error();
    const int status = SSL_read_ex(ssl_.get(), out.data(), out.size(), &count);
    const int wants = SSL_get_error(ssl_.get(), status);
    if (status != 1 && wants == SSL_ERROR_ZERO_RETURN) {
      co_return std::size_t{0};
    }
    if (status != 1 && wants != SSL_ERROR_WANT_READ) {
      co_return Fail(Broken(OpenSslText()));
    }
    PX_CO_CHECK_OK(co_await FlushOwn(deadline));
    if (status == 1) {
      co_return count;
    }
    PX_CO_CHECK_OK(co_await Feed(deadline));
  }
}

Result<std::size_t> TlsStream::TryWrite(std::string_view bytes) {
  if (closed_) {
    return Fail(Closed());
  }
  std::size_t done = 0;
  if (writing_ || !SSL_is_init_finished(ssl_.get())) {
    return done;
  }
  while (true) {
    PX_TRY(const bool flushed, TryFlush());
    if (!flushed) {
      return done;
    }
    PX_ASSERT(owed_ <= bytes.size() - done);
    done += std::exchange(owed_, 0);
    if (done == bytes.size()) {
      return done;
    }
    PX_CHECK_OK(Encrypt(bytes.substr(done)));
  }
}

Task<Result<void>> TlsStream::Write(std::string_view bytes, Time deadline) {
  while (!closed_ && !faulty_ && (writing_ || !SSL_is_init_finished(ssl_.get()))) {
    const bool woken = co_await turn_.Wait(deadline);
    if (!woken) {
      co_return Fail(Code::kDeadlineExceeded, "the peer made no TLS handshake before the deadline");
    }
  }
  if (closed_ || faulty_) {
    co_return Fail(closed_ ? Closed() : Broken("the handshake failed"));
  }
  const Turn turn(*this);
  while (true) {
    PX_CO_CHECK_OK(co_await Flush(deadline));
    PX_ASSERT(owed_ <= bytes.size());
    bytes.remove_prefix(std::exchange(owed_, 0));
    if (bytes.empty()) {
      co_return Result<void>();
    }
    PX_CO_CHECK_OK(Encrypt(bytes));
  }
}

namespace {

class TlsListener final : public Listener {
 public:
  TlsListener(Loop& loop, std::unique_ptr<Listener> inner, std::shared_ptr<const TlsSlot> slot)
      : loop_(loop), inner_(std::move(inner)), slot_(std::move(slot)) {}

  Task<Result<std::unique_ptr<Stream>>> Accept() override {
    PX_CO_TRY(std::unique_ptr<Stream> stream, co_await inner_->Accept());
    co_return MakeTlsStream(loop_, std::move(stream), slot_->context);
  }

  Address address() const override { return inner_->address(); }

  void Close() override { inner_->Close(); }

 private:
  Loop& loop_;
  std::unique_ptr<Listener> inner_;
  std::shared_ptr<const TlsSlot> slot_;
};

class TlsNet final : public Net {
 public:
  TlsNet(Loop& loop, Net& inner, std::shared_ptr<const TlsSlot> server,
         std::shared_ptr<const TlsContext> client)
      : loop_(loop), inner_(inner), server_(std::move(server)), client_(std::move(client)) {}

  Result<std::unique_ptr<Listener>> Listen(const Address& address,
                                           const ListenOptions& options) override {
    PX_ASSERT(server_ != nullptr && server_->context != nullptr);
    PX_TRY(std::unique_ptr<Listener> listener, inner_.Listen(address, options));
    return std::make_unique<TlsListener>(loop_, std::move(listener), server_);
  }

  Task<Result<std::unique_ptr<Stream>>> Connect(Address address, Time deadline) override {
    PX_ASSERT(client_ != nullptr);
    PX_CO_TRY(std::unique_ptr<Stream> inner, co_await inner_.Connect(address, deadline));
    auto stream = std::make_unique<TlsStream>(loop_, std::move(inner), client_);
    PX_CO_CHECK_OK(co_await stream->Handshake(deadline));
    co_return std::unique_ptr<Stream>(std::move(stream));
  }

 private:
  Loop& loop_;
  Net& inner_;
  std::shared_ptr<const TlsSlot> server_;
  std::shared_ptr<const TlsContext> client_;
};

}  // namespace

std::unique_ptr<Stream> MakeTlsStream(Loop& loop, std::unique_ptr<Stream> inner,
                                      std::shared_ptr<const TlsContext> context) {
  return std::make_unique<TlsStream>(loop, std::move(inner), std::move(context));
}

std::unique_ptr<Net> MakeTlsNet(Loop& loop, Net& inner, std::shared_ptr<const TlsContext> server,
                                std::shared_ptr<const TlsContext> client) {
  return MakeTlsNet(loop, inner, std::make_shared<const TlsSlot>(TlsSlot{std::move(server)}),
                    std::move(client));
}

std::unique_ptr<Net> MakeTlsNet(Loop& loop, Net& inner, std::shared_ptr<const TlsSlot> server,
                                std::shared_ptr<const TlsContext> client) {
  return std::make_unique<TlsNet>(loop, inner, std::move(server), std::move(client));
}

}  // namespace pixii::rt
