// HMAC-SHA256: proof that whoever made some bytes knows a key, and keys derived from keys.
//
// Source: RFC 2104, by OpenSSL.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace pixii {

using Mac = std::array<std::byte, 32>;

Mac HmacSha256(std::span<const std::byte> key, std::string_view bytes);

/// In a time that does not depend on where they differ.
bool SameMac(const Mac& a, const Mac& b);

}  // namespace pixii
